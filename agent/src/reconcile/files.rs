//! The plain files as a source: says when those in the directory are to be read again.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::documents::{Fingerprints, MESH_FILE, files};
use super::settle::{Seen, Settle};
use super::watch::{Watch, Written};
use crate::source::{Heard, MeshSource, SourceError};
use crate::vocabulary::SourceKind;

/// How often the files are looked at although nothing was heard of them: watches get lost.
const POLL: Duration = Duration::from_secs(5);

/// The files of a directory, watched.
pub(super) struct Files {
    dir: PathBuf,
    watch: Watch,
    settle: Settle<Written>,
    poll: Option<Interval>,
    /// What is to be watched has to be looked up.
    unarmed: bool,
    /// They have settled, and have to be looked at.
    settled: bool,
    /// The files when they were judged last.
    seen: Fingerprints,
}

impl Files {
    /// Those of `dir`, which were so when they were judged last.
    pub(super) fn new(dir: PathBuf, seen: Fingerprints) -> Self {
        let watch = Watch::new(files(&dir));
        Self { dir, watch, settle: Settle::new(), poll: None, unarmed: true, settled: false, seen }
    }

    /// Whether somebody is known to be writing into one.
    pub(super) fn is_writing(&self) -> bool {
        self.settle.is_writing()
    }

    /// They were judged as they were then.
    pub(super) fn judged_as(&mut self, seen: Fingerprints) {
        self.seen = seen;
    }

    /// Watches what there is to watch now.
    async fn arm(&mut self) {
        let closed = self.watch.arm().await;
        let now = Instant::now().into_std();
        closed.into_iter().for_each(|closed| self.settle.handle_seen(closed, now));
        self.unarmed = false;
    }

    /// Whether the files are others than those that were judged last.
    async fn are_others(&self) -> bool {
        let dir = self.dir.clone();
        spawn_blocking(move || Fingerprints::of(&dir)).await.is_ok_and(|found| found != self.seen)
    }
}

impl MeshSource for Files {
    /// That they have settled and are others. Reading them all at one moment is the reader's business.
    type Document = ();

    fn kind(&self) -> SourceKind {
        SourceKind::File
    }

    fn place(&self) -> String {
        self.dir.join(MESH_FILE).display().to_string()
    }

    /// Waits until the files are to be read. Dropping it loses nothing: what was begun is noted first, and goes on with the next
    /// call.
    async fn next(&mut self) -> Result<Heard<()>, SourceError> {
        loop {
            if self.unarmed {
                self.arm().await;
            }
            if self.settled {
                let others = self.are_others().await;
                self.settled = false;
                if others {
                    return Ok(Heard::Document(()));
                }
            }
            let due = self.settle.due().map(Instant::from_std);
            let poll = self.poll.get_or_insert_with(|| {
                let mut poll = interval(POLL);
                poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
                poll
            });
            tokio::select! {
                biased;
                seen = self.watch.seen() => {
                    let now = Instant::now().into_std();
                    seen.into_iter().for_each(|seen| self.settle.handle_seen(seen, now));
                    self.unarmed = true;
                }
                () = at(due) => {
                    self.settle.handle_taken();
                    self.settled = true;
                }
                _ = poll.tick() => {
                    // What nobody has told of is given time to settle.
                    if self.are_others().await && self.settle.due().is_none() {
                        self.settle.handle_seen(Seen::Changed, Instant::now().into_std());
                        self.unarmed = true;
                    }
                }
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
