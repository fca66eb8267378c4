//! What can go wrong in this room, and what its user can do about it.

use std::io;
use std::path::{Path, PathBuf};

use mesh_config::published::Rank;
use time::OffsetDateTime;

/// Why the authority, or the files it keeps, refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: a verb that fits before the path.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Something is there that would have to be overwritten.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// No certificate authority at the place named.
    #[error("there is no certificate authority in {}", .0.display())]
    Absent(PathBuf),
    /// A private key that any user of the host could read or replace.
    #[error("{} is a private key that every user of this host can access (mode {mode:04o})", path.display())]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A state file is not as it was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// Another process has been changing this authority for longer than a change takes.
    #[error("{} is in use{}", path.display(), pid.map(|p| format!(" by process {p}")).unwrap_or_default())]
    Locked {
        /// The authority's directory.
        path: PathBuf,
        /// The process that holds the lock, if it has said so.
        pid: Option<u32>,
    },
    /// The issuing key is not on this host.
    #[error("{} is not here, so nothing can be issued", .0.display())]
    NoKey(PathBuf),
    /// The issuing certificate has run out.
    #[error("the issuing certificate expired on {0}")]
    IssuerExpired(OffsetDateTime),
    /// The clock says a time before this authority was made.
    #[error("it is {now} by this host's clock, but the authority begins on {begins}")]
    ClockBehind {
        /// The time the caller gave.
        now: OffsetDateTime,
        /// The issuing certificate's first second.
        begins: OffsetDateTime,
    },
    /// A life of less than a second.
    #[error("a certificate has to be valid for at least one second")]
    NoValidity,
    /// A mesh document below the greatest that was kept.
    #[error("document {rank} is older than {floor}, which was in force here")]
    BelowFloor {
        /// The document's rank.
        rank: Rank,
        /// The least that is taken.
        floor: Rank,
    },
    /// Not a certificate signing request that can be granted.
    #[error("the signing request was refused: {0}")]
    Csr(#[from] CsrError),
    /// Not a private key that Adit uses.
    #[error("{} does not hold an ECDSA P-256 private key in PKCS#8 PEM", .0.display())]
    BadKey(PathBuf),
    /// The random generator or a signature failed.
    #[error("cryptography failed: {0}")]
    Crypto(&'static str),
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Encode(#[source] rcgen::Error),
}

/// Why a certificate signing request (RFC 2986) or public key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Larger than [`crate::MAX_CSR`].
    #[error("it is larger than 16 KiB")]
    TooLarge,
    /// Neither PEM with a `CERTIFICATE REQUEST` nor its DER.
    #[error("it is not a PKCS#10 request in PEM or DER")]
    Malformed,
    /// Another kind of key than ECDSA P-256.
    #[error("its key is not ECDSA P-256")]
    Key,
    /// Another signature than ECDSA with SHA-256.
    #[error("it is not signed with ECDSA and SHA-256")]
    Algorithm,
    /// Signed by another key than the one it carries.
    #[error("its signature does not prove possession of its key")]
    Signature,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Exists(_) => "exists",
            Self::Absent(_) => "no-authority",
            Self::Exposed { .. } => "key-exposed",
            Self::Damaged { .. } => "damaged",
            Self::Locked { .. } => "locked",
            Self::NoKey(_) => "no-key",
            Self::IssuerExpired(_) => "issuer-expired",
            Self::ClockBehind { .. } => "clock-behind",
            Self::NoValidity => "validity",
            Self::BelowFloor { .. } => "older",
            Self::Csr(_) => "csr",
            Self::BadKey(_) => "bad-key",
            Self::Crypto(_) | Self::Encode(_) => "crypto",
        }
    }

    /// What a person can do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, path, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!("run as the user who owns {}, or choose another directory with --dir", path.display())
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "nothing was changed: make room and try again".to_owned()
                }
                io::ErrorKind::ReadOnlyFilesystem => "choose a writable directory with --dir".to_owned(),
                _ => return None,
            },
            Self::Exists(path) => format!("nothing was changed; move {} away if it is not needed", path.display()),
            Self::Absent(_) => {
                "make one with `adit init MESH --node NAME` or `adit ca init MESH`, or name its directory with --dir"
                    .to_owned()
            }
            Self::Exposed { path, .. } => {
                format!("chmod 600 {}; if others use this host, treat the key as stolen and replace it", path.display())
            }
            Self::Damaged { path, .. } => format!("restore {} from a backup; it was not changed", path.display()),
            Self::Locked { .. } => "wait until that process is done".to_owned(),
            Self::NoKey(path) => format!("bring {} back, or ask a host that holds one", path.display()),
            Self::IssuerExpired(_) => "its root has to sign a new intermediate".to_owned(),
            Self::ClockBehind { .. } => "set this host's clock".to_owned(),
            Self::Csr(CsrError::Key | CsrError::Algorithm) => {
                "make the key with `openssl ecparam -name prime256v1 -genkey -noout`".to_owned()
            }
            Self::Csr(CsrError::Malformed) => "make one with `openssl req -new -key FILE -subj /`".to_owned(),
            Self::BadKey(_) => {
                "`openssl pkcs8 -topk8 -nocrypt` turns other forms of a P-256 key into this one".to_owned()
            }
            _ => return None,
        })
    }
}
