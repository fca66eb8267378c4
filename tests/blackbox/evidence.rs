//! What an operator finds after a refusal: an entry in `status`, a metric and an audit event that agree.

use std::time::Duration;

use adit_tests::{Agent, eventually};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(5);

/// Expects a refusal of one of `layers` whose reason or detail contains `word`, whatever its case.
pub(crate) fn of(agent: &Agent, layers: &[&str], word: &str) -> Result<()> {
    let refusal = eventually("a refusal in status", BOUND, || {
        let refusals = agent.refusals()?;
        let wanted = |r: &&Value| {
            let text = format!("{} {}", r["reason"], r["detail"]).to_lowercase();
            layers.iter().any(|&layer| r["layer"] == layer) && text.contains(&word.to_lowercase())
        };
        refusals
            .iter()
            .find(wanted)
            .cloned()
            .with_context(|| format!("none of {layers:?} with {word:?} among {}", Value::from(refusals.clone())))
    })?;
    let reason = refusal["reason"].as_str().context("a refusal without a reason")?.to_owned();
    eventually("its metric", BOUND, || {
        let labels = [("reason", reason.as_str())];
        let counted = agent.metric("adit_refusals_total", &labels)? + agent.metric("adit_handshakes_total", &labels)?;
        ensure!(counted >= 1.0, "nothing is counted under {reason}");
        Ok(())
    })?;
    agent.wait_for_log(&["audit", ".refused", &reason], BOUND)?;
    Ok(())
}
