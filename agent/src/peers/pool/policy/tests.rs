use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy {
    warm: 2,
    most: 6,
    handshakes: 3,
    waiting: 10,
    idle: Duration::from_secs(60),
    pause: (Duration::from_millis(50), Duration::from_secs(1)),
};
const OLD: LaneEpoch = LaneEpoch { identity: 1, trust: 1 };
const NEW: LaneEpoch = LaneEpoch { identity: 2, trust: 1 };

fn drain(pool: &mut Pool) -> Vec<Action> {
    std::iter::from_fn(|| pool.poll()).collect()
}

fn dials(count: usize) -> Vec<Action> {
    vec![Action::Dial(OLD); count]
}

/// A wanted pool with its warm lanes, 1 and 2.
fn warm(now: Instant) -> Pool {
    let mut pool = Pool::new(POLICY, Source::Dial, OLD);
    pool.handle_wanted(true, now);
    assert_eq!(drain(&mut pool), dials(2));
    pool.handle_made(LaneId(1), OLD, now);
    pool.handle_made(LaneId(2), OLD, now);
    assert_eq!((drain(&mut pool), pool.next_timeout()), (vec![], None), "warm lanes stay");
    pool
}

#[test]
fn the_lane_that_became_idle_last_is_taken_first_and_the_warm_ones_are_made_up() {
    let now = Instant::now();
    let mut pool = warm(now);
    pool.handle_waiter(WaiterId(1), now).unwrap();
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(1), LaneId(2)), Action::Dial(OLD)]);
    pool.handle_idle(LaneId(2), now);
    pool.handle_waiter(WaiterId(2), now).unwrap();
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(2), LaneId(2))], "one is under way already");
}

#[test]
fn who_waits_takes_the_first_of_a_returned_and_a_fresh_lane_in_order_of_arrival() {
    let now = Instant::now();
    let mut pool = warm(now);
    for waiter in 1..=4 {
        pool.handle_waiter(WaiterId(waiter), now).unwrap();
    }
    let mut expected = vec![Action::Assign(WaiterId(1), LaneId(2)), Action::Dial(OLD)];
    expected.extend([Action::Assign(WaiterId(2), LaneId(1)), Action::Dial(OLD), Action::Dial(OLD)]);
    assert_eq!(drain(&mut pool), expected, "no more than three handshakes in flight");
    pool.handle_idle(LaneId(1), now);
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(3), LaneId(1))]);
    pool.handle_made(LaneId(3), OLD, now);
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(4), LaneId(3))]);
}

#[test]
fn lanes_are_capped_and_a_returned_one_serves_who_waits_at_the_cap() {
    let now = Instant::now();
    let mut pool = Pool::new(POLICY, Source::Dial, OLD);
    for waiter in 0..10 {
        pool.handle_waiter(WaiterId(waiter), now).unwrap();
    }
    assert_eq!(pool.handle_waiter(WaiterId(10), now), Err(Full));
    for lane in 0..6 {
        pool.handle_made(LaneId(lane), OLD, now);
    }
    assert_eq!(drain(&mut pool).iter().filter(|&&action| action == Action::Dial(OLD)).count(), 6);
    pool.handle_idle(LaneId(3), now);
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(6), LaneId(3))]);
    pool.handle_made(LaneId(9), OLD, now);
    assert_eq!(drain(&mut pool), [Action::Retire(LaneId(9))], "one that nobody asked for");
}

#[test]
fn a_pool_that_is_no_longer_used_shrinks_to_its_warm_lanes_and_an_unwanted_one_to_none() {
    let now = Instant::now();
    let mut pool = warm(now);
    for lane in 3..=5 {
        pool.handle_made(LaneId(lane), OLD, now + Duration::from_secs(lane));
    }
    assert_eq!(pool.next_timeout(), Some(now + POLICY.idle));
    pool.handle_timeout(now + POLICY.idle);
    assert_eq!(drain(&mut pool), [Action::Retire(LaneId(1)), Action::Retire(LaneId(2))], "the oldest first");
    let next = pool.next_timeout().unwrap();
    assert_eq!(next, now + POLICY.idle + Duration::from_secs(3));
    pool.handle_timeout(next);
    assert_eq!((drain(&mut pool), pool.next_timeout()), (vec![Action::Retire(LaneId(3))], None));
    pool.handle_wanted(false, next);
    let next = pool.next_timeout().unwrap();
    pool.handle_timeout(next + Duration::from_secs(1));
    assert_eq!(drain(&mut pool), [Action::Retire(LaneId(4)), Action::Retire(LaneId(5))]);
    assert_eq!((pool.counts(), pool.next_timeout()), ((0, 0), None));
}

#[test]
fn a_changed_epoch_retires_idle_lanes_now_busy_ones_later_and_those_under_way_on_arrival() {
    let now = Instant::now();
    let mut pool = warm(now);
    pool.handle_waiter(WaiterId(1), now).unwrap();
    drain(&mut pool);
    pool.handle_epoch(NEW, now);
    assert_eq!(drain(&mut pool), [Action::Retire(LaneId(1)), Action::Dial(NEW)]);
    pool.handle_made(LaneId(3), OLD, now);
    assert_eq!(drain(&mut pool), [Action::Retire(LaneId(3)), Action::Dial(NEW)]);
    pool.handle_idle(LaneId(2), now);
    assert_eq!(drain(&mut pool), [Action::Retire(LaneId(2))]);
    pool.handle_made(LaneId(4), NEW, now);
    assert_eq!((drain(&mut pool), pool.counts()), (vec![], (1, 0)));
}

#[test]
fn failed_dials_pause_longer_and_longer_until_one_works() {
    let now = Instant::now();
    let mut pool = Pool::new(POLICY, Source::Dial, OLD);
    pool.handle_waiter(WaiterId(1), now).unwrap();
    for expected in [50, 100, 200, 400, 800, 1000, 1000] {
        assert_eq!(drain(&mut pool), dials(1));
        pool.handle_dial_failed(now);
        let next = pool.next_timeout().unwrap();
        assert_eq!(next - now, Duration::from_millis(expected));
        pool.handle_timeout(next - Duration::from_nanos(1));
        assert_eq!(drain(&mut pool), []);
        pool.handle_timeout(next);
    }
    pool.handle_dial_failed(now);
    drain(&mut pool);
    pool.handle_up(now);
    assert_eq!(drain(&mut pool), dials(1), "the peer is there again");
    pool.handle_dial_failed(now);
    pool.handle_cancelled(WaiterId(1), now);
    assert_eq!(pool.next_timeout(), None, "nobody waits");
}

#[test]
fn a_peer_without_address_is_asked_for_its_lanes() {
    let now = Instant::now();
    let mut pool = Pool::new(POLICY, Source::Ask, OLD);
    pool.handle_wanted(true, now);
    assert_eq!(drain(&mut pool), [Action::Want(2)]);
    pool.handle_waiter(WaiterId(1), now).unwrap();
    assert_eq!(drain(&mut pool), [Action::Want(3)]);
    pool.handle_made(LaneId(1), OLD, now);
    assert_eq!(drain(&mut pool), [Action::Assign(WaiterId(1), LaneId(1))]);
    pool.handle_up(now);
    assert_eq!(drain(&mut pool), [Action::Want(2)], "a new control connection knows nothing of the old one's wishes");
}

proptest! {
    #[test]
    fn limits_hold_and_nobody_is_forgotten(
        acts in proptest::collection::vec((0u8..10, any::<u8>()), 1..400),
        asked in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let mut pool = Pool::new(POLICY, if asked { Source::Ask } else { Source::Dial }, OLD);
        let (mut idle, mut busy, mut waiting) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut coming, mut ids, mut epoch, mut wanted) = (Vec::new(), 0u64, OLD, false);
        for (what, much) in acts {
            let pick = |set: &BTreeSet<u64>| set.iter().nth(usize::from(much) % set.len().max(1)).copied();
            match what {
                0 | 1 => {
                    ids += 1;
                    if pool.handle_waiter(WaiterId(ids), now).is_ok() {
                        waiting.insert(ids);
                    }
                }
                2 => if let Some(waiter) = pick(&waiting) {
                    waiting.remove(&waiter);
                    pool.handle_cancelled(WaiterId(waiter), now);
                },
                3 => { wanted = much % 2 == 0; pool.handle_wanted(wanted, now) }
                4 | 5 => if let Some(made) = coming.pop() {
                    ids += 1;
                    idle.insert(ids);
                    pool.handle_made(LaneId(ids), made, now);
                },
                6 => if !asked && coming.pop().is_some() { pool.handle_dial_failed(now) },
                7 => if let Some(lane) = pick(&busy) {
                    busy.remove(&lane);
                    if much % 4 == 0 {
                        pool.handle_lost(LaneId(lane), now);
                    } else {
                        idle.insert(lane);
                        pool.handle_idle(LaneId(lane), now);
                    }
                },
                8 => if much % 8 == 0 {
                    epoch.trust += 1;
                    pool.handle_epoch(epoch, now);
                },
                _ => {
                    now = now.max(pool.next_timeout().unwrap_or(now)) + Duration::from_millis(u64::from(much));
                    pool.handle_timeout(now);
                }
            }
            while let Some(action) = pool.poll() {
                match action {
                    Action::Dial(with) => {
                        prop_assert!(with == epoch && !asked);
                        coming.push(with);
                    }
                    Action::Want(count) => {
                        prop_assert!(asked && count > coming.len());
                        coming.resize(count, epoch);
                    }
                    Action::Assign(waiter, lane) => {
                        prop_assert!(waiting.remove(&waiter.0) && idle.remove(&lane.0));
                        prop_assert!(waiting.iter().all(|&other| other > waiter.0), "out of turn");
                        busy.insert(lane.0);
                    }
                    Action::Retire(lane) => prop_assert!(idle.remove(&lane.0), "only idle lanes are retired"),
                }
            }
            prop_assert_eq!(pool.counts(), (idle.len(), busy.len()));
            prop_assert!(idle.len() + busy.len() <= POLICY.most && coming.len() <= POLICY.handshakes);
            prop_assert!(waiting.is_empty() || idle.is_empty(), "a lane lies idle while somebody waits");
            let served = idle.len() + busy.len() >= POLICY.most || !coming.is_empty() || pool.next_timeout().is_some();
            prop_assert!(waiting.is_empty() || served, "somebody waits for nothing");
            prop_assert!(!wanted || idle.len() >= POLICY.warm || served, "cold");
        }
    }
}
