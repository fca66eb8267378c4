//! The order of published documents.

use std::cmp::{Ordering, Reverse};
use std::fmt;

use crate::model::{Digest, MeshVersion};

/// An era of a mesh's documents. Only the root opens the next one, when a publisher's key was stolen and the version
/// numbers were used up with it: whatever that key can still sign is of an earlier generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Generation(u64);

impl Generation {
    /// The one that a mesh begins with.
    pub const FIRST: Self = Self(1);

    /// The generation of this number, from 1 up.
    pub fn new(number: u64) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    /// The one after it; none after the last number.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A published document's place in the order of all: the greatest of (generation, version, lower identity) wins.
///
/// The identity is the digest of the whole [`Header`](super::Header), which holds the digest of the text. So no two
/// documents are equal in rank, not even with the same text and other parents, and the order is a total one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Rank {
    /// The era.
    pub generation: Generation,
    /// The document's version.
    pub version: MeshVersion,
    /// The digest of its header.
    pub id: Digest,
}

impl Rank {
    /// The part of the order that the publisher chooses.
    pub fn place(&self) -> (Generation, MeshVersion) {
        (self.generation, self.version)
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.place(), Reverse(self.id)).cmp(&(other.place(), Reverse(other.id)))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.id.as_bytes().iter().take(4);
        write!(f, "{}.{} ", self.generation, self.version)?;
        short.into_iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
