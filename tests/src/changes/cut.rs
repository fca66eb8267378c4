//! A network that is cut in two while documents are published on both sides, and heals.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use netsim::{Answer, Block, Traffic};

use super::{JSON, all_have};
use crate::documents::publish;
use crate::mesh::{Mesh, SOON, Service};
use crate::place::Place;
use crate::wait::{eventually, pass};

/// How soon after the heal the newest is in force everywhere.
const HEALED: Duration = Duration::from_secs(2);

/// `nodes` hosts on a network that is cut in two for `outage`, as seen by packets: both halves keep theirs, and in the end all have the
/// newest.
pub fn halves(nodes: usize, outage: Duration) -> Result<()> {
    let names: Vec<String> = (0..nodes).map(|n| format!("node-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Each half hangs together by a service of its own, whatever the ring.
    let (left, right) = names.split_at(nodes / 2);
    let mesh = Mesh::builder(&names).agent_lines(JSON).in_namespaces();
    let mesh = [("app", &names[..]), ("left", left), ("right", right)]
        .into_iter()
        .fold(mesh, |mesh, (name, nodes)| mesh.service(Service::new(name, &nodes[..1], &nodes[1..])));
    let mesh = mesh.build()?;
    let (anna, bert) = (mesh.publisher("anna")?, mesh.publisher("bert")?);
    let agents = names.iter().map(|node| mesh.start(node)).collect::<Result<Vec<_>>>()?;
    agents[1..].iter().try_for_each(|agent| agent.wait_for_link(names[0]).map(drop))?;
    let text = |version: u64, remark: &str| format!("# {remark}\n{}", mesh.document(version, "auto", &[]));
    publish(&agents[0], &anna, &text(1, "first"))?;
    all_have(&agents, 2, SOON)?;
    eventually("every ring neighbour is there", SOON, || {
        for agent in &agents {
            let status = agent.status()?;
            let peers = status["peers"].as_array().context("no peers")?;
            ensure!(peers.len() > 1 && peers.iter().all(|peer| peer["state"] == "up"), "{}: {peers:?}", agent.name());
        }
        Ok(())
    })?;

    for (side, other) in [(left, right), (right, left)] {
        for node in side {
            let Place::There(namespace) = mesh.place(node) else { anyhow::bail!("{node} has no host of its own") };
            let block = |node: &&str| Block {
                interface: "eth0",
                traffic: Traffic::All,
                from: Some(mesh.link_address(node).ip()),
                answer: Answer::Silence,
            };
            namespace.block(&other.iter().map(block).collect::<Vec<_>>())?;
        }
    }
    let cut = Instant::now();
    let (on_left, on_right) = agents.split_at(nodes / 2);
    publish(&on_left[0], &anna, &text(3, "on the left"))?;
    publish(&on_right[0], &bert, &text(3, "on the right"))?;
    all_have(on_left, 3, SOON)?;
    publish(&on_left[0], &anna, &text(4, "the newest"))?;
    all_have(on_left, 4, SOON)?;
    all_have(on_right, 3, SOON)?;
    pass(outage.saturating_sub(cut.elapsed()));
    all_have(on_left, 4, Duration::ZERO).context("on the left, at the end of the cut")?;
    all_have(on_right, 3, Duration::ZERO).context("on the right, at the end of the cut")?;

    mesh.block_everywhere(&[], Answer::Silence)?;
    let heal = Instant::now();
    all_have(&agents, 4, SOON * 3)?;
    let took = heal.elapsed();
    writeln!(io::stderr(), "{nodes} nodes, cut in two for {outage:?}: all have the newest {took:?} after the heal")?;
    ensure!(took <= HEALED, "only {took:?} after the heal all have the newest");
    for agent in &agents {
        eventually("the other side's is a fork", SOON, || {
            ensure!(agent.metric("adit_mesh_forks", &[])? == 1.0, "{} knows of none", agent.name());
            Ok(())
        })?;
    }
    Ok(())
}
