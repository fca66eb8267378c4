//! Several files that appear together.
//!
//! A set of files is prepared in a hidden directory beside its destination, sealed by a mark once all of it is on the
//! disk, and then moved into place entry by entry. A kill before the seal leaves nothing but the hidden directory,
//! which the next [`Staging::recover`] removes; a kill after it leaves a move that the next `recover` completes. The
//! directory is locked while its maker lives, so nobody takes a live one for a leftover.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::atomic;
use crate::disk;
use crate::error::Error;

const NAME: &str = "staging";
const SEAL: &str = ".sealed";

/// A hidden directory whose entries become entries of another, together.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    dir: PathBuf,
    _lock: File,
}

impl Staging {
    /// Begins a set of files for `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Crypto`].
    pub fn begin(dir: &Path) -> Result<Self, Error> {
        atomic::make_directory(dir)?;
        let path = atomic::beside(&dir.join(NAME))?;
        disk::make_dir(&path, atomic::DIRECTORY).map_err(Error::io("create", &path))?;
        let lock = File::open(&path).map_err(Error::io("open", &path))?;
        lock.lock().map_err(Error::io("lock", &path))?;
        Ok(Self { path, dir: dir.to_owned(), _lock: lock })
    }

    /// Where to put the files.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves everything into place, the entry called `last` after all others, so that it tells readers that the set is
    /// whole. The files themselves have to be on the disk already, as [`atomic::write()`] leaves them.
    ///
    /// # Errors
    /// [`Error::Exists`] if an entry's place is taken (nothing is moved then), [`Error::Io`].
    pub fn commit(self, last: &str) -> Result<(), Error> {
        for (_, to) in moves(&self.path, &self.dir)? {
            if to.symlink_metadata().is_ok() {
                drop(disk::remove_dir_all(&self.path));
                return Err(Error::Exists(to));
            }
        }
        atomic::write_new(&self.path.join(SEAL), last.as_bytes(), atomic::SECRET)?;
        disk::sync_dir(&self.path).map_err(Error::io("write", &self.path))?;
        finish(&self.path, &self.dir)
    }

    /// Gives it up and removes what was prepared.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn abandon(self) -> Result<(), Error> {
        disk::remove_dir_all(&self.path).map_err(Error::io("remove", &self.path))
    }

    /// Removes what a process that ended before [`Staging::commit`] left in `dir`, and completes what one left that
    /// ended within it. Gives whether something was completed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn recover(dir: &Path) -> Result<bool, Error> {
        let mut completed = false;
        if !dir.is_dir() {
            return Ok(false);
        }
        for left in atomic::leftovers(dir)? {
            let ours = left.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&format!(".{NAME}.")));
            if !ours || !left.is_dir() {
                continue;
            }
            let lock = File::open(&left).map_err(Error::io("open", &left))?;
            if lock.try_lock().is_err() {
                continue;
            }
            if left.join(SEAL).exists() {
                finish(&left, dir)?;
                completed = true;
            } else {
                disk::remove_dir_all(&left).map_err(Error::io("remove", &left))?;
            }
        }
        Ok(completed)
    }
}

fn moves(from: &Path, to: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let mut moves = Vec::new();
    for entry in fs::read_dir(from).map_err(Error::io("read", from))? {
        let name = entry.map_err(Error::io("read", from))?.file_name();
        if name != SEAL {
            moves.push((from.join(&name), to.join(&name)));
        }
    }
    moves.sort();
    Ok(moves)
}

fn finish(from: &Path, to: &Path) -> Result<(), Error> {
    let seal = from.join(SEAL);
    let last = fs::read_to_string(&seal).map_err(Error::io("read", &seal))?;
    let (last, first): (Vec<_>, Vec<_>) =
        moves(from, to)?.into_iter().partition(|(path, _)| path.file_name().is_some_and(|n| n == last.as_str()));
    for (from, to) in first {
        disk::rename(&from, &to).map_err(Error::io("replace", &to))?;
    }
    disk::sync_dir(to).map_err(Error::io("write", to))?;
    for (from, to) in last {
        disk::rename(&from, &to).map_err(Error::io("replace", &to))?;
    }
    disk::sync_dir(to).map_err(Error::io("write", to))?;
    // The seal goes last of all: without it, a leftover is removed rather than completed, and by now it is empty.
    disk::remove_dir_all(from).map_err(Error::io("remove", from))
}
