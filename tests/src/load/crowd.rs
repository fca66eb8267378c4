//! A crowd: thousands of connections at once to one service, held by two processes that do what they are told.
//!
//! ```text
//!   Crowd ── "open N", "fill", "finish", "close" ──▶ reach   the clients, all in one process
//!     └───── "open N", "drain", "close" ───────────▶ offer   their servers, in another
//! ```

mod parts;

use anyhow::{Context as _, Result, bail, ensure};

use super::process::Process;
use crate::mesh::Mesh;

pub use parts::run;

/// Connections to one service.
#[derive(Debug)]
pub struct Crowd {
    reach: Process,
    offer: Process,
}

impl Crowd {
    /// Nobody yet: clients of `service` on `from`, and what serves them on `to`.
    pub fn new(mesh: &Mesh, service: &str, from: &str, to: &str) -> Result<Self> {
        let (listener, target) = (mesh.listener(service, from).to_string(), mesh.target(service, to).to_string());
        let mut offer = Process::start(&mesh.place(to), &["offer", &target])?;
        offer.expect("ready")?;
        let mut reach = Process::start(&mesh.place(from), &["reach", &listener])?;
        reach.expect("ready")?;
        Ok(Self { reach, offer })
    }

    /// Opens `count` more connections, each proven by bytes that went there and back.
    pub fn open(&mut self, count: usize) -> Result<()> {
        self.offer.tell(&format!("open {count}"))?;
        self.reach.tell(&format!("open {count}"))?;
        number(&mut self.reach).context("the clients")?;
        number(&mut self.offer).context("the servers")?;
        Ok(())
    }

    /// Every client sends until nothing more is taken, while no server reads. Returns how many bytes were taken.
    pub fn fill(&mut self) -> Result<u64> {
        self.reach.tell("fill")?;
        number(&mut self.reach)
    }

    /// Every client has said all, and the servers read on: every byte and every end of file is checked.
    pub fn finish(&mut self, taken: u64) -> Result<()> {
        self.reach.tell("finish")?;
        number(&mut self.reach).context("the clients")?;
        self.offer.tell("drain")?;
        let got = number(&mut self.offer).context("the servers")?;
        ensure!(got == taken, "{got} bytes of {taken} came");
        Ok(())
    }

    /// Closes all connections, the clients first.
    pub fn close(&mut self) -> Result<()> {
        for part in [&mut self.reach, &mut self.offer] {
            part.tell("close")?;
            number(part)?;
        }
        Ok(())
    }
}

/// What a part answers: `ok` and a number, or what went wrong.
fn number(part: &mut Process) -> Result<u64> {
    let line = part.line()?;
    match line.split_once(' ') {
        Some(("ok", number)) => number.parse().with_context(|| line.clone()),
        _ => bail!("{line}"),
    }
}
