//! What is measured, running between two hosts: no tunnel, a plain relay, lanes, QUIC, and outside programs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Child;

use adit_tests::load::Process;
use adit_tests::mesh::SOON;
use adit_tests::{Agent, Mesh, Place, eventually};
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::outside::{self, Outside};

/// A way between two applications.
#[derive(Debug, Clone, Copy)]
pub(crate) enum System {
    NoTunnel,
    /// A pair of processes that pass bytes on, as simply as can be: what does not depend on the machine is told by it.
    Relay,
    Lanes,
    Quic,
    Outside(&'static Outside),
}

impl System {
    /// All that this machine has, and what it lacks.
    pub(crate) fn all() -> (Vec<Self>, Vec<String>) {
        let (mut systems, mut missing) = (vec![Self::NoTunnel, Self::Relay, Self::Lanes, Self::Quic], Vec::new());
        for outside in &outside::ALL {
            match outside.missing() {
                None => systems.push(Self::Outside(outside)),
                Some(program) => missing.push(format!("{} is skipped: there is no {program}", outside.name)),
            }
        }
        (systems, missing)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoTunnel => "no tunnel",
            Self::Relay => "plain relay",
            Self::Lanes => "lanes",
            Self::Quic => "QUIC",
            Self::Outside(outside) => outside.name,
        }
    }

    /// The two hosts for it.
    pub(crate) fn hosts(self, congestion: Option<&str>) -> Result<Mesh> {
        let transport = if matches!(self, Self::Quic) { "quic" } else { "tls" };
        let mesh = Mesh::pair(transport).in_namespaces().build()?;
        for node in ["alpha", "beta"] {
            if let (Place::There(namespace), Some(congestion)) = (mesh.place(node), congestion) {
                namespace.sysctl("net/ipv4/tcp_congestion_control", congestion)?;
            }
        }
        Ok(mesh)
    }

    /// Starts it.
    pub(crate) fn start(self, mesh: &Mesh) -> Result<Running> {
        let (target, entry) = (mesh.target("app", "alpha"), mesh.listener("app", "beta"));
        let mut running = Running { entry, serve: target, ends: Vec::new() };
        match self {
            Self::NoTunnel => {
                running.entry = SocketAddr::new(mesh.link_address("alpha").ip(), target.port());
                running.serve = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), target.port());
            }
            Self::Relay => {
                let wire = mesh.link_address("alpha").to_string();
                for (node, from, to) in [("alpha", &wire, &target.to_string()), ("beta", &entry.to_string(), &wire)] {
                    let mut relay = Process::start(&mesh.place(node), &["relay", from, to])?;
                    relay.expect("listening")?;
                    running.ends.push(End::Relay(relay));
                }
            }
            Self::Lanes | Self::Quic => {
                let (alpha, beta, _) = mesh.start_pair()?;
                running.ends = vec![End::Agent(alpha), End::Agent(beta)];
            }
            Self::Outside(outside) => {
                running.ends = (outside.start)(mesh)?.into_iter().map(|child| End::Program(Killed(child))).collect();
                if let Some(server) = outside.overlay {
                    running.entry = SocketAddr::new(server.into(), target.port());
                    running.serve = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), target.port());
                }
            }
        }
        Ok(running)
    }
}

/// A system that runs.
pub(crate) struct Running {
    /// Where the client connects to.
    pub(crate) entry: SocketAddr,
    /// Where the server listens.
    pub(crate) serve: SocketAddr,
    ends: Vec<End>,
}

enum End {
    Relay(Process),
    Agent(Agent),
    Program(Killed),
}

impl Running {
    /// The first process of each end.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let pid = |end: &End| match end {
            End::Relay(process) => Ok(process.pid()),
            End::Agent(agent) => agent.pid(),
            End::Program(Killed(child)) => Ok(child.id()),
        };
        self.ends.iter().map(pid).collect()
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Asked first, as the workers of some would outlive a master that is killed. It may have ended by itself.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = eventually("it ends", SOON, || self.0.try_wait()?.context("it still runs"));
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
