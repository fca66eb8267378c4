//! One agent a directory: a lock that the kernel lets go when the process ends, however it ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StartError;

/// The folder of an agent's security state, and the lock in it.
const STATE: &str = "state";
const LOCK: &str = "agent.lock";

/// Held for as long as the agent runs.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used: the lock lives as long as the file is open")] File);

/// Takes the lock of `dir`.
///
/// # Errors
/// [`StartError::InUse`] if an agent runs there, [`StartError::State`].
pub fn take(dir: &Path) -> Result<Lock, StartError> {
    let state = dir.join(STATE);
    let failed = |path: &Path| {
        let path: PathBuf = path.to_owned();
        move |source| StartError::State { path, source }
    };
    if !state.is_dir() {
        DirBuilder::new().mode(0o700).create(&state).map_err(failed(&state))?;
    }
    let path = state.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The other agent's pid is a help, no more.
            (&mut file).take(32).read_to_string(&mut pid).ok();
            return Err(StartError::InUse { dir: dir.to_owned(), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(failed(&path))?;
    Ok(Lock(file))
}
