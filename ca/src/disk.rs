//! Every step that changes the disk, one function each.
//!
//! All writers of this room go through here, so that a test can make each step fail in turn, or end the world at it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Creates a file that was not there, with its final mode from the first moment (less what the umask takes away).
pub(crate) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    faults::step("create")?;
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Writes all of `bytes`.
pub(crate) fn write_all(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = faults::step("write") {
        // What a full disk or a kill in mid-write leaves behind.
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    file.write_all(bytes)
}

/// Brings a file's content and length to the disk.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    faults::step("fsync")?;
    file.sync_all()
}

/// Cuts a file.
pub(crate) fn truncate(file: &File, len: u64) -> io::Result<()> {
    faults::step("truncate")?;
    file.set_len(len)
}

/// Puts `from` in the place of `to`.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    faults::step("rename")?;
    fs::rename(from, to)
}

/// Brings a directory's entries to the disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    faults::step("fsync-dir")?;
    File::open(dir)?.sync_all()
}

/// Creates a directory that was not there.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    faults::step("mkdir")?;
    DirBuilder::new().mode(mode).create(path)
}

/// Removes a file.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    faults::step("unlink")?;
    fs::remove_file(path)
}

/// Removes a directory with all in it.
pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    faults::step("rmdir")?;
    fs::remove_dir_all(path)
}

#[cfg(not(test))]
mod faults {
    #[inline]
    #[expect(clippy::unnecessary_wraps, reason = "under test, steps fail")]
    pub(super) fn step(_: &'static str) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod faults {
    //! A plan, one a thread, of the step that fails.

    use std::cell::RefCell;
    use std::io;

    /// Which steps fail.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Plan {
        /// The n-th alone, as a passing error does.
        Once(usize),
        /// The n-th and all after it, as a kill or a full disk does.
        From(usize),
    }

    #[derive(Default)]
    struct Run {
        plan: Option<Plan>,
        trace: Vec<&'static str>,
    }

    thread_local! {
        static RUN: RefCell<Run> = RefCell::default();
    }

    pub(super) fn step(name: &'static str) -> io::Result<()> {
        RUN.with_borrow_mut(|run| {
            let n = run.trace.len();
            run.trace.push(name);
            match run.plan {
                Some(Plan::Once(at)) if n == at => Err(io::Error::from(io::ErrorKind::StorageFull)),
                Some(Plan::From(at)) if n >= at => Err(io::Error::from(io::ErrorKind::StorageFull)),
                _ => Ok(()),
            }
        })
    }

    /// Runs `work` under `plan`; gives what it gave and the steps it took.
    pub(crate) fn run<T>(plan: Option<Plan>, work: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
        RUN.set(Run { plan, trace: Vec::new() });
        let given = work();
        (given, RUN.take().trace)
    }
}
