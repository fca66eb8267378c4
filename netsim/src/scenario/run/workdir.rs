//! The working directory of a run, with what hosts are to have in theirs.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{RunError, clocks};
use crate::caretaker::Caretaker;
use crate::scenario::Scenario;
use crate::scenario::programs::{CLOCK, fill};
use crate::scenario::visit::PREFIX;

/// Working directories that are tried.
const MOST_RUNS: u32 = 10_000;

/// The working directory of a run, which is removed with it.
pub(super) struct WorkDir {
    path: PathBuf,
    /// Removes what this process cannot, being killed.
    _caretaker: Caretaker,
}

impl WorkDir {
    pub(super) fn new(scenario: &Scenario) -> Result<Self, RunError> {
        let process = std::process::id();
        let failed = |what: &str, path: &Path| {
            let what = format!("{what} {}", path.display());
            move |error: std::io::Error| RunError::Files { what, source: error }
        };
        let place = std::env::temp_dir();
        let place = std::path::absolute(&place).map_err(failed("find", &place))?;
        // Keys may be put there; and a directory that is there is somebody else's: of another run of this process, or of
        // one with the same number in another process namespace.
        let mut number = 0;
        let (path, caretaker) = loop {
            let path = place.join(format!("{PREFIX}{process}-{number}"));
            match Caretaker::new(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < MOST_RUNS => number += 1,
                made => break (path.clone(), made.map_err(failed("make", &path))?),
            }
        };
        let dir = Self { path, _caretaker: caretaker };
        for host in scenario.hosts() {
            let path = dir.path.join(host);
            fs::create_dir(&path).map_err(failed("make", &path))?;
        }
        Ok(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what hosts are to have in their directories.
    pub(super) fn furnish(&self, scenario: &Scenario, folder: &Path) -> Result<(), RunError> {
        for furnishing in &scenario.furnishings {
            let own = self.path.join(&furnishing.host);
            if let Some((from, _)) = &furnishing.copy {
                let from = folder.join(from);
                let what = format!("copy {}", from.display());
                copy(&from, &own, 0).map_err(|source| RunError::Files { what, source })?;
            }
            for (file, text, _) in &furnishing.files {
                let path = own.join(file);
                let text = fill(text, &self.path, &scenario.directory).unwrap_or_else(|_| text.clone());
                let clock = clocks::file(&self.path, &furnishing.host).display().to_string();
                let text = text.replace(CLOCK, &clock);
                let made = path.parent().map_or(Ok(()), fs::create_dir_all);
                let what = format!("write {}", path.display());
                made.and_then(|()| fs::write(&path, text)).map_err(|source| RunError::Files { what, source })?;
            }
        }
        Ok(())
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // What cannot be removed stays in the place for what is temporary.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Copies what is in a folder; links are followed, and so deep a tree is none.
fn copy(from: &Path, to: &Path, depth: usize) -> std::io::Result<()> {
    if depth > 16 {
        return Err(std::io::Error::other("nested too deeply"));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            fs::create_dir_all(&to)?;
            copy(&from, &to, depth + 1)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
