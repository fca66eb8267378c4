//! A service that several nodes offer, and agents that dial each other.

use std::time::{Duration, Instant};

use adit_tests::load::round_trip;
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::wait::{accept, eventually};
use adit_tests::{Agent, Mesh, Service};
use anyhow::{Result, ensure};

/// How long a link is watched after it has come up.
const WATCHED: Duration = Duration::from_secs(1);
const ROUNDS: usize = 4;
/// Well before the connect limit, 10 s.
const WELL_BEFORE: Duration = Duration::from_secs(5);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for transport in ["tls", "quic"] {
        for first in ["alpha", "gamma"] {
            tests.push(Test::new(
                format!("an_application_that_waits_is_served_by_{first}_that_comes_up_first_over_{transport}"),
                move || first_up(transport, first),
            ));
        }
        tests.push(Test::new(
            format!("two_agents_that_dial_each_other_at_once_come_up_once_and_stay_up_over_{transport}"),
            move || dial_each_other(transport),
        ));
    }
    tests
}

fn first_up(transport: &str, first: &str) -> Result<()> {
    let mesh = Mesh::builder(&["alpha", "gamma", "beta"])
        .transport(transport)
        .service(Service::new("app", &["alpha", "gamma"], &["beta"]))
        .build()?;
    let beta = mesh.start("beta")?;
    let server = mesh.serve("app", first)?;
    let client = mesh.reach("app", "beta")?;
    eventually("the application waits and both nodes were tried", SOON, || {
        let status = beta.status()?;
        ensure!(status["connections"] == 1, "{status}");
        for node in ["alpha", "gamma"] {
            ensure!(beta.peer(node)?["error"].is_string(), "{node} was not tried");
        }
        Ok(())
    })?;
    let _up = mesh.start(first)?;
    let up = Instant::now();
    let served = accept(&server, SOON)?;
    round_trip(&client, &served, b"hello", SOON)?;
    ensure!(up.elapsed() < WELL_BEFORE, "only {:?} after it came up", up.elapsed());
    Ok(())
}

fn dial_each_other(transport: &str) -> Result<()> {
    let mesh = Mesh::builder(&["alpha", "beta"])
        .transport(transport)
        .service(Service::new("app", &["alpha"], &["beta"]))
        .service(Service::new("back", &["beta"], &["alpha"]))
        .build()?;
    let (mut alpha, mut beta) = (mesh.start("alpha")?, mesh.start("beta")?);
    for _ in 0..ROUNDS {
        alpha.kill()?;
        beta.kill()?;
        let before = [alpha.log()?.len(), beta.log()?.len()];
        alpha.spawn()?;
        beta.spawn()?;
        let ends = [(&alpha, "beta"), (&beta, "alpha")];
        eventually("both are up", SOON, || ends.iter().try_for_each(|(agent, peer)| is_up(agent, peer)))?;
        let up = Instant::now();
        while up.elapsed() < WATCHED {
            ends.iter().try_for_each(|(agent, peer)| is_up(agent, peer))?;
        }
        for ((agent, _), before) in ends.iter().zip(before) {
            let log = agent.log()?.split_off(before);
            let count = |event: &str| log.lines().filter(|line| line.contains("audit") && line.contains(event)).count();
            ensure!((count("link.up"), count("link.down")) == (1, 0), "{}: {log}", agent.name());
        }
    }
    Ok(())
}

fn is_up(agent: &Agent, peer: &str) -> Result<()> {
    let peer = agent.peer(peer)?;
    ensure!(peer["state"] == "up" && peer["path"].is_string(), "{peer}");
    Ok(())
}
