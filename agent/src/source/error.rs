//! Why a source gives nothing.

use std::path::{Path, PathBuf};

use crate::identity::published::Refused;

/// Why a source gives nothing now.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file that it needs on this host.
    #[error("{}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What about it.
        why: String,
    },
    /// The system has no roots to judge a server by.
    #[error("this host has no roots to judge a server's certificate by: {0}")]
    Roots(String),
    /// Nobody is reached there.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// Who.
        place: String,
        /// Why.
        why: String,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake with {place} failed: {why}")]
    Handshake {
        /// With whom.
        place: String,
        /// Why.
        why: String,
    },
    /// TLS cannot be set up on this host.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// It has not answered in time.
    #[error("{place} does not answer within {seconds} s")]
    Silent {
        /// Who.
        place: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The connection ended amid an answer.
    #[error("the connection to {place} was lost: {why}")]
    Lost {
        /// To whom.
        place: String,
        /// Why.
        why: String,
    },
    /// It says who this host is not, or what it may not.
    #[error("{place} lets this host in no longer, or not at all: {why}")]
    Denied {
        /// Who.
        place: String,
        /// What it says.
        why: String,
    },
    /// It answers something else.
    #[error("{place} answers {why}")]
    Answer {
        /// Who.
        place: String,
        /// What.
        why: String,
    },
    /// It answers with a redirect, which is not followed.
    #[error("{place} sends this host on to {to}")]
    Redirect {
        /// Who.
        place: String,
        /// Where to.
        to: String,
    },
    /// It answers more than may be.
    #[error("{place} answers more than {most} bytes")]
    TooLarge {
        /// Who.
        place: String,
        /// The limit.
        most: usize,
    },
    /// A part of the document is not there.
    #[error("{place} lacks a part of the document: {key}")]
    Incomplete {
        /// Who.
        place: String,
        /// Which.
        key: String,
    },
    /// What it has is no document that may be taken. What was in force stays.
    #[error("what {place} has is not taken: {why}")]
    Refused {
        /// Who.
        place: String,
        /// Why.
        why: Box<Refused>,
    },
}

impl SourceError {
    /// Every [`SourceError::name`].
    pub const NAMES: &[&str] = &[
        "file",
        "roots",
        "unreachable",
        "handshake",
        "tls",
        "silent",
        "lost",
        "denied",
        "answer",
        "redirect",
        "too_large",
        "incomplete",
        "refused",
    ];

    pub(crate) fn file(path: &Path, why: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), why: why.into() }
    }

    pub(crate) fn tls(error: impl std::fmt::Display) -> Self {
        Self::Tls(error.to_string())
    }

    /// A stable snake_case name: metric labels, JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Roots(_) => "roots",
            Self::Unreachable { .. } => "unreachable",
            Self::Handshake { .. } => "handshake",
            Self::Tls(_) => "tls",
            Self::Silent { .. } => "silent",
            Self::Lost { .. } => "lost",
            Self::Denied { .. } => "denied",
            Self::Answer { .. } => "answer",
            Self::Redirect { .. } => "redirect",
            Self::TooLarge { .. } => "too_large",
            Self::Incomplete { .. } => "incomplete",
            Self::Refused { .. } => "refused",
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "correct the file, or its name under [source] in agent.toml",
            Self::Roots(_) => "install the package `ca-certificates`, or name the server's root by `ca` in agent.toml",
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Lost { .. } => {
                "it is tried again by itself; see whether the server runs, and what is between"
            }
            Self::Handshake { .. } => {
                "the server needs TLS 1.3 and a certificate for this name from a root in `ca`; see both clocks, and whether \
                 it wants a client certificate"
            }
            Self::Tls(_) => "see that the files under [source] in agent.toml are what they should be",
            Self::Denied { .. } => "give this host's user the right to read the keys below the prefix",
            Self::Answer { .. } => "see that this is the server that was meant, and its log",
            Self::Redirect { .. } => "redirects are not followed: name in agent.toml where the document is",
            Self::TooLarge { .. } => "no signed mesh document is as long: see what is there",
            Self::Incomplete { .. } => {
                "somebody has removed it: put the document there again, `adit publish --to etcd`"
            }
            Self::Refused { why, .. } => why.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_for_users_names_every_reason() {
        let page = include_str!("../../../docs/sources.md");
        for name in SourceError::NAMES {
            assert!(page.contains(&format!("`{name}`")), "docs/sources.md does not name `{name}`");
        }
    }
}
