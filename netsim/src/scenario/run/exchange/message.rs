//! What clients and receivers of a scenario say to one another: numbered bytes that whoever knows the number can check.
//!
//! ```text
//!   client ──▶ mark, number, length, length of the answer ── content ──▶ end ──▶ receiver
//!          ◀── number of the answer, digest of what came ─── content ◀── end ──
//! ```

use crate::history::Digest;
use crate::wire::random::Key;

/// What a request begins with.
const MARK: [u8; 8] = *b"netsim 1";
/// Bytes before the content of a request.
pub(super) const REQUEST: usize = 32;
/// Bytes before the content of an answer.
pub(super) const ANSWER: usize = 16;
/// Numbers are read by people, so their parts are digits: the client, its worker, and how many before.
const CLIENT: u64 = 1_000_000_000_000;
const WORKER: u64 = 1_000_000_000;
/// What the number of an answer has more than that of a request.
const BACK: u64 = 1_000_000_000_000_000_000;

/// The number of the answer to a request.
pub(super) fn answer_to(id: u64) -> u64 {
    id.wrapping_add(BACK)
}

/// The number of a request: which client, which of its workers, and how many before it.
pub(super) fn number(client: usize, worker: u32, count: u64) -> u64 {
    (client as u64 + 1) * CLIENT + u64::from(worker) * WORKER + count % WORKER
}

/// Which client's number it is, whether that of a request or of an answer.
pub(super) fn client_of(id: u64) -> Option<usize> {
    usize::try_from(id % BACK / CLIENT).ok()?.checked_sub(1)
}

/// What a request says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u64,
    pub(super) length: u64,
    pub(super) answer: u64,
}

impl Head {
    pub(super) fn bytes(self) -> [u8; REQUEST] {
        let mut out = [0; REQUEST];
        out[..8].copy_from_slice(&MARK);
        for (place, number) in out[8..].chunks_exact_mut(8).zip([self.id, self.length, self.answer]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        out
    }

    /// None: no client has sent this.
    pub(super) fn read(bytes: &[u8; REQUEST], longest: u64) -> Option<Self> {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |part| u64::from_be_bytes(*part));
        let head = Self { id: number(8), length: number(16), answer: number(24) };
        let well = bytes.starts_with(&MARK) && head.id < BACK && head.length <= longest && head.answer <= longest;
        well.then_some(head)
    }
}

pub(super) fn answer_head(id: u64, digest: u64) -> [u8; ANSWER] {
    let mut out = [0; ANSWER];
    out[..8].copy_from_slice(&id.to_be_bytes());
    out[8..].copy_from_slice(&digest.to_be_bytes());
    out
}

/// The bytes that go with a number: always the same, and others for every number.
#[derive(Debug, Clone)]
pub(super) struct Content {
    key: Key,
    left: u64,
    block: u64,
    /// What of the last block has not been given yet.
    rest: [u8; 8],
    used: usize,
}

impl Content {
    pub(super) fn new(id: u64, length: u64) -> Self {
        Self { key: Key::new(id), left: length, block: 0, rest: [0; 8], used: 8 }
    }

    /// The next bytes: as many as there is room for, or as are left.
    pub(super) fn fill(&mut self, room: &mut [u8]) -> usize {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(room.len());
        for byte in &mut room[..length] {
            if self.used == self.rest.len() {
                self.rest = self.key.with(self.block).value().to_be_bytes();
                self.block += 1;
                self.used = 0;
            }
            *byte = self.rest[self.used];
            self.used += 1;
        }
        self.left -= length as u64;
        length
    }

    /// The digest of all of it.
    pub(super) fn digest(mut self) -> u64 {
        let mut digest = Digest::default();
        let mut room = [0; 4096];
        loop {
            match self.fill(&mut room) {
                0 => return digest.value(),
                length => digest.update(&room[..length]),
            }
        }
    }
}

/// Content that arrives, compared with what was sent.
#[derive(Debug)]
pub(super) struct Arriving {
    expected: Content,
    digest: Digest,
    right: bool,
}

impl Arriving {
    pub(super) fn new(id: u64, length: u64) -> Self {
        Self { expected: Content::new(id, length), digest: Digest::default(), right: true }
    }

    /// Takes what has come; at most what is still to come is compared, and more is wrong.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        let mut expected = [0; 4096];
        for part in bytes.chunks(expected.len()) {
            let length = self.expected.fill(&mut expected[..part.len()]);
            self.right &= expected[..length] == *part;
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.expected.left == 0
    }

    /// All bytes so far are those that were sent.
    pub(super) fn is_right(&self) -> bool {
        self.right
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.value()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_nothing_else_is_one() {
        let head = Head { id: number(3, 7, 5), length: 9, answer: 0 };
        assert_eq!(Head::read(&head.bytes(), 9), Some(head));
        assert_eq!(Head::read(&head.bytes(), 8), None, "longer than any");
        assert_eq!(Head::read(&Head { id: answer_to(head.id), ..head }.bytes(), 9), None);
        assert_eq!(Head::read(&[0; REQUEST], 9), None);
        assert_eq!([client_of(head.id), client_of(answer_to(head.id)), client_of(0)], [Some(3), Some(3), None]);
        let numbers = [number(0, 0, 0), number(0, 0, 1), number(0, 1, 0), number(1, 0, 0)];
        assert!(numbers.is_sorted() && numbers[0] > 0 && numbers.iter().all(|id| answer_to(*id) != *id));
    }

    proptest! {
        #[test]
        fn content_does_not_depend_on_pieces_and_every_other_byte_is_noticed(
            id in 0..1_u64 << 60,
            length in 1..9_000_u64,
            pieces in prop::collection::vec(1..3_000_usize, 1..20),
            wrong in any::<prop::sample::Index>(),
        ) {
            let mut whole = vec![0; 10_000];
            let count = Content::new(id, length).fill(&mut whole);
            whole.truncate(count);
            prop_assert_eq!(count as u64, length);
            let arrive = |bytes: &[u8]| {
                let mut arriving = Arriving::new(id, length);
                let (mut rest, mut sizes) = (bytes, pieces.iter().cycle());
                while !rest.is_empty() {
                    let (part, more) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                    arriving.take(part);
                    rest = more;
                }
                arriving
            };
            let good = arrive(&whole);
            prop_assert!(good.is_whole() && good.is_right());
            prop_assert_eq!(good.digest(), Content::new(id, length).digest());
            let part = arrive(&whole[..count / 2]);
            prop_assert!(part.is_right() && !part.is_whole());
            let mut bad = whole.clone();
            bad[wrong.index(count)] ^= 1;
            prop_assert!(!arrive(&bad).is_right());
            whole.push(0);
            let more = arrive(&whole);
            prop_assert!(!more.is_right());
        }
    }
}
