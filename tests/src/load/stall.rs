//! A reader that stops with every buffer full, and reads on later.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::content::{Content, PIECE, digest_of};
use super::exchange::receive;
use super::round_trip;
use crate::agent::Agent;
use crate::mesh::{Mesh, SOON};
use crate::wait::{eventually, pass};

/// More than all buffers between two applications hold.
const LENGTH: u64 = 256 << 20;
/// Nothing taken for so long: the buffers are full.
const FULL: Duration = Duration::from_secs(2);
const SEED: u64 = 77;
/// What an agent may hold for one stalled connection, in bytes, above what it held before.
const HELD: u64 = 48 << 20;

/// Sends from the client until nothing more is taken, keeps the server from reading for `pause`, and has it read on: it
/// gets every byte. Meanwhile other connections work, and the agents' memory stays bounded.
pub fn stalled_reader(mesh: &Mesh, server: &TcpListener, agents: [&Agent; 2], pause: Duration) -> Result<()> {
    let before = agents.map(|a| a.usage().map(|u| u.resident));
    let (client, served) = mesh.joined(server)?;
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(&client, &taken, pause));
        // Should anything fail below, the sender must not wait for the reader.
        let outcome = (|| {
            full(&taken)?;
            let start = Instant::now();
            while start.elapsed() < pause {
                let (client, served) = mesh.joined(server).context("another connection while one is stalled")?;
                round_trip(&client, &served, b"not stalled", SOON)?;
                pass(Duration::from_millis(500).min(pause.saturating_sub(start.elapsed())));
            }
            for (agent, before) in agents.iter().zip(before) {
                let held = agent.usage()?.resident.saturating_sub(before?);
                ensure!(held < HELD, "{} holds {} MiB more than before", agent.name(), held >> 20);
            }
            receive(&served).context("the reader that goes on")
        })();
        if outcome.is_err() {
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
        let received = outcome?;
        sender.join().map_err(|_| anyhow!("the sender panicked"))??;
        ensure!(received.bytes == LENGTH, "{} bytes of {LENGTH}", received.bytes);
        ensure!(received.digest == digest_of(SEED, LENGTH), "wrong bytes");
        Ok(())
    })
}

fn send(mut client: &TcpStream, taken: &AtomicU64, pause: Duration) -> Result<()> {
    client.set_write_timeout(Some(pause + Duration::from_secs(60)))?;
    let (mut content, mut buffer) = (Content::new(SEED, LENGTH), vec![0; PIECE]);
    while content.left() > 0 {
        client.write_all(content.next(&mut buffer)).context("send to a stalled reader")?;
        taken.store(LENGTH - content.left(), Ordering::Relaxed);
    }
    Ok(client.shutdown(std::net::Shutdown::Write)?)
}

/// Waits until nothing has been taken for a while.
fn full(taken: &AtomicU64) -> Result<()> {
    let mut last = (taken.load(Ordering::Relaxed), Instant::now());
    eventually("every buffer is full", Duration::from_secs(60), || {
        let now = taken.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        if last.1.elapsed() < FULL {
            bail!("bytes are still taken");
        }
        Ok(())
    })?;
    ensure!(last.0 > 0 && last.0 < LENGTH, "{} bytes were taken from a client whose server does not read", last.0);
    Ok(())
}

/// A connection on which nothing is said for `pause` is as good as before.
pub fn silence(mesh: &Mesh, server: &TcpListener, pause: Duration) -> Result<()> {
    let (client, served) = mesh.joined(server)?;
    round_trip(&client, &served, b"before", SOON)?;
    pass(pause);
    round_trip(&client, &served, b"after", SOON)
}
