//! Nonsense from the peer.

use std::time::Instant;

use super::{End, Lane, open_request};
use crate::reason::Reason;
use crate::transport::frame::{Item, Kind, MAX_CONTROL, Parser};
use crate::transport::lane::machine::MAX_QUEUED;
use crate::transport::message::{Frame, Opened};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).unwrap()
    }
}

/// A frame that may be right, nearly right, or nonsense.
fn frame(random: &mut Random, lane: &Lane, out: &mut Vec<u8>) {
    let n = (lane.last + u32::from(random.below(8) == 0)).max(1);
    match random.below(24) {
        0 => out.extend((0..random.below(24)).map(|_| random.next().to_le_bytes()[0])),
        1 => {
            let kind = Kind::ALL[random.below(Kind::ALL.len() as u64)];
            let longest = if random.below(64) == 0 { 5000 } else { 20 };
            let len = random.below(longest);
            let [high, low, ..] = u16::try_from(len).unwrap().to_be_bytes();
            out.extend([kind as u8, 0, high, low]);
            out.extend((0..len).map(|_| random.next().to_le_bytes()[0]));
        }
        2..=5 if lane.end() == End::Responder => Frame::Open(lane.last + 1, Box::new(open_request())).encode(out),
        2..=5 => Frame::Opened(n, Opened::default()).encode(out),
        6..=8 => Frame::Done(n).encode(out),
        9..=11 => Frame::Fin(n).encode(out),
        12..=13 => Frame::Reset(n, Reason::Application).encode(out),
        14 => Frame::Bye(lane.last, Reason::Draining).encode(out),
        15 => Frame::Ping(random.next()).encode(out),
        _ => out.extend([Kind::Data as u8, 0, 0, 3, 1, 2, 3]),
    }
    if random.below(16) == 0 && !out.is_empty() {
        let at = random.below(out.len() as u64);
        out[at] ^= 1 << random.below(8);
    }
}

#[test]
fn a_million_malformed_frames_neither_panic_nor_take_memory() {
    let mut random = Random(0x5eed);
    let now = Instant::now();
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    let (mut frames, mut taken, mut refused) = (0u32, 0u32, 0u32);
    while frames < 1_000_000 {
        let mut parser = Parser::new();
        let mut lane = if random.below(2) == 0 { Lane::new(End::Opener) } else { Lane::new(End::Responder) };
        'lane: for _ in 0..20 {
            bytes.clear();
            frame(&mut random, &lane, &mut bytes);
            frames += 1;
            let _at_any_time = match random.below(8) {
                0 => lane.open(open_request()).map(drop),
                1 => lane.accept(Opened::default()),
                2 => lane.fin(),
                3 => lane.reset(Reason::Idle, now),
                4 => lane.data(10).map(drop),
                _ => Ok(()),
            };
            for mut input in bytes.chunks(1 + random.below(64)) {
                loop {
                    let handled = match parser.next(&mut input) {
                        Ok(None) => break,
                        Ok(Some(Item::Data(piece))) => lane.handle_data(piece.len()).is_ok(),
                        Ok(Some(Item::Control { kind, payload })) => {
                            assert!(payload.len() <= MAX_CONTROL);
                            Frame::decode(kind, payload).is_ok_and(|frame| lane.handle(frame).is_ok())
                        }
                        Err(_) => false,
                    };
                    if !handled {
                        refused += 1;
                        break 'lane;
                    }
                    taken += 1;
                }
            }
            out.clear();
            assert!(lane.poll_transmit(&mut out) <= MAX_QUEUED);
        }
        let _whatever_it_was = lane.handle_lost();
    }
    assert!(out.capacity() <= 2 * MAX_QUEUED, "{} bytes", out.capacity());
    assert!(taken > 100_000 && refused > 100_000, "{taken} taken, {refused} refused");
}
