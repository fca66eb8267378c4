//! The plain files as a source: says when those in the directory are to be read again.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::documents::{Fingerprints, MESH_FILE, files};
use super::looks::Looks;
use super::settle::Settle;
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
    /// What is found though nothing was heard of it.
    looks: Looks<Fingerprints>,
    poll: Option<Interval>,
    /// They are to be looked at although nothing was heard of them.
    look: bool,
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
        Self::watched_by(watch, dir, seen)
    }

    fn watched_by(watch: Watch, dir: PathBuf, seen: Fingerprints) -> Self {
        let (settle, looks) = (Settle::new(), Looks::new());
        Self { dir, watch, settle, looks, poll: None, look: false, unarmed: true, settled: false, seen }
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

    /// The files as they are now, if they are others than those that were judged last.
    async fn others(&self) -> Option<Fingerprints> {
        let dir = self.dir.clone();
        spawn_blocking(move || Fingerprints::of(&dir)).await.ok().filter(|found| *found != self.seen)
    }

    /// Looks for changes of which nobody has told. Those that the watch has seen are its business.
    async fn look(&mut self) {
        match self.others().await {
            Some(found) if self.settle.due().is_none() => {
                if self.looks.handle_found(found, Instant::now().into_std()) {
                    (self.settled, self.unarmed) = (true, true);
                }
            }
            _ => self.looks.handle_nothing(),
        }
        self.look = false;
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
            if self.look {
                self.look().await;
            }
            if self.unarmed {
                self.arm().await;
            }
            if self.settled {
                let others = self.others().await;
                self.settled = false;
                if others.is_some() {
                    return Ok(Heard::Document(()));
                }
            }
            let (due, again) = (self.settle.due(), self.looks.due());
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
                () = at(due.map(Instant::from_std)) => {
                    self.settle.handle_taken();
                    self.settled = true;
                }
                () = at(again.map(Instant::from_std)) => self.look = true,
                _ = poll.tick() => self.look = true,
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;

    use tokio::time::{sleep, timeout};

    use super::super::looks::APART;
    use super::*;

    const PIECES: u32 = 4;
    const PAUSE: Duration = Duration::from_millis(1_500);

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_where_no_watch_sees_it_is_not_read_before_it_rests() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MESH_FILE);
        fs::write(&path, "old").unwrap();
        let seen = Fingerprints::of(dir.path());
        let mut files = Files::watched_by(Watch::deaf(), dir.path().to_owned(), seen);
        assert!(timeout(2 * POLL, files.next()).await.is_err(), "nothing has changed");
        let mut file = File::create(&path).unwrap();
        let start = Instant::now();
        let writing = async {
            for _ in 0..PIECES {
                file.write_all(b"piece").unwrap();
                sleep(PAUSE).await;
            }
        };
        let (_, heard) = tokio::join!(writing, async {
            files.next().await.unwrap();
            start.elapsed()
        });
        let last = (PIECES - 1) * PAUSE;
        assert!(heard >= last + APART, "read {heard:?} after its writer began, who was not done before {last:?}");
        assert!(heard <= last + POLL + APART, "only after {heard:?}");
    }
}
