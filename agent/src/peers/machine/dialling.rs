//! When a peer is dialled, and which way.

use std::time::{Duration, Instant};

use super::{Action, BACK_OFF, BACK_OFF_UNWANTED, BACK_OFF_WANTED, Peer, TLS_PROBE, TLS_PROBE_FIRST};
use crate::peers::path::{DialFailure, Round, Way};

impl Peer {
    pub(super) fn way_failed(&mut self, way: Way, failure: DialFailure, now: Instant) {
        // While the link is up, only what keeps it from a better way is of interest.
        let tells = way.is_allowed(self.transport) && (self.moved || self.up.as_ref().is_none_or(|up| way < up.way));
        self.errors[way.index()] = tells.then_some(failure);
        if let Some(round) = &mut self.round {
            round.handle_failed(way);
            if round.has_failed() {
                self.round = None;
                self.failed(now);
            }
        }
    }

    /// A round has failed, or what it brought did not last.
    pub(super) fn failed(&mut self, now: Instant) {
        let cap = if self.wanted { BACK_OFF_WANTED } else { BACK_OFF_UNWANTED };
        let pause = BACK_OFF.saturating_mul(1 << self.failures.min(16)).min(cap);
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + pause / 2 + self.jitter(pause / 2));
    }

    /// Starts what is due and decides when to look again.
    pub(super) fn plan(&mut self, now: Instant) {
        if !self.has_address {
            (self.round, self.next, self.moved) = (None, None, false);
            return;
        }
        match self.up.as_ref().filter(|_| !self.moved).map(|up| up.way) {
            Some(Way::Tls) => (self.round, self.next) = (None, None),
            Some(Way::Quic) if !Way::Tls.is_allowed(self.transport) => (self.round, self.next) = (None, None),
            Some(Way::Quic) => {
                self.round = None;
                if self.dialling[Way::Tls.index()] {
                    self.next = None;
                } else if self.next.is_some_and(|at| at <= now) {
                    self.next = None;
                    self.dial(Way::Tls);
                } else if self.next.is_none() {
                    let pause = TLS_PROBE_FIRST.saturating_mul(1 << self.probes.min(16)).min(TLS_PROBE);
                    self.probes = self.probes.saturating_add(1);
                    self.next = Some(now + pause * 9 / 10 + self.jitter(pause / 10));
                }
            }
            None => {
                if self.round.is_none() && self.next.is_none_or(|at| at <= now) {
                    self.next = None;
                    self.last_round = Some(now);
                    self.round = Some(Round::new(self.transport, now));
                }
                while let Some(way) = self.round.as_mut().and_then(|round| round.poll(now)) {
                    self.dial(way);
                }
            }
        }
    }

    /// A dial that is under way already is as good as a new one.
    fn dial(&mut self, way: Way) {
        if !std::mem::replace(&mut self.dialling[way.index()], true) {
            self.actions.push_back(Action::StartDial(way));
        }
    }

    /// Something below `bound`, from the seed (SplitMix64).
    fn jitter(&mut self, bound: Duration) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        bound.mul_f64((z >> 40) as f64 / (1u64 << 24) as f64)
    }
}
