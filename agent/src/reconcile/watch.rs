//! Hears of changes to the files of a directory, by inotify.
//!
//! Watched are the files themselves, for who writes into them; the directories that hold them and whatever symbolic link leads
//! to them, for what takes their place; and the directory above, for its return after it has vanished. What is watched is
//! looked up anew whenever something has changed. A watch that cannot be had is no failure: the poll beside it finds the change
//! later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;

use super::settle::Seen;

/// Symbolic links that lead to one file, at most (path_resolution(7)).
const MOST_LINKS: usize = 40;
/// Room for events that are read at once.
const BUFFER: usize = 8 << 10;

/// A file that is written: the number of the watch, and its name if the watch is a directory's.
pub(super) type Written = (i32, Option<OsString>);

/// By the number of the watch: the names that matter in a directory, or nothing for a file.
type Watched = BTreeMap<i32, Option<(PathBuf, BTreeSet<OsString>)>>;

/// Watches some files.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    inotify: Option<AsyncFd<Arc<OwnedFd>>>,
    watched: Watched,
}

impl Watch {
    /// Watches `files`, from the first [`arm`](Self::arm) on. Without inotify it hears nothing.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let inotify = open().map_err(|error| {
            tracing::warn!(%error, "files cannot be watched: changes are found by looking, some seconds later");
        });
        Self { files, inotify: inotify.ok(), watched: Watched::new() }
    }

    /// One that hears nothing.
    #[cfg(test)]
    pub(super) fn deaf() -> Self {
        Self { files: Vec::new(), inotify: None, watched: Watched::new() }
    }

    /// Looks up what to watch. What is no longer watched counts as closed.
    pub(super) async fn arm(&mut self) -> Vec<Seen<Written>> {
        let Some(inotify) = &self.inotify else { return Vec::new() };
        let (fd, files) = (inotify.get_ref().clone(), self.files.clone());
        // A disk that does not answer holds up nobody else.
        let Ok(watched) = spawn_blocking(move || look_up(&fd, &files)).await else { return Vec::new() };
        let mut closed = Vec::new();
        for (wd, place) in std::mem::replace(&mut self.watched, watched) {
            if self.watched.contains_key(&wd) {
                continue;
            }
            match place {
                Some((_, names)) => closed.extend(names.into_iter().map(|name| Seen::Closed((wd, Some(name))))),
                None => closed.push(Seen::Closed((wd, None))),
            }
            // What it watched may be gone, and the watch with it.
            inotify::remove_watch(inotify, wd).ok();
        }
        closed
    }

    /// Waits until something is seen.
    pub(super) async fn seen(&mut self) -> Vec<Seen<Written>> {
        loop {
            let Some(inotify) = &self.inotify else { return std::future::pending().await };
            let Ok(mut ready) = inotify.readable().await else { return std::future::pending().await };
            let mut found = Vec::new();
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut reader = inotify::Reader::new(inotify.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                        found.extend(self.interpret(event.wd(), event.events(), name));
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    // All is read.
                    Err(_) => break,
                }
            }
            ready.clear_ready();
            if !found.is_empty() {
                return found;
            }
        }
    }

    fn interpret(&self, wd: i32, what: ReadFlags, name: Option<&OsStr>) -> Option<Seen<Written>> {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some(Seen::Lost);
        }
        match (self.watched.get(&wd)?, name) {
            (Some((directory, names)), Some(name)) => {
                if !names.contains(name) {
                    return None;
                }
                let written = (wd, Some(name.to_owned()));
                if what.contains(ReadFlags::CREATE) && is_being_made(&directory.join(name)) {
                    return Some(Seen::Writing(written));
                }
                Some(if what.contains(ReadFlags::CREATE) { Seen::Changed } else { Seen::Closed(written) })
            }
            // The directory itself is gone or elsewhere.
            (Some(_), None) => Some(Seen::Changed),
            (None, _) if what.contains(ReadFlags::MODIFY) => Some(Seen::Writing((wd, None))),
            (None, _) if what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::IGNORED) => Some(Seen::Closed((wd, None))),
            (None, _) => Some(Seen::Changed),
        }
    }
}

#[expect(unsafe_code, reason = "tokio asks for a promise that the descriptor stays what it is")]
fn open() -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    let inotify = Arc::new(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
    // SAFETY: an `OwnedFd` is open and the same for as long as it lives, and the `Arc` lives as long as what is registered.
    Ok(unsafe { AsyncFd::register(inotify) }?)
}

/// Watches what decides what `files` are.
fn look_up(inotify: &OwnedFd, files: &[PathBuf]) -> Watched {
    let mut places: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
    let ends: BTreeSet<_> = files.iter().filter_map(|file| lead_to(file, &mut places)).collect();
    let mut watched = Watched::new();
    let of_file = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
    let of_directory = WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    for (directory, names) in places {
        // One that is gone has a directory above it that is watched.
        if let Ok(wd) = inotify::add_watch(inotify, &directory, of_directory)
            && let Some((_, all)) = watched.entry(wd).or_insert_with(|| Some((directory, BTreeSet::new())))
        {
            all.extend(names);
        }
    }
    for file in ends {
        if let Ok(wd) = inotify::add_watch(inotify, &file, of_file) {
            watched.insert(wd, None);
        }
    }
    watched
}

/// Whether a name that has just come into being is a file that its maker still has open: links are made whole.
fn is_being_made(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.nlink() == 1)
}

/// Adds to `places` the directories and names that decide what `file` is, and tells the file that it comes to, if it is there.
fn lead_to(file: &Path, places: &mut BTreeMap<PathBuf, BTreeSet<OsString>>) -> Option<PathBuf> {
    let mut left: VecDeque<OsString> = components(&std::path::absolute(file).ok()?);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let path = here.join(&name);
        let found = std::fs::symlink_metadata(&path);
        let is_link = found.as_ref().is_ok_and(|found| found.is_symlink());
        // The last two: the file, and the directory that holds it.
        if is_link || found.is_err() || left.len() < 2 {
            places.entry(here.clone()).or_default().insert(name.clone());
        }
        if found.is_err() {
            return None;
        }
        if is_link {
            links += 1;
            let target = std::fs::read_link(&path).ok().filter(|_| links <= MOST_LINKS)?;
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            for part in components(&target).into_iter().rev() {
                left.push_front(part);
            }
        } else if name == ".." {
            here.pop();
        } else {
            here = path;
        }
    }
    Some(here)
}

fn components(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests;
