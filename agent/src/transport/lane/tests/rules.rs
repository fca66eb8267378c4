//! The rules of a lane, one by one.

use std::time::Duration;

use super::states::{At, bye, lane, open, opened, refusal, refused, reset};
use super::{open_request, pair, sent};
use crate::reason::Reason;
use crate::transport::frame::{Kind, MAX_DATA};
use crate::transport::lane::machine::{EARLY_DATA, End, Event, Lane, Lost, MAX_QUEUED, Piece, RESET_ANSWER, Verdict};
use crate::transport::lane::violation::{NotNow, Violation};
use crate::transport::message::{Detail, Frame, Opened};

#[test]
fn bye_names_a_stream_that_fits() {
    let moves = |at, m| match lane(End::Opener, at).handle(bye(m)) {
        Ok(Some(Event::Bye { moved, reason: Reason::Draining })) => Ok(moved),
        Ok(other) => panic!("{other:?}"),
        Err(violation) => Err(violation),
    };
    let wrong = |m, last| Err(Violation::WrongBye { m, last });
    for (at, m, expected) in [
        (At::Fresh, 0, Ok(false)),
        (At::Fresh, 1, wrong(1, 0)),
        (At::Asked, 0, Ok(true)),
        (At::Asked, 1, Ok(false)),
        (At::Asked, 2, wrong(2, 1)),
        (At::Served, 0, wrong(0, 1)), // it was answered, so it was seen
        (At::Served, 1, Ok(false)),
        (At::Cut, 1, Ok(false)),
        (At::IdleAgain, 0, wrong(0, 1)),
        (At::IdleAgain, 1, Ok(false)),
        (At::Left, 0, wrong(0, 0)), // once is enough
        (At::Asked, u32::MAX, wrong(u32::MAX, 1)),
    ] {
        assert_eq!(moves(at, m), expected, "{at:?} BYE {m}");
    }
}

#[test]
fn a_stream_that_the_responder_never_saw_moves_and_its_frames_are_dropped() {
    let (mut opener, mut responder, _) = pair();
    responder.bye(Reason::Draining).unwrap();
    opener.open(open_request()).unwrap();
    let there = sent(&mut opener);
    opener.data(10).unwrap();
    opener.fin().unwrap();
    let there = [there, sent(&mut opener)].concat();
    assert_eq!(there, [open(1), Frame::Fin(1)]);
    for frame in there {
        assert_eq!(responder.handle(frame), Ok(None));
        assert_eq!(responder.handle_data(5), Ok(Piece::Discard));
    }
    let back = sent(&mut responder);
    assert_eq!(back, [bye(0)]);
    assert_eq!(opener.handle(bye(0)), Ok(Some(Event::Bye { moved: true, reason: Reason::Draining })));
    assert!(opener.is_idle() && opener.may_close());
    assert_eq!(opener.open(open_request()), Err(NotNow::Retiring));
    assert_eq!(responder.handle_lost(), Lost::Unnoticed);
}

#[test]
fn a_stream_that_was_cut_before_bye_came_does_not_move() {
    let (mut opener, _, now) = pair();
    opener.open(open_request()).unwrap();
    opener.reset(Reason::Application, now).unwrap();
    assert_eq!(opener.handle(bye(0)), Ok(Some(Event::Bye { moved: false, reason: Reason::Draining })));
    assert!(opener.may_close());
    assert_eq!(opener.next_timeout(), None);
}

#[test]
fn late_frames_of_a_cut_stream_are_dropped_and_the_next_stream_is_untouched() {
    let mut lane = lane(End::Opener, At::Cut);
    assert_eq!(lane.handle_data(16384), Ok(Piece::Discard));
    assert_eq!(lane.handle(reset(1)), Ok(None), "both cut at once");
    assert_eq!(lane.open(open_request()), Err(NotNow::Busy), "not before the peer's DONE");
    assert_eq!(lane.handle(Frame::Done(1)), Ok(Some(Event::Idle)));
    assert_eq!(lane.open(open_request()), Ok(2));
    lane.handle(opened(2)).unwrap();
    // A peer that sends late frames after its DONE breaks the rule that keeps streams apart.
    assert_eq!(lane.clone().handle(reset(1)), Err(Violation::WrongStream { kind: Kind::Reset, n: 1 }));
    assert_eq!(lane.clone().handle(Frame::Fin(1)), Err(Violation::WrongStream { kind: Kind::Fin, n: 1 }));
    assert_eq!(lane.handle_data(1), Ok(Piece::Deliver));
}

#[test]
fn an_answer_that_comes_after_our_reset_is_dropped() {
    for answer in [opened(1), refused(1)] {
        let mut lane = lane(End::Opener, At::Asked);
        lane.reset(Reason::Application, std::time::Instant::now()).unwrap();
        assert_eq!(sent(&mut lane), [reset(1), Frame::Done(1)]);
        assert_eq!(lane.handle(answer), Ok(None));
        assert_eq!(lane.handle(Frame::Done(1)), Ok(Some(Event::Idle)));
    }
}

#[test]
fn a_stream_that_was_reset_cannot_be_answered() {
    let mut lane = lane(End::Responder, At::Asked);
    assert_eq!(lane.handle(reset(1)), Ok(Some(Event::Reset(Reason::Application))));
    assert_eq!(sent(&mut lane), [Frame::Done(1)]);
    assert_eq!(lane.accept(Opened::default()), Err(NotNow::NoStream));
    assert_eq!(lane.refuse(refusal()), Err(NotNow::NoStream));
    assert!(lane.is_winding_up());
    assert_eq!(lane.handle(Frame::Done(1)), Ok(Some(Event::Idle)));
}

#[test]
fn refused_is_answered_by_done_and_the_lane_is_used_again() {
    let (mut opener, mut responder, _) = pair();
    for n in 1..=3 {
        assert_eq!(opener.open(open_request()), Ok(n));
        for frame in sent(&mut opener) {
            responder.handle(frame).unwrap();
        }
        responder.refuse(refusal()).unwrap();
        assert_eq!(responder.handle_data(100), Ok(Piece::Discard), "what was sent before the answer came");
        let back = sent(&mut responder);
        assert_eq!(back, [refused(n), Frame::Done(n)]);
        let events: Vec<_> = back.into_iter().map(|frame| opener.handle(frame).unwrap()).collect();
        assert_eq!(events, [Some(Event::Refused(refusal())), Some(Event::Idle)]);
        assert_eq!(sent(&mut opener), [Frame::Done(n)]);
        assert_eq!(responder.handle(Frame::Done(n)), Ok(Some(Event::Idle)));
    }
}

#[test]
fn data_before_the_answer_is_bounded_at_both_ends() {
    let (mut opener, mut responder, _) = pair();
    opener.open(open_request()).unwrap();
    assert_eq!(opener.data(1), Err(NotNow::QueuedFirst), "OPEN goes first");
    sent(&mut opener);
    assert_eq!(opener.may_send_data(), EARLY_DATA);
    for _ in 0..EARLY_DATA / MAX_DATA {
        opener.data(MAX_DATA).unwrap();
    }
    assert_eq!((opener.may_send_data(), opener.data(1)), (0, Err(NotNow::Length)));
    assert_eq!(opener.clone().fin(), Ok(()), "an end is no data");
    responder.handle(open(1)).unwrap();
    assert_eq!((responder.may_send_data(), responder.fin()), (0, Err(NotNow::NoStream)), "nothing before the answer");
    assert_eq!(responder.handle_data(EARLY_DATA), Ok(Piece::Deliver));
    assert_eq!(responder.clone().handle_data(1), Err(Violation::TooMuchEarlyData(1)));
    responder.accept(Opened::default()).unwrap();
    assert_eq!(responder.handle_data(1), Ok(Piece::Deliver));
    opener.handle(opened(1)).unwrap();
    assert_eq!(opener.may_send_data(), usize::MAX);
    for bad in [0, MAX_DATA + 1] {
        assert_eq!(opener.data(bad), Err(NotNow::Length));
    }
}

#[test]
fn local_requests_at_the_wrong_time_leave_the_lane_as_it_was() {
    let now = std::time::Instant::now();
    type Ask = fn(&mut Lane, std::time::Instant) -> Result<(), NotNow>;
    let cases: &[(End, At, Ask, NotNow)] = &[
        (End::Responder, At::Fresh, |l, _| l.open(open_request()).map(drop), NotNow::WrongEnd),
        (End::Opener, At::Served, |l, _| l.open(open_request()).map(drop), NotNow::Busy),
        (End::Opener, At::Cut, |l, _| l.open(open_request()).map(drop), NotNow::Busy),
        (End::Opener, At::Left, |l, _| l.open(open_request()).map(drop), NotNow::Retiring),
        (End::Opener, At::Asked, |l, _| l.accept(Opened::default()), NotNow::WrongEnd),
        (End::Responder, At::Served, |l, _| l.accept(Opened::default()), NotNow::NoStream),
        (End::Responder, At::Skipping, |l, _| l.accept(Opened::default()), NotNow::NoStream),
        (End::Responder, At::Served, |l, _| l.refuse(refusal()), NotNow::NoStream),
        (End::Responder, At::Asked, |l, _| l.fin(), NotNow::NoStream),
        (End::Opener, At::FinSent, |l, _| l.fin(), NotNow::NoStream),
        (End::Opener, At::Cut, |l, _| l.fin(), NotNow::NoStream),
        (End::Opener, At::Fresh, |l, now| l.reset(Reason::Idle, now), NotNow::NoStream),
        (End::Opener, At::BothFins, |l, now| l.reset(Reason::Idle, now), NotNow::NoStream),
        (End::Opener, At::Cut, |l, now| l.reset(Reason::Idle, now), NotNow::NoStream),
        (End::Responder, At::Asked, |l, now| l.reset(Reason::Idle, now), NotNow::Unanswered),
        (End::Opener, At::Fresh, |l, _| l.bye(Reason::Draining), NotNow::WrongEnd),
        (End::Responder, At::Left, |l, _| l.bye(Reason::Draining), NotNow::Retiring),
        (End::Responder, At::Fresh, |l, _| l.retire(), NotNow::WrongEnd),
        (End::Opener, At::FinSent, |l, _| l.data(1).map(drop), NotNow::Length),
        (End::Opener, At::Fresh, |l, _| l.data(1).map(drop), NotNow::Length),
    ];
    for (index, (end, at, ask, expected)) in cases.iter().enumerate() {
        let before = lane(*end, *at);
        let mut after = before.clone();
        assert_eq!(ask(&mut after, now), Err(*expected), "case {index}: {end:?} {at:?}");
        assert_eq!(after, before, "case {index}");
    }
}

#[test]
fn a_reset_that_is_not_answered_within_a_second_aborts_the_connection() {
    let (mut opener, _, now) = pair();
    opener.open(open_request()).unwrap();
    assert_eq!(opener.next_timeout(), None);
    opener.reset(Reason::Application, now).unwrap();
    assert_eq!(opener.next_timeout(), Some(now + RESET_ANSWER));
    assert_eq!(opener.handle_timeout(now + RESET_ANSWER - Duration::from_nanos(1)), Verdict::Wait);
    assert_eq!(opener.clone().handle_timeout(now + RESET_ANSWER), Verdict::Abort);
    opener.handle(Frame::Done(1)).unwrap();
    assert_eq!((opener.next_timeout(), opener.handle_timeout(now + 2 * RESET_ANSWER)), (None, Verdict::Wait));
}

#[test]
fn a_peer_that_cuts_has_said_done_and_starts_no_clock() {
    let mut lane = lane(End::Responder, At::Served);
    lane.handle(reset(1)).unwrap();
    assert_eq!(lane.next_timeout(), None);
}

#[test]
fn a_lane_lost_under_an_open_stream_cuts_it_and_is_never_an_end() {
    for end in [End::Opener, End::Responder] {
        for (at, expected) in [
            (At::Fresh, Lost::Unnoticed),
            (At::Asked, Lost::Cut),
            (At::Served, Lost::Cut),
            (At::FinSent, Lost::Cut),
            (At::FinGot, Lost::Cut),
            (At::BothFins, Lost::Unnoticed),
            (At::Cut, Lost::Unnoticed),
            (At::IdleAgain, Lost::Unnoticed),
        ] {
            let mut lane = lane(end, at);
            assert_eq!(lane.handle_lost(), expected, "{end:?} {at:?}");
            assert!(lane.is_idle() && lane.is_retiring() && !lane.has_to_transmit());
            assert_eq!(lane.handle_lost(), Lost::Unnoticed, "once");
        }
    }
}

#[test]
fn the_opener_retires_a_lane_when_it_is_idle() {
    let mut lane = lane(End::Opener, At::Served);
    lane.retire().unwrap();
    assert!(!lane.may_close(), "the stream lives on");
    lane.reset(Reason::Application, std::time::Instant::now()).unwrap();
    assert!(!lane.may_close());
    lane.handle(Frame::Done(1)).unwrap();
    assert!(lane.may_close());
    assert_eq!(lane.open(open_request()), Err(NotNow::Retiring));
}

#[test]
fn numbers_do_not_wrap() {
    let mut lane = lane(End::Opener, At::IdleAgain);
    lane.last = u32::MAX;
    assert_eq!(lane.open(open_request()), Err(NotNow::NumbersUsedUp));
    let mut lane = Lane::new(End::Responder);
    lane.last = u32::MAX;
    assert_eq!(lane.handle(open(1)), Err(Violation::OutOfOrder { n: 1, last: u32::MAX }));
}

#[test]
fn a_flood_of_pings_is_answered_once_and_takes_no_memory() {
    let mut lane = lane(End::Responder, At::Served);
    for id in 0..100_000 {
        lane.handle(Frame::Ping(id)).unwrap();
    }
    assert_eq!(sent(&mut lane), [Frame::Pong(99_999, None)]);
    lane.ping(1);
    lane.ping(2);
    assert_eq!(sent(&mut lane), [Frame::Ping(2)]);
}

#[test]
fn an_opener_that_does_not_wait_for_done_is_caught_and_what_is_queued_is_bounded() {
    let mut lane = Lane::new(End::Responder);
    lane.bye(Reason::Draining).unwrap();
    let mut lane2 = Lane::new(End::Responder);
    for frame in [open(1), reset(1), Frame::Done(1)] {
        lane2.handle(frame).unwrap();
    }
    assert_eq!(lane2.clone().handle(open(2)), Err(Violation::OpenWhileBusy { n: 2, last: 1 }), "our DONE has not left");
    sent(&mut lane2);
    assert!(lane2.handle(open(2)).is_ok());
    let longest = Opened { credit: u64::MAX, target: Detail::new(&"x".repeat(300)) };
    lane2.accept(longest).unwrap();
    lane2.fin().unwrap();
    lane2.handle(Frame::Ping(u64::MAX)).unwrap();
    lane2.handle(Frame::Fin(2)).unwrap();
    lane2.bye(Reason::Draining).unwrap();
    lane2.ping(u64::MAX);
    assert!(lane2.poll_transmit(&mut Vec::new()) < MAX_QUEUED);
}

#[test]
fn only_the_done_of_an_opener_whose_stream_is_over_at_both_ends_can_wait() {
    let (mut opener, mut responder, _) = pair();
    assert!(!opener.can_wait(), "there is nothing to say");
    opener.open(open_request()).unwrap();
    let pass =
        |from: &mut Lane, to: &mut Lane| sent(from).into_iter().for_each(|frame| drop(to.handle(frame).unwrap()));
    pass(&mut opener, &mut responder);
    responder.accept(Opened { credit: 0, target: Detail::new("") }).unwrap();
    pass(&mut responder, &mut opener);
    responder.fin().unwrap();
    pass(&mut responder, &mut opener);
    opener.fin().unwrap();
    assert!(!opener.can_wait(), "FIN and DONE are queued, and the responder waits for both");
    pass(&mut opener, &mut responder);
    assert!(!responder.can_wait(), "the opener waits for the responder's DONE");
    pass(&mut responder, &mut opener);
    assert!(opener.is_idle() && !opener.can_wait(), "all is said");

    opener.open(open_request()).unwrap();
    pass(&mut opener, &mut responder);
    responder.refuse(refusal()).unwrap();
    pass(&mut responder, &mut opener);
    assert!(opener.is_idle() && opener.can_wait());
    opener.ping(1);
    assert!(!opener.can_wait(), "who asks wants an answer");
    assert_eq!(sent(&mut opener), [Frame::Done(2), Frame::Ping(1)]);
}
