//! What the ways of a link cost: no tunnel, lanes, QUIC, each between two hosts joined by a veth pair.
//!
//! `cargo bench -p adit-tests --bench paths [-- --rounds N] [--seconds S] [--congestion reno]`, after
//! `cargo build --release`. It needs network namespaces. Every round goes through all systems, so that what else happens
//! on the machine hits them alike; the table shows medians.
//!
//! The load runs in processes of its own: this program again, with `load` as its first argument.
//!
//! Figures: throughput is counted by the receiving application after a warm-up; processor seconds are those of both
//! agents together, all threads, user and system; a new connection is connect, one byte there and back, close; latency is
//! that of 64 bytes there and back on one open connection with nothing else running; memory is the resident memory of the
//! larger of the two agents.

mod load;

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, ExitCode, Stdio};
use std::time::Duration;

use adit_tests::usage::Usage;
use adit_tests::{Agent, Mesh, Place, eventually};
use anyhow::{Context as _, Result, bail, ensure};

/// Connections held open for the memory figure.
const IDLE: u32 = 1000;
const SYSTEMS: [System; 3] = [System::NoTunnel, System::Lanes, System::Quic];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    NoTunnel,
    Lanes,
    Quic,
}

impl System {
    fn name(self) -> &'static str {
        match self {
            Self::NoTunnel => "no tunnel",
            Self::Lanes => "lanes",
            Self::Quic => "QUIC",
        }
    }
}

/// One system's figures of one round, in the order of [`COLUMNS`]; `None` where it has none.
type Row = [Option<f64>; COLUMNS.len()];

const COLUMNS: [&str; 11] = [
    "Gbit/s, 1 stream",
    "CPU-s/GiB",
    "Gbit/s, 8 streams",
    "CPU-s/GiB",
    "connections/s",
    "CPU-ms each",
    "p50 us",
    "p99 us",
    "MiB idle",
    "MiB, 1000 open",
    "KiB each",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "load" => load::run(rest),
        _ => {
            // While there is one thread.
            adit_tests::suite::prepare();
            measure(&arguments)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark's answer")]
fn say(line: &str) {
    println!("{line}");
}

fn option<T: std::str::FromStr>(arguments: &[String], name: &str) -> Result<Option<T>> {
    let Some(at) = arguments.iter().position(|a| a == name) else { return Ok(None) };
    let value = arguments.get(at + 1).and_then(|v| v.parse().ok());
    Ok(Some(value.with_context(|| format!("{name} needs a value"))?))
}

fn measure(arguments: &[String]) -> Result<()> {
    let rounds = option(arguments, "--rounds")?.unwrap_or(3_usize);
    let seconds = option(arguments, "--seconds")?.unwrap_or(4_u32);
    let congestion: Option<String> = option(arguments, "--congestion")?;
    let mut rows: [Vec<Row>; SYSTEMS.len()] = Default::default();
    for round in 1..=rounds {
        for (system, rows) in SYSTEMS.into_iter().zip(&mut rows) {
            let row = one(system, seconds, congestion.as_deref());
            rows.push(row.with_context(|| format!("{}, round {round}", system.name()))?);
            adit_tests::scratch::finish();
        }
        say(&format!("round {round} of {rounds} done"));
    }
    let control = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    say(&format!(
        "\nmedians of {rounds} rounds; congestion control {}; {} cores\n",
        congestion.as_deref().unwrap_or(control.trim()),
        std::thread::available_parallelism()?
    ));
    say(&format!("| system | {} |", COLUMNS.join(" | ")));
    say(&format!("|---|{}", "---|".repeat(COLUMNS.len())));
    for (system, rows) in SYSTEMS.into_iter().zip(rows) {
        let cells: Vec<_> = (0..COLUMNS.len()).map(|c| median(rows.iter().filter_map(|r| r[c]).collect())).collect();
        say(&format!("| {} | {} |", system.name(), cells.join(" | ")));
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values.get(values.len() / 2) {
        Some(&v) if v >= 100.0 => format!("{v:.0}"),
        Some(&v) if v >= 10.0 => format!("{v:.1}"),
        Some(&v) => format!("{v:.2}"),
        None => "-".to_owned(),
    }
}

/// A system that runs, with the server behind it.
struct Bench {
    mesh: Mesh,
    agents: Vec<Agent>,
    /// Where the load's client connects to.
    entry: SocketAddr,
    seconds: u32,
    _server: Load,
}

fn one(system: System, seconds: u32, congestion: Option<&str>) -> Result<Row> {
    let transport = if system == System::Quic { "quic" } else { "tls" };
    let mesh = Mesh::pair(transport).in_namespaces().build()?;
    for node in ["alpha", "beta"] {
        if let (Place::There(namespace), Some(congestion)) = (mesh.place(node), congestion) {
            namespace.sysctl("net/ipv4/tcp_congestion_control", congestion)?;
        }
    }
    let target = mesh.target("app", "alpha");
    let (agents, entry, listen) = if system == System::NoTunnel {
        let direct = SocketAddr::new(mesh.link_address("alpha").ip(), target.port());
        (Vec::new(), direct, SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), target.port()))
    } else {
        let (alpha, beta, _) = mesh.start_pair()?;
        (vec![alpha, beta], mesh.listener("app", "beta"), target)
    };
    let server = Load::start(&mesh.place("alpha"), &["serve", &listen.to_string()])?;
    let bench = Bench { mesh, agents, entry, seconds, _server: server };
    // The first connection proves the way; memory is read before there was any load.
    let idle = bench.resident()?;
    bench.latency(1)?;
    let (open, each) = match idle {
        Some(idle) => bench.memory(idle)?,
        None => (None, None),
    };
    let (gbit_1, cpu_1) = bench.bulk(1)?;
    let (gbit_8, cpu_8) = bench.bulk(8)?;
    let (rate, cpu_each) = bench.connections()?;
    let (p50, p99) = bench.latency(seconds)?;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    Ok([
        Some(gbit_1),
        cpu_1,
        Some(gbit_8),
        cpu_8,
        Some(rate),
        cpu_each,
        Some(p50),
        Some(p99),
        idle.map(mib),
        open.map(mib),
        each.map(|bytes| bytes / 1024.0),
    ])
}

impl Bench {
    /// Processor seconds of both agents so far; `None` without agents.
    fn cpu(&self) -> Result<Option<f64>> {
        let times = self.agents.iter().map(|a| Ok(a.usage()?.cpu)).collect::<Result<Vec<Duration>>>()?;
        Ok((!times.is_empty()).then(|| times.iter().sum::<Duration>().as_secs_f64()))
    }

    fn resident(&self) -> Result<Option<f64>> {
        let all = self.agents.iter().map(Agent::usage).collect::<Result<Vec<Usage>>>()?;
        // Exact: resident memory is far below 2^53 bytes.
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        Ok(all.iter().map(|u| u.resident as f64).reduce(f64::max))
    }

    fn drive(&self, kind: &str, number: u32, seconds: u32) -> Result<Load> {
        let (number, seconds) = (number.to_string(), seconds.to_string());
        Load::start(&self.mesh.place("beta"), &[kind, &self.entry.to_string(), &number, &seconds])
    }

    /// Runs a load that says `start`, and then its result; also the agents' processor time between the two.
    fn timed(&self, kind: &str, number: u32) -> Result<(Vec<f64>, Option<f64>)> {
        let mut load = self.drive(kind, number, self.seconds)?;
        load.expect("start")?;
        let before = self.cpu()?;
        let result = load.numbers()?;
        let after = self.cpu()?;
        Ok((result, after.zip(before).map(|(after, before)| after - before)))
    }

    fn bulk(&self, streams: u32) -> Result<(f64, Option<f64>)> {
        let (result, cpu) = self.timed("bulk", streams)?;
        let [bytes, seconds] = result[..] else { bail!("a strange result {result:?}") };
        Ok((bytes * 8.0 / seconds / 1e9, cpu.map(|cpu| cpu / (bytes / f64::from(1 << 30)))))
    }

    fn connections(&self) -> Result<(f64, Option<f64>)> {
        let (result, cpu) = self.timed("connections", 32)?;
        let [count, seconds] = result[..] else { bail!("a strange result {result:?}") };
        Ok((count / seconds, cpu.map(|cpu| cpu * 1000.0 / count)))
    }

    fn latency(&self, seconds: u32) -> Result<(f64, f64)> {
        let result = self.drive("latency", 1, seconds)?.numbers()?;
        let [p50, p99] = result[..] else { bail!("a strange result {result:?}") };
        Ok((p50, p99))
    }

    /// The resident memory with idle connections open, and what each costs, in bytes.
    fn memory(&self, idle: f64) -> Result<(Option<f64>, Option<f64>)> {
        let mut load = self.drive("idle", IDLE, 0)?;
        load.expect("open")?;
        let open = self.resident()?;
        drop(load);
        eventually("the connections are closed", Duration::from_secs(20), || {
            let busy = self.agents.iter().map(|a| Ok(a.status()?["connections"] != 0)).collect::<Result<Vec<_>>>()?;
            ensure!(!busy.contains(&true), "some are open");
            Ok(())
        })?;
        Ok((open, open.map(|open| (open - idle) / f64::from(IDLE))))
    }
}

/// A process of load, killed when it is no longer needed.
struct Load {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Load {
    fn start(place: &Place, arguments: &[&str]) -> Result<Self> {
        let mut command = place.command(std::env::current_exe()?);
        command.arg("load").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut load = Self { child, output };
        if arguments[0] == "serve" {
            load.expect("listening")?;
        }
        Ok(load)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == word, "the load said {line:?} instead of {word:?}");
        Ok(())
    }

    fn numbers(mut self) -> Result<Vec<f64>> {
        let line = self.line()?;
        line.split(' ').map(|n| n.parse().with_context(|| format!("the load said {line:?}"))).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
