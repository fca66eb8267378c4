//! Many agents, long connections that move checked data, and a mesh that changes all the time around them.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{JSON, all_have, events};
use crate::agent::Agent;
use crate::load::{Content, Ending, Server, ending};
use crate::mesh::{Mesh, SOON, Service};
use crate::wait::pass;

/// How soon after the change of the files a connection that is no longer permitted is cut.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Between two messages of a long connection.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a message may take there and back while everything is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Services that come and go.
const EXTRAS: [&str; 3] = ["one", "two", "three"];

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Agents: two of them offer, the others reach.
    pub agents: usize,
    /// Long connections.
    pub connections: usize,
    /// Changes, one after the other.
    pub reloads: u64,
}

/// Each change takes one node's permit for a service away, gives another one's back, and adds and removes other services and nodes.
///
/// # Errors
/// If a byte is lost, a connection is cut that is permitted, or one that no longer is lives for more than a second.
pub fn storm(size: Size) -> Result<()> {
    let names: Vec<String> = (0..size.agents).map(|n| format!("node-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (offerers, clients) = names.split_at(2);
    let extra = |name: &str| Service::new(name, &offerers[..1], clients);
    let builder = Mesh::builder(&names).agent_lines(JSON);
    let builder = builder.service(Service::new("stay", offerers, clients));
    let builder = builder.service(Service::new("flip", &offerers[..1], clients));
    let mesh = EXTRAS.into_iter().fold(builder, |b, name| b.service(extra(name))).build()?;
    let agents = names.iter().map(|node| mesh.start(node)).collect::<Result<Vec<_>>>()?;
    for agent in &agents[2..] {
        offerers.iter().try_for_each(|node| agent.wait_for_link(node).map(drop))?;
    }
    let served = [("stay", offerers[0]), ("stay", offerers[1]), ("flip", offerers[0])];
    let _servers = served.map(|(service, node)| Server::echo(&mesh.place(node), mesh.target(service, node)));
    let mut flips = clients.iter().map(|node| Ok(Some(flip(&mesh, node)?))).collect::<Result<Vec<_>>>()?;
    let lines = size.connections.saturating_sub(clients.len());
    let lines = clients.iter().cycle().take(lines).map(|node| mesh.reach("stay", node)).collect::<Result<Vec<_>>>()?;

    let over = AtomicBool::new(false);
    let (mut longest, mut moved) = (Duration::ZERO, 0);
    thread::scope(|scope| {
        let over = &over;
        let talks: Vec<_> =
            lines.iter().zip(0..).map(|(line, seed)| scope.spawn(move || talk(line, seed, over))).collect();
        let changes = (0..size.reloads).try_for_each(|round| -> Result<()> {
            let text = document(&mesh, round, offerers, clients);
            let victim = usize::try_from(round)? % clients.len();
            longest = longest.max(change(&mesh, &agents, &mut flips, (clients, victim), (round + 2, &text))?);
            Ok(())
        });
        over.store(true, Relaxed);
        for (number, talk) in talks.into_iter().enumerate() {
            let bytes = talk.join().map_err(|_| anyhow!("it panicked"))?;
            moved +=
                bytes.with_context(|| format!("long connection {number} of {}", clients[number % clients.len()]))?;
        }
        changes
    })?;
    // The offerer closes each of those once, whoever was first to cut it.
    let closed = events(&agents[0], "connection.close")?;
    let withdrawn = closed.iter().filter(|line| line["reason"] == "permit_withdrawn");
    let (flips, others): (Vec<_>, Vec<_>) = withdrawn.partition(|line| line["service"] == "flip");
    ensure!(others.iter().all(|line| line["service"] != "stay"), "{others:?}");
    ensure!(flips.len() as u64 == size.reloads, "{} were cut in {} changes", flips.len(), size.reloads);
    ensure!(events(&agents[1], "connection.cut")?.is_empty(), "{} has cut one", offerers[1]);
    let (connections, reloads) = (lines.len() + clients.len(), size.reloads);
    writeln!(
        io::stderr(),
        "{connections} connections over {} agents, {reloads} changes: {moved} bytes, all right; cut after {longest:?} at most",
        agents.len()
    )?;
    Ok(())
}

/// Replaces the document everywhere: the victim's connection is cut, and nobody else's. After how long.
fn change(
    mesh: &Mesh,
    agents: &[Agent],
    flips: &mut [Option<TcpStream>],
    (clients, victim): (&[&str], usize),
    (version, text): (u64, &str),
) -> Result<Duration> {
    let since = Instant::now();
    mesh.replace_documents(text)?;
    let cut = flips[victim].take().context("the victim has no connection")?;
    let end = ending(&cut, SOON)?;
    let took = since.elapsed();
    ensure!(matches!(end, Ending::Reset(0)), "version {version}: {}: {end:?}", clients[victim]);
    ensure!(took <= AT_ONCE, "version {version}: {} is cut only after {took:?}", clients[victim]);
    all_have(agents, version, PATIENCE)?;
    for (at, (flip_of, node)) in flips.iter_mut().zip(clients).enumerate() {
        match flip_of {
            Some(line) => says(line, version, 64, PATIENCE).with_context(|| format!("version {version}: {node}"))?,
            // The one before is permitted again.
            None if at != victim => {
                *flip_of = Some(flip(mesh, node).with_context(|| format!("version {version}: {node}"))?)
            }
            None => ensure!(mesh.reach("flip", node).is_err(), "version {version}: {node} still listens for it"),
        }
    }
    Ok(took)
}

fn flip(mesh: &Mesh, node: &str) -> Result<TcpStream> {
    let stream = mesh.reach("flip", node)?;
    says(&stream, 1, 64, SOON)?;
    Ok(stream)
}

/// Says something of its own again and again, until it is `over`; how many bytes came back.
fn talk(line: &TcpStream, seed: u64, over: &AtomicBool) -> Result<u64> {
    let mut bytes = 0;
    for round in 0_u64.. {
        if over.load(Relaxed) {
            break;
        }
        let length = 8 + (seed * 37 + round * 101) % 4_000;
        says(line, seed << 32 | round, length, PATIENCE).with_context(|| format!("message {round}"))?;
        bytes += length;
        pass(PAUSE);
    }
    Ok(bytes)
}

/// One message there and back.
fn says(mut line: &TcpStream, seed: u64, length: u64, bound: Duration) -> Result<()> {
    line.set_read_timeout(Some(bound))?;
    let mut buffer = vec![0; usize::try_from(length.next_multiple_of(8))?];
    let said = Content::new(seed, length).next(&mut buffer).to_vec();
    line.write_all(&said)?;
    let mut heard = vec![0; said.len()];
    line.read_exact(&mut heard)?;
    ensure!(heard == said, "other bytes came back");
    Ok(())
}

/// The mesh file of a round: one client without a permit for `flip`, some of the extras, some nodes that are nowhere.
fn document(mesh: &Mesh, round: u64, offerers: &[&str], clients: &[&str]) -> String {
    let victim = clients[usize::try_from(round).unwrap_or_default() % clients.len()];
    let others: Vec<&str> = clients.iter().copied().filter(|node| *node != victim).collect();
    let mut services = vec![Service::new("stay", offerers, clients), Service::new("flip", &offerers[..1], &others)];
    let some = EXTRAS.iter().zip(0..).filter(|(_, bit)| (round + 1) >> bit & 1 == 1);
    services.extend(some.map(|(name, _)| Service::new(name, &offerers[..1], clients)));
    let mut text = mesh.document_of(round + 2, "auto", &[], &services);
    for ghost in 0..round % 4 {
        // Nobody is there, and nobody is to be.
        write!(text, "\n[node.ghost-{}]\naddress = \"127.255.255.1:{}\"\n", round + ghost, 10_000 + ghost).ok();
    }
    text
}
