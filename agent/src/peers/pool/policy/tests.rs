mod steady;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::transport::message::tests::to;

const RULES: Rules = Rules { handshakes: 3, ..Rules::new(2, 6) };
const OLD: LaneEpoch = LaneEpoch { identity: 1, trust: 1 };
const NEW: LaneEpoch = LaneEpoch { identity: 2, trust: 1 };

fn drain(pool: &mut Policy) -> Vec<Action> {
    std::iter::from_fn(|| pool.poll()).collect()
}

fn up(source: Source, now: Instant) -> Policy {
    let mut pool = Policy::new(RULES);
    pool.handle_epoch(OLD, now);
    pool.handle_up(source, now);
    pool
}

/// A pool with its warm lanes, 1 and 2.
fn warm(now: Instant) -> Policy {
    let mut pool = up(Source::Dial, now);
    assert!(pool.is_short(now));
    assert_eq!(pool.poll_make(now), Some(Make::Dial(2)));
    pool.handle_made(LaneId(1), OLD, now);
    pool.handle_made(LaneId(2), OLD, now);
    assert_eq!((drain(&mut pool), pool.next_timeout(), pool.poll_make(now)), (vec![], None, None), "warm lanes stay");
    pool
}

#[test]
fn the_lane_that_became_idle_last_is_taken_first_and_the_warm_ones_are_made_up() {
    let now = Instant::now();
    let mut pool = warm(now);
    assert_eq!((pool.handle_take(now), pool.poll_make(now)), (Some(LaneId(2)), None), "it may come back soon");
    let late = pool.next_timeout().unwrap();
    assert_eq!((late, pool.poll_make(late)), (now + RULES.patience, Some(Make::Dial(1))));
    pool.handle_idle(LaneId(2), late);
    assert_eq!((pool.handle_take(late), pool.poll_make(late)), (Some(LaneId(2)), None), "one is under way already");
    assert_eq!((pool.handle_take(late), pool.handle_take(late)), (Some(LaneId(1)), None));
    assert_eq!(pool.poll_make(late), Some(Make::Dial(1)), "nothing is ready: at once");
}

#[test]
fn who_waits_takes_the_first_of_a_returned_and_a_fresh_lane_in_order_of_arrival() {
    let now = Instant::now();
    let mut pool = warm(now);
    for _ in 0..2 {
        pool.handle_take(now);
    }
    for waiter in 3..=4 {
        pool.handle_waiter(WaiterId(waiter), &to("a"), now);
    }
    assert_eq!(pool.poll_make(now), Some(Make::Dial(3)), "no more than three handshakes in flight");
    pool.handle_idle(LaneId(1), now);
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(3), LaneId(1))]);
    pool.handle_made(LaneId(3), OLD, now);
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(4), LaneId(3))]);
}

#[test]
fn who_waits_for_another_service_than_the_many_is_served_after_one_more_of_them() {
    let now = Instant::now();
    let mut pool = warm(now);
    while pool.handle_take(now).is_some() {}
    for waiter in 0..100 {
        pool.handle_waiter(WaiterId(waiter), &to("busy"), now);
    }
    pool.handle_waiter(WaiterId(100), &to("other"), now);
    pool.handle_waiter(WaiterId(101), &to("other"), now);
    let mut served = Vec::new();
    for _ in 0..5 {
        pool.handle_idle(LaneId(1), now);
        served.extend(drain(&mut pool));
    }
    assert_eq!(served, [0, 100, 1, 101, 2].map(|waiter| Action::Assign(WaiterId(waiter), LaneId(1))));
}

#[test]
fn lanes_are_capped_and_a_returned_one_serves_who_waits_at_the_cap() {
    let now = Instant::now();
    let mut pool = up(Source::Dial, now);
    for waiter in 0..10 {
        pool.handle_waiter(WaiterId(waiter), &to("a"), now);
    }
    let mut dials = 0;
    for lane in 0..6 {
        if let Some(Make::Dial(count)) = pool.poll_make(now) {
            dials += count;
        }
        pool.handle_made(LaneId(lane), OLD, now);
    }
    assert_eq!((dials, pool.poll_make(now)), (6, None));
    drain(&mut pool);
    pool.handle_idle(LaneId(3), now);
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(6), LaneId(3))]);
    pool.handle_given(LaneId(9), OLD, now);
    assert_eq!(drain(&mut pool), [Action::Retire(LaneId(9))], "one that nobody asked for");
}

/// A peer that has no room for more lanes takes each and closes it.
#[test]
fn lanes_that_end_before_they_were_of_use_are_made_again_with_growing_pauses() {
    for source in [Source::Dial, Source::Ask, Source::Either] {
        let mut now = Instant::now();
        let mut pool = up(source, now);
        let mut lane = 0;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(pool.poll_make(now).map(count), Some(2), "{source:?}");
            for _ in 0..2 {
                lane += 1;
                came(&mut pool, source, lane, now);
            }
            // An application has taken one of them, the other was idle.
            pool.handle_take(now);
            for lane in [lane - 1, lane] {
                pool.handle_lost(LaneId(lane), now);
            }
            assert_eq!(pool.poll_make(now), None, "{source:?}");
            let next = pool.next_timeout().unwrap();
            pauses.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000], "{source:?}");
        // One that has carried a stream to its end was of use, and so was one that has lived for a while.
        assert!(pool.poll_make(now).is_some());
        came(&mut pool, source, 98, now);
        pool.handle_take(now);
        pool.handle_idle(LaneId(98), now);
        pool.handle_lost(LaneId(98), now);
        assert!(pool.is_short(now), "{source:?}");
        pool.poll_make(now);
        came(&mut pool, source, 99, now);
        pool.handle_lost(LaneId(99), now + STABLE);
        assert!(pool.is_short(now + STABLE), "{source:?}");
    }
}

fn came(pool: &mut Policy, source: Source, lane: u64, now: Instant) {
    match source {
        Source::Ask => pool.handle_given(LaneId(lane), OLD, now),
        Source::Dial | Source::Either => pool.handle_made(LaneId(lane), OLD, now),
    }
}

fn count(make: Make) -> usize {
    match make {
        Make::Dial(count) | Make::Ask(count) => count,
    }
}

#[test]
fn a_pool_that_is_no_longer_used_shrinks_to_its_warm_lanes() {
    let now = Instant::now();
    let mut pool = warm(now);
    for lane in 3..=5 {
        pool.handle_given(LaneId(lane), OLD, now + Duration::from_secs(lane));
    }
    for lane in 1..=3 {
        let next = pool.next_timeout().unwrap();
        assert_eq!(next, now + RULES.idle + Duration::from_secs(lane + 2), "since when there is one too many");
        pool.handle_timeout(next);
        assert_eq!(drain(&mut pool), [Action::Retire(LaneId(lane))], "the oldest first");
    }
    assert_eq!((pool.counts(), pool.next_timeout()), ((2, 0), None));
}

#[test]
fn a_pool_whose_link_is_down_makes_and_keeps_nothing_and_serves_who_still_waits() {
    let now = Instant::now();
    let late = now + RULES.patience;
    let mut pool = warm(now);
    assert_eq!((pool.handle_take(now), pool.poll_make(late)), (Some(LaneId(2)), Some(Make::Dial(1))));
    pool.handle_down(now);
    assert_eq!((drain(&mut pool), pool.counts()), (vec![Action::Retire(LaneId(1))], (0, 1)));
    pool.handle_waiter(WaiterId(1), &to("a"), now);
    assert_eq!((pool.poll_make(now), pool.next_timeout()), (None, None));
    pool.handle_made(LaneId(3), OLD, now);
    pool.handle_idle(LaneId(2), now);
    let expected = [Action::Assign(WaiterId(1), LaneId(3)), Action::Retire(LaneId(2))];
    assert_eq!((drain(&mut pool), pool.counts()), (expected.to_vec(), (0, 1)));
    pool.handle_up(Source::Dial, now);
    assert_eq!(pool.poll_make(now), Some(Make::Dial(2)));
}

#[test]
fn a_changed_epoch_retires_idle_lanes_now_busy_ones_later_and_those_under_way_on_arrival() {
    let now = Instant::now();
    let late = now + RULES.patience;
    let mut pool = warm(now);
    assert_eq!((pool.handle_take(now), pool.poll_make(late)), (Some(LaneId(2)), Some(Make::Dial(1))));
    pool.handle_epoch(NEW, now);
    assert_eq!((drain(&mut pool), pool.poll_make(now)), (vec![Action::Retire(LaneId(1))], Some(Make::Dial(1))));
    pool.handle_made(LaneId(3), OLD, now);
    assert_eq!((drain(&mut pool), pool.poll_make(now)), (vec![Action::Retire(LaneId(3))], Some(Make::Dial(1))));
    pool.handle_idle(LaneId(2), now);
    assert_eq!(drain(&mut pool), [Action::Retire(LaneId(2))]);
    pool.handle_made(LaneId(4), NEW, now);
    assert_eq!((drain(&mut pool), pool.counts()), (vec![], (1, 0)));
}

#[test]
fn failed_dials_pause_longer_and_longer_until_one_works() {
    let mut now = Instant::now();
    let mut pool = up(Source::Dial, now);
    for expected in [50, 100, 200, 400, 800, 1000, 1000] {
        assert_eq!(pool.poll_make(now), Some(Make::Dial(2)));
        pool.handle_dial_failed(now);
        pool.handle_dial_failed(now);
        let next = pool.next_timeout().unwrap();
        assert_eq!(next - now, Duration::from_millis(expected), "what fails together counts once");
        assert_eq!(pool.poll_make(next - Duration::from_nanos(1)), None);
        now = next;
    }
    pool.poll_make(now);
    pool.handle_dial_failed(now);
    assert_eq!(pool.poll_make(now), None);
    pool.handle_up(Source::Dial, now);
    assert_eq!(pool.poll_make(now), Some(Make::Dial(1)), "the peer is there again, and one dial is still in flight");
    pool.handle_made(LaneId(1), OLD, now);
    pool.handle_made(LaneId(2), OLD, now);
    assert_eq!(pool.next_timeout(), None, "nothing is missing");
}

#[test]
fn a_peer_without_address_is_asked_for_its_lanes_again_if_they_do_not_come() {
    let now = Instant::now();
    let mut pool = up(Source::Ask, now);
    assert_eq!(pool.poll_make(now), Some(Make::Ask(2)));
    pool.handle_waiter(WaiterId(1), &to("a"), now);
    assert_eq!(pool.poll_make(now), Some(Make::Ask(1)));
    pool.handle_given(LaneId(1), OLD, now);
    assert_eq!((drain(&mut pool), pool.poll_make(now)), (vec![Action::Assign(WaiterId(1), LaneId(1))], None));
    pool.handle_up(Source::Ask, now);
    assert_eq!(
        pool.poll_make(now),
        Some(Make::Ask(2)),
        "a new control connection knows nothing of the old one's wishes"
    );
    let late = pool.next_timeout().unwrap();
    assert_eq!((late - now, pool.poll_make(late)), (RULES.answer, None));
    pool.handle_timeout(late);
    assert_eq!(pool.poll_make(late), Some(Make::Ask(2)));
    pool.handle_given(LaneId(2), OLD, late);
    pool.handle_given(LaneId(3), OLD, late);
    assert_eq!((pool.poll_make(late), pool.next_timeout()), (None, None));
}

#[test]
fn where_dialling_fails_the_peer_is_asked_and_where_that_brings_nothing_dialling_is_tried_again() {
    let now = Instant::now();
    let mut pool = up(Source::Either, now);
    assert_eq!(pool.poll_make(now), Some(Make::Dial(2)));
    pool.handle_dial_failed(now);
    assert_eq!(pool.poll_make(now), Some(Make::Ask(1)), "at once");
    pool.handle_dial_failed(now);
    assert_eq!(pool.poll_make(now), Some(Make::Ask(1)));
    pool.handle_given(LaneId(1), OLD, now);
    let late = pool.next_timeout().unwrap();
    pool.handle_timeout(late);
    assert_eq!((late, pool.poll_make(late)), (now + RULES.answer, Some(Make::Dial(1))));
}

proptest! {
    #[test]
    fn limits_hold_and_nobody_is_forgotten(
        acts in proptest::collection::vec((0u8..12, any::<u8>()), 1..400),
        source in prop_oneof![Just(Source::Dial), Just(Source::Ask), Just(Source::Either)],
    ) {
        let mut now = Instant::now();
        let mut pool = up(source, now);
        let (mut idle, mut busy, mut waiting) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        // Which services have been served since it was another's turn that waits.
        let mut passed = BTreeSet::new();
        let services = ["a", "b", "c"].map(to);
        let (mut dials, mut ids, mut epoch, mut is_up) = (Vec::new(), 0u64, OLD, true);
        for (what, much) in acts {
            let pick = |set: &BTreeSet<u64>| set.iter().nth(usize::from(much) % set.len().max(1)).copied();
            match what {
                0..=2 => {
                    ids += 1;
                    match pool.handle_take(now) {
                        Some(LaneId(lane)) => {
                            prop_assert!(idle.remove(&lane) && waiting.is_empty());
                            busy.insert(lane);
                        }
                        None => {
                            let service = usize::from(much) % services.len();
                            waiting.insert(ids, service);
                            pool.handle_waiter(WaiterId(ids), &services[service], now);
                        }
                    }
                }
                3 => if let Some(waiter) = pick(&waiting.keys().copied().collect()) {
                    let service = waiting.remove(&waiter).unwrap();
                    pool.handle_cancelled(WaiterId(waiter), &services[service]);
                    if !waiting.values().any(|&other| other == service) {
                        passed.retain(|&(other, _)| other != service);
                    }
                },
                4 => if much % 4 == 0 {
                    is_up = false;
                    pool.handle_down(now);
                } else {
                    is_up = true;
                    pool.handle_up(source, now);
                },
                5 => if let Some(made) = dials.pop() {
                    ids += 1;
                    idle.insert(ids);
                    pool.handle_made(LaneId(ids), made, now);
                },
                6 => if source != Source::Dial {
                    ids += 1;
                    idle.insert(ids);
                    pool.handle_given(LaneId(ids), epoch, now);
                },
                7 => if dials.pop().is_some() { pool.handle_dial_failed(now) },
                8 | 9 => if let Some(lane) = pick(&busy) {
                    busy.remove(&lane);
                    if much % 4 == 0 {
                        pool.handle_lost(LaneId(lane), now);
                    } else {
                        idle.insert(lane);
                        pool.handle_idle(LaneId(lane), now);
                    }
                },
                10 => if much % 8 == 0 {
                    epoch.trust += 1;
                    pool.handle_epoch(epoch, now);
                } else if let Some(lane) = pick(&idle) {
                    idle.remove(&lane);
                    pool.handle_lost(LaneId(lane), now);
                },
                _ => {
                    now = now.max(pool.next_timeout().unwrap_or(now)) + Duration::from_millis(u64::from(much));
                    pool.handle_timeout(now);
                }
            }
            while let Some(action) = pool.poll() {
                match action {
                    Action::Assign(waiter, lane) => {
                        let service = waiting.remove(&waiter.0).unwrap();
                        prop_assert!(idle.remove(&lane.0));
                        passed.retain(|&(other, _)| other != service);
                        for (&other, &its) in &waiting {
                            prop_assert!(its != service || other > waiter.0, "out of order");
                        }
                        for other in waiting.values().filter(|&&other| other != service).collect::<BTreeSet<_>>() {
                            prop_assert!(passed.insert((*other, service)), "out of turn");
                        }
                        busy.insert(lane.0);
                    }
                    Action::Retire(lane) => prop_assert!(idle.remove(&lane.0), "only idle lanes are retired"),
                }
            }
            let short = pool.is_short(now);
            let make = pool.poll_make(now);
            prop_assert!(short == make.is_some() && !pool.is_short(now) && (make.is_none() || is_up));
            match make {
                Some(Make::Dial(count)) => {
                    prop_assert!(source != Source::Ask);
                    dials.extend(std::iter::repeat_n(epoch, count));
                }
                Some(Make::Ask(_)) => prop_assert!(source != Source::Dial && pool.next_timeout().is_some()),
                None => {}
            }
            prop_assert_eq!((pool.counts(), pool.waiting.len()), ((idle.len(), busy.len()), waiting.len()));
            prop_assert_eq!(pool.dialling, dials.len());
            prop_assert!(idle.len() + busy.len() <= RULES.most && pool.dialling + pool.asked <= RULES.handshakes);
            prop_assert!(waiting.is_empty() || idle.is_empty(), "a lane lies idle while somebody waits");
            let coming = pool.dialling + pool.asked > 0 || pool.next_timeout().is_some();
            let served = !is_up || idle.len() + busy.len() >= RULES.most || coming;
            prop_assert!(waiting.is_empty() || served, "somebody waits for nothing");
            prop_assert!(idle.len() >= RULES.warm || served, "cold");
            prop_assert!(is_up || idle.is_empty(), "kept for nothing");
        }
    }
}
