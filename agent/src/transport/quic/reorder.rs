//! Puts the pieces of a stream, which come in any order, into order. Pure.

use std::collections::BTreeMap;

/// Pieces that touch become one up to this size in bytes: so their number follows the gaps, and a late piece moves little.
const BLOCK: usize = 4 << 10;

/// What is kept because something before it is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// How many bytes.
    pub(super) bytes: u64,
    /// In how many pieces: as many as there are gaps, and one more for each [`BLOCK`] or so.
    pub(super) pieces: u64,
}

/// A stream as far as it has come.
///
/// What is kept is copied, so that it holds on to nothing of the datagrams that it came in.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// The offset of the first byte that has not come.
    next: u64,
    /// Behind it: neither empty nor overlapping, by their offsets.
    pieces: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
}

impl Reorder {
    /// What is kept.
    pub(super) fn kept(&self) -> Kept {
        Kept { bytes: self.bytes, pieces: self.pieces.len() as u64 }
    }

    /// `bytes` have come that belong to `offset`: gives what of them is next in order, and keeps what is not. Of bytes that come
    /// twice, the first are taken.
    pub(super) fn handle<'a>(&mut self, offset: u64, bytes: &'a [u8]) -> &'a [u8] {
        if offset > self.next {
            self.keep(offset, bytes);
            return &[];
        }
        let known = within(self.next - offset, bytes.len());
        self.next += (bytes.len() - known) as u64;
        &bytes[known..]
    }

    /// The next bytes in order of those that were kept, once nothing before them is missing.
    pub(super) fn poll_ready(&mut self) -> Option<Vec<u8>> {
        loop {
            let first = self.pieces.first_entry()?;
            let offset = *first.key();
            let known = self.next.checked_sub(offset)?;
            let mut piece = first.remove();
            self.bytes -= piece.len() as u64;
            let known = within(known, piece.len());
            if known < piece.len() {
                piece.drain(..known);
                self.next += piece.len() as u64;
                return Some(piece);
            }
        }
    }

    fn keep(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let before = self.pieces.range(..=offset).next_back();
            let known = before.map_or(0, |(start, piece)| (start + piece.len() as u64).saturating_sub(offset));
            let known = within(known, bytes.len());
            (offset, bytes) = (offset + known as u64, &bytes[known..]);
            let after = self.pieces.range(offset..).next();
            let new = after.map_or(bytes.len(), |(start, _)| within(start - offset, bytes.len()));
            if new > 0 {
                self.store(offset, &bytes[..new]);
            }
            (offset, bytes) = (offset + new as u64, &bytes[new..]);
        }
    }

    /// Stores bytes between which and those behind them nothing is stored.
    fn store(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let end = offset + bytes.len() as u64;
        let touching = self
            .pieces
            .range_mut(..offset)
            .next_back()
            .filter(|(start, piece)| **start + piece.len() as u64 == offset && piece.len() + bytes.len() <= BLOCK);
        let length = match touching {
            Some((_, piece)) => {
                append(piece, bytes);
                piece.len()
            }
            None => {
                self.pieces.insert(offset, bytes.to_vec());
                bytes.len()
            }
        };
        if self.pieces.get(&end).is_some_and(|next| length + next.len() <= BLOCK)
            && let Some(next) = self.pieces.remove(&end)
            && let Some(piece) = self.pieces.get_mut(&(end - length as u64))
        {
            append(piece, &next);
        }
    }
}

/// Grows by a quarter and not to the double: what is kept is bounded by its length.
fn append(piece: &mut Vec<u8>, bytes: &[u8]) {
    if piece.capacity() - piece.len() < bytes.len() {
        piece.reserve_exact(bytes.len().max(piece.len() / 4));
    }
    piece.extend_from_slice(bytes);
}

/// `bytes`, but no more than there are.
fn within(bytes: u64, len: usize) -> usize {
    usize::try_from(bytes).map_or(len, |bytes| bytes.min(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The stream that the tests send.
    fn stream(offset: u64, len: usize) -> Vec<u8> {
        (offset..).take(len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    /// Lets a piece come and gives all that is in order by it.
    fn come(reorder: &mut Reorder, offset: u64, len: usize) -> Vec<u8> {
        let bytes = stream(offset, len);
        let mut ready = reorder.handle(offset, &bytes).to_vec();
        while let Some(more) = reorder.poll_ready() {
            ready.extend(more);
        }
        ready
    }

    fn kept(bytes: u64, pieces: u64) -> Kept {
        Kept { bytes, pieces }
    }

    #[test]
    fn pieces_in_order_pass_and_those_behind_a_gap_wait_for_it() {
        // Offset, length; how many bytes are ready; what is kept then.
        let cases = [
            (0, 10, 10, kept(0, 0)),
            (0, 10, 0, kept(0, 0)),
            (5, 10, 5, kept(0, 0)),
            (20, 10, 0, kept(10, 1)),
            (40, 10, 0, kept(20, 2)),
            (22, 4, 0, kept(20, 2)),
            (18, 4, 0, kept(22, 2)),
            (28, 14, 0, kept(32, 1)),
            (60, 1, 0, kept(33, 2)),
            (16, 50, 0, kept(50, 1)),
            (15, 1, 51, kept(0, 0)),
            (70, 0, 0, kept(0, 0)),
            (70, 4, 0, kept(4, 1)),
            (66, 12, 12, kept(0, 0)),
            (78, 1, 1, kept(0, 0)),
        ];
        let (mut reorder, mut next) = (Reorder::default(), 0);
        for (offset, len, ready, after) in cases {
            assert_eq!(come(&mut reorder, offset, len), stream(next, ready), "{offset}, {len}");
            assert_eq!(reorder.kept(), after, "{offset}, {len}");
            next += ready as u64;
        }
    }

    #[test]
    fn pieces_that_touch_become_blocks_from_either_end() {
        for backwards in [false, true] {
            let mut reorder = Reorder::default();
            for n in 0..10_000 {
                come(&mut reorder, 1 + if backwards { 9_999 - n } else { n }, 1);
            }
            assert_eq!(reorder.kept(), kept(10_000, 3));
            let capacity: usize = reorder.pieces.values().map(Vec::capacity).sum();
            assert!(capacity <= 10_000 / 4 * 5, "{capacity}");
            assert_eq!(come(&mut reorder, 0, 1), stream(0, 10_001));
        }
    }

    #[test]
    fn a_byte_in_every_second_place_is_a_piece_each() {
        let mut reorder = Reorder::default();
        for n in 0..1000 {
            come(&mut reorder, 1 + 2 * n, 1);
        }
        assert_eq!(reorder.kept(), kept(1000, 1000));
        assert_eq!(come(&mut reorder, 0, 2000), stream(0, 2000));
        assert_eq!(reorder.kept(), kept(0, 0));
    }

    proptest! {
        #[test]
        fn bytes_come_out_once_and_in_order_whatever_order_they_come_in(
            total in 1u64..40_000,
            pieces in proptest::collection::vec((any::<u64>(), 0usize..6000), 0..60),
            cuts in proptest::collection::vec(any::<u64>(), 0..60),
            shuffle in any::<u64>(),
        ) {
            // Any pieces, overlapping or not, and then all of the stream in pieces of another order.
            let mut sent: Vec<(u64, usize)> = pieces
                .into_iter()
                .map(|(at, len)| (at % total, len))
                .map(|(at, len)| (at, within(total - at, len)))
                .collect();
            let mut cuts: Vec<u64> = cuts.into_iter().map(|cut| cut % total).chain([0, total]).collect();
            cuts.sort_unstable();
            let mut whole: Vec<(u64, usize)> =
                cuts.windows(2).map(|pair| (pair[0], usize::try_from(pair[1] - pair[0]).unwrap())).collect();
            whole.sort_by_key(|(at, _)| at.wrapping_mul(shuffle | 1).rotate_left(17));
            sent.extend(whole);

            let (mut reorder, mut out) = (Reorder::default(), Vec::new());
            let mut came = vec![false; usize::try_from(total).unwrap()];
            for (at, len) in sent {
                let from = usize::try_from(at).unwrap();
                came[from..from + len].fill(true);
                out.extend(come(&mut reorder, at, len));
                prop_assert_eq!(out.len(), came.iter().position(|came| !came).unwrap_or(came.len()));
                let behind = &came[out.len()..];
                let bytes = behind.iter().filter(|came| **came).count() as u64;
                let runs = behind.windows(2).filter(|pair| !pair[0] && pair[1]).count() as u64;
                let kept = reorder.kept();
                prop_assert_eq!(kept.bytes, bytes);
                prop_assert!((runs..=runs + 2 * bytes / BLOCK as u64).contains(&kept.pieces), "{:?}, {} runs", kept, runs);
                let capacity: usize = reorder.pieces.values().map(Vec::capacity).sum();
                prop_assert!(capacity as u64 <= bytes / 4 * 5 + 5);
            }
            prop_assert_eq!(out, stream(0, usize::try_from(total).unwrap()));
        }
    }
}
