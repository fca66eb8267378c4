//! What came of a scenario, told.

use std::io::Write;

use netsim::Verdict;
use netsim::scenario::{Outcome, RunError};

use super::play::Job;
use super::say;
use crate::cli::context::with_causes;
use crate::cli::error::CliError;
use crate::cli::style::{Paint, Tone};

/// What came of one scenario.
pub(super) struct Played {
    /// Which of the jobs it was.
    pub(super) number: usize,
    pub(super) seed: u64,
    pub(super) repeat: String,
    pub(super) outcome: Result<Outcome, RunError>,
}

impl Played {
    pub(super) fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Outcome::passed)
    }

    pub(super) fn is_overloaded(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| outcome.record.wire.verdict == Verdict::Overloaded)
    }

    pub(super) fn json(&self, job: &Job) -> serde_json::Value {
        let head = serde_json::json!({ "file": job.file, "passed": self.passed(), "repeat": self.repeat });
        let rest = match &self.outcome {
            Ok(outcome) => serde_json::from_str(&outcome.record.result_json()).unwrap_or_default(),
            Err(error) => serde_json::json!({
                "scenario": job.scenario.name(), "seed": self.seed,
                "error": {"code": "simulator", "message": with_causes(error), "hint": null},
            }),
        };
        let mut all = head.as_object().cloned().unwrap_or_default();
        all.extend(rest.as_object().cloned().unwrap_or_default());
        all.into()
    }

    pub(super) fn tell(
        &self,
        job: &Job,
        paint: Paint,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), CliError> {
        let name = job.scenario.name();
        let outcome = match &self.outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // It may show the last lines of a program: several, each escaped.
                let text: Vec<_> =
                    with_causes(error).lines().map(|line| crate::logging::escape(line).into_owned()).collect();
                writeln!(err, "error: {name}: {}", text.join("\n  "))?;
                return say(out, &format!("{} {name}\n", paint.text(Tone::Bad, "FAIL")));
            }
        };
        let record = &outcome.record;
        let failed: Vec<_> = record.checks.iter().filter(|check| !check.ok).collect();
        let word = match (outcome.interrupted, failed.is_empty()) {
            (true, _) => paint.text(Tone::Warn, "interrupted"),
            (false, true) => paint.text(Tone::Good, "ok  "),
            (false, false) => paint.text(Tone::Bad, "FAIL"),
        };
        let held = record.checks.len() - failed.len();
        let mut text = format!(
            "{word} {name}: {held} of {} checks held, {:.1} s, seed {}, {}\n",
            record.checks.len(),
            record.wall.as_secs_f64(),
            self.seed,
            record.verdict(),
        );
        for check in &failed {
            let line = format!("     {:.2} s  {}: {}", check.at.as_secs_f64(), check.name, check.detail);
            text += &format!("{}\n", paint.text(Tone::Bad, &line));
        }
        if !failed.is_empty() {
            text += &format!("     to repeat it: {}\n", paint.text(Tone::Strong, &self.repeat));
        }
        if record.wire.verdict == Verdict::Overloaded {
            let late = format!(
                "     the machine could not keep up (99 of 100 packets at most {:.1} ms late, {} dropped): run less beside it",
                record.wire.late_p99.as_secs_f64() * 1e3,
                record.wire.drops
            );
            text += &format!("{}\n", paint.text(Tone::Warn, &late));
        }
        say(out, &text)
    }
}
