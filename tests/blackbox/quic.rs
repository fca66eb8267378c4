//! Hostile QUIC at the agent's port: by strangers before the handshake, and by a member that has been broken into.

use std::net::{Ipv4Addr, Shutdown, UdpSocket};
use std::time::Duration;

use adit_tests::dice::Dice;
use adit_tests::hostile::CONTROL;
use adit_tests::load::content::Content;
use adit_tests::load::digest_of;
use adit_tests::load::exchange::{receive, send};
use adit_tests::mesh::SOON;
use adit_tests::pki::{Authority, Leaf};
use adit_tests::quic::{Client, DATA, Level, crypto_frame, open, put_parameter, put_varint, reset_frame, stream_frame};
use adit_tests::suite::Test;
use adit_tests::wait::{accept, eventually, pass};
use adit_tests::{Agent, Mesh, tests};
use anyhow::{Context as _, Result, ensure};

pub(crate) fn tests() -> Vec<Test> {
    tests![new:
        an_address_that_proves_nothing_gets_no_datagram_after_three_times_what_it_sent,
        many_unproven_addresses_are_asked_to_prove_themselves_and_members_get_through,
        wrong_transport_parameters_are_refused,
        mutated_transport_parameters_harm_nobody,
        crypto_beyond_the_buffer_is_refused_and_costs_no_memory,
        mangled_handshakes_harm_nobody,
        tiny_frames_with_gaps_cost_a_member_no_more_than_its_share_of_memory,
        gaps_on_thousands_of_streams_that_are_served_cost_a_member_no_more_than_its_share_of_memory,
        bytes_behind_a_gap_are_no_more_than_the_window,
        a_slow_reader_gets_all_of_what_was_finished_before_its_quic_connection_ended,
    ]
}

/// RFC 9000 §20.1.
const TRANSPORT_PARAMETER_ERROR: u64 = 0x08;
const FLOW_CONTROL_ERROR: u64 = 0x03;
const CRYPTO_BUFFER_EXCEEDED: u64 = 0x0d;
const FRAME_ENCODING_ERROR: u64 = 0x07;

/// A mesh by QUIC whose alpha runs and trusts an authority of the tests.
struct Target {
    mesh: Mesh,
    alpha: Agent,
    authority: Authority,
}

impl Target {
    fn new() -> Result<Self> {
        let authority = Authority::new()?;
        let mesh = Mesh::pair("quic").trusting(&authority).build()?;
        let alpha = mesh.start("alpha")?;
        Ok(Self { mesh, alpha, authority })
    }

    /// A client that says it is beta, and is.
    fn member(&self, alpn: &[u8], change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<Client> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(self.mesh.link_address("alpha"))?;
        Client::new(socket, "alpha.lab", alpn, Some(&self.authority.issue(&Leaf::of("beta"))?), change)
    }

    fn stranger(&self) -> Result<Client> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(self.mesh.link_address("alpha"))?;
        Client::new(socket, "alpha.lab", DATA, None, |parameters| parameters)
    }

    /// The agent stands and takes a good peer.
    fn ensure_well(&mut self) -> Result<()> {
        self.alpha.ensure_running()?;
        self.mesh.start("beta")?.wait_for_link("alpha")?;
        Ok(())
    }
}

/// RFC 9000 §8.1 says three times. quinn asks whether that is reached before it makes a datagram, not after, so the last one may
/// go beyond it.
fn an_address_that_proves_nothing_gets_no_datagram_after_three_times_what_it_sent() -> Result<()> {
    let target = Target::new()?;
    let mut client = target.stranger()?;
    let flight = client.flight()?;
    let sent: usize = flight.iter().map(Vec::len).sum();
    flight.iter().for_each(|datagram| client.send(datagram));
    // What is not answered is repeated by the agent, after longer and longer pauses.
    let (mut got, mut last) = (0, 0);
    while let (length @ 1.., _unsent) = client.receive(Duration::from_secs(3))? {
        (got, last) = (got + length, length);
    }
    ensure!(got > 0 && got - last < 3 * sent, "{got} bytes for {sent}");
    Ok(())
}

fn many_unproven_addresses_are_asked_to_prove_themselves_and_members_get_through() -> Result<()> {
    let mut target = Target::new()?;
    let mut silent = Vec::new();
    for _ in 0..60 {
        let mut client = target.stranger()?;
        let flight = client.flight()?;
        flight.iter().for_each(|datagram| client.send(datagram));
        let (got, _unsent) = client.receive(SOON)?;
        ensure!(!client.heard.retry || got < flight[0].len(), "a Retry of {got} bytes");
        silent.push(client);
    }
    let asked = silent.iter().filter(|client| client.heard.retry).count();
    ensure!((28..60).contains(&asked), "{asked} of 60 were asked");
    let mut member = target.member(CONTROL, |parameters| parameters)?;
    let heard = member.handshake(SOON, |client, datagram| client.send(&datagram))?;
    ensure!(heard.retry && heard.confirmed, "{heard:?}");
    target.ensure_well()
}

fn wrong_transport_parameters_are_refused() -> Result<()> {
    let mut target = Target::new()?;
    let number = |value| {
        let mut encoded = Vec::new();
        put_varint(&mut encoded, value);
        encoded
    };
    // RFC 9000 §18.2: too small, too large, twice, a server's, a wrong length.
    let cases = [
        (3, number(1199)),
        (0x0a, number(21)),
        (0x0b, number(1 << 14)),
        (0x08, number(1 << 61)),
        (0x04, number(5)),
        (0x02, vec![7; 16]),
        (0x00, vec![7; 8]),
        (0x0b, vec![0xff; 3]),
    ];
    for (id, value) in cases {
        let mut client = target.member(DATA, |mut parameters| {
            put_parameter(&mut parameters, id, &value);
            parameters
        })?;
        let heard = client.handshake(SOON, |client, datagram| client.send(&datagram))?;
        ensure!(heard.closed == Some(TRANSPORT_PARAMETER_ERROR), "{id}: {heard:?}");
    }
    target.ensure_well()
}

fn mutated_transport_parameters_harm_nobody() -> Result<()> {
    let mut target = Target::new()?;
    for seed in 1..=200 {
        let mut dice = Dice::new(seed << 20 | 1);
        let mut client = target.member(DATA, |mut parameters| {
            for _ in 0..=dice.roll(4) {
                match dice.roll(3) {
                    0 => dice.flip(&mut parameters),
                    1 => parameters.truncate(dice.roll(parameters.len())),
                    _ => {
                        let (id, value) = (dice.roll(40) as u64, vec![0xff; dice.roll(20)]);
                        put_parameter(&mut parameters, id, &value);
                    }
                }
            }
            parameters
        })?;
        client.handshake(Duration::from_millis(500), |client, datagram| client.send(&datagram))?;
        client.close()?;
    }
    target.ensure_well()
}

fn crypto_beyond_the_buffer_is_refused_and_costs_no_memory() -> Result<()> {
    let mut target = Target::new()?;
    let before = target.alpha.usage()?.resident;
    for offset in [16 << 10, 1 << 20, 1 << 40, (1 << 62) - 17, (1 << 62) - 1] {
        let mut client = target.stranger()?;
        let datagram = client.packet(Level::Initial, &crypto_frame(offset, &[0; 16]))?;
        client.send(&datagram);
        let closed = client.closed(SOON)?;
        let right = closed.is_some_and(|code| [CRYPTO_BUFFER_EXCEEDED, FRAME_ENCODING_ERROR].contains(&code));
        ensure!(right, "{offset}: {closed:?}");
    }
    for _ in 0..50 {
        let mut client = target.stranger()?;
        for round in 0..40_u64 {
            let frames: Vec<_> = (0..200).flat_map(|n| crypto_frame(1 + 2 * (200 * round + n), &[0])).collect();
            let datagram = client.packet(Level::Initial, &frames)?;
            client.send(&datagram);
        }
        client.close()?;
    }
    let held = target.alpha.usage()?.resident.saturating_sub(before);
    ensure!(held < 16 << 20, "it cost {} KiB", held >> 10);
    target.ensure_well()
}

/// Damaged, cut short, lost, doubled and in another order: everything that a network or somebody on it may do.
fn mangled_handshakes_harm_nobody() -> Result<()> {
    let mut target = Target::new()?;
    for seed in 1..=100 {
        let (mut dice, mut late) = (Dice::new(seed << 20 | 1), Vec::new());
        let mut client = target.member(CONTROL, |parameters| parameters)?;
        client.handshake(Duration::from_millis(100), |client, mut datagram| {
            match dice.roll(8) {
                0 => dice.flip(&mut datagram),
                1 => datagram.truncate(dice.roll(datagram.len())),
                2 => client.send(&datagram),
                3 => return late.push(datagram),
                4 => return,
                5 => datagram.extend(datagram.clone()),
                _ => {}
            }
            client.send(&datagram);
            late.drain(..).for_each(|datagram| client.send(&datagram));
        })?;
        client.close()?;
    }
    target.ensure_well()
}

/// What a broken member's gaps may pin, in bytes.
const SHARE: u64 = 32 << 20;
/// The error code of an agent that says that the peer broke the protocol.
const PROTOCOL: u64 = 13;

impl Target {
    /// A member with a link, and alpha's memory then.
    fn greeted(&self) -> Result<(Client, u64)> {
        let mut client = self.member(DATA, |parameters| parameters)?;
        client.handshake(SOON, |client, datagram| client.send(&datagram))?;
        client.greet(SOON)?;
        Ok((client, self.alpha.usage()?.resident))
    }

    fn ensure_small(&self, before: u64, what: &str) -> Result<()> {
        let held = self.alpha.usage()?.resident.saturating_sub(before);
        ensure!(held < SHARE, "{what}: it cost {} KiB", held >> 10);
        Ok(())
    }
}

/// Sends `pieces` single bytes on a stream, with a byte missing before each.
fn scatter(client: &mut Client, stream: u64, from: u64, pieces: u64) -> Result<()> {
    for first in (0..pieces).step_by(150) {
        let frames = (first..pieces.min(first + 150)).flat_map(|n| stream_frame(stream, from + 1 + 2 * n, &[0]));
        let datagram = client.packet(Level::OneRtt, &frames.collect::<Vec<_>>())?;
        client.send(&datagram);
    }
    // The agent gets its turn: what overflows its socket would cost it nothing.
    client.catch_up()
}

fn tiny_frames_with_gaps_cost_a_member_no_more_than_its_share_of_memory() -> Result<()> {
    let mut target = Target::new()?;
    let (mut client, before) = target.greeted()?;
    // One stream after the other, as many as there ever are at once.
    for number in 1..=3500 {
        client.wait_for_streams(number + 1, SOON)?;
        scatter(&mut client, 4 * number, 0, 900)?;
        let datagram = client.packet(Level::OneRtt, &reset_frame(4 * number, 1800))?;
        client.send(&datagram);
    }
    target.ensure_small(before, "streams that were reset")?;
    // One piece in each datagram, which would pin all of it.
    client.wait_for_streams(3500 + 51, SOON)?;
    for number in 3501..=3550 {
        for piece in 0..20 {
            let mut frames = stream_frame(4 * number, 4000 + 2 * piece, &[0]);
            frames.resize(1150, 0);
            let datagram = client.packet(Level::OneRtt, &frames)?;
            client.send(&datagram);
        }
        client.catch_up()?;
    }
    target.ensure_small(before, "single pieces in large datagrams")?;
    // And as many pieces as it can leave, until it loses its connection.
    for number in 3501..=3550 {
        scatter(&mut client, 4 * number, 0, 900)?;
    }
    ensure!(client.closed(SOON)? == Some(PROTOCOL), "{:?}", client.heard);
    target.ensure_small(before, "all at once")?;
    target.ensure_well()
}

fn gaps_on_thousands_of_streams_that_are_served_cost_a_member_no_more_than_its_share_of_memory() -> Result<()> {
    const STREAMS: u64 = 2000;
    let mut target = Target::new()?;
    let server = target.mesh.serve("app", "alpha")?;
    let (mut client, _) = target.greeted()?;
    let mut served = Vec::new();
    for number in 1..=STREAMS {
        client.wait_for_streams(number + 1, SOON)?;
        let datagram = client.packet(Level::OneRtt, &stream_frame(4 * number, 0, &open("app")?))?;
        client.send(&datagram);
        served.push(accept(&server, SOON)?);
        if number % 16 == 0 {
            client.catch_up()?;
        }
    }
    let from = open("app")?.len() as u64;
    let before = target.alpha.usage()?.resident;
    // As many pieces as its share allows.
    for number in 1..=STREAMS {
        scatter(&mut client, 4 * number, from, 8)?;
    }
    target.ensure_small(before, "eight pieces a stream")?;
    for number in 1..=STREAMS {
        scatter(&mut client, 4 * number, from + 8000, 900)?;
        if client.heard.closed.is_some() {
            break;
        }
    }
    ensure!(client.closed(SOON)? == Some(PROTOCOL), "{:?}", client.heard);
    target.ensure_small(before, "all at once")?;
    drop(served);
    target.ensure_well()
}

/// All of it is read at once, and counts as under way until the gap has closed.
fn bytes_behind_a_gap_are_no_more_than_the_window() -> Result<()> {
    let mut target = Target::new()?;
    let (mut client, before) = target.greeted()?;
    client.wait_for_streams(2, SOON)?;
    let mut sent = 0;
    while client.heard.closed.is_none() && sent < 32 << 20 {
        for _ in 0..32 {
            let datagram = client.packet(Level::OneRtt, &stream_frame(4, 1 + sent, &[0; 1100]))?;
            client.send(&datagram);
            sent += 1100;
        }
        client.catch_up()?;
    }
    ensure!(client.closed(SOON)? == Some(FLOW_CONTROL_ERROR), "{:?}", client.heard);
    // Three quarters of the peer's windows, and what is counted a little later.
    ensure!((6 << 20..7 << 20).contains(&sent), "after {sent} bytes");
    target.ensure_small(before, "one gap")?;
    target.ensure_well()
}

/// The peer's agent is gone, and its QUIC connection with it; but all of what its application sent has come.
fn a_slow_reader_gets_all_of_what_was_finished_before_its_quic_connection_ended() -> Result<()> {
    const SEED: u64 = 5;
    let mesh = Mesh::pair("quic").build()?;
    let (alpha, mut beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    // More than the kernel keeps for a reader that takes nothing, and no more than alpha takes on top: how much that is, depends.
    let open = |agent: &Agent, role| agent.metric("adit_connections", &[("role", role)]);
    let mut found = None;
    for size in (1..=16).map(|mib| mib << 20) {
        let (client, served) = mesh.joined(&server)?;
        send(&client, Content::new(SEED, size))?;
        served.shutdown(Shutdown::Write)?;
        eventually("beta is through with it", SOON, || {
            ensure!(open(&beta, "reach")? == 0.0);
            Ok(())
        })?;
        if open(&alpha, "offer")? > 0.0 {
            found = Some((size, served));
            break;
        }
    }
    let (size, served) = found.context("the kernel took all of it each time")?;
    beta.terminate()?;
    beta.wait(SOON)?;
    eventually("alpha has lost the link", SOON, || {
        ensure!(alpha.peer("beta")?["state"] != "up");
        Ok(())
    })?;
    // The reader is slow: its agent has heard long before of the connection's end.
    pass(Duration::from_secs(1));
    let received = receive(&served)?;
    ensure!((received.bytes, received.digest) == (size, digest_of(SEED, size)), "{} bytes of {size}", received.bytes);
    Ok(())
}
