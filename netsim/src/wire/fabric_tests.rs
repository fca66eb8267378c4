use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::packet::tests::udp;

const MILLI: Nanos = 1_000_000;

fn mac(host: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, u8::try_from(host).unwrap() + 1]
}

fn ip(host: usize) -> String {
    format!("10.0.0.{}", host + 1)
}

/// A datagram from one host to another, which ends with its number.
fn frame(from: usize, to: usize, number: u32) -> Frame {
    let mut bytes = udp((&ip(from), 4000), (&ip(to), 4000), &number.to_be_bytes());
    bytes[..6].copy_from_slice(&mac(to));
    bytes[6..12].copy_from_slice(&mac(from));
    Frame::complete(bytes)
}

/// Hosts around a switch, all links under the same conditions.
fn star(seed: u64, hosts: u32, conditions: &Conditions) -> Fabric {
    let mut fabric = Fabric::new(seed);
    let switch = fabric.add(Device::Switch(Switch::default()));
    for host in 0..hosts {
        let port = fabric.add(Device::Port { port: host as usize, host });
        fabric.join(port, switch, [conditions.clone(), conditions.clone()]);
    }
    fabric
}

/// All that has come out: port and number.
fn drain(fabric: &mut Fabric) -> Vec<(usize, u32)> {
    std::iter::from_fn(|| fabric.poll())
        .map(|(port, frame)| (port, u32::from_be_bytes(*frame.bytes.last_chunk().unwrap())))
        .collect()
}

#[test]
fn delays_of_links_add_up_and_lateness_does_not() {
    let mut fabric = star(1, 2, &Conditions::clean().delay(Duration::from_millis(10)));
    fabric.handle(0, frame(0, 1, 7), 0);
    assert_eq!(fabric.next_timeout(), Some(10 * MILLI));
    // Four milliseconds late at the switch: the second link still ends at 20.
    fabric.handle_timeout(14 * MILLI);
    assert_eq!(fabric.next_timeout(), Some(20 * MILLI));
    fabric.handle_timeout(20 * MILLI - 1);
    assert_eq!(drain(&mut fabric), []);
    fabric.handle_timeout(20 * MILLI);
    assert_eq!(drain(&mut fabric), [(1, 7)]);
    assert_eq!(fabric.next_timeout(), None);
}

#[test]
fn faults_lie_above_one_another_and_leave_in_any_order() {
    let mut fabric = star(1, 2, &Conditions::clean());
    let passes = |fabric: &mut Fabric, now| {
        fabric.handle(0, frame(0, 1, 1), now);
        !drain(fabric).is_empty()
    };
    assert!(passes(&mut fabric, 0));
    let cut = || Course::constant(Phase::Cut(Answer::Silence));
    let pair = fabric.begin(Place::Pairs(vec![(0, 1)]), cut(), 0);
    let again = fabric.begin(Place::Pairs(vec![(0, 1), (1, 0)]), cut(), 0);
    let way = fabric.begin(Place::Ways(vec![(0, 0)]), cut(), 0);
    for fault in [pair, way, again] {
        assert!(!passes(&mut fabric, 1));
        fabric.end(fault);
    }
    assert!(passes(&mut fabric, 2));
    let lossy = Phase::Other(std::sync::Arc::new(Conditions::clean().loss(1.0)));
    let fault = fabric.begin(Place::Ways(vec![(0, 0)]), Course::constant(lossy), 3);
    assert!(!fabric.takes_super_packets(0) && fabric.takes_super_packets(1));
    assert!(!passes(&mut fabric, 3));
    fabric.end(fault);
    assert!(passes(&mut fabric, 4) && fabric.takes_super_packets(0));
}

#[derive(Debug, Clone)]
enum Step {
    Send(usize, usize),
    Wait(Nanos),
    Cut(u32, u32),
    Unplug(usize),
    Heal,
}

/// A fault: its number, and the pair or the link that it is about.
type Begun = (u64, Option<(u32, u32)>, Option<usize>);

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..4, 0_usize..4).prop_map(|(from, to)| Step::Send(from, to)),
        4 => (0..5 * MILLI).prop_map(Step::Wait),
        1 => (0_u32..4, 0_u32..4).prop_map(|(from, to)| Step::Cut(from, to)),
        1 => (0_usize..4).prop_map(Step::Unplug),
        1 => Just(Step::Heal),
    ]
}

proptest! {
    #[test]
    fn every_frame_arrives_once_in_time_at_its_host_or_was_cut(steps in prop::collection::vec(step(), 1..150)) {
        let delay = Duration::from_millis(2);
        let mut fabric = star(3, 4, &Conditions::clean().delay(delay));
        // Switches know where everyone is.
        for host in 0..4 {
            fabric.handle(host, frame(host, host, 0), 0);
        }
        fabric.handle_timeout(MILLI * 10);
        drain(&mut fabric);
        let (mut now, mut number) = (MILLI * 10, 0);
        // When each frame must be there, unless a fault was about at any time in between.
        let mut expected: Vec<(Nanos, usize, u32, bool)> = Vec::new();
        let mut faults: Vec<Begun> = Vec::new();
        let hit = |faults: &[Begun], from: usize, to: usize| {
            faults.iter().any(|(_, pair, link)| {
                pair.is_some_and(|(a, b)| a as usize == from && b as usize == to)
                    || link.is_some_and(|link| link == from || link == to)
            })
        };
        let mut route = std::collections::HashMap::new();
        for step in steps.into_iter().chain([Step::Wait(MILLI * 20)]) {
            match step {
                Step::Send(from, to) if from != to => {
                    number += 1;
                    fabric.handle(from, frame(from, to, number), now);
                    expected.push((now + 4 * MILLI, to, number, hit(&faults, from, to)));
                    route.insert(number, (from, to));
                }
                Step::Send(..) => {}
                Step::Wait(nanoseconds) => {
                    now += nanoseconds;
                    while let Some(due) = fabric.next_timeout().filter(|&due| due <= now) {
                        fabric.handle_timeout(due);
                    }
                }
                Step::Cut(from, to) => {
                    let course = Course::constant(Phase::Cut(Answer::Silence));
                    faults.push((fabric.begin(Place::Pairs(vec![(from, to)]), course, now), Some((from, to)), None));
                }
                Step::Unplug(link) => {
                    let course = Course::constant(Phase::Cut(Answer::Silence));
                    let place = Place::Ways(vec![(link, 0), (link, 1)]);
                    faults.push((fabric.begin(place, course, now), None, Some(link)));
                }
                Step::Heal => faults.drain(..).for_each(|(fault, ..)| fabric.end(fault)),
            }
            for frame in &mut expected {
                let (from, to) = route[&frame.2];
                frame.3 |= hit(&faults, from, to) && frame.0 >= now;
            }
            for (port, number) in drain(&mut fabric) {
                let place = expected.iter().position(|frame| frame.2 == number);
                prop_assert!(place.is_some(), "{} twice or from nowhere", number);
                let (due, to, ..) = expected.remove(place.unwrap());
                prop_assert_eq!(to, port);
                prop_assert!(due <= now, "too early");
            }
        }
        // What has not come was under way during a fault.
        prop_assert!(expected.iter().all(|(_, _, _, may_be_lost)| *may_be_lost), "{:?}", expected);
    }
}
