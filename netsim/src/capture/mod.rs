//! Captures: every packet that comes to a link, with what became of it, in files that Wireshark and tshark read.

mod format;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::pump::Wire;
use crate::wire::Nanos;
use crate::wire::fate::{Fate, Watch};
use crate::wire::nanos;
use crate::{Error, LinkId, Network};

/// Packets that wait to be written, of all links of a capture.
const QUEUE: usize = 16_384;
/// Bytes of those.
const QUEUE_BYTES: usize = 32 << 20;

/// What is captured of links, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureLimits {
    /// Bytes that are kept of each packet, from its Ethernet header on.
    pub snap: u32,
    /// Bytes that a file may have. What comes after that is counted.
    pub file: u64,
}

impl Default for CaptureLimits {
    /// Whole packets, and 64 MiB a file.
    fn default() -> Self {
        Self { snap: 256 << 10, file: 64 << 20 }
    }
}

/// How much of a link was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The file.
    pub path: PathBuf,
    /// Packets in it.
    pub written: u64,
    /// Packets that are not: the file was full, could not be written, or the disk was slower than the wire.
    pub missing: u64,
}

/// Links that are captured. It is over when this is dropped, or the network is.
#[derive(Debug)]
#[must_use = "the capture is over when this is dropped"]
pub struct Capture {
    wire: Weak<Wire>,
    links: Vec<LinkId>,
    tallies: Vec<Arc<Tally>>,
    paths: Vec<PathBuf>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

/// What is known of a link's packets so far.
#[derive(Debug, Default)]
struct Tally {
    seen: [AtomicU64; 4],
    written: [AtomicU64; 4],
    /// Nothing more is taken.
    full: AtomicBool,
}

impl Tally {
    fn sum(of: &[AtomicU64; 4]) -> u64 {
        of.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// A packet on its way to a file.
struct Seen {
    link: usize,
    interface: usize,
    at: Nanos,
    bytes: Vec<u8>,
    length: usize,
    fate: Fate,
}

/// Stands at one direction of a link, in the wire.
struct Post {
    link: usize,
    way: usize,
    snap: usize,
    /// What is to be added to the wire's time.
    before: i64,
    tally: Arc<Tally>,
    queued: Arc<AtomicUsize>,
    queue: SyncSender<Seen>,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").field("link", &self.link).field("way", &self.way).finish_non_exhaustive()
    }
}

impl Watch for Post {
    /// Never waits: what finds no room is counted.
    fn see(&mut self, frame: &[u8], now: Nanos, fate: Fate) {
        let interface = self.way + if fate.behind() { 2 } else { 0 };
        self.tally.seen[interface].fetch_add(1, Ordering::Relaxed);
        if self.tally.full.load(Ordering::Relaxed) {
            return;
        }
        let kept = &frame[..frame.len().min(self.snap)];
        if self.queued.fetch_add(kept.len(), Ordering::Relaxed) > QUEUE_BYTES {
            self.queued.fetch_sub(kept.len(), Ordering::Relaxed);
            return;
        }
        let at = now.saturating_add_signed(self.before);
        let (bytes, length) = (kept.to_vec(), frame.len());
        let seen = Seen { link: self.link, interface, at, bytes, length, fate };
        if let Err(TrySendError::Full(seen) | TrySendError::Disconnected(seen)) = self.queue.try_send(seen) {
            self.queued.fetch_sub(seen.bytes.len(), Ordering::Relaxed);
        }
    }
}

impl Network {
    /// Writes every packet that comes to some links, from now on, to a file for each: pcapng, with a comment on what was
    /// dropped and why. Times count from `since`, and are those at which packets came to the link. Super-packets and
    /// checksums that are left to the wire are written as they are.
    ///
    /// Files that exist are replaced. A slow disk does not hold up the network: what is not written is counted.
    ///
    /// # Errors
    /// When a file cannot be made, a link is captured already, or the wire has ended.
    pub fn capture<P: AsRef<Path>>(
        &self,
        links: impl IntoIterator<Item = (LinkId, P)>,
        limits: CaptureLimits,
        since: Instant,
    ) -> Result<Capture, Error> {
        let (queue, receiver) = sync_channel(QUEUE);
        let queued = Arc::<AtomicUsize>::default();
        let before = between(since, self.wire.started);
        let mut files = writer::Files::new(receiver, queued.clone(), limits);
        let mut capture = Capture {
            wire: Arc::downgrade(&self.wire),
            links: Vec::new(),
            tallies: Vec::new(),
            paths: Vec::new(),
            thread: None,
        };
        for (link, path) in links {
            let ends = self.ends(link).ok_or_else(|| Error::Topology("no such link".to_owned()))?;
            let tally = Arc::<Tally>::default();
            let number = files.add(path.as_ref(), ends, tally.clone())?;
            let posts = [0, 1].map(|way| -> Box<dyn Watch> {
                let (tally, queued, queue) = (tally.clone(), queued.clone(), queue.clone());
                let snap = usize::try_from(limits.snap).unwrap_or(usize::MAX);
                Box::new(Post { link: number, way, snap, before, tally, queued, queue })
            });
            if !self.wire.with(move |pump, _| pump.fabric.watch(link.0, posts))? {
                return Err(Error::Topology(format!("the link from {} to {} is captured already", ends[0], ends[1])));
            }
            capture.links.push(link);
            capture.tallies.push(tally);
            capture.paths.push(path.as_ref().to_owned());
        }
        let thread = std::thread::Builder::new().name("netsim-capture".to_owned()).spawn(move || files.write());
        capture.thread = Some(thread.map_err(Error::kernel("start the writer of a capture"))?);
        Ok(capture)
    }
}

/// Nanoseconds from one moment to another, which may be the earlier one.
fn between(from: Instant, to: Instant) -> i64 {
    let signed = |duration| i64::try_from(nanos(duration)).unwrap_or(i64::MAX);
    match to.checked_duration_since(from) {
        Some(later) => signed(later),
        None => -signed(from.duration_since(to)),
    }
}

impl Capture {
    /// Ends the capture, waits until everything is in the files, and tells how much that is.
    ///
    /// # Errors
    /// When a file could not be written.
    pub fn finish(mut self) -> Result<Vec<Captured>, Error> {
        self.end()?;
        let all = self.tallies.iter().zip(&self.paths).map(|(tally, path)| {
            let (seen, written) = (Tally::sum(&tally.seen), Tally::sum(&tally.written));
            Captured { path: path.clone(), written, missing: seen - written }
        });
        Ok(all.collect())
    }

    fn end(&mut self) -> Result<(), Error> {
        if let Some(wire) = self.wire.upgrade() {
            let links = std::mem::take(&mut self.links);
            // A wire that has ended watches nothing.
            let _ = wire.with(move |pump, _| links.iter().for_each(|link| pump.fabric.unwatch(link.0)));
        }
        // The writer ends when nobody can send to it any more.
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Whoever wants to know asks by `finish`.
        let _ = self.end();
    }
}
