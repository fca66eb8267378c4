//! One writer at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::atomic;
use crate::error::Error;

const FILE: &str = "lock";
/// A change takes milliseconds; another writer is waited for this many times as long as [`PAUSE`].
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// The right to change an authority's directory, until it is dropped (or its process ends, however it does).
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for it up to five seconds.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, Error> {
        for _ in 1..TRIES {
            if let Some(lock) = Self::attempt(dir)? {
                return Ok(lock);
            }
            std::thread::sleep(PAUSE);
        }
        let holder = || std::fs::read_to_string(dir.join(FILE)).ok()?.trim().parse().ok();
        Self::attempt(dir)?.ok_or_else(|| Error::Locked { path: dir.to_owned(), pid: holder() })
    }

    /// Takes it if nobody has it.
    pub(crate) fn attempt(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(atomic::SECRET)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        // The process number only serves a message, so a disk that does not take it stops nothing.
        drop(file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())));
        Ok(Some(Self { _file: file }))
    }
}
