//! One system in one round.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use adit_tests::load::Process;
use adit_tests::mesh::SOON;
use adit_tests::usage::Usage;
use adit_tests::{Mesh, Place, eventually, wait};
use anyhow::{Result, bail, ensure};

use crate::figures::{Part, Row};
use crate::load::ECHO;
use crate::systems::{Running, System};

/// Connections held open for the memory figure.
const IDLE: u32 = 1000;
/// Clients that connect at once.
const CLIENTS: u32 = 32;

/// A system that runs, with the server behind it.
struct Bench {
    mesh: Mesh,
    running: Running,
    seconds: u32,
    _server: Process,
}

/// The figures of `system`, those of `parts`.
pub(crate) fn one(system: System, parts: &[Part], seconds: u32, congestion: Option<&str>) -> Result<Row> {
    let mesh = system.hosts(congestion)?;
    let running = system.start(&mesh)?;
    let mut server = Process::start(&mesh.place("alpha"), &["serve", &running.serve.to_string()])?;
    server.expect("listening")?;
    let bench = Bench { mesh, running, seconds, _server: server };
    bench.ready()?;
    let (mut row, has) = (Row::default(), |part| parts.contains(&part));
    // Before there was any load.
    if has(Part::Memory) {
        row[9] = bench.memory()?;
    }
    if has(Part::Bulk) {
        for (column, streams) in [(0, 1), (2, 8)] {
            let (gbit, cpu) = bench.bulk(streams)?;
            (row[column], row[column + 1]) = (Some(gbit), cpu);
        }
    }
    if has(Part::Connections) {
        let (rate, cpu) = bench.connections()?;
        (row[4], row[5]) = (Some(rate), cpu);
    }
    if has(Part::Latency) {
        let [p50, p99] = bench.latency(seconds)?;
        (row[6], row[7]) = (Some(p50), Some(p99));
    }
    if has(Part::Loaded) {
        row[8] = Some(bench.loaded()?);
    }
    Ok(row)
}

impl Bench {
    fn client(&self) -> Place {
        self.mesh.place("beta")
    }

    /// Waits until a byte goes there and back.
    fn ready(&self) -> Result<()> {
        eventually("a byte goes through", SOON * 2, || {
            let mut stream = self.client().connect(self.running.entry, SOON)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(&[ECHO])?;
            Ok(stream.read_exact(&mut [0])?)
        })
    }

    /// Processor seconds of both ends so far; `None` without any.
    fn cpu(&self) -> Result<Option<f64>> {
        let times = self.running.pids()?.into_iter().map(|pid| Ok(Usage::with_children(pid)?.cpu));
        let times = times.collect::<Result<Vec<Duration>>>()?;
        Ok((!times.is_empty()).then(|| times.iter().sum::<Duration>().as_secs_f64()))
    }

    /// The resident memory of each end, in bytes.
    fn resident(&self) -> Result<Vec<u64>> {
        self.running.pids()?.into_iter().map(|pid| Ok(Usage::with_children(pid)?.resident)).collect()
    }

    fn drive(&self, kind: &str, number: u32, seconds: u32) -> Result<Process> {
        let (number, seconds) = (number.to_string(), seconds.to_string());
        Process::start(&self.client(), &[kind, &self.running.entry.to_string(), &number, &seconds])
    }

    /// Runs a load that says `start`, and then its result; also the processor time between the two.
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
        let (result, cpu) = self.timed("connections", CLIENTS)?;
        let [count, seconds] = result[..] else { bail!("a strange result {result:?}") };
        Ok((count / seconds, cpu.map(|cpu| cpu * 1000.0 / count)))
    }

    fn latency(&self, seconds: u32) -> Result<[f64; 2]> {
        let result = self.drive("latency", 1, seconds)?.numbers()?;
        let [p50, p99] = result[..] else { bail!("a strange result {result:?}") };
        Ok([p50, p99])
    }

    /// The 99th percentile of a conversation beside one stream that takes all it can get.
    fn loaded(&self) -> Result<f64> {
        let mut bulk = self.drive("bulk", 1, self.seconds + 10)?;
        bulk.expect("start")?;
        let [_, p99] = self.latency(self.seconds)?;
        Ok(p99)
    }

    /// What an idle connection takes of the end that it takes more of, in KiB.
    fn memory(&self) -> Result<Option<f64>> {
        let before = self.resident()?;
        let mut load = self.drive("idle", IDLE, 0)?;
        load.expect("open")?;
        let grown = self.resident()?.into_iter().zip(before).map(|(now, before)| now.saturating_sub(before)).max();
        drop(load);
        // What the server has left to close would be in the next figure.
        wait::pass(Duration::from_secs(2));
        ensure!(grown.is_none_or(|g| g < 1 << 40), "{grown:?} bytes");
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        Ok(grown.map(|grown| grown as f64 / f64::from(IDLE) / 1024.0))
    }
}
