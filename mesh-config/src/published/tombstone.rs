//! Nodes that were removed, as a set that only grows.

use std::collections::BTreeMap;

use crate::model::{Digest, MeshVersion};
use crate::name::NodeName;

use super::rank::Generation;

/// The most tombstones that are kept, and that a header holds: the newest.
pub const MAX_TOMBSTONES: usize = 1024;

/// Says that a node was removed. It names the key that was enrolled, so a host that enrols again is a new one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Tombstone {
    /// The generation of the document that removed it.
    pub generation: Generation,
    /// The version of that document.
    pub version: MeshVersion,
    /// SHA-256 of the enrolled public key (DER SubjectPublicKeyInfo).
    pub key: Digest,
    /// The name that it had.
    pub node: NodeName,
}

/// A grow-only union of tombstones: one for each key, the latest, and the [`MAX_TOMBSTONES`] latest of all keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstones(BTreeMap<Digest, Tombstone>);

impl Tombstones {
    /// Whether the node with this enrolled key was removed.
    pub fn names(&self, key: &Digest) -> bool {
        self.0.contains_key(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, oldest first.
    pub fn sorted(&self) -> Vec<&Tombstone> {
        let mut all: Vec<_> = self.0.values().collect();
        all.sort_unstable();
        all
    }

    /// Takes these in.
    pub fn extend<'t>(&mut self, more: impl IntoIterator<Item = &'t Tombstone>) {
        for tombstone in more {
            match self.0.get_mut(&tombstone.key) {
                Some(known) if *known < *tombstone => *known = tombstone.clone(),
                Some(_) => {}
                None => drop(self.0.insert(tombstone.key, tombstone.clone())),
            }
        }
        if let Some(excess) = self.0.len().checked_sub(MAX_TOMBSTONES)
            && excess > 0
        {
            let oldest: Vec<Digest> = self.sorted().iter().take(excess).map(|t| t.key).collect();
            oldest.iter().for_each(|key| drop(self.0.remove(key)));
        }
    }

    /// Takes in another set.
    pub fn merge(&mut self, other: &Self) {
        self.extend(other.0.values());
    }
}
