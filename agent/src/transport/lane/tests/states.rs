//! The states a lane can be in, and the frames that lead there.

use super::{open_request, sent};
use crate::reason::Reason;
use crate::transport::lane::machine::{End, Event, Lane};
use crate::transport::message::{Detail, Frame, Opened, Refused};

pub(super) fn open(n: u32) -> Frame {
    Frame::Open(n, Box::new(open_request()))
}

pub(super) fn opened(n: u32) -> Frame {
    Frame::Opened(n, Opened::default())
}

pub(super) fn refusal() -> Refused {
    Refused { reason: Reason::NotPermitted, detail: Detail::new("no") }
}

pub(super) fn refused(n: u32) -> Frame {
    Frame::Refused(n, refusal())
}

pub(super) fn reset(n: u32) -> Frame {
    Frame::Reset(n, Reason::Application)
}

pub(super) fn bye(m: u32) -> Frame {
    Frame::Bye(m, Reason::Draining)
}

/// The states a lane can be in, each with the way there. What was to be sent has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// No stream was ever here.
    Fresh,
    /// Opener: OPEN 1 is out. Responder: it has come and waits for an answer.
    Asked,
    /// OPENED 1.
    Served,
    /// FIN 1 was sent.
    FinSent,
    /// FIN 1 was received.
    FinGot,
    /// Both FINs, so our DONE is out; the peer's is missing.
    BothFins,
    /// We cut stream 1 after it was served; the peer's DONE is missing.
    Cut,
    /// Stream 1 is over.
    IdleAgain,
    /// BYE 0 was sent (responder) or received (opener) while no stream was open.
    Left,
    /// Responder: BYE 0 was sent and OPEN 1 has come after all.
    Skipping,
}

pub(super) fn lane(end: End, at: At) -> Lane {
    let now = std::time::Instant::now();
    let mut lane = Lane::new(end);
    let take = |lane: &mut Lane, frames: &[Frame]| {
        for frame in frames {
            lane.handle(frame.clone()).unwrap();
        }
    };
    let ask = |lane: &mut Lane| match end {
        End::Opener => assert_eq!(lane.open(open_request()), Ok(1)),
        End::Responder => take(lane, &[open(1)]),
    };
    let serve = |lane: &mut Lane| {
        ask(lane);
        match end {
            End::Opener => assert_eq!(lane.handle(opened(1)), Ok(Some(Event::Opened(Opened::default())))),
            End::Responder => lane.accept(Opened::default()).unwrap(),
        }
    };
    match at {
        At::Fresh => {}
        At::Asked => ask(&mut lane),
        At::Served => serve(&mut lane),
        At::FinSent => {
            serve(&mut lane);
            lane.fin().unwrap();
        }
        At::FinGot => {
            serve(&mut lane);
            lane.handle(Frame::Fin(1)).unwrap();
        }
        At::BothFins | At::IdleAgain => {
            serve(&mut lane);
            lane.fin().unwrap();
            lane.handle(Frame::Fin(1)).unwrap();
            if at == At::IdleAgain {
                sent(&mut lane);
                assert_eq!(lane.handle(Frame::Done(1)), Ok(Some(Event::Idle)));
            }
        }
        At::Cut => {
            serve(&mut lane);
            lane.reset(Reason::Application, now).unwrap();
        }
        At::Left if end == End::Opener => {
            lane.handle(bye(0)).unwrap();
        }
        At::Left => lane.bye(Reason::Draining).unwrap(),
        At::Skipping => {
            lane.bye(Reason::Draining).unwrap();
            assert_eq!(lane.handle(open(1)), Ok(None));
        }
    }
    sent(&mut lane);
    lane
}
