//! Hosts of scenarios that other processes are running, to have a look from inside.
//!
//! A run notes in its working directory which of its descriptors are the namespaces of which host. Whoever may look at the
//! process, which is its user, may enter them by that.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::names::is_name;

/// Where a run notes its hosts, in its working directory.
const NOTE: &str = ".hosts";
/// What working directories of runs begin with, before the process number.
pub(crate) const PREFIX: &str = "netsim-";

/// A host of a scenario that is being run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Its name.
    pub host: String,
    /// The scenario's name.
    pub scenario: String,
    /// The process that runs it.
    pub process: u32,
    /// The host's working directory.
    pub directory: PathBuf,
    network: RawFd,
    mounts: RawFd,
}

/// Notes hosts: name, network namespace, mount namespace.
pub(crate) fn note<'h>(
    dir: &Path,
    scenario: &str,
    hosts: impl IntoIterator<Item = (&'h str, RawFd, RawFd)>,
) -> io::Result<()> {
    let lines = hosts.into_iter().map(|(host, network, mounts)| format!("{scenario} {host} {network} {mounts}\n"));
    fs::write(dir.join(NOTE), lines.collect::<String>())
}

/// The hosts of all scenarios that this user's processes are running on this machine.
///
/// # Errors
/// When the place of temporary files cannot be read.
pub fn running() -> io::Result<Vec<Visit>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(std::env::temp_dir())? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok());
        // What another user has put there is not followed.
        let own = entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == geteuid().as_raw());
        if let (Some(process), true) = (process, own) {
            let text = fs::read_to_string(entry.path().join(NOTE)).unwrap_or_default();
            all.extend(text.lines().filter_map(|line| visit(line, process, &entry.path())));
        }
    }
    // Of those that are just ending, the directory may still be there.
    all.retain(|visit| visit.is_there());
    all.sort_by(|one, other| (one.process, &one.host).cmp(&(other.process, &other.host)));
    Ok(all)
}

fn visit(line: &str, process: u32, dir: &Path) -> Option<Visit> {
    let mut words = line.split(' ');
    let (scenario, host) = (words.next()?, words.next()?);
    let (network, mounts) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (is_name(host) && is_name(scenario)).then(|| Visit {
        host: host.to_owned(),
        scenario: scenario.to_owned(),
        process,
        directory: dir.join(host),
        network,
        mounts,
    })
}

impl Visit {
    fn descriptor(&self, number: RawFd) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{number}", self.process))
    }

    fn is_there(&self) -> bool {
        let is = |number, kind: &str| {
            let link = fs::read_link(self.descriptor(number));
            link.is_ok_and(|link| link.to_str().is_some_and(|link| link.starts_with(kind)))
        };
        is(self.network, "net:[") && is(self.mounts, "mnt:[")
    }

    /// Moves this process into the host: its network and files, and its working directory. Call it while there is one
    /// thread. It is root there, and nothing more than it was outside.
    ///
    /// # Errors
    /// When the run has ended, or belongs to somebody else.
    pub fn enter(&self) -> io::Result<()> {
        let user = format!("/proc/{}/ns/user", self.process);
        let (network, mounts) = (File::open(self.descriptor(self.network))?, File::open(self.descriptor(self.mounts))?);
        // One that is entered already cannot be entered again.
        if fs::read_link(&user)? != fs::read_link("/proc/self/ns/user")? {
            move_into_link_name_space(File::open(&user)?.as_fd(), Some(LinkNameSpaceType::User))?;
        }
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        std::env::set_current_dir(&self.directory)
    }
}
