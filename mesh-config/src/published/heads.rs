//! What is known of a mesh's published documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::header::Header;
use super::rank::Rank;
use super::tombstone::Tombstones;

/// The most documents that are known at a time: the greatest.
pub const MAX_HEADS: usize = 16;

/// The greatest documents that a node has met, and every removal that any document told of.
///
/// It is the join of all that was ever put in, so it is the same whatever the order, and however often something
/// arrived. Put in only what was verified, and only documents of one mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    known: BTreeMap<Rank, Arc<Header>>,
    tombstones: Tombstones,
}

/// What became of a document that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is the new winner.
    Wins,
    /// It is kept, and another one stays in force.
    Kept,
    /// It was there already.
    Known,
    /// It is less than all that are kept. Its tombstones were taken.
    TooOld,
}

impl Heads {
    /// Takes in a document.
    pub fn insert(&mut self, header: Arc<Header>) -> Arrival {
        let rank = header.rank();
        if self.known.contains_key(&rank) {
            return Arrival::Known;
        }
        self.tombstones.extend(header.tombstones());
        if !self.would_keep(rank) {
            return Arrival::TooOld;
        }
        self.known.insert(rank, header);
        while self.known.len() > MAX_HEADS {
            self.known.pop_first();
        }
        if self.known.last_key_value().is_some_and(|(greatest, _)| *greatest == rank) {
            Arrival::Wins
        } else {
            Arrival::Kept
        }
    }

    /// Takes in all that another one knows.
    pub fn merge(&mut self, other: &Self) {
        self.tombstones.merge(&other.tombstones);
        for header in other.known.values() {
            self.insert(Arc::clone(header));
        }
    }

    /// Whether a document of this rank would be kept, were it not there already.
    pub fn would_keep(&self, rank: Rank) -> bool {
        self.known.len() < MAX_HEADS || self.known.first_key_value().is_some_and(|(least, _)| *least < rank)
    }

    /// The document that is in force.
    pub fn winner(&self) -> Option<&Arc<Header>> {
        self.known.last_key_value().map(|(_, header)| header)
    }

    /// A document, by its rank.
    pub fn header(&self, rank: Rank) -> Option<&Arc<Header>> {
        self.known.get(&rank)
    }

    /// All that are known, the greatest first.
    pub fn known(&self) -> impl Iterator<Item = &Arc<Header>> {
        self.known.values().rev()
    }

    /// Every removal that is known.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// The documents that the one in force does not stand on, the greatest first: what somebody published without
    /// knowing the rest, and nobody has merged. Of several that follow each other the last is shown.
    pub fn forks(&self) -> Vec<&Arc<Header>> {
        let Some(winner) = self.winner() else { return Vec::new() };
        let apart: Vec<_> =
            self.known().filter(|head| head.rank() != winner.rank() && !winner.stands_on(head.rank())).collect();
        let followed = |rank| apart.iter().any(|other| other.names(rank));
        apart.iter().filter(|head| !followed(head.rank())).copied().collect()
    }
}
