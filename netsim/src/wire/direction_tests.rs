use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::wire::frame::{Checksum, Offload, Segmented, Segments};
use crate::wire::packet::tests::{tcp, udp};

const MS: Duration = Duration::from_millis(1);
const MILLI: Nanos = 1_000_000;

fn direction(conditions: Conditions) -> Direction {
    Direction::new(Key::new(1).with(2), conditions)
}

/// The `n`-th datagram of a stream, which carries its number.
fn nth(n: u32) -> Frame {
    Frame::complete(udp(("10.0.0.1", 50_000), ("10.0.0.2", 53), &n.to_be_bytes()))
}

fn number(frame: &Frame) -> u32 {
    u32::from_be_bytes(*frame.bytes.last_chunk().unwrap())
}

/// What arrives of `count` datagrams, one a millisecond: number and time, in the order in which it was decided.
fn paced(direction: &mut Direction, count: u32) -> Vec<(u32, Nanos)> {
    let mut arrivals = Vec::new();
    for n in 0..count {
        direction.judge(nth(n), Nanos::from(n) * MILLI, &mut arrivals);
    }
    arrivals.iter().map(|(due, frame)| (number(frame), *due)).collect()
}

fn numbers(direction: &mut Direction, count: u32) -> Vec<u32> {
    paced(direction, count).into_iter().map(|(number, _)| number).collect()
}

#[test]
fn a_clean_link_passes_everything_at_once_and_a_delay_shifts_it() {
    let all: Vec<(u32, Nanos)> = (0..10).map(|n| (n, Nanos::from(n) * MILLI)).collect();
    assert_eq!(paced(&mut direction(Conditions::clean()), 10), all);
    let late: Vec<(u32, Nanos)> = all.iter().map(|&(n, at)| (n, at + 20 * MILLI)).collect();
    assert_eq!(paced(&mut direction(Conditions::clean().delay(20 * MS)), 10), late);
}

#[test]
fn the_same_seed_loses_the_same_packets_and_another_does_not() {
    let lossy = || Conditions::clean().loss(0.1);
    let first = numbers(&mut direction(lossy()), 1000);
    assert!((860..940).contains(&first.len()), "{}", first.len());
    assert_eq!(first, numbers(&mut direction(lossy()), 1000));
    assert_ne!(first, numbers(&mut Direction::new(Key::new(2).with(2), lossy()), 1000));
}

#[test]
fn other_flows_do_not_change_what_a_flow_loses() {
    let alone = numbers(&mut direction(Conditions::clean().loss(0.1)), 1000);
    let mut shared = direction(Conditions::clean().loss(0.1));
    let mut arrivals = Vec::new();
    for n in 0..1000 {
        shared.judge(nth(n), 0, &mut arrivals);
        shared.judge(Frame::complete(tcp(("10.0.0.1", 50_001), ("10.0.0.2", 80), 2, b"")), 0, &mut Vec::new());
    }
    assert_eq!(alone, arrivals.iter().map(|(_, frame)| number(frame)).collect::<Vec<_>>());
}

#[test]
fn bursts_have_the_length_and_share_that_was_asked_for() {
    let loss = Loss::Bursts { enter: 0.01, leave: 0.25, good: 0.0, bad: 1.0 };
    let got = numbers(&mut direction(Conditions::clean().lose(loss)), 100_000);
    let share = 1.0 - got.len() as f64 / 100_000.0;
    assert!((0.033..0.044).contains(&share), "0.01 / 0.26 = 0.038 asked, {share} got");
    let bursts: Vec<u32> = got.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|&lost| lost > 0).collect();
    let mean = f64::from(bursts.iter().sum::<u32>()) / bursts.len() as f64;
    assert!((3.5..4.5).contains(&mean), "4 asked, {mean} got");
}

#[test]
fn jitter_keeps_to_its_distribution_and_the_order() {
    let table: Arc<[Duration]> = [0, 10, 20, 30].map(|n| n * MS).into();
    for (jitter, low, high, mean) in [
        (Jitter::Uniform(10 * MS), 40, 60, 50),
        (Jitter::Normal(2 * MS), 38, 62, 50),
        (Jitter::Table(table), 50, 80, 65),
    ] {
        let mut direction = direction(Conditions::clean().delay(50 * MS).jitter(jitter));
        let mut arrivals = Vec::new();
        // So far apart that none has to wait for the one before.
        for n in 0..2000 {
            direction.judge(nth(n), Nanos::from(n) * 100 * MILLI, &mut arrivals);
        }
        let delays: Vec<u64> = (0..).zip(&arrivals).map(|(n, (due, _))| due - n * 100 * MILLI).collect();
        assert!(delays.iter().all(|delay| (low * MILLI..=high * MILLI).contains(delay)));
        let got = delays.iter().sum::<u64>() / 2000;
        assert!(got.abs_diff(mean * MILLI) < MILLI, "{mean} ms asked, {got} ns got");
    }
    let dense = direction(Conditions::clean().delay(50 * MS).jitter(Jitter::Uniform(10 * MS)));
    let got = paced(&mut { dense }, 500);
    assert!(got.is_sorted_by_key(|&(_, due)| due));
}

#[test]
fn packets_held_back_are_overtaken() {
    let mut link = direction(Conditions::clean().reorder(0.1, 5 * MS));
    let mut got = paced(&mut link, 1000);
    got.sort_by_key(|&(_, due)| due);
    assert_eq!(got.len(), 1000);
    let late = got.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    assert!((50..150).contains(&late), "{late}");
    assert!((80..120).contains(&link.counters.reordered));
}

#[test]
fn duplicates_come_twice() {
    let mut link = direction(Conditions::clean().duplicate(0.1));
    let got = numbers(&mut link, 1000);
    assert_eq!(got.len() as u64, 1000 + link.counters.duplicated);
    assert!((70..130).contains(&link.counters.duplicated));
}

#[test]
fn a_corrupted_packet_differs_in_one_bit_and_its_receiver_can_notice() {
    let mut link = direction(Conditions::clean().corrupt(1.0));
    for n in 0..200 {
        let mut frame = nth(n);
        // As a kernel leaves it: the sum of the pseudo-header in the place of the checksum.
        frame.bytes[40..42].fill(0);
        frame.offload.checksum = Some(Checksum { start: 34, offset: 6 });
        let mut whole = frame.clone();
        checksum::complete(&mut whole);
        let mut arrivals = Vec::new();
        link.judge(frame, 0, &mut arrivals);
        let got = &arrivals[0].1;
        assert_eq!(got.offload, Offload::default());
        let bits: u32 = got.bytes.iter().zip(&whole.bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bits, &got.bytes[..14]), (1, &whole.bytes[..14]));
    }
}

#[test]
fn a_bottleneck_spaces_packets_and_drops_what_its_queue_cannot_hold() {
    // 46 bytes are 368 bits: at 368 kbit/s one a millisecond.
    let mut link = direction(Conditions::clean().rate(368_000, 46 * 5));
    let mut arrivals = Vec::new();
    for n in 0..20 {
        link.judge(nth(n), 0, &mut arrivals);
    }
    let due: Vec<Nanos> = arrivals.iter().map(|(due, _)| due / MILLI).collect();
    assert_eq!(due, [1, 2, 3, 4, 5]);
    assert_eq!(link.counters.queue_full, 15);
    arrivals.clear();
    link.judge(nth(20), 100 * MILLI, &mut arrivals);
    assert_eq!(arrivals[0].0, 101 * MILLI, "an empty queue adds nothing");
}

#[test]
fn a_super_packet_is_cut_up_where_packets_are_judged_one_by_one() {
    let big = || {
        let bytes = tcp(("10.0.0.1", 50_000), ("10.0.0.2", 80), 0x10, &[7; 10_000]);
        let segments = Some(Segments { protocol: Segmented::Tcp4, congested: false, headers: 54, size: 1000 });
        let checksum = Some(Checksum { start: 34, offset: 16 });
        Frame { bytes, offload: Offload { segments, checksum, verified: false }, origin: None }
    };
    for (conditions, count) in [
        (Conditions::clean(), 1),
        (Conditions::clean().delay(MS), 1),
        (Conditions::clean().black_hole(1040), 1),
        (Conditions::clean().black_hole(1039), 0),
        (Conditions::clean().rate(1_000_000, 1 << 20), 10),
        (Conditions::clean().duplicate(1.0), 20),
    ] {
        let mut arrivals = Vec::new();
        direction(conditions.clone()).judge(big(), 0, &mut arrivals);
        assert_eq!(arrivals.len(), count, "{conditions:?}");
    }
}

#[test]
fn blocked_traffic_vanishes_or_is_answered_and_the_rest_passes() {
    let frames = || [nth(0), Frame::complete(tcp(("10.0.0.1", 50_000), ("10.0.0.2", 80), 2, b""))];
    let arp = Frame::complete([&[255; 6][..], &[2; 6], &[8, 6], &[0; 28]].concat());
    for (traffic, udp_passes, tcp_passes) in
        [(Traffic::All, false, false), (Traffic::Udp, false, true), (Traffic::Tcp, true, false)]
    {
        for told in [Answer::Silence, Answer::Rejection] {
            let mut link = direction(Conditions::clean().block(traffic, told));
            for (frame, passes) in frames().into_iter().zip([udp_passes, tcp_passes]) {
                let mut arrivals = Vec::new();
                let answered = link.judge(frame, 0, &mut arrivals).is_some();
                assert_eq!((!arrivals.is_empty(), answered), (passes, !passes && told == Answer::Rejection));
            }
            let mut arrivals = Vec::new();
            link.judge(arp.clone(), 0, &mut arrivals);
            assert_eq!(arrivals.len(), 1, "neighbours are still found");
        }
    }
    let mut down = direction(Conditions::clean());
    down.set_up(false);
    let mut arrivals = Vec::new();
    down.judge(arp, 0, &mut arrivals);
    assert!(arrivals.is_empty(), "nothing at all passes where the link is down");
}

fn any_conditions() -> impl Strategy<Value = Conditions> {
    let share = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
    let delays = (0_u32..50, prop_oneof![Just(Jitter::None), Just(Jitter::Uniform(3 * MS)), Just(Jitter::Normal(MS))]);
    let rate = prop::option::of((1_u64..10_000_000, 0_u64..100_000));
    (delays, share.clone(), share.clone(), share.clone(), share, rate).prop_map(
        |((delay, jitter), loss, duplicate, corrupt, reorder, rate)| {
            let all = Conditions::clean().delay(delay * MS).jitter(jitter).loss(loss).duplicate(duplicate);
            let all = all.corrupt(corrupt).reorder(reorder, 2 * MS);
            rate.map_or(all.clone(), |(rate, queue)| all.rate(rate, queue))
        },
    )
}

proptest! {
    #[test]
    fn every_packet_is_accounted_for_and_none_arrives_before_it_was_sent(
        steps in prop::collection::vec((any_conditions(), prop::collection::vec(0_u64..3 * MILLI, 0..30)), 1..6),
        seed: u64,
    ) {
        let mut link = Direction::new(Key::new(seed), Conditions::clean());
        let (mut now, mut sent, mut arrived) = (0, 0, 0);
        for (conditions, gaps) in steps {
            link.set_conditions(conditions);
            for gap in gaps {
                now += gap;
                let mut arrivals = Vec::new();
                link.judge(nth(sent), now, &mut arrivals);
                sent += 1;
                arrived += arrivals.len() as u64;
                prop_assert!(arrivals.iter().all(|&(due, _)| due >= now));
                prop_assert!(arrivals.len() <= 2);
            }
        }
        let counted = link.counters;
        prop_assert_eq!(counted.offered, u64::from(sent));
        prop_assert_eq!(arrived, counted.offered + counted.duplicated - counted.lost - counted.queue_full);
    }
}

/// Counts what it is told.
#[derive(Debug, Default, Clone)]
struct Told(Arc<std::sync::Mutex<Vec<Fate>>>);

impl Watch for Told {
    fn see(&mut self, _: &[u8], _: Nanos, fate: Fate) {
        self.0.lock().unwrap().push(fate);
    }
}

proptest! {
    #[test]
    fn whoever_watches_is_told_once_of_every_packet_and_changes_nothing(
        chances in prop::array::uniform4(0.0..0.4_f64),
        slow in any::<bool>(),
        shut in prop::option::of(0..4_u8),
    ) {
        let [loss, duplicate, corrupt, reorder] = chances;
        let mut conditions = Conditions::clean().loss(loss).duplicate(duplicate).corrupt(corrupt).reorder(reorder, MS);
        conditions = if slow { conditions.rate(300_000, 200) } else { conditions };
        conditions = match shut {
            Some(0) => conditions.black_hole(10),
            Some(1) => conditions.block(Traffic::Udp, Answer::Silence),
            Some(2) => Conditions::clean(),
            _ => conditions,
        };
        let (mut watched, mut alone) = (direction(conditions.clone()), direction(conditions));
        let told = Told::default();
        watched.watch = Some(Box::new(told.clone()));
        watched.set_up(shut != Some(3));
        alone.set_up(shut != Some(3));
        let got = paced(&mut watched, 300);
        prop_assert_eq!(&got, &paced(&mut alone, 300));
        let counters = watched.counters;
        prop_assert_eq!(counters, alone.counters);
        let told = told.0.lock().unwrap();
        let count = |which: fn(&Fate) -> bool| told.iter().filter(|fate| which(fate)).count() as u64;
        let goes_on = |fate: &Fate| matches!(fate, Fate::Passed | Fate::Corrupted(_) | Fate::HeldBack(_));
        prop_assert_eq!(count(|fate| *fate == Fate::Lost), counters.lost);
        prop_assert_eq!(count(|fate| *fate == Fate::QueueFull), counters.queue_full);
        prop_assert_eq!(count(|fate| *fate == Fate::Down), counters.down);
        prop_assert_eq!(count(|fate| matches!(fate, Fate::Blocked(_))), counters.blocked);
        prop_assert_eq!(count(|fate| matches!(fate, Fate::TooLong(_))), counters.too_long);
        prop_assert_eq!(counters.offered + counters.duplicated - counters.dropped(), got.len() as u64);
        prop_assert_eq!(count(|fate| *fate == Fate::Duplicated), counters.duplicated);
        prop_assert_eq!(count(goes_on) + counters.duplicated, got.len() as u64);
        prop_assert_eq!(told.len() as u64, counters.offered + counters.duplicated);
    }
}
