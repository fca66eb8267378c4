//! Every frame in every state.

use super::states::{At, bye, lane, open, opened, refused, reset};
use crate::transport::frame::Kind;
use crate::transport::lane::machine::{End, Event, Piece};
use crate::transport::lane::violation::Violation;
use crate::transport::message::{Credit, Frame, Gossip, WallTime};

const EVENT: &str = "event";
const DISCARDED: &str = "discarded";

/// What frames do in each state. A violation is named by its message, an event or a discard by the words above.
#[test]
fn every_frame_in_every_state_does_what_the_rules_say() {
    use At::*;
    let wrong = |kind: Kind, n| Violation::WrongStream { kind, n }.to_string();
    let order = |n, last| Violation::OutOfOrder { n, last }.to_string();
    let busy = Violation::OpenWhileBusy { n: 2, last: 1 }.to_string();
    let early = |kind| Violation::BeforeAnswer { kind, n: 1 }.to_string();
    let after = |kind| Violation::AfterFin { kind, n: 1 }.to_string();
    let end = |kind| Violation::WrongEnd(kind).to_string();
    let soon = Violation::DoneTooSoon(1).to_string();
    let twice = Violation::AnsweredTwice(1).to_string();
    let (ev, no) = (|| EVENT.to_owned(), || DISCARDED.to_owned());

    // state; then what happens to FIN 1, RESET 1, DONE 1, DATA
    let no_stream =
        || [wrong(Kind::Fin, 1), wrong(Kind::Reset, 1), wrong(Kind::Done, 1), Violation::DataOutsideStream.to_string()];
    let rows = [
        (End::Opener, Fresh, no_stream()),
        (End::Opener, Asked, [early(Kind::Fin), early(Kind::Reset), soon.clone(), early(Kind::Data)]),
        (End::Opener, Served, [ev(), ev(), soon.clone(), ev()]),
        (End::Opener, FinSent, [ev(), ev(), soon.clone(), ev()]),
        (End::Opener, FinGot, [after(Kind::Fin), ev(), soon.clone(), after(Kind::Data)]),
        (End::Opener, BothFins, [after(Kind::Fin), no(), ev(), after(Kind::Data)]),
        (End::Opener, Cut, [no(), no(), ev(), no()]),
        (End::Opener, IdleAgain, no_stream()),
        (End::Opener, Left, no_stream()),
        (End::Responder, Fresh, no_stream()),
        (End::Responder, Asked, [ev(), ev(), soon.clone(), ev()]),
        (End::Responder, Served, [ev(), ev(), soon.clone(), ev()]),
        (End::Responder, FinSent, [ev(), ev(), soon.clone(), ev()]),
        (End::Responder, FinGot, [after(Kind::Fin), ev(), soon.clone(), after(Kind::Data)]),
        (End::Responder, BothFins, [after(Kind::Fin), no(), ev(), after(Kind::Data)]),
        (End::Responder, Cut, [no(), no(), ev(), no()]),
        (End::Responder, IdleAgain, no_stream()),
        (End::Responder, Left, no_stream()),
        (End::Responder, Skipping, [no(), no(), no(), no()]),
    ];
    for (who, at, expected) in rows {
        let told = |result: Result<Option<Event>, Violation>| match result {
            Ok(Some(_)) => ev(),
            Ok(None) => no(),
            Err(violation) => violation.to_string(),
        };
        let data = match lane(who, at).handle_data(1) {
            Ok(Piece::Deliver) => ev(),
            Ok(Piece::Discard) => no(),
            Err(violation) => violation.to_string(),
        };
        let got = [
            told(lane(who, at).handle(Frame::Fin(1))),
            told(lane(who, at).handle(reset(1))),
            told(lane(who, at).handle(Frame::Done(1))),
            data,
        ];
        assert_eq!(got, expected, "{who:?} {at:?}");
        // What other streams' frames do is the same in every state.
        for (frame, kind) in [(Frame::Fin(9), Kind::Fin), (reset(9), Kind::Reset), (Frame::Done(9), Kind::Done)] {
            assert_eq!(told(lane(who, at).handle(frame)), wrong(kind, 9), "{who:?} {at:?}");
        }
        for frame in [Frame::Ping(3), Frame::Datagram(vec![1])] {
            assert_eq!(lane(who, at).handle(frame), Ok(None), "{who:?} {at:?}");
        }
        let time = Some(WallTime::from_micros(1));
        assert_eq!(lane(who, at).handle(Frame::Pong(3, time)), Ok(Some(Event::Pong(3, time))));
        for frame in
            [Frame::Credit(1, Credit::default()), Frame::WantLanes(1), Frame::Gossip(Gossip::Summary(Vec::new()))]
        {
            let kind = frame.kind();
            assert_eq!(lane(who, at).handle(frame), Err(Violation::Unexpected(kind)));
        }
        if who == End::Responder {
            let next = told(lane(who, at).handle(open(if at == Fresh || at == Left { 1 } else { 2 })));
            let expected = match at {
                Fresh | IdleAgain => ev(),
                Left => no(),
                Skipping => order(2, 0),
                _ => busy.clone(),
            };
            assert_eq!(next, expected, "{at:?}");
            for (frame, kind) in [(opened(1), Kind::Opened), (refused(1), Kind::Refused), (bye(0), Kind::Bye)] {
                assert_eq!(told(lane(who, at).handle(frame)), end(kind));
            }
        } else {
            assert_eq!(told(lane(who, at).handle(open(1))), end(Kind::Open));
            for (frame, kind) in [(opened(1), Kind::Opened), (refused(1), Kind::Refused)] {
                let expected = match at {
                    Fresh | IdleAgain | Left => wrong(kind, 1),
                    Asked => ev(),
                    _ => twice.clone(),
                };
                assert_eq!(told(lane(who, at).handle(frame)), expected, "{at:?}");
            }
        }
    }
}
