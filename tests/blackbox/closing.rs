//! Connections end at one side as they ended at the other.

use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::load::content::Content;
use adit_tests::load::exchange::{receive, send};
use adit_tests::load::{Ending, abort, digest_of, ending, read_some, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh};
use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const TEN_MIB: u64 = 10 << 20;

type Body = fn(&Mesh, &TcpListener) -> Result<()>;

pub(crate) fn tests() -> Vec<Test> {
    let bodies: [(&str, Body); 9] = [
        ("a_client_that_has_finished_sending_gets_all_of_the_answer", client_finishes_first),
        ("a_server_that_has_finished_sending_gets_all_of_the_rest", server_finishes_first),
        ("a_connection_without_bytes_ends_in_order", no_bytes),
        ("a_reset_by_the_client_is_a_reset_at_the_server", reset_by_client),
        ("a_reset_by_the_server_is_a_reset_at_the_client", reset_by_server),
        ("a_reset_after_a_half_close_is_a_reset", reset_after_half_close),
        ("a_reset_behind_stalled_data_gets_through", reset_behind_stalled_data),
        ("bytes_before_an_end_are_not_lost_to_it", bytes_before_the_end),
        ("bytes_behind_an_urgent_one_are_not_held_back", bytes_behind_urgent),
    ];
    let mut tests = Vec::new();
    for transport in Mesh::WAYS {
        for (name, body) in bodies {
            tests.push(Test::new(format!("{name}_over_{transport}"), move || on_a_pair(transport, body)));
        }
        tests.push(Test::new(format!("a_server_that_refuses_gives_a_reset_at_once_over_{transport}"), move || {
            refusing_server(transport)
        }));
    }
    tests
}

fn on_a_pair(transport: &str, body: Body) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let _agents: (Agent, Agent, String) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    body(&mesh, &server)?;
    // Whatever happened to that connection, the next one is well.
    let (client, served) = mesh.joined(&server)?;
    round_trip(&client, &served, b"the next one", SOON)
}

/// As telnet and FTP interrupt: a read stops at the urgent byte, and what is behind it is there already. Urgency itself is lost.
fn bytes_behind_urgent(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (mut client, served) = mesh.joined(server)?;
    for round in 0..50 {
        client.write_all(b"a")?;
        rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB)?;
        client.write_all(b"z")?;
        let mut heard = Vec::new();
        while heard.last() != Some(&b'z') {
            heard.extend(read_some(&served, 1, SOON).with_context(|| format!("round {round}, after {heard:?}"))?);
        }
    }
    Ok(())
}

/// One side sends little and half-closes; then the other sends much.
fn half_close(first: &TcpStream, second: &TcpStream) -> Result<()> {
    send(first, Content::new(1, 1000))?;
    let request = receive(second)?;
    ensure!(request.digest == digest_of(1, 1000), "a wrong request");
    let answer = thread::scope(|scope| {
        let sender = scope.spawn(|| send(second, Content::new(2, TEN_MIB)));
        let answer = receive(first);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        answer
    })?;
    ensure!(answer.bytes == TEN_MIB && answer.digest == digest_of(2, TEN_MIB), "{} bytes, or wrong ones", answer.bytes);
    Ok(())
}

fn client_finishes_first(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    half_close(&client, &served)
}

fn server_finishes_first(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    half_close(&served, &client)
}

fn no_bytes(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    client.shutdown(Shutdown::Write)?;
    is(&served, Ending::EndOfFile(0))?;
    drop(served);
    is(&client, Ending::EndOfFile(0))
}

fn is(stream: &TcpStream, expected: Ending) -> Result<()> {
    let end = ending(stream, SOON)?;
    ensure!(end == expected, "{expected:?} expected, but it ended by {end:?}");
    Ok(())
}

fn reset_by_client(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    round_trip(&client, &served, b"hello", SOON)?;
    abort(client)?;
    is(&served, Ending::Reset(0))
}

fn reset_by_server(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    round_trip(&client, &served, b"hello", SOON)?;
    abort(served)?;
    is(&client, Ending::Reset(0))
}

fn reset_after_half_close(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    client.shutdown(Shutdown::Write)?;
    is(&served, Ending::EndOfFile(0))?;
    abort(served)?;
    is(&client, Ending::Reset(0))
}

/// The server does not read, every buffer is full, and the client gives up: the server has to notice although it has not
/// read what came before.
fn reset_behind_stalled_data(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    fill(&client)?;
    abort(client)?;
    // Without reading: the bytes before it stay where they are.
    let bound = Timespec::try_from(SOON)?;
    let noticed = poll(&mut [PollFd::new(&served, PollFlags::empty())], Some(&bound))?;
    ensure!(noticed > 0, "the server has not noticed in {SOON:?}");
    ensure!((&served).write(b"x").is_err(), "the server's connection ended in order");
    Ok(())
}

/// Writes until nothing has been taken for a second.
fn fill(stream: &TcpStream) -> Result<()> {
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let (mut stream, piece, mut sent) = (stream, vec![0x55; 128 * 1024], 0_u64);
    while let Ok(n) = stream.write(&piece) {
        sent += n as u64;
        ensure!(sent < 1 << 30, "a gibibyte was taken although nobody reads");
    }
    Ok(())
}

fn bytes_before_the_end(mesh: &Mesh, server: &TcpListener) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    (&served).write_all(&[7; 50_000])?;
    drop(served);
    ensure!(read_some(&client, 50_000, SOON)? == [7; 50_000]);
    is(&client, Ending::EndOfFile(0))
}

fn refusing_server(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let (alpha, _beta, _) = mesh.start_pair()?;
    let start = Instant::now();
    let end = mesh.end_of("app", "beta", SOON)?;
    ensure!(end == Ending::Reset(0), "{end:?}");
    ensure!(start.elapsed() < Duration::from_secs(3), "only after {:?}", start.elapsed());
    crate::evidence::of(&alpha, &["target"], "refus")
}
