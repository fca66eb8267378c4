//! A connection whose link is lost ends by a reset at the applications, never by an end of file.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::load::{Ending, ending, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::wait::pass;
use adit_tests::{Mesh, eventually, tests};
use anyhow::{Context as _, Result, bail, ensure};
use netsim::{Answer, Traffic};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A dead agent's sockets are closed by its kernel, which the other side sees at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// More than all buffers on the way hold, so that every one is in use: the agents' windows, and those of four sockets.
const FLOWING: u64 = 8 << 20;
/// A silent cut has to be concluded from silence.
const CONCLUDED: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![in_namespaces: a_lane_reset_in_mid_stream_is_a_reset_at_both_applications];
    for transport in Mesh::WAYS {
        tests.push(Test::in_namespaces(
            format!("a_link_cut_in_mid_stream_is_a_reset_at_both_applications_over_{transport}"),
            move || cut(transport),
        ));
        for killed in ["alpha", "beta"] {
            tests.push(Test::new(
                format!("a_stream_of_{killed}_killed_is_a_reset_at_both_applications_over_{transport}"),
                move || killed_agent(transport, killed),
            ));
        }
    }
    tests
}

/// Sends and receives as fast as it goes until the connection ends. It has to end by a reset, never by an end of file.
///
/// One thread does both, reading first: the kernel tells a reset to one call alone, and to those after it an end of file. What was
/// received is counted in `flowed`.
fn flow_until_reset(mut stream: &TcpStream, flowed: &AtomicU64, bound: Duration) -> Result<()> {
    stream.set_nonblocking(true)?;
    let (mut buffer, piece, start) = (vec![0; 64 * 1024], vec![0x42; 16 * 1024], Instant::now());
    let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        let outcome = match stream.read(&mut buffer) {
            Ok(0) => bail!("an end of file instead of a reset, after {} bytes", flowed.load(Relaxed)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => stream.write(&piece),
            read => read.inspect(|&n| {
                flowed.fetch_add(n as u64, Relaxed);
            }),
        };
        match outcome {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {
                ensure!(flowed.load(Relaxed) > 0, "nothing was received before the reset");
                return Ok(());
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&stream, PollFlags::IN | PollFlags::OUT)], Some(&wait))?;
            }
            Err(e) => return Err(e).context("a reset was expected"),
        }
        ensure!(start.elapsed() < bound, "no end after {bound:?}, {} bytes", flowed.load(Relaxed));
    }
}

/// Lets bytes flow both ways through `client` and `served`, does `harm` in the midst, and expects a reset at both.
fn both_reset(
    client: &TcpStream,
    served: &TcpStream,
    bound: Duration,
    harm: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let flowed = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        let ends = [("client", client, &flowed[0]), ("server", served, &flowed[1])]
            .map(|(name, stream, flowed)| (name, scope.spawn(move || flow_until_reset(stream, flowed, bound))));
        let harmed = eventually("bytes flow both ways", SOON, || {
            let flowed = flowed.each_ref().map(|n| n.load(Relaxed));
            ensure!(flowed.iter().all(|n| *n > FLOWING), "{flowed:?} bytes");
            Ok(())
        })
        .and_then(|()| harm());
        for (name, end) in ends {
            let outcome = end.join().unwrap_or_else(|_| bail!("the flow panicked"));
            outcome.map_err(|e| e.context(format!("at the {name}")))?;
        }
        harmed
    })
}

/// A middlebox that forgets its state for a moment answers for alpha with resets; when it is over, beta's kernel does the
/// same to the segments of a lane that it has closed.
fn a_lane_reset_in_mid_stream_is_a_reset_at_both_applications() -> Result<()> {
    let mesh = Mesh::pair("tls").in_namespaces().build()?;
    let (_alpha, _beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    both_reset(&client, &served, CONCLUDED, || {
        mesh.block("alpha", &[Traffic::Tcp], Answer::Rejection)?;
        // How long the middlebox is out of its mind.
        pass(Duration::from_millis(500));
        mesh.block("alpha", &[], Answer::Silence)
    })
}

fn cut(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).in_namespaces().build()?;
    let (_alpha, _beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    both_reset(&client, &served, CONCLUDED, || mesh.block_everywhere(&[Traffic::All], Answer::Silence))
}

/// The dead agent's own application sees a reset as the other one does: what the kernel closes for a process that was killed would
/// else end in order, and half a transfer would look whole. So does one whose connection was quiet, where no byte is left unread
/// that makes the kernel reset it anyway.
fn killed_agent(transport: &str, killed: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let (mut alpha, mut beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    let (quiet_client, quiet_served) = mesh.joined(&server)?;
    round_trip(&quiet_client, &quiet_served, b"all is read", SOON)?;
    let agent = if killed == "alpha" { &mut alpha } else { &mut beta };
    let bound = if transport == "quic" { CONCLUDED } else { AT_ONCE };
    both_reset(&client, &served, bound, || agent.kill())?;
    for (name, end) in [("client", &quiet_client), ("server", &quiet_served)] {
        let how = ending(end, bound)?;
        ensure!(how == Ending::Reset(0), "the quiet {name} should be reset, not {how:?}");
    }
    Ok(())
}
