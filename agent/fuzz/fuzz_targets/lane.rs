//! Operations of the local side, and bytes of a peer, in any order: no panic, and what is queued stays bounded.
#![no_main]

use std::time::Instant;

use agent::reason::Reason;
use agent::transport::frame::{Item, Parser};
use agent::transport::lane::machine::{End, Lane, MAX_QUEUED};
use agent::transport::message::{Detail, Frame, Open, Opened, Purpose, Refused, TraceId};
use libfuzzer_sys::fuzz_target;
use mesh_config::ServiceName;

fuzz_target!(|input: &[u8]| {
    let Some((&first, mut acts)) = input.split_first() else { return };
    let Ok(service) = ServiceName::new("db") else { return };
    let open = || Open {
        purpose: Purpose::Service(service.clone()),
        relay: None,
        client: None,
        trace: TraceId([0; 16]),
        credit: 0,
    };
    let mut lane = Lane::new(if first & 1 == 0 { End::Opener } else { End::Responder });
    let (mut parser, mut out, now) = (Parser::new(), Vec::new(), Instant::now());
    while let Some((&what, rest)) = acts.split_first() {
        acts = rest;
        let _whether_it_was_the_time = match what {
            0 => lane.open(open()).map(drop),
            1 => lane.accept(Opened::default()),
            2 => lane.refuse(Refused { reason: Reason::Limit, detail: Detail::default() }),
            3 => lane.fin(),
            4 => lane.reset(Reason::Application, now),
            5 => lane.bye(Reason::Draining),
            6 => lane.retire(),
            7 => lane.data(lane.may_send_data().min(100)).map(drop),
            8 => {
                lane.ping(1);
                Ok(())
            }
            _ => {
                let (mut bytes, rest) = acts.split_at(acts.len().min(usize::from(what)));
                acts = rest;
                loop {
                    let handled = match parser.next(&mut bytes) {
                        Ok(None) => break,
                        Ok(Some(Item::Data(piece))) => lane.handle_data(piece.len()).is_ok(),
                        Ok(Some(Item::Control { kind, payload })) => {
                            Frame::decode(kind, payload).is_ok_and(|frame| lane.handle(frame).is_ok())
                        }
                        Err(_) => false,
                    };
                    if !handled {
                        let _cut = lane.handle_lost();
                        assert!(lane.is_idle() && !lane.has_to_transmit());
                        return;
                    }
                }
                Ok(())
            }
        };
        out.clear();
        assert!(lane.poll_transmit(&mut out) <= MAX_QUEUED);
        assert!(lane.is_idle() || !lane.may_close());
    }
});
