//! What a router lets pass between its inside and its outside.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Nanos;
use super::direction::concerns;
use super::frame::Frame;
use super::packet::TCP;
use crate::{Answer, Traffic};

/// Flows that a firewall remembers.
const MOST_FLOWS: usize = 65_536;
const SECOND: Nanos = 1_000_000_000;

/// What a router does not let pass. The default lets everything pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Firewall {
    pub(crate) inbound: Option<Answer>,
    pub(crate) blocked: Vec<(Traffic, Answer)>,
    pub(crate) black_hole: Option<u16>,
}

impl Firewall {
    /// Lets everything pass.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// From outside only what belongs to flows that were begun inside; the rest gets this answer.
    #[must_use]
    pub fn outbound_only(self, answer: Answer) -> Self {
        Self { inbound: Some(answer), ..self }
    }

    /// Nothing of this kind passes, either way.
    #[must_use]
    pub fn block(mut self, traffic: Traffic, answer: Answer) -> Self {
        self.blocked.push((traffic, answer));
        self
    }

    /// Packets longer than this vanish without a word, as where ICMP is filtered and path MTU discovery fails.
    #[must_use]
    pub fn black_hole(self, longer_than: u16) -> Self {
        Self { black_hole: Some(longer_than), ..self }
    }
}

/// A flow through a firewall: protocol, inside, outside.
pub(crate) type Flow = (u8, SocketAddr, SocketAddr);

/// A firewall at work.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    firewall: Firewall,
    flows: HashMap<Flow, Nanos>,
}

impl Guard {
    pub(crate) fn new(firewall: Firewall) -> Self {
        Self { firewall, flows: HashMap::new() }
    }

    /// Whether everything may pass.
    pub(crate) fn is_open(&self) -> bool {
        self.firewall == Firewall::default()
    }

    /// What becomes of a packet that is refused; none if it may pass. It has, or its longest piece, `length` bytes.
    /// `error`: it is an ICMP error, which is let in.
    pub(crate) fn refuses(
        &mut self,
        (frame, length): (&Frame, usize),
        flow: Flow,
        outbound: bool,
        error: bool,
        now: Nanos,
    ) -> Option<Answer> {
        if self.firewall.black_hole.is_some_and(|most| length > usize::from(most)) {
            return Some(Answer::Silence);
        }
        let blocked = self.firewall.blocked.iter().find(|(traffic, _)| concerns(*traffic, &frame.bytes));
        if let Some((_, answer)) = blocked {
            return Some(*answer);
        }
        let answer = self.firewall.inbound?;
        // As connection tracking of Linux has it: 3 minutes for UDP, 5 days for TCP.
        let lasts = if flow.0 == TCP { 5 * 86_400 * SECOND } else { 180 * SECOND };
        if outbound {
            if self.flows.len() >= MOST_FLOWS {
                self.flows.retain(|_, last| *last + lasts > now);
            }
            if self.flows.len() < MOST_FLOWS || self.flows.contains_key(&flow) {
                self.flows.insert(flow, now);
            }
            return None;
        }
        match self.flows.get_mut(&flow) {
            Some(last) if *last + lasts > now => {
                *last = now;
                None
            }
            _ if error => None,
            _ => Some(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::UDP;
    use crate::wire::packet::tests::udp;

    fn flow() -> Flow {
        (UDP, "10.0.0.1:1000".parse().unwrap(), "10.9.0.1:53".parse().unwrap())
    }

    #[test]
    fn only_what_was_begun_inside_comes_in() {
        let mut guard = Guard::new(Firewall::open().outbound_only(Answer::Rejection));
        let frame = Frame::complete(udp(("10.0.0.1", 1000), ("10.9.0.1", 53), b"x"));
        for (outbound, error, at, refused) in [
            (false, false, 0, Some(Answer::Rejection)),
            (false, true, 0, None),
            (true, false, 0, None),
            (false, false, 179, None),
            (false, false, 358, None),
            (false, false, 538, Some(Answer::Rejection)),
        ] {
            assert_eq!(
                guard.refuses((&frame, frame.packet_length()), flow(), outbound, error, at * SECOND),
                refused,
                "at {at} s"
            );
        }
    }

    #[test]
    fn kinds_and_lengths_are_refused_both_ways() {
        let frame = Frame::complete(udp(("10.0.0.1", 1000), ("10.9.0.1", 53), &[0; 100]));
        for (firewall, refused) in [
            (Firewall::open(), None),
            (Firewall::open().block(Traffic::Tcp, Answer::Silence), None),
            (Firewall::open().block(Traffic::Udp, Answer::Rejection), Some(Answer::Rejection)),
            (Firewall::open().black_hole(128), None),
            (Firewall::open().black_hole(127), Some(Answer::Silence)),
        ] {
            for outbound in [true, false] {
                let told = Guard::new(firewall.clone()).refuses((&frame, 128), flow(), outbound, false, 0);
                assert_eq!(told, refused);
            }
        }
    }
}
