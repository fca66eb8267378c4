//! Two ends joined by bytes that arrive in pieces of any size, random operations on both, against a model of what the
//! applications must see. Many streams follow each other, on lane after lane; lanes are lost at any moment.

use std::time::Instant;

use proptest::prelude::*;

use super::open_request;
use crate::reason::Reason;
use crate::transport::frame::{HEADER, Item, MAX_DATA, Parser};
use crate::transport::lane::machine::{EARLY_DATA, End, Event, Lane, Lost, Piece};
use crate::transport::message::{Detail, Frame, Opened, Refused};

const O: usize = 0;
const R: usize = 1;

/// One application's view of one stream, and what it sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct App {
    sent: usize,
    fin: bool,
    got: usize,
    eof: bool,
    cut: bool,
    moved: bool,
}

impl App {
    fn is_through(self) -> bool {
        self.cut || self.moved || (self.fin && self.eof)
    }
}

/// The byte at `index` of what `end` sends on stream `n` of the lane with number `lane`: wrong everywhere else.
fn byte(lane: usize, n: usize, end: usize, index: usize) -> u8 {
    let mixed = (lane * 31 + n * 7 + end + 1).wrapping_mul(0x9e37_79b9).wrapping_add(index.wrapping_mul(0x85eb_ca6b));
    (mixed >> 8).to_le_bytes()[0]
}

struct Ends {
    lanes: [Lane; 2],
    parsers: [Parser; 2],
    wires: [Vec<u8>; 2],
    apps: Vec<[App; 2]>,
    number: usize,
    now: Instant,
    served: Vec<bool>,
    finished: usize,
}

impl Ends {
    fn new() -> Self {
        let mut ends = Self {
            lanes: [Lane::new(End::Opener), Lane::new(End::Responder)],
            parsers: Default::default(),
            wires: Default::default(),
            apps: Vec::new(),
            number: 0,
            now: Instant::now(),
            served: Vec::new(),
            finished: 0,
        };
        ends.renew();
        ends
    }

    fn renew(&mut self) {
        self.lanes = [Lane::new(End::Opener), Lane::new(End::Responder)];
        self.parsers = Default::default();
        self.wires = Default::default();
        self.number += 1;
        for (apps, served) in self.apps.drain(..).zip(self.served.drain(..)) {
            assert!(!(apps[O].moved && served), "served here and moved elsewhere");
            self.finished += usize::from(apps[O].eof && apps[R].eof);
        }
    }

    fn current(&self, end: usize) -> Option<usize> {
        self.lanes[end].stream.as_ref().map(|stream| stream.n as usize - 1)
    }

    fn app(&mut self, end: usize) -> Option<&mut App> {
        let n = self.current(end)?;
        Some(&mut self.apps[n][end])
    }

    fn flush(&mut self, end: usize) {
        self.lanes[end].poll_transmit(&mut self.wires[end]);
    }

    fn send(&mut self, end: usize, len: usize) {
        let len = len.min(self.lanes[end].may_send_data()).min(MAX_DATA);
        if len == 0 {
            return;
        }
        self.flush(end);
        let head: [u8; HEADER] = self.lanes[end].data(len).unwrap();
        self.wires[end].extend(head);
        let (lane, n) = (self.number, self.current(end).unwrap());
        let app = &mut self.apps[n][end];
        self.wires[end].extend((app.sent..app.sent + len).map(|index| byte(lane, n, end, index)));
        app.sent += len;
        assert!(self.lanes[end].stream.as_ref().unwrap().answered || app.sent <= EARLY_DATA);
    }

    fn fin(&mut self, end: usize) {
        if self.lanes[end].fin().is_ok() {
            self.app(end).unwrap().fin = true;
        }
    }

    fn accept(&mut self) {
        if self.lanes[R].accept(Opened::default()).is_ok() {
            let n = self.current(R).unwrap();
            self.served[n] = true;
        }
    }

    fn deliver(&mut self, from: usize, len: usize) {
        let to = 1 - from;
        let len = len.min(self.wires[from].len());
        let bytes: Vec<u8> = self.wires[from].drain(..len).collect();
        let mut input = &bytes[..];
        loop {
            let before = self.current(to);
            match self.parsers[to].next(&mut input).unwrap() {
                None => break,
                Some(Item::Data(piece)) => {
                    if self.lanes[to].handle_data(piece.len()).unwrap() == Piece::Deliver {
                        let (lane, n) = (self.number, before.unwrap());
                        let app = &mut self.apps[n][to];
                        for &got in piece {
                            assert_eq!(got, byte(lane, n, from, app.got), "a byte of another place");
                            app.got += 1;
                        }
                    }
                }
                Some(Item::Control { kind, payload }) => {
                    let event = self.lanes[to].handle(Frame::decode(kind, payload).unwrap()).unwrap();
                    self.happened(to, before, event);
                }
            }
        }
    }

    fn happened(&mut self, to: usize, before: Option<usize>, event: Option<Event>) {
        match event {
            Some(Event::Fin) => {
                let far = self.apps[before.unwrap()][1 - to];
                let near = &mut self.apps[before.unwrap()][to];
                assert!(far.fin && !near.eof, "an end that nobody sent");
                assert_eq!(near.got, far.sent, "an end before all bytes");
                near.eof = true;
            }
            Some(Event::Reset(_) | Event::Refused(_)) => {
                let [opener, responder] = self.apps[before.unwrap()];
                assert!([opener, responder][1 - to].cut, "cut by nobody");
                self.apps[before.unwrap()][to].cut = true;
            }
            Some(Event::Bye { moved: true, .. }) => {
                let app = &mut self.apps[before.unwrap()][to];
                assert!(app.sent <= EARLY_DATA && app.got == 0, "no more than can be replayed");
                app.moved = true;
            }
            Some(Event::Idle) => assert!(self.apps[before.unwrap()][to].is_through(), "idle under an application"),
            _ => {}
        }
    }

    fn lose(&mut self) {
        for end in [O, R] {
            let through = self.app(end).is_none_or(|app| app.is_through());
            let expected = if through { Lost::Unnoticed } else { Lost::Cut };
            assert_eq!(self.lanes[end].handle_lost(), expected);
        }
        self.renew();
    }

    fn act(&mut self, (what, end, much): (u8, bool, u16)) {
        let (end, much, now) = (usize::from(end), usize::from(much), self.now);
        match what {
            0..=19 => self.flush(end),
            20..=49 => self.deliver(end, 1 + much % 97),
            50..=69 => self.deliver(end, much),
            70..=99 => self.send(end, 1 + much % 3000),
            100..=109 => self.send(end, MAX_DATA),
            110..=149 => {
                let opened = self.lanes[O].open(open_request()).is_ok();
                self.apps.resize(self.apps.len() + usize::from(opened), Default::default());
                self.served.resize(self.apps.len(), false);
            }
            150..=179 => self.accept(),
            180..=184 => {
                let refused = Refused { reason: Reason::NotPermitted, detail: Detail::new("no") };
                if self.lanes[R].refuse(refused).is_ok() {
                    self.app(R).unwrap().cut = true;
                }
            }
            185..=229 => self.fin(end),
            230..=239 => {
                let reset = self.lanes[end].reset(Reason::Application, now).is_ok();
                if let Some(app) = self.app(end) {
                    app.cut |= reset;
                }
            }
            240..=244 => self.lanes[end].ping(much as u64),
            245..=247 if much % 4 == 0 => {
                let _only_once = self.lanes[R].bye(Reason::Draining);
            }
            248..=250 if much % 4 == 0 => self.lanes[O].retire().unwrap(),
            251..=252 if much % 8 == 0 => self.lose(),
            _ => {}
        }
        if self.lanes[O].may_close() && self.lanes[R].is_idle() && self.wires.iter().all(Vec::is_empty) {
            self.lose();
        }
    }

    /// Both applications finish, and everything arrives.
    fn settle(&mut self) {
        loop {
            self.accept();
            for end in [O, R] {
                self.fin(end);
                self.flush(end);
            }
            if self.wires.iter().all(Vec::is_empty) {
                break;
            }
            for end in [O, R] {
                self.deliver(end, usize::MAX);
            }
        }
        assert!(self.lanes.iter().all(Lane::is_idle), "somebody waits for ever");
        for apps in &self.apps {
            let [opener, responder] = *apps;
            assert!(opener.is_through());
            assert!(responder.is_through() || (opener.moved || opener.cut) && responder == App::default());
        }
        self.lose();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn applications_see_what_they_must_whatever_the_order(
        acts in proptest::collection::vec((any::<u8>(), any::<bool>(), any::<u16>()), 1..1500),
    ) {
        let mut ends = Ends::new();
        for act in acts {
            ends.act(act);
        }
        ends.settle();
    }
}

#[test]
fn the_random_walk_gets_somewhere() {
    let mut random = 1u64;
    let mut ends = Ends::new();
    for _ in 0..200_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [_, _, _, what, end, low, high, _] = random.to_le_bytes();
        ends.act((what, end & 8 == 0, u16::from_le_bytes([low, high])));
    }
    ends.settle();
    assert!(ends.finished > 200 && ends.number > 50, "{} streams finished on {} lanes", ends.finished, ends.number);
}
