//! What a publisher has to say on top of all that it knows.

use std::collections::BTreeSet;

use crate::model::{Digest, MeshVersion};
use crate::name::{MeshName, NodeName};

use super::encoding::HeaderError;
use super::header::{Header, MAX_ANCESTORS, Parts};
use super::heads::Heads;
use super::rank::{Generation, Rank};
use super::tombstone::Tombstone;

/// A document that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The digest of its text.
    pub document: Digest,
    /// The version that its text says.
    pub version: MeshVersion,
    /// Whether it opens the next generation, which is the root's right alone.
    pub opens_generation: bool,
    /// Now, in seconds since 1970.
    pub published_at: u64,
    /// When it should have been followed by another one, likewise.
    pub refresh_by: u64,
    /// The nodes that it removes: their names and the digests of the keys that they were enrolled with.
    pub removed: Vec<(NodeName, Digest)>,
}

/// Why a document cannot be published on top of what is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NextError {
    /// Its version is not above the winner's.
    #[error("version {version} is published already: say version {needed} or more in the document")]
    VersionTaken {
        /// What the document says.
        version: MeshVersion,
        /// The least that it may say.
        needed: MeshVersion,
    },
    /// There is no greater version number.
    #[error("no version number is left in generation {0}: the root has to open the next one")]
    NumbersUsedUp(Generation),
    /// There is no greater generation.
    #[error("no generation is left after {0}")]
    GenerationsUsedUp(Generation),
    /// The header would not be one.
    #[error("the document cannot be published: {0}")]
    Header(#[from] HeaderError),
}

impl Heads {
    /// The generation of the next document, and the least version that it may say.
    ///
    /// # Errors
    /// [`NextError::NumbersUsedUp`], [`NextError::GenerationsUsedUp`].
    pub fn next_place(&self, opens_generation: bool) -> Result<(Generation, MeshVersion), NextError> {
        let Some(winner) = self.winner().map(|header| header.rank()) else {
            return Ok((Generation::FIRST, MeshVersion(1)));
        };
        if opens_generation {
            let next = winner.generation.next().ok_or(NextError::GenerationsUsedUp(winner.generation))?;
            return Ok((next, MeshVersion(1)));
        }
        let version = winner.version.number().checked_add(1).and_then(MeshVersion::new);
        Ok((winner.generation, version.ok_or(NextError::NumbersUsedUp(winner.generation))?))
    }

    /// The header that a publisher who knows all this has to make: above the winner, with the winner and every fork as
    /// parents, so that no fork is left, and with every removal that is known.
    ///
    /// # Errors
    /// [`NextError`].
    pub fn next(&self, mesh: &MeshName, publication: Publication) -> Result<Header, NextError> {
        let (generation, needed) = self.next_place(publication.opens_generation)?;
        let version = publication.version;
        if version < needed {
            return Err(NextError::VersionTaken { version, needed });
        }
        let parents: BTreeSet<Rank> =
            self.winner().into_iter().chain(self.forks()).map(|header| header.rank()).collect();
        let ancestors: BTreeSet<Rank> =
            self.known().flat_map(|header| header.ancestors().iter().copied().chain([header.rank()])).collect();
        let mut tombstones = self.tombstones().clone();
        let buried = |(node, key)| Tombstone { generation, version, key, node };
        let removed: Vec<_> = publication.removed.into_iter().map(buried).collect();
        tombstones.extend(&removed);
        Ok(Header::new(Parts {
            mesh: mesh.clone(),
            generation,
            version,
            document: publication.document,
            published_at: publication.published_at,
            refresh_by: publication.refresh_by,
            parents: parents.into_iter().rev().collect(),
            ancestors: ancestors.into_iter().rev().take(MAX_ANCESTORS).collect(),
            tombstones: tombstones.sorted().into_iter().cloned().collect(),
        })?)
    }
}
