mod explore;
mod hostile;
mod random;
mod rules;
mod states;
mod table;

use std::time::Instant;

use super::machine::{End, Lane};
use crate::transport::frame::{Item, Parser};
use crate::transport::message::Frame;
use crate::transport::message::tests::open_request;

/// The control frames that a lane wants to send.
fn sent(lane: &mut Lane) -> Vec<Frame> {
    let mut bytes = Vec::new();
    lane.poll_transmit(&mut bytes);
    let (mut parser, mut input, mut frames) = (Parser::new(), &bytes[..], Vec::new());
    loop {
        match parser.next(&mut input).unwrap() {
            Some(Item::Control { kind, payload }) => frames.push(Frame::decode(kind, payload).unwrap()),
            Some(Item::Data(_)) => panic!("DATA among the control frames"),
            None => break,
        }
    }
    assert!(parser.at_border());
    frames
}

fn pair() -> (Lane, Lane, Instant) {
    (Lane::new(End::Opener), Lane::new(End::Responder), Instant::now())
}
