//! What an agent uses while it carries nothing, and that it comes back to it.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::agent::Agent;
use crate::mesh::SOON;
use crate::usage::Usage;
use crate::wait::{eventually, pass};

/// A reading of an agent that carries nothing.
#[derive(Debug, Clone, Copy)]
pub struct Calm {
    /// What its process uses.
    pub usage: Usage,
    /// The tasks of its runtime.
    pub tasks: f64,
}

impl Calm {
    /// A reading after the agent has had time to close what it will close.
    pub fn of(agent: &Agent) -> Result<Self> {
        eventually("no connection is left", SOON, || {
            let left = agent.status()?["connections"].clone();
            ensure!(left == 0, "{left} are left");
            Ok(())
        })?;
        // What an agent will close though nobody asks, it closes by then; that it has closed nothing more cannot be waited for.
        pass(Duration::from_millis(500));
        Self::reading(agent)
    }

    fn reading(agent: &Agent) -> Result<Self> {
        let tasks = agent.metric("adit_tasks", &[])?;
        ensure!(tasks > 0.0, "an agent without tasks");
        Ok(Self { usage: agent.usage()?, tasks })
    }

    /// Waits until the agent uses no more than it did then.
    pub fn is_back(&self, agent: &Agent) -> Result<()> {
        eventually("what was used is given back", SOON * 2, || {
            let now = Self::reading(agent)?;
            // As many lanes more may be kept warm.
            ensure!(now.tasks <= self.tasks + 4.0, "tasks: {} then {}", self.tasks, now.tasks);
            let (before, now) = (self.usage, now.usage);
            let descriptors = [before.descriptors, now.descriptors];
            ensure!(descriptors[1] <= descriptors[0] + 4, "descriptors: {descriptors:?}");
            ensure!(now.threads <= before.threads + 2, "threads: {} then {}", before.threads, now.threads);
            ensure!(now.resident <= before.resident + (8 << 20), "memory: {} then {}", before.resident, now.resident);
            Ok(())
        })
    }
}
