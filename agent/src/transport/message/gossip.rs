//! What members tell each other of mesh documents, on their control channels.

use mesh_config::published::{Generation, MAX_HEADS, Rank};
use mesh_config::{Digest, MeshVersion};

use super::{MessageError, put, wire};
use crate::transport::frame::{Kind, MAX_CONTROL};

/// The bytes of a rank: generation and version, big-endian, and identity.
pub(super) const RANK: usize = 16 + 32;
/// The longest piece of a document, in bytes.
pub const MAX_PIECE: usize = MAX_CONTROL - 64;

/// A message about mesh documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Gossip {
    /// SUMMARY: the ranks of all documents that the sender knows, [`MAX_HEADS`] at most.
    Summary(Vec<Rank>),
    /// ASK: the document of this identity is wanted, from an offset on.
    Ask {
        /// Which.
        id: Digest,
        /// From where on, in bytes.
        offset: u64,
    },
    /// HAND: a piece of a document that was asked for.
    Hand {
        /// Which.
        id: Digest,
        /// The whole document's length in bytes; 0: the sender has it no more.
        total: u64,
        /// Where the piece belongs, in bytes.
        offset: u64,
        /// The piece, [`MAX_PIECE`] bytes at most.
        piece: Vec<u8>,
    },
}

impl Gossip {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Summary(_) => Kind::Summary,
            Self::Ask { .. } => Kind::Ask,
            Self::Hand { .. } => Kind::Hand,
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Summary(ranks) => {
                let mut all = Vec::with_capacity(ranks.len() * RANK);
                for rank in ranks.iter().take(MAX_HEADS) {
                    all.extend(rank.generation.number().to_be_bytes());
                    all.extend(rank.version.number().to_be_bytes());
                    all.extend(rank.id.as_bytes());
                }
                put(out, &wire::Summary { ranks: all });
            }
            Self::Ask { id, offset } => put(out, &wire::Ask { id: id.as_bytes().to_vec(), offset: *offset }),
            Self::Hand { id, total, offset, piece } => {
                let (id, piece) = (id.as_bytes().to_vec(), piece.clone());
                put(out, &wire::Hand { id, total: *total, offset: *offset, piece });
            }
        }
    }
}

impl TryFrom<wire::Summary> for Gossip {
    type Error = MessageError;

    fn try_from(wire::Summary { ranks }: wire::Summary) -> Result<Self, MessageError> {
        let invalid = || MessageError::Field { kind: Kind::Summary, field: "list" };
        let (whole, rest) = ranks.as_chunks::<RANK>();
        if !rest.is_empty() || whole.len() > MAX_HEADS {
            return Err(invalid());
        }
        let rank = |bytes: &[u8; RANK]| {
            let (generation, rest) = bytes.split_first_chunk()?;
            let (version, id) = rest.split_first_chunk()?;
            Some(Rank {
                generation: Generation::new(u64::from_be_bytes(*generation))?,
                version: MeshVersion::new(u64::from_be_bytes(*version))?,
                id: Digest::from_bytes(id.try_into().ok()?),
            })
        };
        whole.iter().map(|bytes| rank(bytes).ok_or_else(invalid)).collect::<Result<_, _>>().map(Self::Summary)
    }
}

impl TryFrom<wire::Ask> for Gossip {
    type Error = MessageError;

    fn try_from(wire::Ask { id, offset }: wire::Ask) -> Result<Self, MessageError> {
        Ok(Self::Ask { id: digest(Kind::Ask, &id)?, offset })
    }
}

impl TryFrom<wire::Hand> for Gossip {
    type Error = MessageError;

    fn try_from(wire::Hand { id, total, offset, piece }: wire::Hand) -> Result<Self, MessageError> {
        let piece_len = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if piece.len() > MAX_PIECE || offset.checked_add(piece_len).is_none_or(|end| end > total) {
            return Err(MessageError::Field { kind: Kind::Hand, field: "piece" });
        }
        Ok(Self::Hand { id: digest(Kind::Hand, &id)?, total, offset, piece })
    }
}

fn digest(kind: Kind, bytes: &[u8]) -> Result<Digest, MessageError> {
    let id = <[u8; 32]>::try_from(bytes).map_err(|_| MessageError::Field { kind, field: "identity" })?;
    Ok(Digest::from_bytes(id))
}
