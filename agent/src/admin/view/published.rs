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
