//! Where the parts of an IP packet lie in a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The length of an Ethernet header: two addresses and a type.
pub(crate) const ETHERNET: usize = 14;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// The type of a frame's content.
pub(crate) fn ethertype(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(12..ETHERNET)?.try_into().ok()?))
}

/// The receiver's address.
pub(crate) fn destination(frame: &[u8]) -> Option<Mac> {
    frame.first_chunk().copied()
}

/// The sender's address.
pub(crate) fn source(frame: &[u8]) -> Option<Mac> {
    frame.get(6..12)?.try_into().ok()
}

/// An IP packet, found in the bytes that begin with its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Of what the packet carries, behind extension headers.
    pub(crate) protocol: u8,
    /// Where that begins, counted from the IP header.
    pub(crate) payload: usize,
    /// A piece of a packet that is not its first: there are no ports in it.
    pub(crate) later_fragment: bool,
    /// Hops that are left.
    pub(crate) hops: u8,
    /// By its own header, from there on.
    pub(crate) length: usize,
}

impl Packet {
    /// Finds the packet in a frame. What is not IP, or is cut short within its headers, gives none.
    pub(crate) fn in_frame(frame: &[u8]) -> Option<Self> {
        matches!(ethertype(frame)?, ETHERTYPE_IPV4 | ETHERTYPE_IPV6).then_some(())?;
        Self::parse(&frame[ETHERNET..])
    }

    /// Reads the headers of a packet; what it carries may be cut short, as in an ICMP error.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    fn parse_v4(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<20>()?;
        let payload = usize::from(head[0] & 15) * 4;
        (payload >= 20 && bytes.len() >= payload).then_some(Self {
            source: Ipv4Addr::from(*head[12..].first_chunk::<4>()?).into(),
            destination: Ipv4Addr::from(*head[16..].first_chunk::<4>()?).into(),
            protocol: head[9],
            payload,
            later_fragment: u16::from_be_bytes([head[6], head[7]]) & 0x1fff != 0,
            hops: head[8],
            length: usize::from(u16::from_be_bytes([head[2], head[3]])),
        })
    }

    fn parse_v6(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<40>()?;
        let (mut protocol, mut payload, mut later_fragment) = (head[6], 40, false);
        // Hop-by-hop options, routing, fragment, destination options (RFC 8200 §4).
        while matches!(protocol, 0 | 43 | 44 | 60) {
            let extension = bytes.get(payload..)?.first_chunk::<8>()?;
            if protocol == 44 {
                later_fragment = u16::from_be_bytes([extension[2], extension[3]]) & !7 != 0;
                payload += 8;
            } else {
                payload += usize::from(extension[1]) * 8 + 8;
            }
            protocol = extension[0];
        }
        Some(Self {
            source: Ipv6Addr::from(*head[8..].first_chunk::<16>()?).into(),
            destination: Ipv6Addr::from(*head[24..].first_chunk::<16>()?).into(),
            protocol,
            payload,
            later_fragment,
            hops: head[7],
            length: usize::from(u16::from_be_bytes([head[4], head[5]])) + 40,
        })
    }

    /// The ports of a TCP or UDP packet: source, destination.
    pub(crate) fn ports(&self, bytes: &[u8]) -> Option<(u16, u16)> {
        if self.later_fragment || !matches!(self.protocol, TCP | UDP) {
            return None;
        }
        let [a, b, c, d] = *bytes.get(self.payload..)?.first_chunk()?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// The type and code of an ICMP message.
    pub(crate) fn icmp(&self, bytes: &[u8]) -> Option<(u8, u8)> {
        if self.later_fragment || !matches!(self.protocol, ICMP | ICMPV6) {
            return None;
        }
        let [kind, code] = *bytes.get(self.payload..)?.first_chunk()?;
        Some((kind, code))
    }

    /// How neighbours find one another's Ethernet address in IPv6 (RFC 4861 §4).
    pub(crate) fn finds_neighbours(&self, bytes: &[u8]) -> bool {
        self.protocol == ICMPV6 && matches!(self.icmp(bytes), Some((133..=137, _)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::checksum;

    /// A UDP datagram in a frame, every checksum right.
    pub(crate) fn udp(source: (&str, u16), destination: (&str, u16), content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 8).unwrap();
        let ports = [source.1.to_be_bytes(), destination.1.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
        ip(source.0, destination.0, UDP, &[&*ports, content].concat())
    }

    /// A TCP segment in a frame, every checksum right.
    pub(crate) fn tcp(source: (&str, u16), destination: (&str, u16), flags: u8, content: &[u8]) -> Vec<u8> {
        let mut header = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
        header.extend([0, 0, 0, 7, 0, 0, 0, 9, 5 << 4, flags, 1, 0, 0, 0, 0, 0]);
        ip(source.0, destination.0, TCP, &[&*header, content].concat())
    }

    /// An ICMP echo request in a frame.
    pub(crate) fn ping(source: &str, destination: &str, identifier: u16, content: &[u8]) -> Vec<u8> {
        let kind = if source.contains(':') { [128, 0, 0, 0] } else { [8, 0, 0, 0] };
        let body = [&kind[..], &identifier.to_be_bytes(), &[0, 1], content].concat();
        ip(source, destination, if source.contains(':') { ICMPV6 } else { ICMP }, &body)
    }

    fn ip(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]].concat();
        let length = u16::try_from(payload.len()).unwrap();
        match (source.parse().unwrap(), destination.parse().unwrap()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 0, 0x45, 0]);
                frame.extend((length + 20).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => panic!("two families"),
        }
        frame.extend(payload);
        checksum::fill(&mut frame[ETHERNET..]);
        frame
    }

    #[test]
    fn addresses_and_ports_are_found_in_both_families() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let frame = udp((a, 50_000), (b, 53), b"hello");
            let packet = Packet::in_frame(&frame).unwrap();
            assert_eq!(packet.source, a.parse::<IpAddr>().unwrap());
            assert_eq!(packet.destination, b.parse::<IpAddr>().unwrap());
            assert_eq!(packet.ports(&frame[ETHERNET..]), Some((50_000, 53)));
            assert_eq!(packet.length, frame.len() - ETHERNET);
        }
    }

    #[test]
    fn no_cut_of_a_frame_makes_the_reader_panic() {
        for frame in [udp(("10.0.0.1", 1), ("10.0.0.2", 2), b"x"), tcp(("fd00::1", 1), ("fd00::2", 2), 2, b"")] {
            for end in 0..frame.len() {
                if let Some(packet) = Packet::in_frame(&frame[..end]) {
                    packet.ports(&frame[ETHERNET..end]);
                    packet.icmp(&frame[ETHERNET..end]);
                }
            }
        }
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut frame = udp(("10.0.0.1", 1), ("10.0.0.2", 2), b"x");
        frame[ETHERNET + 7] = 5;
        let packet = Packet::in_frame(&frame).unwrap();
        assert!(packet.later_fragment && packet.ports(&frame[ETHERNET..]).is_none());
    }
}
