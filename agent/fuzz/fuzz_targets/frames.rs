//! Bytes of a peer, in pieces: every piece size gives the same frames, and what is understood comes back as it was.
#![no_main]

use agent::transport::frame::{FrameError, Item, Kind, Parser};
use agent::transport::message::Frame;
use libfuzzer_sys::fuzz_target;

fn parse(bytes: &[u8], piece: usize) -> (Vec<(Kind, Vec<u8>)>, usize, Option<FrameError>) {
    let (mut parser, mut frames, mut data) = (Parser::new(), Vec::new(), 0);
    for mut input in bytes.chunks(piece) {
        loop {
            match parser.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Item::Data(piece))) => data += piece.len(),
                Ok(Some(Item::Control { kind, payload })) => frames.push((kind, payload.to_vec())),
                Err(error) => return (frames, data, Some(error)),
            }
        }
    }
    (frames, data, None)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes, bytes.len().max(1));
    for piece in [1, 3, 7] {
        assert_eq!(parse(bytes, piece), whole);
    }
    for (kind, payload) in whole.0 {
        if let Ok(frame) = Frame::decode(kind, &payload) {
            let again = frame.to_bytes();
            assert_eq!(parse(&again, again.len()).0.len(), 1);
            assert_eq!(Frame::decode(kind, &again[4..]), Ok(frame));
        }
    }
});
