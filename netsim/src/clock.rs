//! Wall clocks that are wrong: by how much, for how long, and how programs learn of it.
//!
//! A program with a clock of its own reads a [`Skew`] from a file whenever it wants to know the time; another one gets a
//! small library loaded before the C library, which does that for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Error;

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
struct Since {
    skew: Skew,
    begun: i64,
}

impl Skew {
    /// Several at once, as one that begins now.
    fn sum(all: &[Since], now: i64) -> Since {
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
    fn write(self, file: &Path) -> io::Result<()> {
        // No host's name has this sign.
        let mut new = file.as_os_str().to_owned();
        new.push("~");
        fs::write(&new, self.text())?;
        fs::rename(new, file)
    }
}

/// A wall clock for programs that read its file: three whole numbers, nanoseconds ahead, nanoseconds gained in each
/// second, and the value of `CLOCK_MONOTONIC` in nanoseconds from which on they are gained. It is right until
/// [`Clock::skew`]. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    wrong: Mutex<Wrong>,
}

/// In how many ways a clock is wrong, each with its number.
#[derive(Debug, Default)]
struct Wrong {
    next: u64,
    all: Vec<(u64, Since)>,
}

impl Clock {
    /// A clock that is right, and writes its file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(file: impl Into<PathBuf>) -> Result<Self, Error> {
        let clock = Self { inner: Arc::new(Inner { file: file.into(), wrong: Mutex::default() }) };
        clock.write(&clock.wrong())?;
        Ok(clock)
    }

    /// The file that a program reads which has such a clock.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.inner.file
    }

    /// Has the clock be wrong, in addition to how wrong it is, until the value is dropped.
    ///
    /// # Errors
    /// When the file cannot be written. The clock is then as it was.
    pub fn skew(&self, skew: Skew) -> Result<Skewed, Error> {
        let mut wrong = self.wrong();
        let number = wrong.next;
        wrong.next += 1;
        wrong.all.push((number, Since { skew, begun: monotonic() }));
        let written = self.write(&wrong);
        if written.is_err() {
            wrong.all.pop();
        }
        written.map(|()| Skewed { clock: self.clone(), number })
    }

    /// Writes the library that gives such a clock to any other dynamically linked program: to one that is started with
    /// the library's path in `LD_PRELOAD` and that of the clock's file in `NETSIM_CLOCK`.
    ///
    /// # Errors
    /// When it cannot be written, or was not built.
    pub fn write_library(library: &Path) -> Result<(), Error> {
        let what = format!("write the library of clocks {}", library.display());
        write_library(library).map_err(Error::kernel(what))
    }

    fn wrong(&self) -> MutexGuard<'_, Wrong> {
        self.inner.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, wrong: &Wrong) -> Result<(), Error> {
        let all: Vec<Since> = wrong.all.iter().map(|(_, since)| *since).collect();
        let what = format!("write the clock {}", self.inner.file.display());
        Skew::sum(&all, monotonic()).write(&self.inner.file).map_err(Error::kernel(what))
    }
}

/// A clock that is wrong. It is not any more when this is dropped, unless it is in other ways.
#[derive(Debug)]
#[must_use = "the clock is as it was when this is dropped"]
pub struct Skewed {
    clock: Clock,
    number: u64,
}

impl Skewed {
    /// Has the clock be as it was, as dropping this does, and tells whether that went well.
    ///
    /// # Errors
    /// When the clock's file cannot be written.
    pub fn heal(self) -> Result<(), Error> {
        self.end()
    }

    fn end(&self) -> Result<(), Error> {
        let mut wrong = self.clock.wrong();
        let before = wrong.all.len();
        wrong.all.retain(|(number, _)| *number != self.number);
        if wrong.all.len() == before { Ok(()) } else { self.clock.write(&wrong) }
    }
}

impl Drop for Skewed {
    fn drop(&mut self) {
        // The file may have gone, and who reads it with it.
        let _ = self.end();
    }
}

/// Monotonic time in nanoseconds.
fn monotonic() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
}

fn write_library(file: &Path) -> io::Result<()> {
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
    fn a_clock_is_wrong_as_long_as_the_values_live() {
        let file = std::env::temp_dir().join(format!("netsim-clock-{}", std::process::id()));
        let clock = Clock::new(&file).unwrap();
        // How far ahead it is by its file.
        let ahead = || {
            let text = fs::read_to_string(clock.file()).unwrap();
            text.split(' ').next().unwrap().parse::<i64>().unwrap()
        };
        assert_eq!(ahead(), 0);
        let late = clock.skew(Skew { ahead: -5, gains: 0 }).unwrap();
        let early = clock.clone().skew(Skew { ahead: 7, gains: 0 }).unwrap();
        assert_eq!(ahead(), 2);
        drop(late);
        assert_eq!(ahead(), 7);
        let fast = clock.skew(Skew { ahead: 0, gains: 1 << 40 }).unwrap();
        early.heal().unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains(&format!(" {} ", 1_i64 << 40)));
        drop(fast);
        assert_eq!(ahead(), 0);
        fs::remove_file(&file).unwrap();
        let gone = Clock::new(file.join("no/such")).unwrap_err();
        assert!(gone.to_string().starts_with("write the clock ") && gone.to_string().ends_with("no/such"), "{gone}");
    }

    #[test]
    fn the_library_that_other_programs_need_was_built() {
        assert!(LIBRARY.starts_with(b"\x7fELF"));
    }
}
