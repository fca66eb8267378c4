//! A reload leaves what a fresh start with the same mesh file leaves: random pairs of mesh files, real agents, real connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use adit_tests::dice::Dice;
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::wait::pass;
use adit_tests::{Agent, Mesh, Service, eventually};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

const NODES: [&str; 3] = ["alpha", "beta", "gamma"];
const SERVICES: [&str; 4] = ["app", "one", "two", "three"];
/// Pairs of mesh files, each of them the one after the other.
const PAIRS: u64 = 6;
/// What does not change for so long has settled.
const SETTLED: Duration = Duration::from_millis(400);

pub(crate) fn tests() -> Vec<Test> {
    ["tls", "quic"]
        .map(|transport| {
            let name =
                format!("a_reload_leaves_what_a_fresh_start_leaves_for_random_pairs_of_mesh_files_over_{transport}");
            Test::new(name, move || pairs(transport))
        })
        .into_iter()
        .collect()
}

/// Some of the nodes, so many at the most and one at least.
fn nodes(dice: &mut Dice, most: usize) -> Vec<&'static str> {
    let (first, count) = (dice.roll(NODES.len()), 1 + dice.roll(most));
    (first..first + count).map(|n| NODES[n % NODES.len()]).collect()
}

/// Some of the services, each offered by one node or two and reached by others.
fn services(dice: &mut Dice) -> Vec<Service> {
    let mut some = Vec::new();
    for name in SERVICES {
        let (on, mut allow) = (nodes(dice, 2), nodes(dice, 3));
        allow.retain(|node| !on.contains(node));
        if dice.roll(4) > 0 && !allow.is_empty() {
            some.push(Service::new(name, &on, &allow));
        }
    }
    some
}

fn pairs(transport: &str) -> Result<()> {
    let builder = Mesh::builder(&NODES).transport(transport);
    let mesh = SERVICES.into_iter().fold(builder, |b, name| b.service(Service::new(name, &["alpha"], &["beta"])));
    let mesh = mesh.build()?;
    for (service, node) in everywhere() {
        answer(mesh.serve(service, node)?, format!("{service} at {node}"));
    }
    let mut agents = NODES.map(|node| mesh.start(node)).into_iter().collect::<Result<Vec<_>>>()?;
    let mut dice = Dice::new(20);
    let mut different = 0;
    let mut last = Value::Null;
    for version in 2..2 + PAIRS {
        let unaddressed = if dice.roll(4) == 0 { vec!["gamma".to_owned()] } else { Vec::new() };
        let document = mesh.document_of(version, transport, &unaddressed, &services(&mut dice));
        mesh.replace_documents(&document)?;
        for agent in &agents {
            agent.wait_for_version(version, SOON)?;
        }
        let reloaded = settled(&mesh, &agents).with_context(|| format!("reloaded with:\n{document}"))?;
        for agent in &mut agents {
            agent.terminate()?;
            agent.wait(SOON)?;
        }
        agents.iter_mut().try_for_each(Agent::restart)?;
        let started = settled(&mesh, &agents).with_context(|| format!("started with:\n{document}"))?;
        ensure!(reloaded == started, "of\n{document}\na reload leaves\n{reloaded:#}\nand a start\n{started:#}");
        different += u64::from(started != last);
        last = started;
    }
    ensure!(different == PAIRS, "the mesh files differ in nothing that is looked at: {different} of {PAIRS}");
    Ok(())
}

fn everywhere() -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVICES.into_iter().flat_map(|service| NODES.map(|node| (service, node)))
}

/// Says to everyone who connects who it is, while the test runs.
fn answer(listener: TcpListener, who: String) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Who connects may have gone.
            let _ = stream.and_then(|mut stream| stream.write_all(who.as_bytes()));
        }
    });
}

/// What there is, as soon as every link is up and nothing changes any more.
fn settled(mesh: &Mesh, agents: &[Agent]) -> Result<Value> {
    let mut before = Value::Null;
    eventually("it settles", SOON * 2, || {
        let now = all(mesh, agents)?;
        let same = std::mem::replace(&mut before, now) == before;
        if !same {
            pass(SETTLED);
            bail!("it still changes: {before:#}");
        }
        // Those that no service joins keep no link.
        let waits = |peer: &Value| peer["state"] != "up" && peer["state"] != "idle";
        let waiting: Vec<_> =
            NODES.iter().flat_map(|node| before[*node]["peers"].as_array()).flatten().filter(|p| waits(p)).collect();
        ensure!(waiting.is_empty(), "{waiting:?}");
        Ok(before.clone())
    })
}

/// Listeners, links, permits and routes, as the agents tell them and as applications find them.
fn all(mesh: &Mesh, agents: &[Agent]) -> Result<Value> {
    let mut all = json!({});
    for agent in agents {
        let status = agent.status()?;
        let peers = status["peers"].as_array().context("peers")?.iter();
        let peers: Vec<_> = peers.map(|p| json!({"node": p["node"], "state": p["state"], "path": p["path"]})).collect();
        let mut services = status["services"].clone();
        for service in services.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            for counted in ["connections", "bytes_in", "bytes_out"] {
                service.remove(counted);
            }
        }
        let mut permits = json!({});
        for (service, from) in everywhere() {
            permits[format!("{from} to {service}")] = agent.explain(from, service)?["allowed"].clone();
        }
        let mut found = json!({});
        for service in SERVICES {
            found[service] = json!(find(mesh, service, agent.name())?);
        }
        all[agent.name()] = json!({"peers": peers, "services": services, "permits": permits, "found": found});
    }
    Ok(all)
}

/// What an application finds that connects to the listener of a service: the service, or why not.
fn find(mesh: &Mesh, service: &str, node: &str) -> Result<String> {
    let mut stream = match mesh.reach(service, node) {
        Ok(stream) => stream,
        Err(error) => {
            let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            ensure!(kind == Some(ErrorKind::ConnectionRefused), "{service} at {node}: {error:#}");
            return Ok("refused".to_owned());
        }
    };
    stream.set_read_timeout(Some(SOON))?;
    let mut who = String::new();
    match stream.read_to_string(&mut who) {
        // Which of two that offer it is not decided by the mesh file alone.
        Ok(_) => Ok(who.split(' ').next().unwrap_or_default().to_owned()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok("reset".to_owned()),
        Err(error) => Err(error).with_context(|| format!("{service} at {node}")),
    }
}
