//! Two ends under random operations, against two queues of bytes.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::super::*;
use super::nonces::watch;
use super::support::{forge, pair};

/// One operation of one end.
#[derive(Debug, Clone)]
enum Act {
    /// Sends so much, as soon as control records are out.
    Send(usize),
    /// Sends what there is beside data.
    Control,
    /// So many of the bytes under way arrive.
    Arrive(usize),
    /// A request for new keys, as other implementations send it.
    Request,
    /// A record with nothing in it.
    Empty,
    /// Closes its direction.
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => prop_oneof![1usize..100, Just(1400), Just(MAX_CONTENT - 1), Just(MAX_CONTENT)].prop_map(Act::Send),
        2 => Just(Act::Control),
        8 => prop_oneof![1usize..64, 1000usize..40_000].prop_map(Act::Arrive),
        1 => Just(Act::Request),
        1 => Just(Act::Empty),
        1 => prop_oneof![9 => Just(Act::Control), 1 => Just(Act::Close)],
    ]
}

struct End {
    records: Records,
    /// On its way to the other end.
    wire: VecDeque<u8>,
    /// Sealed and not yet arrived at the other end.
    promised: VecDeque<u8>,
    /// Arrived, but no whole record.
    inbox: Vec<u8>,
    /// Under these keys and numbers this end has sealed.
    sealed: Vec<(Vec<u8>, [u8; 12])>,
    next: u8,
    closed: bool,
}

impl End {
    fn new(records: Records) -> Self {
        let (wire, promised) = (VecDeque::new(), VecDeque::new());
        Self { records, wire, promised, inbox: Vec::new(), sealed: Vec::new(), next: 0, closed: false }
    }

    fn sealing(&mut self, work: impl FnOnce(&mut Records) -> Vec<u8>) {
        let mut bytes = Vec::new();
        let uses = watch(|| bytes = work(&mut self.records));
        self.sealed.extend(uses);
        self.wire.extend(bytes);
    }

    fn control(&mut self) {
        self.sealing(|records| {
            let mut out = Vec::new();
            records.poll_control(&mut out).unwrap();
            out
        });
        self.closed |= self.records.has_ended();
    }

    fn send(&mut self, len: usize) {
        self.control();
        let content: Vec<u8> = (self.next..=u8::MAX).chain(0..=u8::MAX).cycle().take(len).collect();
        self.next = self.next.wrapping_add(17);
        let mut result = Ok(0);
        self.sealing(|records| {
            let mut record = vec![0; HEADER + len + TRAILER];
            record[HEADER..][..len].copy_from_slice(&content);
            result = records.seal(&mut record, len);
            if result.is_ok() { record } else { Vec::new() }
        });
        if self.closed {
            assert_eq!(result, Err(SealError::Closed));
        } else {
            assert_eq!(result, Ok(HEADER + len + TRAILER));
            self.promised.extend(content);
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Send(len) => self.send(len),
            Act::Control => self.control(),
            Act::Empty if !self.closed => self.send(0),
            Act::Request if !self.closed => {
                self.control();
                self.sealing(|records| {
                    let request = forge(records, &[24, 0, 0, 1, 1, 22]);
                    records.directions().0.update().unwrap();
                    request
                });
            }
            Act::Close => {
                self.records.close();
                self.control();
            }
            Act::Empty | Act::Request | Act::Arrive(_) => {}
        }
    }

    /// Up to `count` bytes of `from` arrive here.
    fn arrive(&mut self, from: &mut Self, count: usize) {
        let count = count.min(from.wire.len());
        self.inbox.extend(from.wire.drain(..count));
        while let Some(len) = self.records.parse(&self.inbox).unwrap() {
            if len > self.inbox.len() {
                break;
            }
            match self.records.open(&mut self.inbox[..len]).unwrap() {
                Received::Data(range) => {
                    assert!(!range.is_empty());
                    let expected: Vec<u8> = from.promised.drain(..range.len()).collect();
                    assert_eq!(self.inbox[range], expected);
                }
                Received::Nothing => {}
                Received::Closed => assert!(from.closed && from.promised.is_empty()),
            }
            self.inbox.drain(..len);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_sealed_arrives_in_order_and_no_nonce_is_used_twice(
        suite in prop::sample::select(&Suite::ALL[..]),
        update_after in prop_oneof![1u64..6, Just(1 << 23)],
        acts in prop::collection::vec((any::<bool>(), act()), 0..120),
    ) {
        // No cap: random acts may well bring forty empty records in a row.
        let (client, server) = pair(suite, Limits { update_after, without_data: u8::MAX });
        let mut ends = [End::new(client), End::new(server)];
        for (who, act) in &acts {
            let [one, other] = &mut ends;
            let (me, peer) = if *who { (one, other) } else { (other, one) };
            match act {
                Act::Arrive(count) => me.arrive(peer, *count),
                act => me.act(act),
            }
        }
        let [one, other] = &mut ends;
        for end in [&mut *one, &mut *other] {
            end.control();
        }
        one.arrive(other, usize::MAX);
        other.arrive(one, usize::MAX);
        for end in &ends {
            prop_assert!(end.promised.is_empty() && end.inbox.is_empty() && end.records.fatal().is_none());
        }
        for (end, peer) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
            prop_assert_eq!(end.closed, peer.records.is_closed());
            let distinct: HashSet<_> = end.sealed.iter().collect();
            prop_assert_eq!(distinct.len(), end.sealed.len());
        }
    }

    #[test]
    fn any_bytes_end_in_an_answer(mut bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..3) {
        let (mut client, _) = pair(Suite::Aes128Gcm, Limits::default());
        if cut > 0 && bytes.len() > 22 {
            let body = u16::try_from(bytes.len() - HEADER).unwrap().to_be_bytes();
            bytes[..5].copy_from_slice(&[23, 3, 3, body[0], body[1]]);
        }
        let parsed = client.parse(&bytes);
        if parsed.is_ok() {
            prop_assert!(client.open(&mut bytes).is_err());
        }
        let mut out = Vec::new();
        prop_assert!(client.poll_control(&mut out).is_ok());
    }
}
