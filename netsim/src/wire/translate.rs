//! A NAT applied to whole packets: which addresses and ports become which, also in what ICMP errors quote.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use super::Nanos;
use super::checksum;
use super::frame::Frame;
use super::nat::Translator;
use super::packet::{ETHERNET, ICMP, Packet};

/// What is to be changed in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Change {
    pub(crate) source: Option<SocketAddrV4>,
    pub(crate) destination: Option<SocketAddrV4>,
    /// The same for the packet that an ICMP error quotes.
    quoted_source: Option<SocketAddrV4>,
    quoted_destination: Option<SocketAddrV4>,
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
pub(crate) fn endpoints(packet: &Packet, bytes: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (packet.source, packet.destination) else { return None };
    let (from, to) = match packet.ports(bytes) {
        Some(ports) => ports,
        None if matches!(packet.icmp(bytes), Some((0 | 8, _))) && packet.protocol == ICMP => {
            let [high, low] = *bytes.get(packet.payload + 4..)?.first_chunk()?;
            let identifier = u16::from_be_bytes([high, low]);
            (identifier, identifier)
        }
        None => return None,
    };
    Some((SocketAddrV4::new(source, from), SocketAddrV4::new(destination, to)))
}

/// What an ICMP error for IPv4 quotes: the packet, and where it begins.
fn quoted(packet: &Packet, bytes: &[u8]) -> Option<(Packet, usize)> {
    let (kind, _) = packet.icmp(bytes).filter(|_| packet.protocol == ICMP)?;
    matches!(kind, 3 | 11 | 12).then_some(())?;
    let at = packet.payload + 8;
    Some((Packet::parse(bytes.get(at..)?)?, at))
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
    external: Ipv4Addr,
    now: Nanos,
) -> Translated {
    if packet.source.is_ipv6() {
        return Translated::Untouched;
    }
    if let Some((inner, at)) = quoted(packet, bytes) {
        // The error is about a packet that came in: to whom it came is known outside by another name.
        let change = endpoints(&inner, &bytes[at..]).and_then(|(from, to)| {
            let port = nat.port_of(inner.protocol, to, from, now)?;
            let name = SocketAddrV4::new(external, port);
            Some(Change { source: Some(name), quoted_destination: Some(name), ..Change::default() })
        });
        return change.map_or(Translated::Dropped, Translated::Changed);
    }
    let port = endpoints(packet, bytes).and_then(|(from, to)| {
        // An identifier belongs to its asker; the one asked has no port.
        let to = if packet.protocol == ICMP { SocketAddrV4::new(*to.ip(), 0) } else { to };
        nat.outbound(packet.protocol, from, to, now)
    });
    match port {
        Some(port) => {
            Translated::Changed(Change { source: Some(SocketAddrV4::new(external, port)), ..Change::default() })
        }
        None => Translated::Dropped,
    }
}

/// A packet comes to the outside address.
pub(crate) fn inbound(nat: &mut Translator, packet: &Packet, bytes: &[u8], now: Nanos) -> Translated {
    if let Some((inner, at)) = quoted(packet, bytes) {
        let change = endpoints(&inner, &bytes[at..]).and_then(|(from, _)| {
            let inside = nat.inside_of(inner.protocol, from.port(), now)?;
            Some(Change { destination: Some(inside), quoted_source: Some(inside), ..Change::default() })
        });
        return change.map_or(Translated::Untouched, Translated::Changed);
    }
    let Some((from, to)) = endpoints(packet, bytes) else { return Translated::Untouched };
    let from = if packet.protocol == ICMP { SocketAddrV4::new(*from.ip(), 0) } else { from };
    // An echo request from outside is for the router itself.
    if packet.icmp(bytes).is_some_and(|(kind, _)| kind == 8) {
        return Translated::Untouched;
    }
    match nat.inbound(packet.protocol, from, to.port(), now) {
        Some(inside) => Translated::Changed(Change { destination: Some(inside), ..Change::default() }),
        None => Translated::Dropped,
    }
}

/// A packet from inside to the outside address: out and in again.
pub(crate) fn hairpin(
    nat: &mut Translator,
    packet: &Packet,
    bytes: &[u8],
    external: Ipv4Addr,
    now: Nanos,
) -> Translated {
    let (Some((from, to)), true) = (endpoints(packet, bytes), packet.protocol != ICMP) else {
        return Translated::Untouched;
    };
    if nat.inside_of(packet.protocol, to.port(), now).is_none() {
        return Translated::Untouched;
    }
    if !nat.hairpins() {
        return Translated::Dropped;
    }
    let Some(port) = nat.outbound(packet.protocol, from, to, now) else { return Translated::Dropped };
    let from = SocketAddrV4::new(external, port);
    match nat.inbound(packet.protocol, from, to.port(), now) {
        Some(inside) => {
            Translated::Changed(Change { source: Some(from), destination: Some(inside), ..Change::default() })
        }
        None => Translated::Dropped,
    }
}

/// Makes the change, and mends the checksums.
pub(crate) fn apply(frame: &mut Frame, packet: &Packet, change: Change) {
    let bytes = &mut frame.bytes[ETHERNET..];
    if let Some((inner, at)) = quoted(packet, bytes) {
        for (new, ip, port) in [(change.quoted_source, 12, 0), (change.quoted_destination, 16, 2)] {
            let Some(new) = new else { continue };
            let port = at + inner.payload + if inner.protocol == ICMP { 4 } else { port };
            bytes[at + ip..at + ip + 4].copy_from_slice(&new.ip().octets());
            if let Some(place) = bytes.get_mut(port..port + 2) {
                place.copy_from_slice(&new.port().to_be_bytes());
            }
        }
        checksum::fill_header(&mut bytes[at..]);
        for (new, ip) in [(change.source, 12), (change.destination, 16)] {
            if let Some(new) = new {
                bytes[ip..ip + 4].copy_from_slice(&new.ip().octets());
            }
        }
        checksum::fill(bytes);
        return;
    }
    let partial = frame.offload.checksum.is_some();
    for (new, ip, port) in [(change.source, 12, 0), (change.destination, 16, 2)] {
        let Some(new) = new else { continue };
        let port = packet.payload + if packet.protocol == ICMP { 4 } else { port };
        checksum::rewrite(bytes, packet, ip, &new.ip().octets(), partial);
        checksum::rewrite(bytes, packet, port, &new.port().to_be_bytes(), partial);
    }
    checksum::fill_header(bytes);
}
