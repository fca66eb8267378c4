//! The signed documents of a host, on its disk.
//!
//! ```text
//!   DIR/state/published          the document in force, as it was signed
//!   DIR/state/published.floor    its rank, below which none is ever taken again
//!   DIR/state/published.before   the digest of the mesh file that ran before the first of them
//!   DIR/state/published.d/       that one and those before it, a file each: what `adit mesh log` and `--rollback` read
//! ```
//!
//! The first two are written before a document comes into force, each whole or not at all; the history follows, and is trimmed.
//! What is read back is verified like one that has come.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ca::{LastGood, atomic};
use mesh_config::gossip::MAX_DOCUMENT;
use mesh_config::published::{Heads, Rank};
use mesh_config::{Digest, MeshName};
use time::OffsetDateTime;

use crate::identity::Trust;
use crate::identity::published::{Occasion, Published, Refused, verify};

/// The folder of a host's security state.
pub const STATE: &str = "state";
/// The document in force, in there.
pub const IN_FORCE: &str = "published";
/// The digest of the mesh file that was in force before the first signed document, in hex.
const BEFORE: &str = "published.before";
const HISTORY: &str = "published.d";
/// The most documents that are kept, and the most bytes of them: the latest. That in force is always among them.
const MAX_HISTORY: usize = 64;
const MAX_HISTORY_BYTES: u64 = 64 << 20;

/// Why the state of a host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk, or a file that is not as it was written.
    #[error(transparent)]
    Disk(#[from] ca::Error),
    /// A folder cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The document that was in force is not a publisher's.
    #[error("{}: {why}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What about it.
        why: Box<Refused>,
    },
    /// The document that lies there is older than one that was in force.
    #[error("{}: it is {found}, and {floor} was in force on this host", .path.display())]
    BelowFloor {
        /// The file.
        path: PathBuf,
        /// Its place.
        found: Rank,
        /// That of the other one.
        floor: Rank,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Disk(error) => error.hint().unwrap_or_else(|| "see that the disk is well".to_owned()),
            Self::Unreadable { .. } => "let the agent's user read it".to_owned(),
            Self::Refused { why, .. } => {
                format!("{}; or remove the file to start from mesh.toml until a newer document comes", why.hint())
            }
            Self::BelowFloor { .. } => {
                "somebody has put an older one there: take it away, and the agent starts from mesh.toml until a newer \
                 document comes"
                    .to_owned()
            }
        }
    }
}

/// What a host has had.
#[derive(Debug, Default)]
pub struct Had {
    /// The document in force.
    pub in_force: Option<Arc<Published>>,
    /// It and the others, the greatest first.
    pub all: Vec<Arc<Published>>,
    /// The rank below which none is taken.
    pub floor: Option<Rank>,
    /// The digest of the mesh file that was in force before the first of them.
    pub before: Option<Digest>,
    /// Files that could not be used, and why. They are left where they are.
    pub unusable: Vec<String>,
}

impl Had {
    /// Whether the directory `dir` has ever had a signed document.
    pub fn is_there(dir: &Path) -> bool {
        let state = dir.join(STATE);
        [IN_FORCE, "published.floor", HISTORY].iter().any(|name| state.join(name).symlink_metadata().is_ok())
    }

    /// What is known by it of the mesh's documents.
    pub fn heads(&self) -> Heads {
        let mut heads = Heads::default();
        for document in &self.all {
            heads.insert(document.header().clone());
        }
        heads
    }

    /// Reads the state of the directory `dir`. `mesh` is nothing if the document itself is to say which mesh it is.
    ///
    /// # Errors
    /// [`StoreError`]: the document in force is there and cannot be taken.
    pub fn read(dir: &Path, trust: &Trust, mesh: Option<&MeshName>, now: OffsetDateTime) -> Result<Self, StoreError> {
        let state = dir.join(STATE);
        let kept = LastGood::look(&state)?;
        let mut had = Self { floor: kept.floor(), before: before(&state), ..Self::default() };
        if let Some(bytes) = kept.document(MAX_DOCUMENT)? {
            let path = kept.path();
            let found = verify(bytes.into(), trust, mesh, now, Occasion::Kept);
            let found = found.map_err(|why| StoreError::Refused { path: path.clone(), why: Box::new(why) })?;
            if let Some(floor) = had.floor.filter(|floor| found.rank() < *floor) {
                return Err(StoreError::BelowFloor { path, found: found.rank(), floor });
            }
            had.in_force = Some(Arc::new(found));
        }
        let mesh = had.in_force.as_ref().map(|document| document.mesh().name().clone()).or_else(|| mesh.cloned());
        had.all.extend(had.in_force.clone());
        for (_, path, length) in history(&state)? {
            if length > MAX_DOCUMENT as u64 {
                had.unusable.push(format!("{}: it is too long", path.display()));
                continue;
            }
            let read = fs::read(&path).map_err(|error| error.to_string());
            let verified = read.and_then(|bytes| {
                verify(bytes.into(), trust, mesh.as_ref(), now, Occasion::Kept).map_err(|why| why.to_string())
            });
            match verified {
                Ok(document) if had.all.iter().any(|other| other.rank() == document.rank()) => {}
                Ok(document) => had.all.push(Arc::new(document)),
                Err(why) => had.unusable.push(format!("{}: {why}", path.display())),
            }
        }
        had.all.sort_by_key(|document| std::cmp::Reverse(document.rank()));
        Ok(had)
    }
}

/// Where documents are kept. Only the one process that holds the lock of the directory opens it.
#[derive(Debug)]
pub struct Store {
    state: PathBuf,
    kept: LastGood,
}

impl Store {
    /// Opens the state of the directory `dir`, and removes what an interruption left there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(dir: &Path) -> Result<Self, ca::Error> {
        let state = dir.join(STATE);
        let kept = LastGood::open(&state)?;
        let history = state.join(HISTORY);
        if history.is_dir() {
            atomic::sweep(&history)?;
        }
        Ok(Self { state, kept })
    }

    /// Keeps the document that is to come into force: when this has returned, no lesser one can come back. If it is the first,
    /// `running` is the digest of the mesh file whose place it takes.
    ///
    /// # Errors
    /// [`ca::Error::BelowFloor`], or those of the disk: the document of before or this one is there, whole.
    pub fn keep(&mut self, document: &Published, running: Option<Digest>) -> Result<(), ca::Error> {
        if let Some(running) = running.filter(|_| self.kept.floor().is_none()) {
            atomic::write(&self.state.join(BEFORE), running.to_string().as_bytes(), atomic::SECRET)?;
        }
        self.kept.keep(document.rank(), document.bytes())
    }

    /// Keeps a document in the history.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remember(&self, document: &Published) -> Result<(), StoreError> {
        let folder = self.state.join(HISTORY);
        atomic::make_directory(&folder)?;
        let path = folder.join(name(document.rank()));
        if !path.exists() {
            atomic::write(&path, document.bytes(), atomic::SECRET)?;
        }
        let in_force = self.kept.floor().map(name);
        let (mut count, mut bytes) = (0, 0_u64);
        for (name, path, length) in history(&self.state)?.into_iter().rev() {
            (count, bytes) = (count + 1, bytes.saturating_add(length));
            if (count > MAX_HISTORY || bytes > MAX_HISTORY_BYTES) && in_force.as_ref() != Some(&name) {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        return Err(StoreError::Unreadable { path, source });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The name of a document's file: names are in the order of generations and versions.
fn name(rank: Rank) -> String {
    format!("{:020}-{:020}-{}", rank.generation.number(), rank.version.number(), rank.id)
}

/// A digest that is not there, or not as it was written, is none: a mesh file is then taken for edited, and told.
fn before(state: &Path) -> Option<Digest> {
    let mut hex = [0; 64];
    io::Read::read_exact(&mut fs::File::open(state.join(BEFORE)).ok()?, &mut hex).ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Digest::from_bytes(bytes))
}

/// The files of the history, by name, with their lengths.
fn history(state: &Path) -> Result<Vec<(String, PathBuf, u64)>, StoreError> {
    let path = state.join(HISTORY);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|source| StoreError::Unreadable { path: path.clone(), source })?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| StoreError::Unreadable { path: path.clone(), source })?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that was removed meanwhile is none.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && !name.starts_with('.') {
            found.push((name, entry.path(), metadata.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests;
