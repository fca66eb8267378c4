//! Signed mesh documents in `status`, and what a publish came to.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The signed mesh document in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its generation.
    pub generation: u64,
    /// Its version.
    pub version: u64,
    /// The digest of its header, in hex: no other document has the same.
    pub id: String,
    /// When it was published, by its publisher's clock.
    pub published_at: Timestamp,
    /// When it should be followed by another one.
    pub refresh_by: Timestamp,
    /// Who signed it.
    pub publisher: String,
    /// The serial number of the publisher's certificate, in hex.
    pub certificate: String,
    /// How it came to this host: `disk`, `publish`, `peer`, `etcd`, `https`.
    #[serde(default)]
    pub came: Option<String>,
    /// The peer that it came from.
    #[serde(default)]
    pub came_from: Option<String>,
    /// Documents that it does not stand on, and that nobody has merged.
    pub forks: Vec<Fork>,
}

/// A document that was published without knowing the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Its generation.
    pub generation: u64,
    /// Its version.
    pub version: u64,
    /// The digest of its header, in hex.
    pub id: String,
    /// Who signed it.
    pub publisher: Option<String>,
}

/// `POST /v1/publish`: what was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Its generation.
    pub generation: u64,
    /// Its version.
    pub version: u64,
    /// The digest of its header, in hex.
    pub id: String,
    /// SHA-256 of its text, in hex.
    pub digest: String,
}

/// A source of signed mesh documents besides the peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `etcd` or `https`.
    pub kind: String,
    /// Where it is.
    pub place: String,
    /// `connecting`, `in_touch` or `failing`.
    pub state: String,
    /// Since when it stands so.
    pub since: Timestamp,
    /// When it answered last.
    pub answered_at: Option<Timestamp>,
    /// The version of the document that it has; `null` if it has none or none that was taken.
    pub mesh_version: Option<u64>,
    /// Tries in a row that have failed.
    pub failures: u32,
    /// Why it gives nothing, or what it has is not taken.
    pub error: Option<SourceError>,
}

/// Why a source gives nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceError {
    /// A stable name for machines.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}
