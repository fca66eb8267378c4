//! `result.json`: names and types are a contract.

use std::time::Duration;

use serde::Serialize;

use super::Record;
use crate::Backend;

#[derive(Serialize)]
struct Outcome<'a> {
    scenario: &'a str,
    seed: u64,
    backend: &'static str,
    verdict: &'static str,
    wall_seconds: f64,
    nodes: &'a [String],
    checks: Vec<Check<'a>>,
    faults: Vec<Fault<'a>>,
}

#[derive(Serialize)]
struct Check<'a> {
    at: f64,
    name: &'a str,
    ok: bool,
    detail: &'a str,
}

#[derive(Serialize)]
struct Fault<'a> {
    at: f64,
    kind: &'a str,
    on: &'a [String],
}

impl Record {
    /// The text of `result.json`. Times are seconds since the run began:
    ///
    /// ```json
    /// {"scenario": "split", "seed": 7, "backend": "tap|packet", "verdict": "faithful|overloaded", "wall_seconds": 12.5,
    ///  "nodes": ["alpha", "beta"],
    ///  "checks": [{"at": 3.2, "name": "alpha reaches beta", "ok": false, "detail": "timed out"}],
    ///  "faults": [{"at": 1.0, "kind": "partition", "on": ["alpha", "beta"]}]}
    /// ```
    #[must_use]
    pub fn result_json(&self) -> String {
        let checks = self.checks.iter().map(|check| {
            let super::Check { at, name, ok, detail } = check;
            Check { at: seconds(*at), name, ok: *ok, detail }
        });
        let faults = self.faults.iter().map(|fault| {
            let super::Fault { at, kind, on, .. } = fault;
            Fault { at: seconds(*at), kind, on }
        });
        let outcome = Outcome {
            scenario: &self.scenario,
            seed: self.seed,
            backend: backend(self.backend),
            verdict: self.verdict(),
            wall_seconds: seconds(self.wall),
            nodes: &self.nodes,
            checks: checks.collect(),
            faults: faults.collect(),
        };
        // Maps with other keys than strings are the only things that cannot be written.
        serde_json::to_string_pretty(&outcome).unwrap_or_default() + "\n"
    }
}

pub(super) fn backend(backend: Backend) -> &'static str {
    match backend {
        Backend::Tap => "tap",
        Backend::Packet => "packet",
    }
}

/// Seconds, to the microsecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}
