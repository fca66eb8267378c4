//! The wall clocks of a run's hosts: a file for each, which says how wrong it is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::{Clock, Error, Skew, Skewed};

/// The clocks of all hosts.
#[derive(Debug)]
pub(super) struct Clocks {
    dir: PathBuf,
    all: HashMap<String, Clock>,
}

impl Clocks {
    /// Clocks that are right, in the directory of a run; and the library that shows them to other programs, if one asks.
    pub(super) fn new<'h>(dir: &Path, hosts: impl Iterator<Item = &'h str>, library: bool) -> Result<Self, Error> {
        let all = hosts.map(|host| Ok((host.to_owned(), Clock::new(file(dir, host))?)));
        let clocks = Self { dir: dir.to_owned(), all: all.collect::<Result<_, Error>>()? };
        if library {
            Clock::write_library(&clocks.preloaded())?;
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

    /// Has clocks be wrong, in addition to how wrong they are.
    pub(super) fn skew(&self, hosts: &[String], skew: Skew) -> Result<Vec<Skewed>, Error> {
        hosts.iter().filter_map(|host| self.all.get(host)).map(|clock| clock.skew(skew)).collect()
    }
}

/// The file of a host's clock in the directory of a run. No host's own directory begins with a dot.
pub(super) fn file(dir: &Path, host: &str) -> PathBuf {
    dir.join(format!(".clock-{host}"))
}
