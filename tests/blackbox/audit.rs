//! What the audit log tells of connections: that they were let in, when they were, and not so much that it fills a disk.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::load::{Ending, Server, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, eventually};
use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::evidence;

/// Connections of a member in a loop.
const LOOP: u64 = 6_000;
/// Of these, in turn by so many applications.
const APPLICATIONS: u64 = 6;
/// What `docs/logging.md` promises a member: so many at once, then so many a second.
const BURST: f64 = 500.0;
const A_SECOND: f64 = 20.0;
/// No line is longer than this, in bytes, by far.
const LINE: f64 = 600.0;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for transport in ["tls", "quic"] {
        let mut add = |name: &str, body: fn(&str) -> Result<()>| {
            tests.push(Test::new(format!("{name}_over_{transport}"), move || body(transport)));
        };
        add("a_refused_connection_is_told_as_refused_and_never_as_open", refused);
        add("a_connection_is_open_when_its_target_has_answered_and_not_before", open_when_answered);
        add("a_member_in_a_loop_writes_a_bounded_log_that_says_what_it_left_out", bounded);
    }
    tests
}

const JSON: &str = "[log]\nformat = \"json\"\n";

/// The audit events of this kind, oldest first.
fn events(agent: &Agent, event: &str) -> Result<Vec<Value>> {
    let log = agent.log()?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["target"] == "audit" && line["event"] == event).collect())
}

fn refused(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).agent_lines(JSON).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    // Nobody listens at the target.
    let end = mesh.end_of("app", "beta", SOON)?;
    ensure!(end == Ending::Reset(0), "{end:?}");
    for agent in [&alpha, &beta] {
        evidence::of(agent, &["target"], "target_refused")?;
        for event in ["connection.open", "connection.close"] {
            let told = events(agent, event)?;
            ensure!(told.is_empty(), "{}: {told:?}", agent.name());
        }
        let opened = agent.metric("adit_connections_opened_total", &[("service", "app")])?;
        ensure!(opened == 0.0, "{} counts {opened}", agent.name());
    }
    Ok(())
}

/// The state of the one connection that an agent lists.
fn state(agent: &Agent) -> Result<String> {
    let list = agent.adit(&["connections", "--json"])?.success()?.json_lines()?;
    let [one] = &list[..] else { anyhow::bail!("one connection was expected: {list:?}") };
    Ok(one["state"].as_str().with_context(|| format!("no state in {one}"))?.to_owned())
}

fn open_when_answered(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).agent_lines(JSON).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    // With its queue full the kernel drops what would connect, so the target is silent until somebody accepts.
    let target = mesh.target("app", "alpha");
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.bind(&target.into())?;
    socket.listen(0)?;
    let server = std::net::TcpListener::from(socket);
    let filler = mesh.place("alpha").connect(target, SOON)?;

    let client = mesh.reach("app", "beta")?;
    eventually("the connection waits at alpha", SOON, || {
        let state = state(&alpha)?;
        ensure!(state == "opening", "it is {state}");
        Ok(())
    })?;
    ensure!(state(&beta)? == "opening", "beta calls it {}", state(&beta)?);
    for agent in [&alpha, &beta] {
        ensure!(events(agent, "connection.open")?.is_empty(), "{} says too early that it is open", agent.name());
        ensure!(agent.metric("adit_connections", &[])? == 0.0, "{} counts it", agent.name());
    }

    drop((adit_tests::wait::accept(&server, SOON)?, filler));
    let served = adit_tests::wait::accept(&server, SOON).context("the kernel tries again after a second or three")?;
    round_trip(&client, &served, b"answered", SOON)?;
    for agent in [&alpha, &beta] {
        ensure!(state(agent)? == "open", "{} calls it {}", agent.name(), state(agent)?);
        let told = events(agent, "connection.open")?;
        ensure!(told.len() == 1 && told[0]["to"] == "alpha" && told[0]["from"] == "beta", "{told:?}");
        ensure!(events(agent, "connection.close")?.is_empty(), "{} says that it is closed", agent.name());
    }
    drop((client, served));
    for agent in [&alpha, &beta] {
        let closed = agent.wait_for_log(&["\"connection.close\"", "\"app\""], SOON)?;
        let closed: Value = serde_json::from_str(&closed)?;
        ensure!(closed["bytes_in"] == 8 && closed["bytes_out"] == 8 && closed["reason"].is_null(), "{closed}");
    }
    Ok(())
}

fn bounded(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).agent_lines(JSON).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
    let once = || -> Result<()> {
        let mut client = mesh.reach("app", "beta")?;
        client.set_read_timeout(Some(SOON))?;
        client.write_all(b"x")?;
        Ok(client.read_exact(&mut [0])?)
    };
    let start = Instant::now();
    thread::scope(|scope| {
        let turns = || (0..LOOP / APPLICATIONS).try_for_each(|_| once());
        let applications: Vec<_> = (0..APPLICATIONS).map(|_| scope.spawn(turns)).collect();
        applications.into_iter().try_for_each(|a| a.join().map_err(|_| anyhow!("an application panicked"))?)
    })?;
    for (agent, role) in [(&alpha, "offer"), (&beta, "reach")] {
        let labels = [("service", "app"), ("role", role)];
        eventually("every connection is counted and over", SOON, || {
            let opened = agent.metric("adit_connections_opened_total", &labels)?;
            let open = agent.metric("adit_connections", &labels)?;
            ensure!(opened >= LOOP as f64 && open == 0.0, "{opened} opened, {open} open");
            Ok(())
        })?;
        // A line that is written tells of those left out before it, and where none follows another does.
        eventually("the log tells of every one", SOON, || {
            let opened = agent.metric("adit_connections_opened_total", &labels)?;
            let told = events(agent, "connection.open")?;
            let mut swept = events(agent, "log.suppressed")?;
            swept.retain(|line| line["cause"] == "connection.open");
            let left_out: f64 = told.iter().chain(&swept).filter_map(|line| line["suppressed"].as_f64()).sum();
            ensure!(left_out > 0.0, "nothing was left out");
            if told.len() as f64 + left_out < opened {
                once()?;
                anyhow::bail!("{} written and {left_out} left out of {opened}", told.len());
            }
            Ok(())
        })?;
        let (opened, budget) = (events(agent, "connection.open")?, BURST + A_SECOND * start.elapsed().as_secs_f64());
        ensure!(opened.len() as f64 <= budget + 1.0, "{} lines, and the budget was {budget}", opened.len());
        ensure!(agent.log()?.len() as f64 <= 2.0 * (budget + 50.0) * LINE, "the log has {} bytes", agent.log()?.len());
        let ids = |lines: &[Value]| lines.iter().map(|line| line["id"].to_string()).collect::<BTreeSet<_>>();
        eventually("what was opened in the log is closed in it", Duration::from_secs(5), || {
            let (opened, closed) = (ids(&events(agent, "connection.open")?), ids(&events(agent, "connection.close")?));
            ensure!(opened == closed, "{} opened, {} closed", opened.len(), closed.len());
            Ok(())
        })?;
        let suppressed = agent.metric("adit_log_lines_suppressed_total", &[])?;
        ensure!(suppressed > LOOP as f64, "{suppressed} lines are counted as left out");
    }
    Ok(())
}
