//! When files that somebody is changing are at rest: pure.
//!
//! A change is taken when nothing has happened for [`QUIET`]; one that keeps on happening, after [`MOST`] all the same. While
//! somebody is known to be writing into a file, his pauses may be longer: he is waited for until he closes it, or has done
//! nothing for [`PATIENCE`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long nothing must have happened.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// After how long a change is taken although more happens.
pub(super) const MOST: Duration = Duration::from_secs(2);
/// How long a writer may pause with a file open.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What is seen of the files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen<W> {
    /// Something has changed in one step, such as a rename.
    Changed,
    /// Somebody writes into this one, and has it open.
    Writing(W),
    /// Whoever wrote into this one has closed it, or it is gone.
    Closed(W),
    /// Something may have been missed.
    Lost,
}

/// The debounce. `W` names a file that is written.
#[derive(Debug, Clone)]
pub(super) struct Settle<W> {
    /// The first and the last that happened since the files were taken.
    happened: Option<(Instant, Instant)>,
    writing: BTreeSet<W>,
}

impl<W: Ord> Settle<W> {
    /// Nothing has happened.
    pub(super) fn new() -> Self {
        Self { happened: None, writing: BTreeSet::new() }
    }

    /// Something was seen.
    pub(super) fn handle_seen(&mut self, seen: Seen<W>, now: Instant) {
        match seen {
            Seen::Changed => {}
            Seen::Writing(file) => _ = self.writing.insert(file),
            Seen::Closed(file) => _ = self.writing.remove(&file),
            Seen::Lost => self.writing.clear(),
        }
        let first = self.happened.map_or(now, |(first, _)| first);
        self.happened = Some((first, now));
    }

    /// Whether somebody is known to be writing into one.
    pub(super) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// When the files are to be taken.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.happened?;
        Some(if self.writing.is_empty() { (last + QUIET).min(first + MOST).max(last) } else { last + PATIENCE })
    }

    /// The files are taken now.
    pub(super) fn handle_taken(&mut self) {
        self.happened = None;
        self.writing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_change_is_taken_when_it_has_been_quiet_and_at_last_although_it_is_not() {
        let start = Instant::now();
        let mut settle: Settle<u8> = Settle::new();
        assert_eq!(settle.due(), None);
        settle.handle_seen(Seen::Changed, start);
        assert_eq!(settle.due(), Some(start + QUIET));
        settle.handle_seen(Seen::Changed, start + 50 * MS);
        assert_eq!(settle.due(), Some(start + 50 * MS + QUIET), "the second starts the wait again");
        for at in (0..40).map(|n| start + n * 50 * MS) {
            settle.handle_seen(Seen::Changed, at);
        }
        assert_eq!(settle.due(), Some(start + MOST), "who never rests is not waited for for ever");
        settle.handle_taken();
        assert_eq!(settle.due(), None);
    }

    #[test]
    fn a_writer_who_pauses_is_waited_for_until_he_closes_the_file() {
        let start = Instant::now();
        let mut settle = Settle::new();
        settle.handle_seen(Seen::Writing(1), start);
        assert!(settle.is_writing());
        settle.handle_seen(Seen::Changed, start + 5 * MS);
        assert_eq!(settle.due(), Some(start + 5 * MS + PATIENCE));
        settle.handle_seen(Seen::Writing(1), start + 4 * MOST);
        assert_eq!(settle.due(), Some(start + 4 * MOST + PATIENCE), "half a file is not taken");
        settle.handle_seen(Seen::Closed(1), start + 5 * MOST);
        assert_eq!(settle.due(), Some(start + 5 * MOST), "and no longer than that");
    }

    #[test]
    fn a_writer_of_whom_nothing_more_is_heard_does_not_hold_up_for_ever() {
        let start = Instant::now();
        let mut settle = Settle::new();
        settle.handle_seen(Seen::Writing(1), start);
        assert_eq!(settle.due(), Some(start + PATIENCE));
        settle.handle_seen(Seen::Lost, start + MS);
        assert_eq!(settle.due(), Some(start + MS + QUIET), "what was missed may have been its end");
    }
}
