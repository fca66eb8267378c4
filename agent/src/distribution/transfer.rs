//! A document in pieces: pure.
//!
//! Whoever wants it asks for a [`WINDOW`] of it at a time, so that no more than that is ever under way on a control channel, and
//! memory is taken only for what has come.

use std::sync::Arc;

use mesh_config::Digest;

use crate::transport::message::{Gossip, MAX_PIECE};

/// How much is handed over for one question, in bytes.
pub(super) const WINDOW: usize = 16 * MAX_PIECE;

/// A document that is being fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    id: Digest,
    total: Option<u64>,
    got: Vec<u8>,
}

/// What a piece leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// More is under way.
    More,
    /// Ask for what follows.
    Ask(Gossip),
    /// That was the last.
    Whole(Vec<u8>),
    /// It is not what was asked for: this fetch has come to nothing.
    Broken,
}

impl Fetch {
    pub(super) fn new(id: Digest) -> Self {
        Self { id, total: None, got: Vec::new() }
    }

    pub(super) fn id(&self) -> Digest {
        self.id
    }

    /// A piece has come, of a document whose length is within its limit.
    pub(super) fn take(&mut self, total: u64, offset: u64, piece: &[u8]) -> Taken {
        let place = u64::try_from(self.got.len()).unwrap_or(u64::MAX);
        if *self.total.get_or_insert(total) != total || offset != place || piece.is_empty() {
            return Taken::Broken;
        }
        self.got.extend_from_slice(piece);
        let now = place.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if now > total {
            Taken::Broken
        } else if now == total {
            Taken::Whole(std::mem::take(&mut self.got))
        } else if self.got.len().is_multiple_of(WINDOW) {
            Taken::Ask(Gossip::Ask { id: self.id, offset: now })
        } else {
            Taken::More
        }
    }
}

/// A document that is being handed over.
#[derive(Debug)]
pub(super) struct Serving {
    id: Digest,
    document: Arc<[u8]>,
    next: usize,
}

impl Serving {
    pub(super) fn new(id: Digest, document: Arc<[u8]>) -> Self {
        Self { id, document, next: 0 }
    }

    /// Whether this is the question for what comes next. Each byte is handed over once.
    pub(super) fn is_next(&self, id: Digest, offset: u64) -> bool {
        self.id == id && u64::try_from(self.next) == Ok(offset) && self.next < self.document.len()
    }

    /// The next pieces.
    pub(super) fn window(&mut self) -> Vec<Gossip> {
        let end = self.document.len().min(self.next + WINDOW);
        let total = u64::try_from(self.document.len()).unwrap_or(u64::MAX);
        let rest = self.document.get(self.next..end).unwrap_or_default();
        let mut offset = u64::try_from(self.next).unwrap_or(u64::MAX);
        self.next = end;
        let pieces = rest.chunks(MAX_PIECE).map(|piece| {
            let hand = Gossip::Hand { id: self.id, total, offset, piece: piece.to_vec() };
            offset = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            hand
        });
        pieces.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fetches a document from one that hands it over; gives it and how many questions that took.
    fn fetch(document: &Arc<[u8]>) -> (Vec<u8>, usize) {
        let id = Digest::of(document);
        let (mut fetch, mut serving) = (Fetch::new(id), Serving::new(id, document.clone()));
        let (mut questions, mut ask) = (0, Some(0));
        while let Some(offset) = ask.take() {
            assert!(serving.is_next(id, offset) && !serving.is_next(id, offset + 1));
            questions += 1;
            for hand in serving.window() {
                let Gossip::Hand { total, offset, piece, .. } = hand else { panic!("{hand:?}") };
                match fetch.take(total, offset, &piece) {
                    Taken::More => {}
                    Taken::Ask(Gossip::Ask { offset, .. }) => ask = Some(offset),
                    Taken::Whole(whole) => return (whole, questions),
                    other => panic!("{other:?}"),
                }
            }
        }
        panic!("it never came to an end")
    }

    #[test]
    fn documents_of_every_length_come_over_whole_a_window_for_each_question() {
        for length in [1, 2, MAX_PIECE - 1, MAX_PIECE, MAX_PIECE + 1, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW + 77] {
            let document: Arc<[u8]> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let (whole, questions) = fetch(&document);
            assert_eq!(whole, *document, "{length}");
            assert_eq!(questions, length.div_ceil(WINDOW), "{length}");
        }
    }

    #[test]
    fn pieces_out_of_order_or_beyond_the_end_come_to_nothing() {
        let id = Digest::of(b"x");
        for pieces in [
            vec![(10, 1, 2)],
            vec![(10, 0, 0)],
            vec![(10, 0, 11)],
            vec![(10, 0, 4), (10, 0, 4)],
            vec![(10, 0, 4), (11, 4, 4)],
            vec![(10, 0, 4), (10, 5, 4)],
        ] {
            let mut fetch = Fetch::new(id);
            let last = pieces.iter().map(|&(total, offset, len)| fetch.take(total, offset, &vec![0; len])).last();
            assert_eq!(last, Some(Taken::Broken), "{pieces:?}");
        }
    }

    #[test]
    fn what_was_handed_over_is_not_handed_over_again() {
        let document: Arc<[u8]> = vec![1; WINDOW + 10].into();
        let id = Digest::of(&document);
        let mut serving = Serving::new(id, document);
        let sent: usize = serving.window().len();
        assert_eq!(sent, 16);
        assert!(!serving.is_next(id, 0) && !serving.is_next(Digest::of(b"y"), WINDOW as u64));
        assert!(serving.is_next(id, WINDOW as u64));
        assert_eq!(serving.window().len(), 1);
        assert!(!serving.is_next(id, WINDOW as u64) && !serving.is_next(id, WINDOW as u64 + 10));
        assert!(serving.window().is_empty());
    }
}
