//! The wall clocks of a run's hosts: a file for each, which says how wrong it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::clock::{Since, Skew, monotonic, write_library};

/// The clocks of all hosts.
#[derive(Debug)]
pub(super) struct Clocks {
    dir: PathBuf,
    wrong: Mutex<Wrong>,
}

#[derive(Debug, Default)]
struct Wrong {
    next: u64,
    /// Which fault, on which host.
    all: Vec<(u64, String, Since)>,
}

impl Clocks {
    /// Clocks that are right, in the directory of a run; and the library that shows them to other programs, if one asks.
    pub(super) fn new<'h>(dir: &Path, hosts: impl Iterator<Item = &'h str>, library: bool) -> io::Result<Self> {
        let clocks = Self { dir: dir.to_owned(), wrong: Mutex::default() };
        for host in hosts {
            Skew::sum(&[], monotonic()).write(&clocks.file(host))?;
        }
        if library {
            write_library(&clocks.preloaded())?;
        }
        Ok(clocks)
    }

    /// The file of a host's clock.
    pub(super) fn file(&self, host: &str) -> PathBuf {
        file(&self.dir, host)
    }

    pub(super) fn preloaded(&self) -> PathBuf {
        self.dir.join(".clock.so")
    }

    /// Has clocks be wrong, in addition to how wrong they are. The number ends it.
    pub(super) fn begin(&self, hosts: &[String], skew: Skew) -> io::Result<u64> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Since { skew, begun: monotonic() };
        let number = wrong.next;
        wrong.next += 1;
        wrong.all.extend(hosts.iter().map(|host| (number, host.clone(), since)));
        self.write(&wrong, hosts)?;
        Ok(number)
    }

    pub(super) fn end(&self, hosts: &[String], number: u64) -> io::Result<()> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.all.retain(|(other, _, _)| *other != number);
        self.write(&wrong, hosts)
    }

    fn write(&self, wrong: &Wrong, hosts: &[String]) -> io::Result<()> {
        for host in hosts {
            let own = wrong.all.iter().filter(|(_, other, _)| other == host).map(|(_, _, since)| *since);
            Skew::sum(&own.collect::<Vec<_>>(), monotonic()).write(&self.file(host))?;
        }
        Ok(())
    }
}

/// The file of a host's clock in the directory of a run. No host's own directory begins with a dot.
pub(super) fn file(dir: &Path, host: &str) -> PathBuf {
    dir.join(format!(".clock-{host}"))
}
