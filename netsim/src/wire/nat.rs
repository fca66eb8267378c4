//! Network address translation for IPv4 (RFC 4787, RFC 5382, RFC 5508): which outside port stands for which inside
//! address, and who may send to it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::packet::TCP;
use super::{Nanos, nanos};

/// Peers of one mapping that are remembered for filtering.
const MOST_PEERS: usize = 1024;

/// What a decision of a NAT depends on beside the inside address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depends {
    /// On nothing more: endpoint-independent.
    OnNothing,
    /// On the outside address.
    OnAddress,
    /// On the outside address and port.
    OnAddressAndPort,
}

/// How a NAT behaves, in the words of RFC 4787. It translates IPv4; IPv6 passes through its router unchanged. Ports are
/// given out in order, so that they are the same in each run in which flows begin in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// What a flow needs to share with another to get the same outside port.
    pub mapping: Depends,
    /// What a packet from outside needs to share with one that went out before, to be let in.
    pub filtering: Depends,
    /// Whether inside hosts reach one another by their outside addresses.
    pub hairpin: bool,
    /// The outside ports to give out.
    pub ports: RangeInclusive<u16>,
    /// The most that one inside host may have, as carrier-grade NATs limit it (RFC 6888 §3).
    pub ports_per_host: usize,
    /// How long a mapping of UDP or ICMP lasts after the last packet out.
    pub udp_timeout: Duration,
    /// How long a mapping of TCP lasts after the last packet out.
    pub tcp_timeout: Duration,
}

impl Nat {
    /// One outside port for each inside port, open to everyone ("full cone").
    #[must_use]
    pub fn endpoint_independent() -> Self {
        Self {
            mapping: Depends::OnNothing,
            filtering: Depends::OnNothing,
            hairpin: true,
            // All of them count as ephemeral: the flow class of a packet does not change with the mapping.
            ports: 50_000..=65_535,
            ports_per_host: usize::MAX,
            udp_timeout: Duration::from_mins(2),
            tcp_timeout: Duration::from_mins(124),
        }
    }

    /// One outside port for each inside port, open to addresses that it has sent to ("restricted cone").
    #[must_use]
    pub fn address_restricted() -> Self {
        Self { filtering: Depends::OnAddress, ..Self::endpoint_independent() }
    }

    /// One outside port for each inside port, open to addresses and ports that it has sent to, as most home routers
    /// have it ("port-restricted cone").
    #[must_use]
    pub fn port_restricted() -> Self {
        Self { filtering: Depends::OnAddressAndPort, ..Self::endpoint_independent() }
    }

    /// Another outside port for each address and port that is sent to.
    #[must_use]
    pub fn symmetric() -> Self {
        let depends = Depends::OnAddressAndPort;
        Self { mapping: depends, filtering: depends, hairpin: false, ..Self::endpoint_independent() }
    }

    /// What a carrier puts before its customers' own NATs: few ports for each, short memory.
    #[must_use]
    pub fn carrier_grade() -> Self {
        Self { ports_per_host: 512, udp_timeout: Duration::from_secs(30), ..Self::port_restricted() }
    }

    /// The same with or without hairpinning.
    #[must_use]
    pub fn hairpin(self, hairpin: bool) -> Self {
        Self { hairpin, ..self }
    }

    /// The same with another lifetime of UDP and ICMP mappings.
    #[must_use]
    pub fn udp_timeout(self, udp_timeout: Duration) -> Self {
        Self { udp_timeout, ..self }
    }
}

/// A NAT at work. Ports of ICMP are the identifiers of echo requests.
#[derive(Debug)]
pub(crate) struct Translator {
    nat: Nat,
    /// By protocol and outside port.
    mappings: HashMap<(u8, u16), Mapping>,
    /// By protocol, inside address, and what the mapping depends on.
    ports: HashMap<(u8, SocketAddrV4, Option<SocketAddrV4>), u16>,
    next: u16,
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddrV4,
    depends: Option<SocketAddrV4>,
    peers: HashMap<SocketAddrV4, Nanos>,
    last: Nanos,
}

impl Translator {
    pub(crate) fn new(nat: Nat) -> Self {
        let next = *nat.ports.start();
        Self { nat, mappings: HashMap::new(), ports: HashMap::new(), next }
    }

    pub(crate) fn hairpins(&self) -> bool {
        self.nat.hairpin
    }

    /// A packet goes out: the port that stands for its sender. None if no port is left.
    pub(crate) fn outbound(&mut self, protocol: u8, inside: SocketAddrV4, to: SocketAddrV4, now: Nanos) -> Option<u16> {
        let depends = part(self.nat.mapping, to);
        let port = match self.port_of(protocol, inside, to, now) {
            Some(port) => port,
            None => self.map(protocol, inside, depends, now)?,
        };
        let filter = part(self.nat.filtering, to);
        let timeout = self.timeout(protocol);
        let mapping = self.mappings.get_mut(&(protocol, port))?;
        mapping.last = now;
        if let Some(peer) = filter {
            if mapping.peers.len() >= MOST_PEERS {
                mapping.peers.retain(|_, last| *last + timeout > now);
            }
            if mapping.peers.len() < MOST_PEERS || mapping.peers.contains_key(&peer) {
                mapping.peers.insert(peer, now);
            }
        }
        Some(port)
    }

    /// A packet comes in to `port`: the inside address that it is for. None if there is no such mapping or `from` may
    /// not send to it.
    pub(crate) fn inbound(&mut self, protocol: u8, from: SocketAddrV4, port: u16, now: Nanos) -> Option<SocketAddrV4> {
        self.expire(protocol, port, now);
        let timeout = self.timeout(protocol);
        let mapping = self.mappings.get(&(protocol, port))?;
        let admitted = match part(self.nat.filtering, from) {
            None => true,
            Some(peer) => mapping.peers.get(&peer).is_some_and(|last| *last + timeout > now),
        };
        admitted.then_some(mapping.inside)
    }

    /// Which inside address a port stands for, whoever asks.
    pub(crate) fn inside_of(&mut self, protocol: u8, port: u16, now: Nanos) -> Option<SocketAddrV4> {
        self.expire(protocol, port, now);
        Some(self.mappings.get(&(protocol, port))?.inside)
    }

    /// Which port stands for an inside address towards `to`.
    pub(crate) fn port_of(&mut self, protocol: u8, inside: SocketAddrV4, to: SocketAddrV4, now: Nanos) -> Option<u16> {
        let key = (protocol, inside, part(self.nat.mapping, to));
        let port = *self.ports.get(&key)?;
        self.expire(protocol, port, now);
        self.ports.get(&key).copied()
    }

    /// Forgets all mappings, as after a restart: flows that go on get other ports.
    pub(crate) fn rebind(&mut self) {
        self.mappings.clear();
        self.ports.clear();
    }

    pub(crate) fn replace(&mut self, nat: Nat) {
        *self = Self::new(nat);
    }

    fn map(&mut self, protocol: u8, inside: SocketAddrV4, depends: Option<SocketAddrV4>, now: Nanos) -> Option<u16> {
        if self.nat.ports_per_host < self.nat.ports.len()
            && self.used_by(protocol, *inside.ip()) >= self.nat.ports_per_host
        {
            self.sweep(now);
            if self.used_by(protocol, *inside.ip()) >= self.nat.ports_per_host {
                return None;
            }
        }
        if self.mappings.keys().filter(|(p, _)| *p == protocol).count() >= self.nat.ports.len() {
            self.sweep(now);
        }
        let port = (0..self.nat.ports.len()).find_map(|_| {
            let port = self.next;
            self.next = if port >= *self.nat.ports.end() { *self.nat.ports.start() } else { port + 1 };
            (!self.mappings.contains_key(&(protocol, port))).then_some(port)
        })?;
        self.mappings.insert((protocol, port), Mapping { inside, depends, peers: HashMap::new(), last: now });
        self.ports.insert((protocol, inside, depends), port);
        Some(port)
    }

    fn used_by(&self, protocol: u8, inside: Ipv4Addr) -> usize {
        let all = self.mappings.iter();
        all.filter(|((of, _), mapping)| *of == protocol && *mapping.inside.ip() == inside).count()
    }

    fn timeout(&self, protocol: u8) -> Nanos {
        nanos(if protocol == TCP { self.nat.tcp_timeout } else { self.nat.udp_timeout })
    }

    fn expire(&mut self, protocol: u8, port: u16, now: Nanos) {
        let timeout = self.timeout(protocol);
        if let Some(mapping) = self.mappings.get(&(protocol, port))
            && mapping.last + timeout <= now
        {
            self.ports.remove(&(protocol, mapping.inside, mapping.depends));
            self.mappings.remove(&(protocol, port));
        }
    }

    fn sweep(&mut self, now: Nanos) {
        let all: Vec<(u8, u16)> = self.mappings.keys().copied().collect();
        all.into_iter().for_each(|(protocol, port)| self.expire(protocol, port, now));
    }
}

/// The part of an outside address that counts.
fn part(depends: Depends, address: SocketAddrV4) -> Option<SocketAddrV4> {
    match depends {
        Depends::OnNothing => None,
        Depends::OnAddress => Some(SocketAddrV4::new(*address.ip(), 0)),
        Depends::OnAddressAndPort => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::UDP;
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    #[test]
    fn each_kind_maps_and_filters_as_its_name_says() {
        let table = [
            // Same port to another address? From another port, another address?
            (Nat::endpoint_independent(), true, true, true),
            (Nat::address_restricted(), true, true, false),
            (Nat::port_restricted(), true, false, false),
            (Nat::carrier_grade(), true, false, false),
            (Nat::symmetric(), false, false, false),
        ];
        for (nat, same_port, other_port_enters, other_address_enters) in table {
            let told = format!("{nat:?}");
            let mut translator = Translator::new(nat);
            let inside = at("192.168.1.2:5000");
            let (peer, other_port, other) = (at("203.0.113.1:80"), at("203.0.113.1:81"), at("203.0.113.2:80"));
            let port = translator.outbound(UDP, inside, peer, 0).unwrap();
            assert_eq!(port, 50_000, "{told}");
            assert_eq!(translator.outbound(UDP, inside, peer, 1), Some(port), "{told}");
            assert_eq!(translator.inbound(UDP, peer, port, 2), Some(inside), "{told}");
            assert_eq!(translator.inbound(UDP, other_port, port, 2).is_some(), other_port_enters, "{told}");
            assert_eq!(translator.inbound(UDP, other, port, 2).is_some(), other_address_enters, "{told}");
            assert_eq!(translator.inbound(TCP, peer, port, 2), None, "{told}");
            assert_eq!(translator.outbound(UDP, inside, other, 3) == Some(port), same_port, "{told}");
            assert_ne!(translator.outbound(TCP, inside, other, 3), Some(port), "{told}");
        }
    }

    #[test]
    fn mappings_end_after_their_time_unless_packets_go_out() {
        let mut translator = Translator::new(Nat::port_restricted().udp_timeout(Duration::from_secs(30)));
        let (inside, peer) = (at("192.168.1.2:5000"), at("203.0.113.1:80"));
        let port = translator.outbound(UDP, inside, peer, 0).unwrap();
        assert_eq!(translator.outbound(UDP, inside, peer, 29 * SECOND), Some(port));
        assert!(translator.inbound(UDP, peer, port, 58 * SECOND).is_some());
        assert!(translator.inbound(UDP, peer, port, 59 * SECOND).is_none(), "what comes in keeps nothing alive");
        assert_ne!(translator.outbound(UDP, inside, peer, 60 * SECOND), Some(port));
    }

    #[test]
    fn after_a_rebinding_flows_get_other_ports() {
        let mut translator = Translator::new(Nat::endpoint_independent());
        let (inside, peer) = (at("192.168.1.2:5000"), at("203.0.113.1:80"));
        let before = translator.outbound(UDP, inside, peer, 0).unwrap();
        translator.rebind();
        assert_eq!(translator.inbound(UDP, peer, before, 1), None);
        assert_ne!(translator.outbound(UDP, inside, peer, 1), Some(before));
    }

    #[test]
    fn a_carrier_gives_each_customer_its_ports_and_no_more() {
        let mut translator = Translator::new(Nat { ports_per_host: 3, ..Nat::carrier_grade() });
        let peer = at("203.0.113.1:80");
        let all: Vec<_> = (0..5)
            .map(|n| translator.outbound(UDP, SocketAddrV4::new([100, 64, 0, 1].into(), 5000 + n), peer, 0))
            .collect();
        assert_eq!(all, [Some(50_000), Some(50_001), Some(50_002), None, None]);
        assert!(translator.outbound(UDP, at("100.64.0.2:5000"), peer, 0).is_some());
        assert!(translator.outbound(UDP, at("100.64.0.1:5009"), peer, 31 * SECOND).is_some(), "old ones have ended");
    }

    proptest! {
        #[test]
        fn a_port_stands_for_one_inside_address_at_a_time(
            steps in prop::collection::vec((0_u8..4, 0_u16..6, 0_u8..3, 0_u64..20), 1..200),
            symmetric: bool,
        ) {
            let nat = if symmetric { Nat::symmetric() } else { Nat::port_restricted() };
            let nat = Nat { ports: 50_000..=50_009, ..nat.udp_timeout(Duration::from_secs(30)) };
            let mut translator = Translator::new(nat);
            let mut now = 0;
            for (host, port, peer, gap) in steps {
                now += gap * SECOND;
                let inside = SocketAddrV4::new([192, 168, 1, host].into(), port);
                let peer = SocketAddrV4::new([203, 0, 113, peer].into(), 80);
                if let Some(outside) = translator.outbound(UDP, inside, peer, now) {
                    prop_assert!((50_000..=50_009).contains(&outside));
                    prop_assert_eq!(translator.inbound(UDP, peer, outside, now), Some(inside));
                } else {
                    prop_assert_eq!(translator.mappings.len(), 10, "refused with ports left");
                }
                prop_assert_eq!(translator.mappings.len(), translator.ports.len());
            }
        }
    }
}
