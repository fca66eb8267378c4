//! Changes under connection load leave nothing behind.

use anyhow::{Context as _, Result};

use super::{JSON, all_have};
use crate::calm::Calm;
use crate::load::{Server, Steady};
use crate::mesh::{Mesh, SOON, Service};

/// Changes before the first reading: pools and allocators have grown to what they need by then.
const WARM_UP: u64 = 10;
/// Nodes that nobody runs, in every document.
const GHOSTS: u32 = 250;

/// `reloads` changes of the mesh file at both ends while connections come and go; memory, descriptors and tasks return to what they were.
pub fn cycles(reloads: u64) -> Result<()> {
    let app = || Service::new("app", &["alpha"], &["beta"]);
    let extra = |name: &str| Service::new(name, &["alpha"], &["beta"]);
    let back = || Service::new("back", &["beta"], &["alpha"]);
    let mesh = Mesh::builder(&["alpha", "beta"]).agent_lines(JSON).service(app());
    let mesh = mesh.service(extra("one")).service(extra("two")).service(back()).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let agents = [alpha, beta];
    let _echo = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
    // So that a document that is not given up is seen: a thousand of them would be more than the bound on memory allows.
    let ghosts: String = (0..GHOSTS).map(|n| format!("\n[node.ghost-{n}]\naddress = \"192.0.2.{n}:7443\"\n")).collect();
    let mut version = 1;
    let mut change = |times: u64| -> Result<()> {
        let load = Steady::start(&mesh.place("beta"), mesh.listener("app", "beta"), 2);
        for _ in 0..times {
            version += 1;
            let all = [extra("one"), extra("two"), back()];
            let some = all.into_iter().zip(0..).filter(|(_, bit)| version >> bit & 1 == 1).map(|(service, _)| service);
            let services: Vec<_> = [app()].into_iter().chain(some).collect();
            mesh.replace_documents(&(mesh.document_of(version, "auto", &[], &services) + &ghosts))?;
            all_have(&agents, version, SOON)?;
        }
        load.stop().map(drop).with_context(|| format!("up to version {version}"))
    };
    change(WARM_UP)?;
    let before = agents.each_ref().map(Calm::of);
    change(reloads)?;
    for (agent, before) in agents.iter().zip(before) {
        before?.is_back(agent).with_context(|| agent.name().to_owned())?;
    }
    Ok(())
}
