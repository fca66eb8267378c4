//! A soak: three agents under mixed load for half an hour, with agents that are killed, links that are cut and keys that are
//! renewed all the time. Nothing may leak.
//!
//! `cargo test --release -p adit-tests --test soak [-- --minutes N]`, after `cargo build --release`. It needs network namespaces.
//!
//! ```text
//!   alpha ══ lanes ══ beta          alpha and beta live through all of it, and are weighed
//!     ║                 ║           gamma is killed (SIGKILL) and started again
//!    QUIC             lanes         every host is cut off for a while in its turn
//!     ╚═════ gamma ═════╝           delta, played by this program over rustls, has alpha renew its keys
//! ```
//!
//! A minute: load with one fault in it, then a quiet moment with idle connections alone. A connection may fail only while there
//! is a fault, until every way works again, which has a bound; wrong bytes may never come. The verdict compares the medians of
//! the first and the last third of the readings.

mod readings;
mod state;
mod storm;
mod traffic;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::pki::{Authority, Leaf};
use adit_tests::wait::pass;
use adit_tests::{Agent, Mesh, Service, eventually, scratch};
use anyhow::{Context as _, Result, bail, ensure};
use netsim::{Answer, Block, Traffic};

use crate::readings::{Readings, calmest};
use crate::state::State;
use crate::traffic::Way;

/// Idle connections of each way.
const IDLE: usize = 25;
/// From the end of a fault until every way works again.
const RECOVERED: Duration = Duration::from_secs(30);
/// The parts of a round, and between two readings.
const BEFORE_FAULT: Duration = Duration::from_secs(10);
const AFTER_FAULT: Duration = Duration::from_secs(20);
const READING: Duration = Duration::from_secs(10);
/// Lanes that nobody needs are closed by then.
const SETTLED: Duration = Duration::from_secs(15);
/// Minutes that hold enough rounds to be judged.
const LEAST: u64 = 5;
/// Rounds that are not judged.
const WARM_UP: usize = 1;

fn main() -> ExitCode {
    adit_tests::suite::prepare();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the soak's report")]
fn say(line: &str) {
    println!("{line}");
}

fn minutes() -> Result<u64> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => Ok(30),
        [name, minutes] if name == "--minutes" => minutes.parse().context("--minutes needs a whole number"),
        _ => bail!("only --minutes N is understood, not {arguments:?}"),
    }
}

fn run() -> Result<()> {
    let minutes = minutes()?;
    ensure!(minutes >= LEAST, "{minutes} minutes have too few rounds to be judged: {LEAST} at least");
    let time = Duration::from_secs(minutes * 60);
    let authority = Authority::new()?;
    let mesh = Mesh::builder(&["alpha", "beta", "gamma", "delta"])
        .service(Service::new("app", &["alpha"], &["beta", "gamma", "delta"]))
        .service(Service::new("back", &["beta"], &["alpha", "gamma"]))
        .without_address("delta")
        .trusting(&authority)
        .in_namespaces()
        .build()?;
    let mut soak = Soak::new(&mesh)?;
    let member = authority.issue(&Leaf::of("delta"))?;
    let ways = [("beta", "app"), ("gamma", "app"), ("alpha", "back"), ("gamma", "back")];
    let ways = ways.map(|(from, service)| Way { dies: from == "gamma", ..Way::new(&mesh, from, service) });
    let _servers = [traffic::serve(&mesh, "app", "alpha")?, traffic::serve(&mesh, "back", "beta")?];
    let state = &State::default();
    let outcome = thread::scope(|scope| {
        for way in &ways {
            for kind in traffic::KINDS {
                scope.spawn(move || traffic::keep_doing(kind, way, state));
            }
            scope.spawn(move || traffic::hold_idle(way, IDLE, state));
        }
        scope.spawn(|| storm::rage(&mesh, &member, state));
        let outcome = soak.rounds(time, &ways, state);
        state.stop();
        outcome
    });
    let mut failures = state.failures();
    say("\n| done | times | failed under a fault |\n|---|---|---|");
    for (name, count) in state.counts() {
        say(&format!("| {name} | {} | {} |", count.well, count.excused));
    }
    say("\n| agent | | readings | median of the first third | of the last |\n|---|---|---|---|---|");
    for (node, readings) in ["alpha", "beta"].into_iter().zip(&soak.readings) {
        failures.extend(readings.verdict(node));
    }
    drop(soak);
    let verdict = scratch::finish();
    failures.extend(verdict.offences);
    failures.extend(outcome.err().map(|e| format!("{e:#}")));
    if !failures.is_empty() {
        say(&verdict.logs);
    }
    ensure!(failures.is_empty(), "FAILED:\n{}", failures.join("\n"));
    say("\nwell: nothing has leaked");
    Ok(())
}

struct Soak<'a> {
    mesh: &'a Mesh,
    alpha: Agent,
    beta: Agent,
    gamma: Agent,
    start: Instant,
    readings: [Readings; 2],
}

impl<'a> Soak<'a> {
    fn new(mesh: &'a Mesh) -> Result<Self> {
        restore(mesh)?;
        let agents = [mesh.start("alpha")?, mesh.start("beta")?, mesh.start("gamma")?];
        for (from, to, wanted) in [(1, "alpha", "lane"), (2, "beta", "lane"), (2, "alpha", "quic")] {
            let path = agents[from].wait_for_link(to)?;
            ensure!(path == wanted, "{} reaches {to} by {path}", agents[from].name());
        }
        let [alpha, beta, gamma] = agents;
        Ok(Self { mesh, alpha, beta, gamma, start: Instant::now(), readings: Default::default() })
    }

    fn rounds(&mut self, time: Duration, ways: &[Way], state: &State) -> Result<()> {
        readings::head();
        let mut round = 0;
        while self.start.elapsed() < time {
            let judged = round >= WARM_UP;
            self.load(BEFORE_FAULT, judged)?;
            self.fault(round, ways, state).with_context(|| format!("round {round}"))?;
            self.load(AFTER_FAULT, judged)?;
            self.quiet(judged, state).with_context(|| format!("the quiet moment of round {round}"))?;
            round += 1;
        }
        Ok(())
    }

    fn load(&mut self, time: Duration, judged: bool) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            pass(READING);
            for (agent, readings) in [&self.alpha, &self.beta].into_iter().zip(&mut self.readings) {
                let usage = agent.usage()?;
                if judged {
                    readings.busy(agent.name(), self.start.elapsed(), usage);
                }
            }
        }
        Ok(())
    }

    /// One fault, until every way works again.
    fn fault(&mut self, round: usize, ways: &[Way], state: &State) -> Result<()> {
        state.set_trouble(true);
        match round % 4 {
            0 | 2 => {
                state.set_death(true);
                self.gamma.kill()?;
                pass(Duration::from_secs(1));
                self.gamma.spawn()?;
            }
            // Shorter than anybody needs to notice.
            1 => self.cut("beta", Duration::from_secs(3))?,
            // Longer than a control channel may be silent.
            _ => self.cut("gamma", Duration::from_secs(20))?,
        }
        for way in ways {
            eventually(&way.name, RECOVERED, || traffic::short(way, 1))?;
        }
        state.set_death(false);
        state.set_trouble(false);
        Ok(())
    }

    fn cut(&self, node: &str, time: Duration) -> Result<()> {
        self.mesh.block(node, &[Traffic::All], Answer::Silence)?;
        pass(time);
        restore(self.mesh)
    }

    /// Nothing but idle connections.
    fn quiet(&mut self, judged: bool, state: &State) -> Result<()> {
        state.set_quiet(true);
        // Three of the ways touch each of the two; delta has one connection to alpha.
        let idle = 3 * IDLE as u64;
        for (agent, expected) in [(&self.alpha, idle + 1), (&self.beta, idle)] {
            eventually("only idle connections are left", Duration::from_secs(40), || {
                let open = connections(agent)?;
                ensure!(open == expected, "{} has {open} connections instead of {expected}", agent.name());
                Ok(())
            })?;
        }
        let until = Instant::now() + SETTLED;
        let mut settling = [Vec::new(), Vec::new()];
        while Instant::now() < until {
            pass(Duration::from_secs(1));
            settling[0].push(self.alpha.usage()?);
            settling[1].push(self.beta.usage()?);
        }
        for ((agent, readings), seen) in [&self.alpha, &self.beta].into_iter().zip(&mut self.readings).zip(&settling) {
            let usage = calmest(seen).context("no reading")?;
            if judged {
                readings.quiet(agent.name(), self.start.elapsed(), usage, (connections(agent)?, tasks(agent)?));
            }
        }
        state.set_quiet(false);
        Ok(())
    }
}

fn connections(agent: &Agent) -> Result<u64> {
    agent.status()?["connections"].as_u64().context("a status without connections")
}

fn tasks(agent: &Agent) -> Result<u64> {
    let tasks = agent.metric("adit_tasks", &[])?;
    format!("{tasks:.0}").parse().context("a strange number of tasks")
}

/// Everything is open but TCP between alpha and gamma, so that these two are linked by QUIC.
fn restore(mesh: &Mesh) -> Result<()> {
    mesh.block_everywhere(&[], Answer::Silence)?;
    for (node, other) in [("alpha", "gamma"), ("gamma", "alpha")] {
        let adit_tests::Place::There(namespace) = mesh.place(node) else { bail!("{node} has no host of its own") };
        let from = Some(mesh.link_address(other).ip());
        namespace.block(&[Block { interface: "eth0", traffic: Traffic::Tcp, from, answer: Answer::Rejection }])?;
    }
    Ok(())
}
