//! Reading small files that matter: bounded, regular, and with an eye on who else can read them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Who may be able to read a file without its being refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// It holds no secret.
    Anyone,
    /// Its owner, and its group (secret mounts need that).
    OwnerAndGroup,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("{}: there is no such file", .0.display())]
    Missing(PathBuf),
    /// The system refuses it.
    #[error("{}: it cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("{}: it is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Above 1 MiB.
    #[error("{}: it has {size} bytes, and 1 MiB is the most", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// A secret that everybody can read.
    #[error("{}: everybody on this host can read this private key (mode {mode:03o})", path.display())]
    WorldReadable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl FileError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing(_) => {
                "make it with `adit init` or `adit ca issue`, or name another directory with --dir".to_owned()
            }
            Self::Unreadable { path, .. } => {
                format!("let the agent's user read it: see `ls -l {}`", path.display())
            }
            Self::NotRegular(path) | Self::TooLarge { path, .. } => {
                format!("put the right file at {}", path.display())
            }
            Self::WorldReadable { path, .. } => {
                format!("chmod 600 {}, and replace the key if others may have read it", path.display())
            }
        }
    }
}

/// All of a file, wiped from memory when dropped, and its permission bits.
pub(crate) fn read(path: &Path, readers: Readers) -> Result<(Zeroizing<Vec<u8>>, u32), FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    // Without O_NONBLOCK, opening a pipe would wait for a writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file: File = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(FileError::Missing(path.to_owned())),
        Err(e) => return Err(unreadable(e)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    let too_large = |size| FileError::TooLarge { path: path.to_owned(), size };
    if metadata.len() > MAX_FILE {
        return Err(too_large(metadata.len()));
    }
    let mode = metadata.mode() & 0o777;
    if readers == Readers::OwnerAndGroup && mode & 0o007 != 0 {
        return Err(FileError::WorldReadable { path: path.to_owned(), mode });
    }
    // One allocation that never moves, so that no copy of a key is left behind. A file that grows meanwhile is cut.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let mut chunk = Zeroizing::new([0; 4096]);
    let mut file = file.take(metadata.len());
    loop {
        match file.read(chunk.as_mut_slice()) {
            Ok(0) => return Ok((bytes, mode)),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
}
