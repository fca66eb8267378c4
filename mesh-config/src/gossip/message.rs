//! What is said.

use std::sync::Arc;

use crate::load::MAX_FILE;
use crate::model::Digest;
use crate::published::{MAX_HEADER, MAX_HEADS, Rank};

/// The longest text of a document, in bytes.
const MAX_TEXT: usize = 16 << 20;
const _: () = assert!(MAX_TEXT as u64 == MAX_FILE, "what can be read from a file can be published");

/// The longest signed document, in bytes: the text of a mesh file, a header, a chain of certificates and a signature.
pub const MAX_DOCUMENT: usize = MAX_TEXT + MAX_HEADER + 32 * 1024;

/// A message from one member to another, over a link that both have proven themselves on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The ranks of all documents that the sender knows.
    Summary(Vec<Rank>),
    /// Asks for a document.
    Ask(Digest),
    /// Answers [`Message::Ask`].
    Hand {
        /// Which one was asked for.
        id: Digest,
        /// The signed document as its publisher made it; nothing if the sender has it no more.
        document: Option<Arc<[u8]>>,
    },
}

impl Message {
    /// Whether it keeps the limits that its sender has to keep.
    pub(super) fn keeps_limits(&self) -> bool {
        match self {
            Self::Summary(ranks) => ranks.len() <= MAX_HEADS,
            Self::Ask(_) | Self::Hand { document: None, .. } => true,
            Self::Hand { document: Some(bytes), .. } => bytes.len() <= MAX_DOCUMENT,
        }
    }
}
