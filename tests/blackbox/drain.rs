//! An agent that is told to finish: its peers go elsewhere, what is open may end, and the rest is cut with a reason.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::binary::Output;
use adit_tests::load::{Ending, Server, Steady, ending, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, Service, eventually};
use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

/// Connections that go through before something happens, and after it.
const SOME: u64 = 100;
/// The longest that one may take while an agent comes or goes.
const HARDLY: Duration = Duration::from_secs(2);
const PROBES: u16 = 9464;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for transport in ["tls", "quic"] {
        tests.push(Test::new(
            format!("restarts_of_either_of_two_offerers_under_load_fail_no_connection_over_{transport}"),
            move || restarts(transport),
        ));
    }
    tests.push(Test::new("a_drain_is_shown_waits_for_connections_and_cuts_the_rest_with_a_reason", cuts));
    tests.push(Test::new("a_drain_that_nothing_holds_up_is_over_at_once", at_once));
    tests.push(Test::new("a_drain_that_is_under_way_can_be_shortened", shortened));
    tests
}

fn restarts(transport: &str) -> Result<()> {
    let mesh = Mesh::builder(&["alpha", "gamma", "beta"])
        .transport(transport)
        .service(Service::new("app", &["alpha", "gamma"], &["beta"]))
        .build()?;
    let mut offerers = [mesh.start("alpha")?, mesh.start("gamma")?];
    let beta = mesh.start("beta")?;
    let _servers = ["alpha", "gamma"].map(|node| Server::echo(&mesh.place(node), mesh.target("app", node)));
    let both = || ["alpha", "gamma"].iter().try_for_each(|node| beta.wait_for_link(node).map(drop));
    both()?;
    let load = Steady::start(&mesh.place("beta"), mesh.listener("app", "beta"), 4);
    // The one that the mesh file prefers, and then the one that served meanwhile.
    for (victim, by_command) in [(0, false), (1, true)] {
        load.wait_for(SOME, SOON)?;
        let agent = &mut offerers[victim];
        if by_command {
            let told = agent.adit(&["drain", "--json"])?.success()?.json_lines()?;
            let last = told.last().context("it says nothing")?;
            ensure!(last["state"] == "drained" && last["cut"] == serde_json::json!([]), "{last}");
        } else {
            agent.terminate()?;
        }
        let status = agent.wait(SOON)?;
        ensure!(status.code() == Some(0), "{status}");
        load.wait_for(SOME, SOON).context("while it is away")?;
        agent.restart()?;
        both()?;
    }
    load.wait_for(SOME, SOON)?;
    let (done, longest) = load.stop()?;
    ensure!(longest < HARDLY, "one of {done} took {longest:?}");
    Ok(())
}

/// A pair whose `beta` answers probes, with a connection that stays open: its ends, client first.
fn held(transport: &str) -> Result<(Mesh, [Agent; 2], [TcpStream; 2])> {
    let mesh = Mesh::pair(transport).build()?;
    let path = mesh.directory("beta").join("agent.toml");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, format!("metrics = \"{}\"\n{text}", probes(&mesh)))?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    round_trip(&client, &served, b"open", SOON)?;
    Ok((mesh, [alpha, beta], [client, served]))
}

fn probes(mesh: &Mesh) -> SocketAddr {
    SocketAddr::new(mesh.link_address("beta").ip(), PROBES)
}

/// The status line and the rest of what a probe answers.
fn probe(mesh: &Mesh, path: &str) -> Result<String> {
    let address = probes(mesh);
    let mut stream = mesh.place("beta").connect(address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn is_draining(mesh: &Mesh, beta: &Agent) -> Result<()> {
    eventually("it drains", SOON, || {
        let state = beta.status()?["state"].clone();
        ensure!(state == "draining", "{state}");
        Ok(())
    })?;
    ensure!(beta.metric("adit_draining", &[])? == 1.0 && beta.metric("adit_ready", &[])? == 0.0);
    let (ready, alive) = (probe(mesh, "/readyz")?, probe(mesh, "/livez")?);
    ensure!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("draining\n"), "{ready}");
    ensure!(alive.starts_with("HTTP/1.1 200 "), "{alive}");
    ensure!(probe(mesh, "/metrics")?.contains("adit_draining 1"));
    Ok(())
}

fn cuts() -> Result<()> {
    for transport in ["tls", "quic"] {
        let (mesh, [alpha, mut beta], [client, served]) = held(transport)?;
        ensure!(beta.metric("adit_ready", &[])? == 1.0 && probe(&mesh, "/readyz")?.starts_with("HTTP/1.1 200 "));
        let begun = Instant::now();
        let told = drained(&beta, &["--timeout", "2"], || {
            is_draining(&mesh, &beta)?;
            ensure!(mesh.reach("app", "beta").is_err(), "new connections are accepted");
            round_trip(&client, &served, b"still here", SOON)
        })?;
        ensure!(begun.elapsed() >= Duration::from_secs(2), "it was not waited for");
        for (end, place) in [(&client, "the client"), (&served, "the server")] {
            let how = ending(end, SOON)?;
            ensure!(matches!(how, Ending::Reset(0)), "{transport}: {place}: {how:?}");
        }
        let status = beta.wait(SOON)?;
        ensure!(status.code() == Some(0), "{status}");
        ensure!(told.stderr.contains("1 connection open"), "{told:?}");
        ensure!(told.stdout.contains("from beta") && told.stdout.contains("to app on alpha"), "{told:?}");
        ensure!(told.stdout.contains("1 connection was cut"), "{told:?}");
        for agent in [&alpha, &beta] {
            agent.wait_for_log(&["audit", "connection.close", "draining"], SOON)?;
        }
    }
    Ok(())
}

/// What `adit drain` comes to while `meanwhile` is done.
fn drained(beta: &Agent, arguments: &[&str], meanwhile: impl FnOnce() -> Result<()>) -> Result<Output> {
    thread::scope(|scope| {
        let drain = scope.spawn(|| beta.adit(&[&["drain"], arguments].concat()));
        let done = meanwhile();
        let told = drain.join().map_err(|_| anyhow!("it panicked"))?;
        done?;
        told?.success()
    })
}

fn at_once() -> Result<()> {
    let (_mesh, [alpha, mut beta], [client, served]) = held("tls")?;
    drop((client, served));
    eventually("no connection is open", SOON, || {
        let left = beta.status()?["connections"].clone();
        ensure!(left == 0, "{left}");
        Ok(())
    })?;
    let told = beta.adit(&["drain", "--json"])?.success()?;
    ensure!(told.took < Duration::from_secs(2), "{told:?}");
    let last: Value = told.json_lines()?.pop().context("it says nothing")?;
    ensure!(last["state"] == "drained" && last["connections"] == 0 && last["cut"] == serde_json::json!([]), "{last}");
    ensure!(beta.wait(SOON)?.code() == Some(0));
    let gone = beta.adit(&["drain"])?;
    ensure!(gone.code == Some(3), "{gone:?}");
    eventually("alpha sees it go", SOON, || {
        let peer = alpha.peer("beta")?;
        ensure!(peer["state"] != "up", "{peer}");
        Ok(())
    })
}

fn shortened() -> Result<()> {
    let (mesh, [_alpha, mut beta], [client, served]) = held("tls")?;
    let told = drained(&beta, &["--timeout", "600", "--json"], || {
        is_draining(&mesh, &beta)?;
        let second = beta.adit(&["drain", "--timeout", "0", "--json"])?.success()?;
        let last: Value = second.json_lines()?.pop().context("it says nothing")?;
        ensure!(last["state"] == "drained" && last["cut"][0]["service"] == "app", "{last}");
        Ok(())
    })?;
    let last: Value = told.json_lines()?.pop().context("it says nothing")?;
    let cut = &last["cut"][0];
    ensure!(cut["reason"] == "draining" && cut["from"] == "beta" && cut["to"] == "alpha", "{last}");
    ensure!(last["seconds"].as_f64() < Some(30.0), "{last}");
    ensure!(matches!(ending(&client, SOON)?, Ending::Reset(0)));
    drop(served);
    ensure!(beta.wait(SOON)?.code() == Some(0));
    Ok(())
}
