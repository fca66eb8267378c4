//! From `adit publish` to the moment at which each agent has applied what was published.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{all_have, applied_at, now};
use crate::documents::{publish, publish_in};
use crate::mesh::{Mesh, Service};
use crate::wait::{eventually, pass};

const MINUTE: Duration = Duration::from_secs(60);

/// Seconds.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// Of all agents and publishes, the median.
    pub median: f64,
    /// The median over the publishes of the last agent.
    pub last: f64,
    /// The last agent of the slowest publish.
    pub most: f64,
}

/// Publishes `publishes` times in a mesh of `count` agents.
pub fn publishes(count: usize, publishes: u64) -> Result<Spread> {
    let names: Vec<String> = (0..count).map(|n| format!("node-{n}")).collect();
    let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
    let mesh = Mesh::builder(&nodes).service(Service::new("app", &nodes[..1], &nodes[1..4])).build()?;
    let anna = mesh.publisher("anna")?;
    let text = |remark: &str| format!("# {remark}\n{}", mesh.document(1, "auto", &[]));
    publish_in(&mesh.directory(nodes[0]), &anna, &text("first"), &[])?.success()?;
    let agents = nodes.iter().map(|node| mesh.start(node)).collect::<Result<Vec<_>>>()?;
    all_have(&agents, 2, MINUTE)?;
    eventually("every agent has its links", MINUTE, || {
        for agent in &agents {
            let peers = agent.status()?["peers"].as_array().cloned().unwrap_or_default();
            let up = peers.iter().filter(|peer| peer["state"] == "up").count();
            // Two neighbours on the ring to either side at least.
            ensure!(up >= 4, "{}: {up} links", agent.name());
        }
        Ok(())
    })?;
    let (mut times, mut lasts) = (Vec::new(), Vec::new());
    for round in 0..publishes {
        let from = &agents[usize::try_from(round * 7)? % count];
        let start = now();
        publish(from, &anna, &text(&format!("round {round}")))?;
        all_have(&agents, 3 + round, MINUTE)?;
        let took = |agent| applied_at(agent).map(|applied| (applied - start).as_seconds_f64());
        let mut took = agents.iter().map(took).collect::<Result<Vec<_>>>()?;
        took.sort_by(f64::total_cmp);
        lasts.push(took[count - 1]);
        times.extend(took);
        // What a round has written is on the disk before the next one is measured.
        pass(Duration::from_secs(1));
    }
    times.sort_by(f64::total_cmp);
    lasts.sort_by(f64::total_cmp);
    Ok(Spread { median: times[times.len() / 2], last: lasts[lasts.len() / 2], most: lasts[lasts.len() - 1] })
}
