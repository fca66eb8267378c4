//! An agent that dies and comes back: its peers use it again at once and have lost nothing of their own.

use std::io::Write as _;
use std::time::{Duration, Instant};

use adit_tests::load::{Server, many, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Calm, Mesh, eventually};
use anyhow::{Context as _, Result, bail, ensure};
use netsim::{Answer, Traffic};

/// From the start of the new process until an application's bytes go through.
const BACK: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 6;
/// How soon after a burst its memory is given back: lanes are closed when they have been idle for ten seconds.
const GIVEN_BACK: Duration = Duration::from_secs(30);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for transport in Mesh::WAYS {
        for killed in ["alpha", "beta"] {
            tests.push(Test::new(
                format!("new_connections_work_soon_after_{killed}_was_killed_and_nothing_leaks_over_{transport}"),
                move || killed_and_restarted(transport, killed),
            ));
        }
        tests.push(Test::in_namespaces(
            format!("what_a_stopping_peer_no_longer_serves_is_served_by_its_next_run_over_{transport}"),
            move || served_by_the_next_run(transport),
        ));
        tests.push(Test::new(format!("closed_connections_leave_nothing_behind_over_{transport}"), move || {
            nothing_left(transport)
        }));
    }
    tests.push(Test::new("a_burst_of_connections_over_lanes_leaves_no_memory_behind", burst));
    tests
}

fn killed_and_restarted(transport: &str, killed: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let (mut alpha, mut beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let mut settled: Option<Calm> = None;
    for round in 0..ROUNDS {
        // Connections that are open when it dies.
        let open = (0..20).map(|_| mesh.joined(&server)).collect::<Result<Vec<_>>>()?;
        let (victim, survivor) = if killed == "alpha" { (&mut alpha, &beta) } else { (&mut beta, &alpha) };
        victim.kill()?;
        drop(open);
        let start = Instant::now();
        victim.spawn()?;
        works_again(&mesh, &server, start).with_context(|| format!("round {round}"))?;
        // What an application asked for that has gone since may come late, and then waits for somebody to take it.
        eventually("nobody is served any more", SOON, || {
            adit_tests::wait::drain(&server)?;
            let left = survivor.status()?["connections"].clone();
            ensure!(left == 0, "{left} are left");
            Ok(())
        })?;
        // The first round is warm-up: pools and allocators have grown to what they need.
        match settled {
            None => settled = Some(Calm::of(survivor)?),
            Some(before) => before.is_back(survivor).with_context(|| format!("round {round}"))?,
        }
    }
    alpha.ensure_running()?;
    beta.ensure_running()
}

/// Tries until bytes go through. A try may be refused while nobody listens yet, or be reset while the new process has no
/// link yet.
fn works_again(mesh: &Mesh, server: &std::net::TcpListener, start: Instant) -> Result<()> {
    eventually("a new connection works", BACK * 3, || {
        adit_tests::wait::drain(server)?;
        let client = mesh.reach("app", "beta")?;
        let served = adit_tests::wait::accept(server, Duration::from_millis(500))?;
        round_trip(&client, &served, b"back", Duration::from_millis(500))
    })?;
    ensure!(start.elapsed() <= BACK, "only {:?} after the restart", start.elapsed());
    Ok(())
}

fn nothing_left(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
    // Few at once and many in turn: what each leaves behind would add up, and pools and allocators stay small.
    let bursts = |number| -> Result<()> {
        let (place, listener) = (mesh.place("beta"), mesh.listener("app", "beta"));
        (0..number).try_for_each(|_| many::echoes(&place, listener, 50, 16 * 1024))
    };
    bursts(15)?;
    let before = [Calm::of(&alpha)?, Calm::of(&beta)?];
    bursts(60)?;
    [&alpha, &beta].into_iter().zip(before).try_for_each(|(agent, before)| before.is_back(agent))
}

fn burst() -> Result<()> {
    let mesh = Mesh::pair(Mesh::OWN).agent_lines("limits.connect = \"60s\"\n").build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
    let burst =
        |count, length: u64| many::echoes(&mesh.place("beta"), mesh.listener("app", "beta"), count, length << 10);
    // What the first few connections leave is no burst's.
    burst(10, 4096)?;
    let before = [Calm::of(&alpha)?.usage.resident, Calm::of(&beta)?.usage.resident];
    for number in 1..=2 {
        burst(2_500, 32)?;
        let at_its_end = [alpha.usage()?.resident, beta.usage()?.resident];
        for (at, agent) in [&alpha, &beta].into_iter().enumerate() {
            let (before, at_its_end) = (before[at], at_its_end[at]);
            ensure!(at_its_end > before / 10 * 13, "it was no burst: {before} then {at_its_end}");
            eventually("memory is given back", GIVEN_BACK, || {
                let now = agent.usage()?.resident;
                ensure!(now <= before / 10 * 13, "burst {number}: {before}, {at_its_end} at its end, then {now}");
                Ok(())
            })
            .with_context(|| agent.name().to_owned())?;
        }
    }
    Ok(())
}

/// Beta is deaf while alpha begins to stop, so it opens a stream that alpha no longer serves.
fn served_by_the_next_run(transport: &str) -> Result<()> {
    for _ in 0..5 {
        if is_served_by_the_next_run(transport)? {
            return Ok(());
        }
    }
    bail!("alpha has served it itself, five times")
}

/// False if the stream reached alpha before alpha had said on that lane that it stops: then alpha serves it itself, and rightly.
fn is_served_by_the_next_run(transport: &str) -> Result<bool> {
    let mesh = Mesh::pair(transport).agent_lines("limits.connect = \"30s\"\n").in_namespaces().build()?;
    let (mut alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    // Keeps alpha from ending before the stream is there.
    let held = mesh.joined(&server)?;
    mesh.block("beta", &[Traffic::All], Answer::Silence)?;
    alpha.terminate()?;
    alpha.wait_for_log(&["draining"], SOON)?;
    let mut client = mesh.reach("app", "beta")?;
    client.write_all(b"early ")?;
    eventually("beta has opened a stream", SOON, || {
        let status = beta.status()?;
        ensure!(status["connections"] == 2, "{status}");
        ensure!(beta.peer("alpha")?["state"] == "up", "beta knows already");
        Ok(())
    })?;
    if adit_tests::wait::accept(&server, Duration::from_millis(500)).is_ok() {
        return Ok(false);
    }
    mesh.block("beta", &[], Answer::Silence)?;
    drop(held);
    alpha.wait(SOON * 2)?;
    alpha.restart()?;
    let served = adit_tests::wait::accept(&server, SOON * 2)?;
    ensure!(adit_tests::load::read_some(&served, 6, SOON)? == b"early ", "what it had said is lost");
    round_trip(&client, &served, b"and late", SOON)?;
    Ok(true)
}
