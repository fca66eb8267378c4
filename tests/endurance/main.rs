//! Endurance: minutes of stalls, silence and load. Not part of the suite.
//!
//! `cargo test --release -p adit-tests --test endurance [-- FILTER]`, after `cargo build --release`. Some half an hour in all
//! on two cores.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use adit_tests::changes::crash;
use adit_tests::changes::cut::halves;
use adit_tests::changes::cycles::cycles;
use adit_tests::changes::publishes::{Spread, publishes};
use adit_tests::changes::storm::{Size, storm};
use adit_tests::load::memory::{self, SMALL};
use adit_tests::load::stall::{silence, stalled_reader};
use adit_tests::load::{Server, blast, many};
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, eventually};
use anyhow::{Context as _, Result, ensure};
use netsim::{Answer, Traffic};

const MINUTE: Duration = Duration::from_secs(60);
const SOAK: Duration = Duration::from_secs(5 * 60);
/// Each agent has two descriptors for one of them.
const CROWD: usize = 8000;

fn main() -> ExitCode {
    if let Some(code) = adit_tests::load::part() {
        return code;
    }
    adit_tests::suite::prepare();
    let mut tests = Vec::new();
    for transport in ["tls", "quic"] {
        let stalled = [("a_minute", MINUTE), ("two_minutes", 2 * MINUTE)];
        for (name, pause) in stalled {
            tests.push(Test::new(
                format!("a_reader_that_stops_for_{name}_gets_every_byte_over_{transport}"),
                move || stall(transport, pause),
            ));
        }
        tests.push(Test::new(
            format!("a_connection_is_well_after_two_minutes_of_silence_over_{transport}"),
            move || quiet(transport, 2 * MINUTE),
        ));
        tests.push(Test::new(format!("bursts_for_five_minutes_leave_nothing_behind_over_{transport}"), move || {
            soak(transport)
        }));
        tests.push(Test::in_namespaces(
            format!("a_link_that_comes_and_goes_always_comes_back_over_{transport}"),
            move || flapping(transport),
        ));
    }
    tests.push(Test::new("a_publish_is_in_force_on_fifty_agents_within_two_seconds", fifty));
    tests.push(Test::new("twenty_agents_and_two_hundred_connections_bear_a_hundred_changes", twenty_agents));
    tests.push(Test::new("a_thousand_changes_under_load_leave_nothing_behind", || cycles(1_000)));
    tests.push(Test::new("a_kill_at_a_hundred_moments_of_a_change_leaves_one_document_whole", || {
        crash::amid_a_file(100)
    }));
    tests.push(Test::new("a_kill_at_a_hundred_moments_of_a_publish_leaves_one_document_whole", || {
        crash::amid_a_publish(100)
    }));
    for seconds in [5, 40] {
        tests.push(Test::in_namespaces(
            format!("both_halves_of_a_network_that_was_cut_for_{seconds}_seconds_have_the_newest_within_two"),
            move || halves(10, Duration::from_secs(seconds)),
        ));
    }
    tests.extend(adit_tests::tests![in_namespaces:
        eight_thousand_idle_connections_fit_in_the_stated_memory_and_give_it_back,
        eight_thousand_stalled_readers_stay_within_the_stated_memory_and_lose_nothing,
        stalled_readers_with_deep_socket_buffers_stay_within_the_stated_memory,
    ]);
    for seed in 1..=10 {
        tests.push(Test::in_namespaces(format!("the_shipped_scenarios_pass_with_seed_{seed}"), move || shipped(seed)));
    }
    for (name, programs) in EXAMPLES {
        tests.push(Test::in_namespaces(format!("the_example_{}_passes", name.replace('-', "_")), move || {
            example(name, programs)
        }));
    }
    adit_tests::suite::run(tests)
}

/// The simulator's examples that need programs of the machine, and which.
const EXAMPLES: [(&str, &[&str]); 3] =
    [("lossy-link", &["iperf3"]), ("web-behind-nat", &["python3"]), ("etcd", &["etcd", "etcdctl", "sh"])];

/// An example of the simulator, as its page has users run it. What it needs is what they have.
fn example(name: &str, programs: &[&str]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if let Some(missing) = programs.iter().find(|program| !is_there(program)) {
        adit_tests::suite::skipped(&format!("the example {name}"), &format!("there is no {missing}"));
        return Ok(());
    }
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../netsim/examples");
    let mut command = std::process::Command::new(adit_tests::binary::path()?);
    command.args(["sim", "run"]).arg(examples.join(format!("{name}.toml")));
    let output = adit_tests::binary::run(&mut command, 5 * MINUTE)?;
    write!(io::stderr(), "{}", output.stdout)?;
    ensure!(output.code == Some(0) && output.stdout.starts_with(&format!("ok   {name}: ")), "{output:?}");
    Ok(())
}

/// All scenarios of this repository, as `adit sim run` runs them.
fn shipped(seed: u32) -> Result<()> {
    let scenarios = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut command = std::process::Command::new(adit_tests::binary::path()?);
    command.args(["sim", "run", "--quiet", "--seed", &seed.to_string()]).arg(scenarios).env("PATH", "");
    let output = adit_tests::binary::run(&mut command, Duration::from_secs(40 * 60))?;
    write!(io::stderr(), "{}", output.stdout)?;
    ensure!(output.code == Some(0), "{output:?}");
    Ok(())
}

/// From the command to the moment at which each agent has applied what was published, ten times over.
fn fifty() -> Result<()> {
    let Spread { median, last, most } = publishes(50, 10)?;
    writeln!(io::stderr(), "50 agents: median {median:.3} s; the last one {last:.3} s, {most:.3} s at most")?;
    ensure!(median < 1.0 && most < 2.0, "median {median:.3} s, the last one {most:.3} s");
    Ok(())
}

fn twenty_agents() -> Result<()> {
    storm(Size { agents: 20, connections: 200, reloads: 100 })
}

fn stall(transport: &str, pause: Duration) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    stalled_reader(&mesh, &server, [&alpha, &beta], pause)
}

fn quiet(transport: &str, pause: Duration) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    silence(&mesh, &server, pause)
}

/// Bursts of connections and bulk in turn. Memory after the last is what it was after the first.
fn soak(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let round = || -> Result<()> {
        let server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
        many::echoes(&mesh.place("beta"), mesh.listener("app", "beta"), 500, 64 * 1024)?;
        drop(server);
        blast(&mesh, &mesh.serve("app", "alpha")?, 64 << 20)
    };
    let (start, mut rounds) = (Instant::now(), 0);
    round()?;
    let resident = |agent: &Agent| agent.usage().map(|u| u.resident);
    let before = [resident(&alpha)?, resident(&beta)?];
    while start.elapsed() < SOAK {
        round().with_context(|| format!("round {rounds}"))?;
        rounds += 1;
    }
    eventually("memory is given back", MINUTE, || {
        for (agent, before) in [&alpha, &beta].into_iter().zip(before) {
            let now = resident(agent)?;
            ensure!(now <= before + before / 10 + (8 << 20), "{}: {before} then {now} bytes", agent.name());
        }
        Ok(())
    })
}

/// Cuts of one second to half a minute. After each heal new connections work soon.
fn flapping(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).in_namespaces().build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    for seconds in [1, 3, 10, 2, 30, 5] {
        mesh.block_everywhere(&[Traffic::All], Answer::Silence)?;
        adit_tests::wait::pass(Duration::from_secs(seconds));
        mesh.block_everywhere(&[], Answer::Silence)?;
        let healed = Instant::now();
        eventually("a new connection works", MINUTE / 2, || {
            // What an earlier try has left behind is not this one's.
            adit_tests::wait::drain(&server)?;
            let client = mesh.reach("app", "beta")?;
            let served = adit_tests::wait::accept(&server, Duration::from_secs(1))?;
            adit_tests::load::round_trip(&client, &served, b"back", Duration::from_secs(1))
        })
        .with_context(|| format!("after a cut of {seconds} s"))?;
        ensure!(healed.elapsed() < Duration::from_secs(15), "only {:?} after {seconds} s", healed.elapsed());
    }
    Ok(())
}

fn eight_thousand_idle_connections_fit_in_the_stated_memory_and_give_it_back() -> Result<()> {
    let mesh = Mesh::pair(Mesh::OWN).in_namespaces().build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    memory::idle(&mesh, [&alpha, &beta], CROWD)
}

fn eight_thousand_stalled_readers_stay_within_the_stated_memory_and_lose_nothing() -> Result<()> {
    let mesh = Mesh::pair(Mesh::OWN).in_namespaces().build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    memory::stalled(&mesh, [&alpha, &beta], CROWD, SMALL)
}

fn stalled_readers_with_deep_socket_buffers_stay_within_the_stated_memory() -> Result<()> {
    let mesh = Mesh::pair(Mesh::OWN).in_namespaces().build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    memory::stalled(&mesh, [&alpha, &beta], 500, 16 * SMALL)
}
