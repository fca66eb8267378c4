//! What a publisher says about a document.

use crate::model::{Digest, MeshVersion};
use crate::name::MeshName;

use super::encoding::{self, HeaderError};
use super::rank::{Generation, Rank};
use super::tombstone::{MAX_TOMBSTONES, Tombstone};

/// The most parents that a header names: as many as heads are known.
pub const MAX_PARENTS: usize = super::heads::MAX_HEADS;
/// The most ancestors that a header names.
pub const MAX_ANCESTORS: usize = 64;
/// The greatest time that is taken, in seconds since 1970: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// What stands in a header, before it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) mesh: MeshName,
    pub(super) generation: Generation,
    pub(super) version: MeshVersion,
    pub(super) document: Digest,
    pub(super) published_at: u64,
    pub(super) refresh_by: u64,
    pub(super) parents: Vec<Rank>,
    pub(super) ancestors: Vec<Rank>,
    pub(super) tombstones: Vec<Tombstone>,
}

/// A published document's header. Its bounds hold and its lists are in order; whether it is signed, and by whom, is
/// another's business.
///
/// Every document that it names, and every removal, is of an earlier place than its own (a removal may be its own).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    parts: Parts,
    rank: Rank,
}

impl Header {
    pub(super) fn new(parts: Parts) -> Result<Self, HeaderError> {
        check(&parts)?;
        let id = Digest::of(&encoding::encode(&parts));
        let rank = Rank { generation: parts.generation, version: parts.version, id };
        Ok(Self { parts, rank })
    }

    /// Reads a header: exactly the bytes that [`Header::encode`] gives, and nothing else. Counts are held against their
    /// limits before anything is allocated for them.
    ///
    /// # Errors
    /// [`HeaderError`] says what does not hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        Self::new(encoding::decode(bytes)?)
    }

    /// The header as bytes. There is one way to write each, and its digest is the header's identity.
    pub fn encode(&self) -> Vec<u8> {
        encoding::encode(&self.parts)
    }

    /// Its place in the order of all documents.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// The mesh that the document describes.
    pub fn mesh(&self) -> &MeshName {
        &self.parts.mesh
    }

    /// The digest of the document's text.
    pub fn document(&self) -> Digest {
        self.parts.document
    }

    /// When it was published, in seconds since 1970, by its publisher's clock.
    pub fn published_at(&self) -> u64 {
        self.parts.published_at
    }

    /// The second after which another document should have been published, since 1970.
    pub fn refresh_by(&self) -> u64 {
        self.parts.refresh_by
    }

    /// Whether another document should have been published by `now` (seconds since 1970). It stays in force.
    pub fn is_overdue(&self, now: u64) -> bool {
        now > self.parts.refresh_by
    }

    /// All heads that its publisher knew, the greatest first.
    pub fn parents(&self) -> &[Rank] {
        &self.parts.parents
    }

    /// The last documents before it that it stands on, parents included, the greatest first.
    pub fn ancestors(&self) -> &[Rank] {
        &self.parts.ancestors
    }

    /// All removals that its publisher knew, the oldest first.
    pub fn tombstones(&self) -> &[Tombstone] {
        &self.parts.tombstones
    }

    /// Whether it names a document as one that it stands on.
    pub fn names(&self, other: Rank) -> bool {
        // Both lists fall.
        let found = |list: &[Rank]| list.binary_search_by(|rank| other.cmp(rank)).is_ok();
        found(&self.parts.ancestors) || found(&self.parts.parents)
    }

    /// Whether it stands on a document: it names it, or that one is older than the oldest ancestor that it names.
    ///
    /// As long as the list of ancestors is not full, nothing has fallen off its end, so two documents of one version
    /// are told apart there.
    pub fn stands_on(&self, other: Rank) -> bool {
        let older = self.parts.ancestors.last().is_some_and(|oldest| {
            if self.parts.ancestors.len() < MAX_ANCESTORS { other.place() < oldest.place() } else { other < *oldest }
        });
        older || self.names(other)
    }
}

fn check(parts: &Parts) -> Result<(), HeaderError> {
    let place = (parts.generation, parts.version);
    let falls = |list: &[Rank]| list.is_sorted_by(|a, b| a > b) && list.iter().all(|rank| rank.place() < place);
    if parts.parents.len() > MAX_PARENTS || !falls(&parts.parents) {
        return Err(HeaderError::Parents);
    }
    if parts.ancestors.len() > MAX_ANCESTORS || !falls(&parts.ancestors) {
        return Err(HeaderError::Ancestors);
    }
    let rises = parts.tombstones.is_sorted_by(|a, b| a < b);
    if parts.tombstones.len() > MAX_TOMBSTONES
        || !rises
        || parts.tombstones.iter().any(|t| (t.generation, t.version) > place)
    {
        return Err(HeaderError::Tombstones);
    }
    if parts.published_at >= parts.refresh_by || parts.refresh_by > LAST_SECOND {
        return Err(HeaderError::Times);
    }
    Ok(())
}
