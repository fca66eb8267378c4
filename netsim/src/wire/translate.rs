//! A NAT applied to whole packets: which addresses and ports become which, also in what ICMP errors quote.

use std::net::{IpAddr, SocketAddr};

use super::Nanos;
use super::checksum;
use super::frame::Frame;
use super::nat::Translator;
use super::packet::{ETHERNET, ICMP, ICMPV6, Packet};

/// What is to be changed in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Change {
    pub(crate) source: Option<SocketAddr>,
    pub(crate) destination: Option<SocketAddr>,
    /// The same for the packet that an ICMP error quotes.
    quoted_source: Option<SocketAddr>,
    quoted_destination: Option<SocketAddr>,
}

/// What a NAT says about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Translated {
    /// It is not for the NAT.
    Untouched,
    Changed(Change),
    /// There is no mapping, or no port left.
    Dropped,
}

/// Source and destination with their ports; for an echo request or its answer the identifier stands for both.
pub(crate) fn endpoints(packet: &Packet, bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (from, to) = match packet.ports(bytes) {
        Some(ports) => ports,
        None if is_echo(packet, bytes) => {
            let [high, low] = *bytes.get(packet.payload + 4..)?.first_chunk()?;
            let identifier = u16::from_be_bytes([high, low]);
            (identifier, identifier)
        }
        None => return None,
    };
    Some((SocketAddr::new(packet.source, from), SocketAddr::new(packet.destination, to)))
}

fn is_icmp(packet: &Packet) -> bool {
    matches!(packet.protocol, ICMP | ICMPV6)
}

fn is_echo(packet: &Packet, bytes: &[u8]) -> bool {
    match packet.icmp(bytes) {
        Some((kind, _)) if packet.protocol == ICMP => matches!(kind, 0 | 8),
        Some((kind, _)) => matches!(kind, 128 | 129),
        None => false,
    }
}

/// What an ICMP error quotes: the packet, and where it begins.
fn quoted(packet: &Packet, bytes: &[u8]) -> Option<(Packet, usize)> {
    is_error(packet, bytes).then_some(())?;
    let at = packet.payload + 8;
    let inner = Packet::parse(bytes.get(at..)?)?;
    (inner.source.is_ipv4() == packet.source.is_ipv4()).then_some((inner, at))
}

/// Whether a packet is an ICMP error.
pub(crate) fn is_error(packet: &Packet, bytes: &[u8]) -> bool {
    match packet.icmp(bytes) {
        Some((kind, _)) if packet.protocol == ICMP => matches!(kind, 3 | 11 | 12),
        Some((kind, _)) => kind < 128,
        None => false,
    }
}

/// A packet goes from inside to outside.
pub(crate) fn outbound(
    nat: &mut Translator,
    packet: &Packet,
    bytes: &[u8],
    external: IpAddr,
    now: Nanos,
) -> Translated {
    if !nat.translates(packet.source) {
        return Translated::Untouched;
    }
    if let Some((inner, at)) = quoted(packet, bytes) {
        // The error is about a packet that came in: to whom it came is known outside by another name.
        let change = endpoints(&inner, &bytes[at..]).and_then(|(from, to)| {
            let port = nat.port_of(inner.protocol, to, from, now)?;
            let name = SocketAddr::new(external, port);
            Some(Change { source: Some(name), quoted_destination: Some(name), ..Change::default() })
        });
        return change.map_or(Translated::Dropped, Translated::Changed);
    }
    let port = endpoints(packet, bytes).and_then(|(from, to)| {
        // An identifier belongs to its asker; the one asked has no port.
        let to = if is_icmp(packet) { SocketAddr::new(to.ip(), 0) } else { to };
        nat.outbound(packet.protocol, from, to, now)
    });
    match port {
        Some(port) => {
            Translated::Changed(Change { source: Some(SocketAddr::new(external, port)), ..Change::default() })
        }
        None => Translated::Dropped,
    }
}

/// A packet comes to the outside address.
pub(crate) fn inbound(nat: &mut Translator, packet: &Packet, bytes: &[u8], now: Nanos) -> Translated {
    if !nat.translates(packet.source) {
        return Translated::Untouched;
    }
    if let Some((inner, at)) = quoted(packet, bytes) {
        let change = endpoints(&inner, &bytes[at..]).and_then(|(from, _)| {
            let inside = nat.inside_of(inner.protocol, from, now)?;
            Some(Change { destination: Some(inside), quoted_source: Some(inside), ..Change::default() })
        });
        return change.map_or(Translated::Untouched, Translated::Changed);
    }
    let Some((from, to)) = endpoints(packet, bytes) else { return Translated::Untouched };
    let from = if is_icmp(packet) { SocketAddr::new(from.ip(), 0) } else { from };
    // An echo request from outside is for the router itself.
    if matches!((packet.protocol, packet.icmp(bytes)), (ICMP, Some((8, _))) | (ICMPV6, Some((128, _)))) {
        return Translated::Untouched;
    }
    match nat.inbound(packet.protocol, from, to.port(), now) {
        Some(inside) => Translated::Changed(Change { destination: Some(inside), ..Change::default() }),
        None => Translated::Dropped,
    }
}

/// A packet from inside to the outside address: out and in again.
pub(crate) fn hairpin(nat: &mut Translator, packet: &Packet, bytes: &[u8], external: IpAddr, now: Nanos) -> Translated {
    if !nat.translates(packet.source) {
        return Translated::Untouched;
    }
    if let Some((inner, at)) = quoted(packet, bytes) {
        // The error is about a packet that came this way: either side knows the other by its outside name.
        let change =
            endpoints(&inner, &bytes[at..]).filter(|(from, _)| from.ip() == external).and_then(|(from, to)| {
                let inside = nat.inside_of(inner.protocol, from, now)?;
                let name = SocketAddr::new(external, nat.port_of(inner.protocol, to, from, now)?);
                let (source, destination) = (Some(name), Some(inside));
                Some(Change { source, destination, quoted_source: Some(inside), quoted_destination: Some(name) })
            });
        return change.map_or(Translated::Untouched, Translated::Changed);
    }
    let (Some((from, to)), false) = (endpoints(packet, bytes), is_icmp(packet)) else {
        return Translated::Untouched;
    };
    if nat.inside_of(packet.protocol, to, now).is_none() {
        return Translated::Untouched;
    }
    if !nat.hairpins() {
        return Translated::Dropped;
    }
    let Some(port) = nat.outbound(packet.protocol, from, to, now) else { return Translated::Dropped };
    let from = SocketAddr::new(external, port);
    match nat.inbound(packet.protocol, from, to.port(), now) {
        Some(inside) => {
            Translated::Changed(Change { source: Some(from), destination: Some(inside), ..Change::default() })
        }
        None => Translated::Dropped,
    }
}

/// Where source and destination of a packet lie in its header.
fn places(packet: &Packet) -> (usize, usize) {
    if packet.source.is_ipv4() { (12, 16) } else { (8, 24) }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Writes an address where one of the same family is.
fn put(bytes: &mut [u8], at: usize, ip: IpAddr) {
    let octets = octets(ip);
    if let Some(place) = bytes.get_mut(at..at + octets.len()) {
        place.copy_from_slice(&octets);
    }
}

/// Makes the change, and mends the checksums.
pub(crate) fn apply(frame: &mut Frame, packet: &Packet, change: Change) {
    let bytes = &mut frame.bytes[ETHERNET..];
    let (source, destination) = places(packet);
    if let Some((inner, at)) = quoted(packet, bytes) {
        for (new, ip, port) in [(change.quoted_source, source, 0), (change.quoted_destination, destination, 2)] {
            let Some(new) = new else { continue };
            let port = at + inner.payload + if is_icmp(&inner) { 4 } else { port };
            put(bytes, at + ip, new.ip());
            if let Some(place) = bytes.get_mut(port..port + 2) {
                place.copy_from_slice(&new.port().to_be_bytes());
            }
        }
        checksum::fill_header(&mut bytes[at..]);
        for (new, ip) in [(change.source, source), (change.destination, destination)] {
            if let Some(new) = new {
                put(bytes, ip, new.ip());
            }
        }
        checksum::fill(bytes);
        return;
    }
    let partial = frame.offload.checksum.is_some();
    for (new, ip, port) in [(change.source, source, 0), (change.destination, destination, 2)] {
        let Some(new) = new else { continue };
        let port = packet.payload + if is_icmp(packet) { 4 } else { port };
        checksum::rewrite(bytes, packet, ip, &octets(new.ip()), partial);
        checksum::rewrite(bytes, packet, port, &new.port().to_be_bytes(), partial);
    }
    checksum::fill_header(bytes);
}
