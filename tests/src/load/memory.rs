//! What many connections take of the agents' memory, and whether they give it back.
//!
//! The bounds are those that `docs/performance.md` states. Resident memory is user space alone; the kernel's socket buffers are not
//! in it. What is compared with is not an agent that has just started, but one through which a part of the crowd has come and gone,
//! and which has had time to give back what it gives back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::crowd::Crowd;
use crate::agent::Agent;
use crate::mesh::{Mesh, SOON};
use crate::place::Place;
use crate::wait::{eventually, pass};

/// One in so many of a crowd comes and goes before the first weighing: threads, pools and allocators have what they keep.
const WARM_UP: usize = 8;
/// How long after a burst an agent gives memory back: its lanes have had time to fall idle and close.
const REST: Duration = Duration::from_secs(16);
/// The same on a busy machine.
const GIVEN_BACK: Duration = Duration::from_secs(60);
/// The most that is left in the end, in percent of the first weighing.
const AGAIN: u64 = 120;

/// The most that one connection may take of an agent, in bytes, when there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Each {
    /// Of the agent that dials the lanes and has the client.
    pub reaching: u64,
    /// Of the agent that accepts them and has the server.
    pub offering: u64,
}

/// While nothing moves.
pub const IDLE: Each = Each { reaching: 4_000, offering: 4_300 };
/// While the server does not read and the client has sent all that it could, whatever the kernel's buffers are: a full buffer
/// for bulk beside the rest.
pub const STALLED: Each = Each { reaching: 79_000, offering: 83_000 };

/// The most bytes that a socket of a stalled crowd of thousands may hold each way: all of them together stay below what the
/// kernel has for TCP.
pub const SMALL: u32 = 32 * 1024;

/// Opens `count` idle connections, each proven by an echo, from `beta` to the service `app` of `alpha`, and closes them.
pub fn idle(mesh: &Mesh, agents: [&Agent; 2], count: usize) -> Result<()> {
    let mut scales = Scales::new(mesh, agents, |crowd| crowd.open(count / WARM_UP))?;
    scales.crowd.open(count)?;
    scales.weigh("idle", count, IDLE)?;
    scales.close()
}

/// Has `count` clients send as much as is taken while their servers do not read, then has the servers read on: they get every
/// byte. Sockets hold `buffers` bytes each way at most.
pub fn stalled(mesh: &Mesh, agents: [&Agent; 2], count: usize, buffers: u32) -> Result<()> {
    for node in ["alpha", "beta"] {
        let Place::There(namespace) = mesh.place(node) else { anyhow::bail!("{node} has no host of its own") };
        for key in ["net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem"] {
            namespace.sysctl(key, &format!("4096 {} {buffers}", SMALL / 2))?;
        }
    }
    // Each thread keeps a few buffers for bulk.
    let mut scales = Scales::new(mesh, agents, |crowd| {
        crowd.open(count / WARM_UP)?;
        let taken = crowd.fill()?;
        crowd.finish(taken)
    })?;
    scales.crowd.open(count)?;
    let taken = scales.crowd.fill()?;
    scales.weigh("stalled", count, STALLED)?;
    scales.crowd.finish(taken).context("the readers that go on")?;
    scales.close()
}

/// Two agents that were weighed before the load and after a warm-up, and their load.
struct Scales<'a> {
    agents: [&'a Agent; 2],
    /// After the warm-up and a rest.
    before: [u64; 2],
    crowd: Crowd,
}

impl<'a> Scales<'a> {
    fn new(mesh: &Mesh, agents: [&'a Agent; 2], warm_up: impl FnOnce(&mut Crowd) -> Result<()>) -> Result<Self> {
        let mut crowd = Crowd::new(mesh, "app", "beta", "alpha")?;
        warm_up(&mut crowd).context("the warm-up")?;
        crowd.close()?;
        none_left(agents)?;
        // What it gives back it does by then; that it gives back nothing more cannot be waited for.
        pass(REST);
        Ok(Self { agents, before: resident(agents)?, crowd })
    }

    /// No connection takes more than `bound` of either agent.
    fn weigh(&self, what: &str, count: usize, bound: Each) -> Result<()> {
        let now = resident(self.agents)?;
        let each = [0, 1].map(|n| now[n].saturating_sub(self.before[n]) / count as u64);
        let [offering, reaching] = each;
        say(&format!("{count} {what} connections: {reaching} and {offering} bytes each, reaching and offering agent"));
        ensure!(
            reaching <= bound.reaching && offering <= bound.offering,
            "{what}: {reaching} and {offering} bytes a connection, more than {bound:?}"
        );
        Ok(())
    }

    /// Closes all, and waits until the memory is what it was before, or a fifth more at the most.
    fn close(mut self) -> Result<()> {
        self.crowd.close()?;
        none_left(self.agents)?;
        let given_back = eventually("memory is given back", GIVEN_BACK, || {
            let now = resident(self.agents)?;
            for (agent, (now, before)) in self.agents.iter().zip(now.into_iter().zip(self.before)) {
                ensure!(now <= before * AGAIN / 100, "{}: {before} bytes at first, now {now}", agent.name());
            }
            Ok(())
        });
        say(&format!("resident before {:?}, after {:?}", self.before, resident(self.agents)?));
        given_back
    }
}

fn resident(agents: [&Agent; 2]) -> Result<[u64; 2]> {
    let [alpha, beta] = agents.map(|agent| agent.usage().map(|usage| usage.resident));
    Ok([alpha?, beta?])
}

fn none_left(agents: [&Agent; 2]) -> Result<()> {
    eventually("no connection is left", SOON * 3, || {
        for agent in agents {
            let left = agent.status()?["connections"].clone();
            ensure!(left == 0, "{}: {left} are left", agent.name());
        }
        Ok(())
    })
}

#[expect(clippy::print_stderr, reason = "a figure for the person who runs the test")]
fn say(line: &str) {
    eprintln!("{line}");
}
