//! All devices and links together: a frame that a host sends goes from link to device to link until it reaches a host.

use std::collections::{HashMap, VecDeque};

use super::conditions::Conditions;
use super::course::{Course, Phase};
use super::direction::{Counters, Direction, concerns};
use super::fate::{Fate, Watch};
use super::frame::Frame;
use super::heap::{Arrival, Heap};
use super::lateness::Lateness;
use super::random::Key;
use super::router::Router;
use super::switch::{Switch, Way};
use super::{Nanos, answer};
use crate::{Answer, Traffic};

/// What joins links.
#[derive(Debug)]
pub(crate) enum Device {
    /// An interface of a host: here frames come from and go to a kernel.
    Port {
        port: usize,
        host: u32,
    },
    Switch(Switch),
    Router(Box<Router>),
}

#[derive(Debug)]
struct Link {
    /// Device and interface.
    ends: [(usize, usize); 2],
    /// From the first end to the second, and back.
    ways: [OneWay; 2],
}

/// One way of a link, with the faults that lie on it.
#[derive(Debug)]
struct OneWay {
    direction: Direction,
    /// Its conditions as long as no fault changes them.
    own: Conditions,
    faults: Vec<(u64, Course)>,
    /// The direction may be under other conditions than these say.
    changed: bool,
}

/// What a fault is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// What the first host sends and the second would get, whichever way it goes.
    Pairs(Vec<(u32, u32)>),
    /// One way of a link, or more: link, and 0 for the way from its first end to its second.
    Ways(Vec<(usize, usize)>),
}

/// The network.
#[derive(Debug)]
pub(crate) struct Fabric {
    devices: Vec<Device>,
    /// Of each device's interfaces: the link, and at which end of it.
    sockets: Vec<Vec<(usize, usize)>>,
    ports: Vec<usize>,
    links: Vec<Link>,
    key: Key,
    heap: Heap,
    /// What arrives now.
    ready: VecDeque<(Nanos, Arrival)>,
    out: VecDeque<(usize, Frame)>,
    cuts: HashMap<(u32, u32), Vec<(u64, Course)>>,
    faults: u64,
    now: Nanos,
    pub(crate) lateness: Lateness,
    /// What hosts lost to faults between pairs of them.
    pub(crate) cut: u64,
}

impl Fabric {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            devices: Vec::new(),
            sockets: Vec::new(),
            ports: Vec::new(),
            links: Vec::new(),
            key: Key::new(seed),
            heap: Heap::default(),
            ready: VecDeque::new(),
            out: VecDeque::new(),
            cuts: HashMap::new(),
            faults: 0,
            now: 0,
            lateness: Lateness::default(),
            cut: 0,
        }
    }

    /// Adds a device, and returns its number. Ports are numbered apart, in the order in which they are added.
    pub(crate) fn add(&mut self, device: Device) -> usize {
        if let Device::Port { port, .. } = device {
            debug_assert_eq!(port, self.ports.len());
            self.ports.push(self.devices.len());
        }
        self.devices.push(device);
        self.sockets.push(Vec::new());
        self.devices.len() - 1
    }

    /// Joins two devices by a link, and returns its number. Each gets its next interface.
    pub(crate) fn join(&mut self, left: usize, right: usize, conditions: [Conditions; 2]) -> usize {
        let number = self.links.len();
        let ends = [(left, 0), (right, 1)].map(|(device, end)| {
            self.sockets[device].push((number, end));
            (device, self.sockets[device].len() - 1)
        });
        let key = self.key.with(number as u64);
        let [there, back] = conditions;
        let ways = [(0, there), (1, back)].map(|(way, own)| OneWay {
            direction: Direction::new(key.with(way), own.clone()),
            own,
            faults: Vec::new(),
            changed: false,
        });
        self.links.push(Link { ends, ways });
        number
    }

    /// A host's kernel has sent a frame through its interface `port`.
    pub(crate) fn handle(&mut self, port: usize, mut frame: Frame, now: Nanos) {
        self.now = self.now.max(now);
        let device = self.ports[port];
        if let Device::Port { host, .. } = self.devices[device] {
            frame.origin = Some(host);
        }
        self.send(device, 0, frame, self.now);
        self.settle();
    }

    /// Time has come to `now`.
    pub(crate) fn handle_timeout(&mut self, now: Nanos) {
        self.now = self.now.max(now);
        while let Some((due, arrival)) = self.heap.take(self.now) {
            self.lateness.record(self.now - due);
            self.ready.push_back((due, arrival));
            self.settle();
        }
    }

    /// When [`Fabric::handle_timeout`] has to be called.
    pub(crate) fn next_timeout(&self) -> Option<Nanos> {
        self.heap.next()
    }

    /// The next frame for a host's kernel, with the port where it waits for it.
    pub(crate) fn poll(&mut self) -> Option<(usize, Frame)> {
        self.out.pop_front()
    }

    fn settle(&mut self) {
        while let Some((due, arrival)) = self.ready.pop_front() {
            self.arrive(due, arrival);
        }
    }

    /// Sends a frame out of an interface at `at`, which is when it should have been sent: lateness of the wire does not
    /// add up from link to link.
    fn send(&mut self, device: usize, interface: usize, frame: Frame, at: Nanos) {
        let Some(&(link, end)) = self.sockets[device].get(interface) else { return };
        let Link { ends, ways } = &mut self.links[link];
        let (to, to_interface) = ends[1 - end];
        let way = &mut ways[end];
        let origin = frame.origin;
        let mut arrivals = Vec::new();
        let told = way.judge(frame, at, &mut arrivals);
        for (due, mut frame) in arrivals {
            frame.origin = origin;
            let arrival = Arrival { device: to, interface: to_interface, frame };
            if due <= self.now {
                self.ready.push_back((due, arrival));
            } else if let Some(Arrival { frame, .. }) = self.heap.put(due, arrival) {
                self.lateness.overflow();
                way.direction.note(&frame, at, Fate::Overflowed);
            }
        }
        if let Some(frame) = told {
            self.ready.push_back((at, Arrival { device, interface, frame }));
        }
    }

    fn arrive(&mut self, at: Nanos, Arrival { device, interface, frame }: Arrival) {
        let mut onward = Vec::new();
        match &mut self.devices[device] {
            &mut Device::Port { port, host } => self.deliver(port, host, frame),
            Device::Switch(switch) => match switch.forward(interface, &frame.bytes) {
                Way::Nowhere => {}
                Way::Port(to) => onward.push((to, frame)),
                Way::Everywhere => {
                    let others = (0..self.sockets[device].len()).filter(|&other| other != interface);
                    onward.extend(others.map(|other| (other, frame.clone())));
                }
            },
            Device::Router(router) => {
                let (link, end) = self.sockets[device][interface];
                if let Some(frame) = router.handle(interface, frame, at, &mut onward) {
                    let direction = &mut self.links[link].ways[1 - end].direction;
                    direction.dropped_behind(&frame, at, Fate::Filtered);
                }
            }
        }
        for (interface, frame) in onward {
            self.send(device, interface, frame, at);
        }
    }

    fn deliver(&mut self, port: usize, host: u32, frame: Frame) {
        if let Some(origin) = frame.origin
            && let Some(told) = self.cut_between(origin, host)
            && concerns(Traffic::All, &frame.bytes)
        {
            self.cut += 1;
            let (link, end) = self.sockets[self.ports[port]][0];
            self.links[link].ways[1 - end].direction.dropped_behind(&frame, self.now, Fate::Cut);
            // The answer comes back the way that the packet came.
            if told == Answer::Rejection
                && let Some(answer) = answer::answer(&frame, answer::Reason::Refused, None)
            {
                self.send(self.ports[port], 0, answer, self.now);
            }
            return;
        }
        self.out.push_back((port, frame));
    }

    fn cut_between(&self, from: u32, to: u32) -> Option<Answer> {
        let faults = self.cuts.get(&(from, to))?;
        faults.iter().find_map(|(_, course)| match course.at(self.now) {
            Phase::Cut(answer) => Some(*answer),
            Phase::Fine | Phase::Other(_) => None,
        })
    }

    /// Begins a fault at `now`, and returns its number.
    pub(crate) fn begin(&mut self, place: Place, course: Course, now: Nanos) -> u64 {
        self.faults += 1;
        let course = course.beginning(now);
        match place {
            Place::Pairs(pairs) => {
                for pair in pairs {
                    self.cuts.entry(pair).or_default().push((self.faults, course.clone()));
                }
            }
            Place::Ways(ways) => {
                for (link, way) in ways {
                    self.links[link].ways[way].faults.push((self.faults, course.clone()));
                }
            }
        }
        self.faults
    }

    /// Ends a fault, and leaves all others.
    pub(crate) fn end(&mut self, fault: u64) {
        self.cuts.retain(|_, faults| {
            faults.retain(|(number, _)| *number != fault);
            !faults.is_empty()
        });
        for way in self.links.iter_mut().flat_map(|link| &mut link.ways) {
            way.faults.retain(|(number, _)| *number != fault);
        }
    }

    /// Changes a link's own conditions, for the way from its first end to its second (0) or back (1).
    pub(crate) fn set_conditions(&mut self, link: usize, way: usize, conditions: Conditions) {
        let way = &mut self.links[link].ways[way];
        way.own = conditions;
        way.changed = true;
    }

    pub(crate) fn counters(&self, link: usize) -> [Counters; 2] {
        self.links[link].ways.each_ref().map(|way| way.direction.counters)
    }

    /// Has somebody told of every packet on a link: from its first end to its second, and back. False if somebody is
    /// already.
    pub(crate) fn watch(&mut self, link: usize, watches: [Box<dyn Watch>; 2]) -> bool {
        let ways = &mut self.links[link].ways;
        let free = ways.iter().all(|way| way.direction.watch.is_none());
        if free {
            ways.iter_mut().zip(watches).for_each(|(way, watch)| way.direction.watch = Some(watch));
        }
        free
    }

    /// Tells nobody any more.
    pub(crate) fn unwatch(&mut self, link: usize) {
        self.links[link].ways.iter_mut().for_each(|way| way.direction.watch = None);
    }

    /// Of every link.
    pub(crate) fn all_counters(&self) -> Vec<[Counters; 2]> {
        (0..self.links.len()).map(|link| self.counters(link)).collect()
    }

    /// Whether the kernel behind `port` may leave segmentation to the wire.
    pub(crate) fn takes_super_packets(&self, port: usize) -> bool {
        self.sockets[self.ports[port]].iter().all(|&(link, end)| {
            let way = &self.links[link].ways[end];
            !way.own.single_packets() && !way.faults.iter().any(|(_, course)| course.single_packets())
        })
    }

    pub(crate) fn router(&mut self, device: usize) -> Option<&mut Router> {
        match self.devices.get_mut(device)? {
            Device::Router(router) => Some(router),
            Device::Port { .. } | Device::Switch(_) => None,
        }
    }
}

impl OneWay {
    fn judge(&mut self, frame: Frame, at: Nanos, arrivals: &mut Vec<(Nanos, Frame)>) -> Option<Frame> {
        if self.faults.is_empty() && !self.changed {
            return self.direction.judge(frame, at, arrivals);
        }
        self.changed = !self.faults.is_empty();
        let mut conditions = &self.own;
        let mut up = true;
        // The latest fault decides on conditions; any one can cut.
        for (_, course) in &self.faults {
            match course.at(at) {
                Phase::Fine => {}
                Phase::Cut(_) => up = false,
                Phase::Other(other) => conditions = other,
            }
        }
        if conditions != self.direction.conditions() {
            self.direction.set_conditions(conditions.clone());
        }
        self.direction.set_up(up);
        self.direction.judge(frame, at, arrivals)
    }
}

#[cfg(test)]
#[path = "fabric_tests.rs"]
mod tests;
