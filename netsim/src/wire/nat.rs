//! Network address translation (RFC 4787, RFC 5382, RFC 5508): which outside port stands for which inside address, and
//! who may send to it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
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

/// How a NAT behaves, in the words of RFC 4787. It translates IPv4; IPv6 passes through its router unchanged unless
/// [`Nat::ipv6`] says otherwise. Ports are given out in order, so that they are the same in each run in which flows begin
/// in the same order. A packet in pieces is translated as a whole.
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
    /// Whether it translates IPv6 as it does IPv4 ("NAT66"), each family with ports of its own.
    pub ipv6: bool,
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
            ipv6: false,
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

    /// The same, translating IPv6 as well.
    #[must_use]
    pub fn ipv6(self) -> Self {
        Self { ipv6: true, ..self }
    }

    /// The same with another lifetime of UDP and ICMP mappings.
    #[must_use]
    pub fn udp_timeout(self, udp_timeout: Duration) -> Self {
        Self { udp_timeout, ..self }
    }
}

/// Which ports are told apart: those of a protocol, over IPv6 or not.
type Space = (u8, bool);

/// A NAT at work. Ports of ICMP are the identifiers of echo requests.
#[derive(Debug)]
pub(crate) struct Translator {
    nat: Nat,
    /// By outside port.
    mappings: HashMap<(Space, u16), Mapping>,
    /// By protocol, inside address, and what the mapping depends on.
    ports: HashMap<(u8, SocketAddr, Option<SocketAddr>), u16>,
    next: u16,
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    depends: Option<SocketAddr>,
    peers: HashMap<SocketAddr, Nanos>,
    last: Nanos,
}

impl Translator {
    pub(crate) fn new(nat: Nat) -> Self {
        let next = *nat.ports.start();
        Self { nat, mappings: HashMap::new(), ports: HashMap::new(), next }
    }

    /// Whether it is about addresses like this one.
    pub(crate) fn translates(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() || self.nat.ipv6
    }

    pub(crate) fn hairpins(&self) -> bool {
        self.nat.hairpin
    }

    /// A packet goes out: the port that stands for its sender. None if no port is left.
    pub(crate) fn outbound(&mut self, protocol: u8, inside: SocketAddr, to: SocketAddr, now: Nanos) -> Option<u16> {
        let depends = part(self.nat.mapping, to);
        let port = match self.port_of(protocol, inside, to, now) {
            Some(port) => port,
            None => self.map(protocol, inside, depends, now)?,
        };
        let filter = part(self.nat.filtering, to);
        let timeout = self.timeout(protocol);
        let mapping = self.mappings.get_mut(&((protocol, to.is_ipv6()), port))?;
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
    pub(crate) fn inbound(&mut self, protocol: u8, from: SocketAddr, port: u16, now: Nanos) -> Option<SocketAddr> {
        let space = (protocol, from.is_ipv6());
        self.expire(space, port, now);
        let timeout = self.timeout(protocol);
        let mapping = self.mappings.get(&(space, port))?;
        let admitted = match part(self.nat.filtering, from) {
            None => true,
            Some(peer) => mapping.peers.get(&peer).is_some_and(|last| *last + timeout > now),
        };
        admitted.then_some(mapping.inside)
    }

    /// Which inside address a port of the outside address stands for, whoever asks.
    pub(crate) fn inside_of(&mut self, protocol: u8, outside: SocketAddr, now: Nanos) -> Option<SocketAddr> {
        let place = ((protocol, outside.is_ipv6()), outside.port());
        self.expire(place.0, place.1, now);
        Some(self.mappings.get(&place)?.inside)
    }

    /// Which port stands for an inside address towards `to`.
    pub(crate) fn port_of(&mut self, protocol: u8, inside: SocketAddr, to: SocketAddr, now: Nanos) -> Option<u16> {
        let key = (protocol, inside, part(self.nat.mapping, to));
        let port = *self.ports.get(&key)?;
        self.expire((protocol, inside.is_ipv6()), port, now);
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

    fn map(&mut self, protocol: u8, inside: SocketAddr, depends: Option<SocketAddr>, now: Nanos) -> Option<u16> {
        if self.nat.ports_per_host < self.nat.ports.len()
            && self.used_by(protocol, inside.ip()) >= self.nat.ports_per_host
        {
            self.sweep(now);
            if self.used_by(protocol, inside.ip()) >= self.nat.ports_per_host {
                return None;
            }
        }
        let space = (protocol, inside.is_ipv6());
        if self.mappings.keys().filter(|(of, _)| *of == space).count() >= self.nat.ports.len() {
            self.sweep(now);
        }
        let port = (0..self.nat.ports.len()).find_map(|_| {
            let port = self.next;
            self.next = if port >= *self.nat.ports.end() { *self.nat.ports.start() } else { port + 1 };
            (!self.mappings.contains_key(&(space, port))).then_some(port)
        })?;
        self.mappings.insert((space, port), Mapping { inside, depends, peers: HashMap::new(), last: now });
        self.ports.insert((protocol, inside, depends), port);
        Some(port)
    }

    fn used_by(&self, protocol: u8, inside: IpAddr) -> usize {
        let all = self.mappings.iter();
        all.filter(|((of, _), mapping)| of.0 == protocol && mapping.inside.ip() == inside).count()
    }

    fn timeout(&self, protocol: u8) -> Nanos {
        nanos(if protocol == TCP { self.nat.tcp_timeout } else { self.nat.udp_timeout })
    }

    fn expire(&mut self, space: Space, port: u16, now: Nanos) {
        let timeout = self.timeout(space.0);
        if let Some(mapping) = self.mappings.get(&(space, port))
            && mapping.last + timeout <= now
        {
            self.ports.remove(&(space.0, mapping.inside, mapping.depends));
            self.mappings.remove(&(space, port));
        }
    }

    fn sweep(&mut self, now: Nanos) {
        let all: Vec<(Space, u16)> = self.mappings.keys().copied().collect();
        all.into_iter().for_each(|(space, port)| self.expire(space, port, now));
    }
}

/// The part of an outside address that counts.
fn part(depends: Depends, address: SocketAddr) -> Option<SocketAddr> {
    match depends {
        Depends::OnNothing => None,
        Depends::OnAddress => Some(SocketAddr::new(address.ip(), 0)),
        Depends::OnAddressAndPort => Some(address),
    }
}

#[cfg(test)]
#[path = "nat_tests.rs"]
mod tests;
