//! How long changes take, and what they cost those who are connected.
//!
//! `cargo bench -p adit-tests --bench changes [-- OPTIONS]`, after `cargo build --release`, on a machine that does nothing else.
//!
//! | option | |
//! |---|---|
//! | `--only A,B` | all: `file`, `publish`, `gaps`, `large` |
//! | `--seconds S` | 10: of each measurement of gaps |
//!
//! - `file`: from the rename that replaces the mesh file of one agent to the moment that the agent says it applied it, 200 times.
//! - `publish`: from the start of `adit publish` to the moment that an agent says it applied the document, on 20 and on 50 agents on this
//!   machine.
//! - `gaps`: the longest pause that a receiver of bulk and a ping-pong of 64 bytes each millisecond see, while the mesh file of both agents
//!   is replaced four times a second, each time with other services, and while nothing changes: over TLS and over QUIC.
//! - `large`: what `adit reload` takes for one changed service of a mesh of 1,000 nodes and 1,000 services, and the agent's memory
//!   by it, beside a mesh of two nodes.

mod gaps;
mod large;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use adit_tests::Mesh;
use adit_tests::changes::publishes::{Spread, publishes};
use adit_tests::changes::{applied_at, now};
use adit_tests::load::process::say;
use adit_tests::mesh::SOON;
use adit_tests::wait::pass;
use anyhow::{Context as _, Result, ensure};

const PARTS: [&str; 4] = ["file", "publish", "gaps", "large"];
const CHANGES: u64 = 200;

fn main() -> ExitCode {
    if let Some(code) = adit_tests::load::part() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    adit_tests::suite::prepare();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn option<T: FromStr>(arguments: &[String], name: &str) -> Result<Option<T>> {
    let Some(at) = arguments.iter().position(|a| a == name) else { return Ok(None) };
    let value = arguments.get(at + 1).and_then(|v| v.parse().ok());
    Ok(Some(value.with_context(|| format!("{name} needs a value"))?))
}

fn measure(arguments: &[String]) -> Result<()> {
    let only: Option<String> = option(arguments, "--only")?;
    let chosen: Vec<&str> = only.as_deref().map_or(PARTS.to_vec(), |only| only.split(',').collect());
    let unknown = chosen.iter().find(|part| !PARTS.contains(part));
    ensure!(unknown.is_none(), "`{}` is no part; there are {}", unknown.unwrap_or(&""), PARTS.join(", "));
    let seconds = option(arguments, "--seconds")?.unwrap_or(10);
    for part in chosen {
        match part {
            "file" => file()?,
            "publish" => publish()?,
            "gaps" => gaps::gaps(Duration::from_secs(seconds))?,
            _ => large::large()?,
        }
    }
    Ok(())
}

/// The value below which this share of the sorted ones lies.
fn share(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len() as f64).ceil().clamp(1.0, sorted.len() as f64);
    #[expect(clippy::cast_possible_truncation, reason = "between 1 and the length")]
    sorted.get(at as usize - 1).copied().unwrap_or(f64::NAN)
}

fn file() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let mut took = Vec::new();
    for version in 2..2 + CHANGES {
        let text = mesh.document(version, "auto", &[]);
        let start = now();
        mesh.replace_document("beta", &text)?;
        beta.wait_for_version(version, SOON)?;
        took.push((applied_at(&beta)? - start).as_seconds_f64() * 1e3);
        // Changes that come at any moment, not in step with what the agent does.
        pass(Duration::from_millis(version * 37 % 101));
    }
    took.sort_by(f64::total_cmp);
    let [median, late, most] = [share(&took, 0.5), share(&took, 0.99), share(&took, 1.0)];
    say(&format!("file: {CHANGES} changes: p50 {median:.0} ms, p99 {late:.0} ms, {most:.0} ms at most"));
    Ok(())
}

fn publish() -> Result<()> {
    for agents in [20, 50] {
        let Spread { median, last, most } = publishes(agents, 10)?;
        let [median, last, most] = [median, last, most].map(|seconds| seconds * 1e3);
        say(&format!(
            "publish: {agents} agents: median {median:.0} ms; the last one {last:.0} ms, {most:.0} ms at most"
        ));
    }
    Ok(())
}
