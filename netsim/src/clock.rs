//! Wall clocks that are wrong: by how much, and how programs learn of it.
//!
//! A program with a clock of its own reads a [`Skew`] from a file whenever it wants to know the time; another one gets a
//! small library loaded before the C library, which does that for it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The library, or nothing if it could not be built.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clock.so"));

const SECOND: i128 = 1_000_000_000;

/// How a wall clock differs from the real one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skew {
    /// Nanoseconds that it is ahead, from when it begins to be wrong.
    pub ahead: i64,
    /// Nanoseconds that it gains in each second from then on.
    pub gains: i64,
}

/// A skew with the monotonic time, in nanoseconds, at which it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since {
    pub(crate) skew: Skew,
    pub(crate) begun: i64,
}

impl Skew {
    /// Several at once, as one that begins now.
    pub(crate) fn sum(all: &[Since], now: i64) -> Since {
        let ahead = all.iter().map(|Since { skew, begun }| {
            let gained = (i128::from(now) - i128::from(*begun)) * i128::from(skew.gains) / SECOND;
            i128::from(skew.ahead) + gained
        });
        let gains = all.iter().map(|one| i128::from(one.skew.gains)).sum::<i128>();
        let narrow = |value: i128| i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX });
        Since { skew: Self { ahead: narrow(ahead.sum()), gains: narrow(gains) }, begun: now }
    }
}

impl Since {
    /// What the file of a clock says: nanoseconds ahead, nanoseconds gained a second, and the monotonic time in
    /// nanoseconds from which on they are gained.
    fn text(self) -> String {
        format!("{} {} {}\n", self.skew.ahead, self.skew.gains, self.begun)
    }

    /// Writes the file of a clock, so that whoever reads it sees either what it said before or this.
    pub(crate) fn write(self, file: &Path) -> io::Result<()> {
        let new = file.with_extension("new");
        fs::write(&new, self.text())?;
        fs::rename(new, file)
    }
}

/// Monotonic time in nanoseconds.
pub(crate) fn monotonic() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

/// Writes the library that gives other programs a clock.
///
/// # Errors
/// When it cannot be written, or was not built.
pub(crate) fn write_library(file: &Path) -> io::Result<()> {
    if LIBRARY.is_empty() {
        return Err(io::Error::other("it could not be built on the machine that has built this program"));
    }
    fs::write(file, LIBRARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_wrong_in_several_ways_are_wrong_by_the_sum() {
        let second = 1_000_000_000;
        let since = |ahead, gains, begun| Since { skew: Skew { ahead, gains }, begun };
        assert_eq!(Skew::sum(&[], 7), since(0, 0, 7));
        // A tenth fast for ten seconds is a second.
        assert_eq!(Skew::sum(&[since(5, second / 10, 0)], 10 * second), since(second + 5, second / 10, 10 * second));
        let both = [since(-3 * second, 0, 2 * second), since(0, -second, 9 * second)];
        assert_eq!(Skew::sum(&both, 10 * second), since(-4 * second, -second, 10 * second));
        assert_eq!(since(-1, 2, 3).text(), "-1 2 3\n");
    }

    #[test]
    fn the_library_that_other_programs_need_was_built() {
        assert!(LIBRARY.starts_with(b"\x7fELF"));
    }
}
