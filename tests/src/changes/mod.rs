//! What must hold while a mesh changes, each as often as is asked for: a few times in the suite, and hundreds in the endurance
//! tests.

pub mod crash;
pub mod cut;
pub mod cycles;
pub mod publishes;
pub mod storm;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::agent::Agent;
use crate::wait::eventually;

/// Lines for an agent file whose log is to be read by a program.
const JSON: &str = "[log]\nformat = \"json\"\n";

/// Waits until all have the mesh document of this version in force. Asks for a number alone, which costs the agents next to nothing.
pub fn all_have(agents: &[Agent], version: u64, bound: Duration) -> Result<()> {
    let wanted = version.to_string();
    agents.iter().try_for_each(|agent| {
        eventually(&format!("version {version} is in force at {}", agent.name()), bound, || {
            let is = agent.metric("adit_mesh_version", &[])?.to_string();
            ensure!(is == wanted, "it is {is}");
            Ok(())
        })
    })
}

/// When an agent brought its mesh document into force.
pub fn applied_at(agent: &Agent) -> Result<OffsetDateTime> {
    let status = agent.status()?;
    let told = status["config"]["applied_at"].as_str().context("no time")?;
    Ok(OffsetDateTime::parse(told, &Rfc3339)?)
}

/// The time by the clock that agents tell theirs by.
#[expect(clippy::disallowed_methods, reason = "agents tell when they applied a document by the machine's clock")]
pub fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

/// The audit events of this name in an agent's log.
fn events(agent: &Agent, event: &str) -> Result<Vec<Value>> {
    let log = agent.log()?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["target"] == "audit" && line["event"] == event).collect())
}
