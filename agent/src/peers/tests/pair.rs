//! Two machines, a network between them that delays and blocks, and time that the test moves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mesh_config::Transport;
use proptest::prelude::*;

use super::{name, silent};
use crate::peers::machine::{Action, CloseReason, ControlId, Peer};
use crate::peers::path::Way;
use crate::transport::message::Incarnation;

#[derive(Debug, Clone)]
enum Happens {
    /// The HELLO of a dial from this end arrives at the other, which answers.
    Asked {
        from: usize,
        way: Way,
        run: u64,
    },
    /// The acceptor learns of it: its HELLO may be at the dialler already.
    Accepted {
        to: usize,
        id: u64,
        way: Way,
        runs: [u64; 2],
    },
    /// The answer is there.
    Dialled {
        to: usize,
        id: u64,
        way: Way,
        runs: [u64; 2],
    },
    DialFailed {
        to: usize,
        way: Way,
        run: u64,
    },
    Closed {
        to: usize,
        id: u64,
        run: u64,
        /// The end that closed it keeps another.
        superseded: bool,
    },
}

struct Net {
    peers: [Peer; 2],
    runs: [u64; 2],
    now: Instant,
    /// What happens when, in order of time and then of cause.
    coming: BTreeMap<(Instant, u64), Happens>,
    blocked: [bool; 2],
    delays: Vec<u64>,
    addresses: [bool; 2],
    ids: u64,
    /// How often each end dialled each way.
    dials: [[u32; 2]; 2],
    /// When each end learns of a connection: nothing on it comes before that.
    known: BTreeMap<u64, [Instant; 2]>,
    /// How often each end has lost its link.
    downs: [u32; 2],
    /// Who has which connection open: both ends name it alike.
    open: [BTreeMap<u64, Way>; 2],
}

fn end(which: usize, has_address: bool, seed: u64, now: Instant) -> Peer {
    let names = ["alpha", "beta"];
    Peer::new(&name(names[which]), &name(names[1 - which]), has_address, Transport::Auto, seed, now)
}

impl Net {
    fn new(addresses: [bool; 2], delays: Vec<u64>) -> Self {
        let now = Instant::now();
        let mut peers = [end(0, addresses[1], 1, now), end(1, addresses[0], 2, now)];
        peers.iter_mut().for_each(|peer| peer.handle_want(true, now));
        Self {
            peers,
            runs: [1, 2],
            now,
            coming: BTreeMap::new(),
            blocked: [false, false],
            delays,
            addresses,
            ids: 0,
            dials: [[0; 2]; 2],
            known: BTreeMap::new(),
            downs: [0; 2],
            open: Default::default(),
        }
    }

    fn delay(&mut self) -> Duration {
        self.ids += 1;
        Duration::from_micros(500 + self.delays[usize::try_from(self.ids).unwrap() % self.delays.len()])
    }

    fn later(&mut self, after: Duration, what: Happens) {
        self.ids += 1;
        self.coming.insert((self.now + after, self.ids), what);
    }

    fn obey(&mut self) {
        for who in [0, 1] {
            while let Some(action) = self.peers[who].poll() {
                let delay = self.delay();
                if let Action::StartDial(way) = action {
                    self.dials[who][way as usize] += 1;
                }
                match action {
                    Action::StartDial(way) if self.blocked[way as usize] => {
                        let run = self.runs[who];
                        self.later(Duration::from_secs(3), Happens::DialFailed { to: who, way, run });
                    }
                    Action::StartDial(way) => {
                        self.later(delay, Happens::Asked { from: who, way, run: self.runs[who] });
                    }
                    Action::CloseControl(id, why) => self.close(who, id.0, delay, why == CloseReason::Duplicate),
                    Action::Down(_) => self.downs[who] += 1,
                    Action::Up { .. } | Action::Ended(_) => {}
                }
            }
        }
    }

    fn close(&mut self, who: usize, id: u64, delay: Duration, superseded: bool) {
        self.open[who].remove(&id);
        let at = (self.now + delay).max(self.known[&id][1 - who]);
        self.later(at - self.now, Happens::Closed { to: 1 - who, id, run: self.runs[1 - who], superseded });
    }

    fn happen(&mut self, what: Happens) {
        let now = self.now;
        let delay = self.delay();
        match what {
            Happens::Asked { from, way, run } => {
                if self.blocked[way as usize] {
                    self.later(Duration::from_secs(3), Happens::DialFailed { to: from, way, run });
                    return;
                }
                self.ids += 1;
                let id = self.ids;
                let runs = if from == 0 { [run, self.runs[1]] } else { [self.runs[0], run] };
                let learns = self.delay();
                let known = if from == 0 { [now + delay, now + learns] } else { [now + learns, now + delay] };
                self.known.insert(id, known);
                self.later(learns, Happens::Accepted { to: 1 - from, id, way, runs });
                self.later(delay, Happens::Dialled { to: from, id, way, runs });
            }
            // The way was cut before the connection was known here.
            Happens::Accepted { to, id, way, .. } if self.blocked[way as usize] => self.close(to, id, delay, false),
            Happens::Dialled { to, id, way, runs } if self.blocked[way as usize] => {
                self.close(to, id, delay, false);
                if self.runs[to] == runs[to] {
                    self.peers[to].handle_dial_failed(way, silent(), now);
                }
            }
            Happens::Accepted { to, id, way, runs } if self.runs[to] == runs[to] => {
                self.open[to].insert(id, way);
                self.peers[to].handle_accepted(ControlId(id), way, Incarnation(runs[1 - to]), now);
            }
            Happens::Dialled { to, id, way, runs } if self.runs[to] == runs[to] => {
                self.open[to].insert(id, way);
                self.peers[to].handle_dialled(ControlId(id), way, Incarnation(runs[1 - to]), now);
            }
            // Nobody is left to take the connection.
            Happens::Accepted { to, id, .. } | Happens::Dialled { to, id, .. } => self.close(to, id, delay, false),
            Happens::DialFailed { to, way, run } if self.runs[to] == run => {
                self.peers[to].handle_dial_failed(way, silent(), now);
            }
            Happens::Closed { to, id, run, superseded } if self.runs[to] == run => {
                self.open[to].remove(&id);
                if superseded {
                    self.peers[to].handle_superseded(ControlId(id), now);
                } else {
                    self.peers[to].handle_lost(ControlId(id), now);
                }
            }
            _ => {}
        }
    }

    fn restart(&mut self, who: usize) {
        self.runs[who] += 2;
        for id in std::mem::take(&mut self.open[who]).into_keys() {
            self.close(who, id, Duration::from_millis(1), false);
        }
        self.peers[who] = end(who, self.addresses[1 - who], self.runs[who], self.now);
    }

    fn cut(&mut self, way: Way) {
        for who in [0, 1] {
            let lost: Vec<_> = self.open[who].iter().filter(|(_, over)| **over == way).map(|(id, _)| *id).collect();
            for id in lost {
                // The other end notices at once, or as soon as it knows the connection.
                self.close(who, id, Duration::ZERO, false);
                self.peers[who].handle_lost(ControlId(id), self.now);
            }
        }
    }

    fn run(&mut self, until: Instant) {
        self.obey();
        loop {
            let next = self.coming.first_key_value().map(|(&(at, _), _)| at);
            let timers = self.peers.iter().filter_map(Peer::next_timeout);
            let Some(at) = timers.chain(next).min().filter(|&at| at <= until) else { break };
            self.now = self.now.max(at);
            if next.is_some_and(|at| at <= self.now) {
                if let Some((_, what)) = self.coming.pop_first() {
                    self.happen(what);
                }
            } else {
                let now = self.now;
                self.peers.iter_mut().for_each(|peer| peer.handle_timeout(now));
            }
            self.obey();
        }
        self.now = until;
    }
}

proptest! {
    #[test]
    fn two_that_dial_each_other_at_once_dial_no_more(delays in proptest::collection::vec(0u64..200_000, 1..40)) {
        let mut net = Net::new([true, true], delays);
        net.run(net.now + Duration::from_secs(100));
        prop_assert_eq!(net.dials.map(|ways| ways[Way::Tls as usize]), [1, 1]);
        let [alpha, beta] = net.peers.each_ref().map(|peer| peer.is_up().map(|up| up.0));
        prop_assert!(alpha.is_some() && alpha == beta);
        prop_assert_eq!(net.downs, [0, 0], "the link goes on while one of two connections ends");
    }

    #[test]
    fn both_ends_come_to_use_the_same_connection(
        acts in proptest::collection::vec((any::<u8>(), 0u64..5_000), 0..30),
        delays in proptest::collection::vec(0u64..200_000, 1..40),
        addresses in prop_oneof![Just([true, true]), Just([true, false]), Just([false, true])],
        blocked in prop_oneof![Just([false, false]), Just([true, false]), Just([false, true])],
    ) {
        let mut net = Net::new(addresses, delays);
        for (what, pause) in acts {
            match what % 8 {
                0 => net.restart(usize::from(what >> 7)),
                1 | 2 => {
                    let way = Way::ALL[usize::from(what >> 7)];
                    net.blocked[way as usize] ^= true;
                    if net.blocked[way as usize] {
                        net.cut(way);
                    }
                }
                3 => net.cut(Way::ALL[usize::from(what >> 7)]),
                4 => {
                    let now = net.now;
                    net.peers[usize::from(what >> 7)].handle_demand(now);
                }
                _ => {}
            }
            net.run(net.now + Duration::from_millis(pause));
        }
        net.blocked = blocked;
        for way in Way::ALL {
            if blocked[way as usize] {
                net.cut(way);
            }
        }
        net.run(net.now + Duration::from_secs(120));

        let [alpha, beta] = net.peers.each_ref().map(|peer| peer.is_up().expect("a way is open"));
        prop_assert_eq!(alpha.0, beta.0);
        prop_assert_eq!(alpha.1, if blocked[Way::Tls as usize] { Way::Quic } else { Way::Tls });
        prop_assert_eq!([beta.2, alpha.2], net.runs.map(Incarnation));
        for open in &net.open {
            prop_assert_eq!(open.keys().copied().collect::<Vec<_>>(), vec![alpha.0.0]);
        }
    }
}
