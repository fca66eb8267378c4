mod explore;
mod hostile;
mod random;
mod rules;
mod states;
mod table;

use std::time::Instant;

use mesh_config::ServiceName;

use super::machine::{End, Lane};
use crate::transport::frame::{Item, Parser};
use crate::transport::message::{Frame, Open, Purpose, TraceId};

fn open_request() -> Open {
    Open {
        purpose: Purpose::Service(ServiceName::new("db").unwrap()),
        relay: None,
        client: None,
        trace: TraceId([1; 16]),
        credit: 0,
    }
}

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
