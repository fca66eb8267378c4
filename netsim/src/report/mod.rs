//! What a run leaves: a [`Record`] of it, for programs (`result.json`), to look at (`timeline.html`) and to read
//! (`NODE.log`).
//!
//! ```text
//!   whoever runs ──▶ Record: checks, faults, Log, Curves ──▶ result.json     a contract
//!                    plain values, no clock                  timeline.html   one file, needs nothing else
//!                                                            NODE.log        one for each node
//! ```
//!
//! All times are since the run began. Log lines and samples have bounds, so that a record takes some megabytes for each
//! node and link at most, however long the run and however talkative its programs are.
//!
//! ```
//! use std::time::Duration;
//! use netsim::report::{Check, Fault, Line, Record, Stream};
//!
//! let mut record = Record::new("split", 7, ["alpha", "beta"]);
//! record.repeat = "simulate split.toml --seed 7".to_owned();
//! let (at, until) = (Duration::from_secs(1), Some(Duration::from_secs(3)));
//! record.faults.push(Fault { at, until, kind: "partition".into(), on: vec!["alpha".into(), "beta".into()] });
//! record.checks.push(Check { at, name: "alpha reaches beta".into(), ok: false, detail: "timed out".into() });
//! record.log.push(Line::new(at, "alpha", "client", Stream::Stderr, "connection lost"));
//! assert!(!record.passed());
//! ```

mod curve;
mod json;
mod log;
mod timeline;
mod write;

use std::time::Duration;

pub use curve::{Curve, Sample};
pub use log::{Line, Log, Stream};

use crate::{Backend, Report, Tolerance, Verdict};

/// Everything that is told of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The scenario's name.
    pub scenario: String,
    /// The seed that it ran with.
    pub seed: u64,
    /// How its wire met the kernels.
    pub backend: Backend,
    /// How well the wire kept up, with the verdict.
    pub wire: Report,
    /// How long it took.
    pub wall: Duration,
    /// The one command that repeats it; empty if there is none.
    pub repeat: String,
    /// The hosts, in the order in which they are shown.
    pub nodes: Vec<String>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// What was done to the network and its programs.
    pub faults: Vec<Fault>,
    /// What programs and simulator have said. Lines of what is none of the nodes are not shown.
    pub log: Log,
    /// What the links carried.
    pub curves: Vec<Curve>,
}

/// Something that had to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// When it was decided.
    pub at: Duration,
    /// What had to hold.
    pub name: String,
    /// Whether it did.
    pub ok: bool,
    /// What was seen; may be empty where it held.
    pub detail: String,
}

/// Something that was done to the network or to a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When it began.
    pub at: Duration,
    /// When it ended; [`Fault::at`] if it happened at once. None: not before the run did.
    pub until: Option<Duration>,
    /// Which kind: `partition`, `crash`, `loss` …
    pub kind: String,
    /// What it was done to: names of nodes, and of links or routers.
    pub on: Vec<String>,
}

impl Record {
    /// The record of a run of which nothing is known yet: no verdict against it, nothing checked.
    pub fn new(scenario: impl Into<String>, seed: u64, nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            scenario: scenario.into(),
            seed,
            backend: Backend::Tap,
            wire: crate::wire::lateness::Lateness::default().report(0, Tolerance::default()),
            wall: Duration::ZERO,
            repeat: String::new(),
            nodes: nodes.into_iter().map(Into::into).collect(),
            checks: Vec::new(),
            faults: Vec::new(),
            log: Log::default(),
            curves: Vec::new(),
        }
    }

    /// Whether everything held that was checked.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The verdict in a word, as it is written.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.wire.verdict {
            Verdict::Faithful => "faithful",
            Verdict::Overloaded => "overloaded",
        }
    }

    /// When the run was over, for what is shown: nothing in it is later.
    fn end(&self) -> Duration {
        let checks = self.checks.iter().map(|check| check.at);
        let faults = self.faults.iter().map(|fault| fault.until.unwrap_or(fault.at));
        let samples = self.curves.iter().filter_map(|curve| curve.samples().last().map(|sample| sample.at));
        checks.chain(faults).chain(samples).chain(self.log.last()).chain([self.wall]).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
