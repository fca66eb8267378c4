//! Limits that are set in the agent file hold.

use std::time::{Duration, Instant};

use adit_tests::load::{Ending, ending, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Mesh, hostile, tests};
use anyhow::{Result, ensure};
use netsim::{Answer, Traffic};

use crate::evidence;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![new:
        the_idle_limit_cuts_silent_connections_alone,
        the_half_closed_limit_cuts_half_closed_connections_alone,
        the_limit_of_connections_refuses_one_more,
        the_limit_of_pending_connections_refuses_one_more,
        a_peer_at_its_limit_of_lanes_is_left_in_peace_and_who_waits_for_one_gets_it,
        the_handshake_limit_can_be_set,
        the_drain_limit_cuts_what_is_left,
        a_limit_out_of_range_is_told,
    ];
    tests.extend(tests![in_namespaces: the_connect_limit_can_be_set]);
    tests
}

fn is_reset(stream: &std::net::TcpStream) -> Result<()> {
    let how = ending(stream, SOON)?;
    ensure!(matches!(how, Ending::Reset(_)), "a reset was expected, not {how:?}");
    Ok(())
}

fn the_idle_limit_cuts_silent_connections_alone() -> Result<()> {
    for transport in ["tls", "quic"] {
        let mesh = Mesh::pair(transport).agent_lines("[limits]\nidle = \"2s\"\n").build()?;
        let (alpha, beta, _) = mesh.start_pair()?;
        let server = mesh.serve("app", "alpha")?;
        let (silent, silent_served) = mesh.joined(&server)?;
        let (busy, busy_served) = mesh.joined(&server)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            round_trip(&busy, &busy_served, b"busy", SOON)?;
            // The pace of the busy one.
            adit_tests::wait::pass(Duration::from_millis(200));
        }
        is_reset(&silent)?;
        is_reset(&silent_served)?;
        round_trip(&busy, &busy_served, b"busy", SOON)?;
        let told = |agent: &adit_tests::Agent| agent.wait_for_log(&["audit", "connection.close", "idle"], SOON);
        told(&alpha).or_else(|_| told(&beta))?;
    }
    Ok(())
}

fn the_half_closed_limit_cuts_half_closed_connections_alone() -> Result<()> {
    let mesh = Mesh::pair("tls").agent_lines("[limits]\nhalf_closed = \"2s\"\n").build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    let (open, open_served) = mesh.joined(&server)?;
    client.shutdown(std::net::Shutdown::Write)?;
    ensure!(ending(&served, SOON)? == Ending::EndOfFile(0));
    is_reset(&client)?;
    round_trip(&open, &open_served, b"both ways open", SOON)
}

fn the_limit_of_connections_refuses_one_more() -> Result<()> {
    let mesh = Mesh::pair("tls").agent_lines("[limits]\nconnections = 5\n").build()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let open = (0..5).map(|_| mesh.joined(&server)).collect::<Result<Vec<_>>>()?;
    // It is accepted and reset, or reset before connect returns.
    if let Ok(client) = mesh.reach("app", "beta") {
        is_reset(&client)?;
    }
    evidence::of(&beta, &["limit"], "connections")?;
    drop(open);
    adit_tests::eventually("there is room again", SOON, || {
        let client = mesh.reach("app", "beta")?;
        let served = adit_tests::wait::accept(&server, Duration::from_secs(1))?;
        round_trip(&client, &served, b"room", Duration::from_secs(1))
    })
}

fn the_limit_of_pending_connections_refuses_one_more() -> Result<()> {
    let mesh = Mesh::pair("auto").agent_lines("[limits]\nconnect = \"30s\"\npending_connections = 1\n").build()?;
    let beta = mesh.start("beta")?;
    let waits = mesh.reach("app", "beta")?;
    adit_tests::eventually("one waits", SOON, || {
        ensure!(beta.status()?["connections"] == 1);
        Ok(())
    })?;
    // It is accepted and reset, or reset before connect returns.
    if let Ok(client) = mesh.reach("app", "beta") {
        is_reset(&client)?;
    }
    evidence::of(&beta, &["limit"], "pending_connections")?;
    let server = mesh.serve("app", "alpha")?;
    let _alpha = mesh.start("alpha")?;
    let served = adit_tests::wait::accept(&server, Duration::from_secs(20))?;
    round_trip(&waits, &served, b"it was worth waiting for", SOON)
}

fn a_peer_at_its_limit_of_lanes_is_left_in_peace_and_who_waits_for_one_gets_it() -> Result<()> {
    let mesh = Mesh::pair("tls").build()?;
    let agent_file = mesh.directory("alpha").join("agent.toml");
    std::fs::write(&agent_file, std::fs::read_to_string(&agent_file)? + "[limits]\nlanes_per_peer = 2\n")?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (first, first_served) = mesh.joined(&server)?;
    let (second, second_served) = mesh.joined(&server)?;
    // Beta would like warm lanes beside them, and one for this.
    let waits = mesh.reach("app", "beta")?;
    evidence::of(&alpha, &["limit"], "lanes")?;
    let made = || beta.metric("adit_handshakes_total", &[("direction", "out"), ("result", "ok")]);
    let before = made()?;
    // What it does in that time is counted.
    adit_tests::wait::pass(Duration::from_secs(3));
    let more = made()? - before;
    ensure!(more < 100.0, "{more} handshakes in three seconds");
    drop((first, first_served));
    let served = adit_tests::wait::accept(&server, SOON)?;
    round_trip(&waits, &served, b"it was worth waiting for", SOON)?;
    round_trip(&second, &second_served, b"nothing happened to it", SOON)
}

fn the_handshake_limit_can_be_set() -> Result<()> {
    let mesh = Mesh::pair("tls").agent_lines("[limits]\nhandshake = \"1s\"\n").build()?;
    let alpha = mesh.start("alpha")?;
    let stream = mesh.place("alpha").connect(mesh.link_address("alpha"), SOON)?;
    let (_, took) = hostile::speak(stream, b"", || None, SOON)?;
    ensure!((0.8..4.0).contains(&took.as_secs_f64()), "cut after {took:?}");
    evidence::of(&alpha, &["silent", "limit", "tls"], "")
}

fn the_drain_limit_cuts_what_is_left() -> Result<()> {
    let mesh = Mesh::pair("auto").agent_lines("[limits]\ndrain = \"1s\"\n").build()?;
    let (_alpha, mut beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    beta.terminate()?;
    for end in [&client, &served] {
        let how = ending(end, SOON)?;
        ensure!(matches!(how, Ending::Reset(_)), "{how:?}");
    }
    let status = beta.wait(SOON)?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

fn the_connect_limit_can_be_set() -> Result<()> {
    let mesh = Mesh::pair("auto").in_namespaces().agent_lines("[limits]\nconnect = \"1s\"\n").build()?;
    mesh.block_everywhere(&[Traffic::All], Answer::Silence)?;
    let (_alpha, _beta) = (mesh.start("alpha")?, mesh.start("beta")?);
    let start = Instant::now();
    let end = mesh.end_of("app", "beta", Duration::from_secs(10))?;
    ensure!(end == adit_tests::load::Ending::Reset(0), "{end:?}");
    ensure!(start.elapsed() < Duration::from_secs(4), "only after {:?}", start.elapsed());
    Ok(())
}

fn a_limit_out_of_range_is_told() -> Result<()> {
    for line in ["drain = 1", "connect = \"0s\"", "connections = -1", "idle = \"soon\"", "hanshake = \"8s\""] {
        let mesh = Mesh::pair("auto").agent_lines(&format!("[limits]\n{line}\n")).build()?;
        let mut command = mesh.place("alpha").command(adit_tests::binary::path()?);
        command.arg("--dir").arg(mesh.directory("alpha")).arg("run");
        let output = adit_tests::binary::run(&mut command, SOON)?;
        let key = line.split(' ').next().unwrap_or_default();
        ensure!(output.code == Some(2) && output.stderr.contains(key), "{line}: {output:?}");
        ensure!(output.stderr.contains("agent.toml:"), "{line}: {output:?}");
    }
    Ok(())
}
