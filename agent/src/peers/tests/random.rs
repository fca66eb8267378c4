//! Random operations against what must always hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mesh_config::Transport;
use proptest::prelude::*;

use super::{peer, silent};
use crate::peers::machine::{Action, BACK_OFF_UNWANTED, ControlId, Peer, TLS_PROBE};
use crate::peers::path::Way;
use crate::transport::message::Incarnation;

/// A world that knows no more than which dials run and which connections are open.
struct World {
    peer: Peer,
    now: Instant,
    has_address: bool,
    transport: Transport,
    dialling: [bool; 2],
    open: BTreeMap<u64, Incarnation>,
    up: Option<(u64, Incarnation)>,
    /// The peer has closed it and keeps another.
    parted: bool,
    ended: Vec<Incarnation>,
    ids: u64,
}

impl World {
    fn act(&mut self, (what, much): (u8, u8)) {
        let way = if much % 2 == 0 { Way::Tls } else { Way::Quic };
        let run = Incarnation(u64::from(much / 2 % 4));
        let now = self.now;
        match what % 10 {
            0 | 1 if self.dialling[way as usize] => {
                self.dialling[way as usize] = false;
                let id = self.arrive(run);
                self.peer.handle_dialled(id, way, run, now);
            }
            2 | 3 if self.dialling[way as usize] => {
                self.dialling[way as usize] = false;
                self.peer.handle_dial_failed(way, silent(), now);
            }
            4 => {
                let id = self.arrive(run);
                self.peer.handle_accepted(id, way, run, now);
            }
            5 => {
                let id = ControlId(u64::from(much) % (self.ids + 1));
                if self.open.remove(&id.0).is_some() && much % 3 == 0 {
                    self.parted = true;
                    self.peer.handle_superseded(id, now);
                } else {
                    self.peer.handle_lost(id, now);
                }
            }
            6 => self.peer.handle_want(much % 3 == 0, now),
            7 if much % 8 == 0 => {
                self.has_address = much % 16 == 0;
                self.transport = [Transport::Auto, Transport::Tls, Transport::Quic][usize::from(much / 16) % 3];
                self.peer.handle_config(self.has_address, self.transport, now);
            }
            7 => self.peer.handle_demand(now),
            8 => {
                if let Some(at) = self.peer.next_timeout() {
                    self.now = self.now.max(at);
                    self.peer.handle_timeout(self.now);
                }
            }
            _ => {
                self.now += Duration::from_millis(u64::from(much) * 10);
                self.peer.handle_timeout(self.now);
            }
        }
        self.obey();
    }

    fn arrive(&mut self, run: Incarnation) -> ControlId {
        self.ids += 1;
        self.open.insert(self.ids, run);
        ControlId(self.ids)
    }

    fn obey(&mut self) {
        let was_up = self.up;
        while let Some(action) = self.peer.poll() {
            match action {
                Action::StartDial(way) => {
                    assert!(self.has_address && way.is_allowed(self.transport), "{way} must not be dialled");
                    assert!(!std::mem::replace(&mut self.dialling[way as usize], true), "two dials of one way");
                }
                Action::CloseControl(id, _) => {
                    assert!(self.open.remove(&id.0).is_some(), "closes what is not open");
                    if self.up.is_some_and(|(up, _)| up == id.0) {
                        // Followed by Down or by the Up of another.
                        continue;
                    }
                }
                Action::Up { id, way, incarnation } => {
                    assert!(way.is_allowed(self.transport));
                    assert_eq!(self.open.get(&id.0), Some(&incarnation));
                    let back = was_up.is_none();
                    assert!(back || !self.ended.contains(&incarnation), "a former run while the newer is up");
                    self.ended.retain(|&ended| ended != incarnation);
                    assert!(self.up.is_none_or(|(_, run)| run == incarnation), "another run without Down");
                    self.up = Some((id.0, incarnation));
                    self.parted = false;
                }
                Action::Down(run) => {
                    assert_eq!(self.up.take().map(|(_, up)| up), Some(run));
                    self.parted = false;
                }
                Action::Ended(run) => {
                    assert!(self.up.is_none() && !self.ended.contains(&run));
                    self.ended.push(run);
                }
            }
        }
        assert_eq!(self.peer.is_up().map(|(id, _, run)| (id.0, run)), self.up);
        assert_eq!(
            self.open.keys().copied().collect::<Vec<_>>(),
            self.up.map(|(id, _)| id).filter(|_| !self.parted).into_iter().collect::<Vec<_>>()
        );
        assert_eq!(self.peer.is_dialling(), self.dialling.contains(&true));
        // Something always goes on: a dial, or a time at which one begins.
        let wants_more = self.has_address
            && self.peer.is_up().is_none_or(|(_, way, _)| way == Way::Quic && self.transport == Transport::Auto);
        if wants_more && self.dialling == [false; 2] {
            let wait = self.peer.next_timeout().expect("nothing under way and nothing planned") - self.now;
            assert!(wait <= BACK_OFF_UNWANTED.max(TLS_PROBE), "{wait:?}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_one_connection_is_in_use_or_the_next_dial_is_planned(
        acts in proptest::collection::vec(any::<(u8, u8)>(), 1..300),
        kind in 0usize..6,
    ) {
        let now = Instant::now();
        let (has_address, transport) = (kind < 3, [Transport::Auto, Transport::Tls, Transport::Quic][kind % 3]);
        let mut world = World {
            peer: peer(has_address, transport, now),
            now,
            has_address,
            transport,
            dialling: [false; 2],
            open: BTreeMap::new(),
            up: None,
            parted: false,
            ended: Vec::new(),
            ids: 0,
        };
        world.obey();
        for act in acts {
            world.act(act);
        }
    }
}
