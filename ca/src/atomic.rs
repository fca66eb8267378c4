//! Files that are replaced whole or not at all.
//!
//! A new file is written beside its final place, brought to the disk, renamed over the old one, and the directory is
//! brought to the disk. A kill or a full disk at any of these steps leaves the old file or the new one, and at most a
//! temporary file that [`sweep`] removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::Error;

/// Mode of a file that holds secrets.
pub const SECRET: u32 = 0o600;
/// Mode of a file that anybody may read.
pub const PUBLIC: u32 = 0o644;
/// Mode of a directory of ours.
pub const DIRECTORY: u32 = 0o700;

const MARK: &str = ".tmp-";
const SUFFIX: usize = 16;

/// Replaces the file at `path` by one with `bytes` and the permission bits `mode` (less what the umask takes away).
///
/// The temporary file is created with `O_EXCL` and its final mode, so a secret is never readable by others, not for a
/// moment. The directory has to exist.
///
/// # Errors
/// [`Error::Io`]. The old file is then still there, unless bringing the directory to the disk was what failed: then the
/// new one is in place, but a power cut may bring back the old one.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = beside(path)?;
    let written = (|| {
        let file = disk::create_new(&temporary, mode).map_err(Error::io("create", &temporary))?;
        disk::write_all(&file, bytes).map_err(Error::io("write", &temporary))?;
        disk::sync(&file).map_err(Error::io("write", &temporary))?;
        disk::rename(&temporary, path).map_err(Error::io("replace", path))
    })();
    if let Err(error) = written {
        // Whatever is left, the next sweep takes; the first error is the one to tell.
        drop(disk::remove_file(&temporary));
        return Err(error);
    }
    let dir = parent(path);
    disk::sync_dir(dir).map_err(Error::io("write", dir))
}

/// Writes a file that must not be there yet. Without the rename of [`write()`]: for directories that nobody reads before
/// they are complete.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let file = disk::create_new(path, mode).map_err(Error::io("create", path))?;
    disk::write_all(&file, bytes).map_err(Error::io("write", path))?;
    disk::sync(&file).map_err(Error::io("write", path))
}

/// Makes `dir` and what is missing above it, with mode 0700.
///
/// # Errors
/// [`Error::Io`], also if something that is no directory is in the way.
pub fn make_directory(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    make_directory(above)?;
    match disk::make_dir(dir, DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made.map_err(Error::io("create", dir)),
    }?;
    disk::sync_dir(above).map_err(Error::io("write", above))
}

/// Removes the temporary files that an interrupted [`write()`] left in `dir`. Only the one writer of `dir` may call it.
///
/// # Errors
/// [`Error::Io`] if `dir` cannot be read or a leftover not be removed.
pub fn sweep(dir: &Path) -> Result<(), Error> {
    for left in leftovers(dir)? {
        if left.is_file() {
            match disk::remove_file(&left) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::io("remove", &left))?,
            }
        }
    }
    Ok(())
}

/// Entries of `dir` with a name that [`beside`] gives.
pub(crate) fn leftovers(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        if entry.file_name().to_str().is_some_and(is_temporary) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.')
        && name
            .rsplit_once(MARK)
            .is_some_and(|(_, end)| end.len() == SUFFIX && end.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// A name in the same directory that nobody else uses.
pub(crate) fn beside(path: &Path) -> Result<PathBuf, Error> {
    let mut random = [0; SUFFIX / 2];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Crypto("no random bytes"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(parent(path).join(format!(".{name}{MARK}{:016x}", u64::from_be_bytes(random))))
}

/// The directory that `path` is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
