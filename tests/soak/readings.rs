//! What the agents use over time, and whether it grows.

use std::time::Duration;

use adit_tests::trend::{median, thirds};
use adit_tests::usage::Usage;

use crate::say;

/// Resident memory in the last third, in percent of that in the first.
const MEMORY: u64 = 110;
/// Descriptors and threads that come and go by themselves: lanes kept warm, a resolver's thread.
const SLACK: u64 = 2;

/// The readings of one agent that lives through the whole soak.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    resident: Vec<u64>,
    /// At quiet moments alone: while connections come and go, so do their descriptors.
    descriptors: Vec<u64>,
    threads: Vec<u64>,
    tasks: Vec<u64>,
    connections: Vec<u64>,
}

impl Readings {
    /// While there is load.
    pub(crate) fn busy(&mut self, node: &str, at: Duration, usage: Usage) {
        self.resident.push(usage.resident);
        line(at, node, "busy", usage, " | ");
    }

    /// While nothing but idle connections is left: `connections` of them, and `tasks` of the agent's runtime.
    pub(crate) fn quiet(&mut self, node: &str, at: Duration, usage: Usage, (connections, tasks): (u64, u64)) {
        self.descriptors.push(usage.descriptors as u64);
        self.threads.push(usage.threads as u64);
        self.tasks.push(tasks);
        self.connections.push(connections);
        line(at, node, "quiet", usage, &format!("{tasks} | {connections}"));
    }

    /// What has grown, in words; nothing if all is well. Says the figures.
    pub(crate) fn verdict(&self, node: &str) -> Vec<String> {
        let mut grown = Vec::new();
        let mut judge = |what: &str, readings: &[u64], most: &dyn Fn(u64) -> u64| match thirds(readings) {
            Some((first, last)) => {
                say(&format!("| {node} | {what} | {} | {first} | {last} |", readings.len()));
                if last > most(first) {
                    grown.push(format!("{node}: {what}: {first} in the first third, {last} in the last"));
                }
            }
            None => grown.push(format!("{node}: {what}: only {} readings", readings.len())),
        };
        judge("resident KiB", &self.resident.iter().map(|r| r / 1024).collect::<Vec<_>>(), &|first| {
            first * MEMORY / 100
        });
        judge("descriptors", &self.descriptors, &|first| first + SLACK);
        judge("threads", &self.threads, &|first| first + SLACK);
        judge("tasks", &self.tasks, &|first| first + SLACK);
        judge("connections", &self.connections, &|first| first);
        grown
    }
}

/// The head of the table of readings.
pub(crate) fn head() {
    say(
        "\n| s | agent | | resident KiB | descriptors | threads | tasks | connections |\n|---|---|---|---|---|---|---|---|",
    );
}

fn line(at: Duration, node: &str, load: &str, usage: Usage, connections: &str) {
    let Usage { descriptors, threads, resident, .. } = usage;
    say(&format!(
        "| {} | {node} | {load} | {} | {descriptors} | {threads} | {connections} |",
        at.as_secs(),
        resident / 1024
    ));
}

/// The calmest of several readings: what is on its way to be closed is in some of them only.
pub(crate) fn calmest(readings: &[Usage]) -> Option<Usage> {
    let middle = median(&readings.iter().map(|u| u.descriptors as u64).collect::<Vec<_>>())?;
    readings.iter().filter(|u| u.descriptors as u64 <= middle).min_by_key(|u| u.descriptors).copied()
}
