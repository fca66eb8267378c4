//! What a packet that cannot go on is answered with: a TCP reset, an ICMP error.

use std::net::IpAddr;

use super::checksum;
use super::frame::Frame;
use super::packet::{ETHERNET, ICMP, ICMPV6, Packet, TCP};

/// Why a packet was not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A firewall refuses it: a reset for TCP, "port unreachable" for everything else.
    Refused,
    /// No route leads on.
    NoRoute,
    /// The hops are used up.
    TooFar,
    /// It is longer than the next link takes, which is this.
    TooBig(u16),
}

/// The frame that tells the sender of `frame`. It comes from `speaker`, or from the packet's own destination if that is
/// not given. None where nothing may be answered: to what is itself an error, to several receivers, to fragments.
pub(crate) fn answer(frame: &Frame, reason: Reason, speaker: Option<IpAddr>) -> Option<Frame> {
    let bytes = &frame.bytes[ETHERNET..];
    let packet = Packet::in_frame(&frame.bytes)?;
    // The lowest bit of the first byte: to a group (IEEE 802.3).
    let group = frame.bytes[0] & 1 != 0 || packet.later_fragment || packet.source.is_unspecified();
    let speaker = speaker.unwrap_or(packet.destination);
    if group || is_error(&packet, bytes) || speaker.is_ipv4() != packet.source.is_ipv4() {
        return None;
    }
    let (protocol, body) = match reason {
        Reason::Refused if packet.protocol == TCP => (TCP, reset(&packet, bytes)?),
        _ => error(&packet, bytes, reason),
    };
    let mut out = [&frame.bytes[6..12], &frame.bytes[..6]].concat();
    header(&mut out, speaker, packet.source, protocol, body.len())?;
    out.extend(body);
    checksum::fill(&mut out[ETHERNET..]);
    Some(Frame::complete(out))
}

fn is_error(packet: &Packet, bytes: &[u8]) -> bool {
    match packet.protocol {
        ICMP => !matches!(packet.icmp(bytes), Some((8 | 0 | 13 | 14, _))),
        // The errors of ICMPv6 are those below 128 (RFC 4443 §2.1).
        ICMPV6 => !matches!(packet.icmp(bytes), Some((128.., _))),
        _ => false,
    }
}

/// An Ethernet type and an IP header for `length` bytes; the checksum is left open.
fn header(out: &mut Vec<u8>, from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Option<()> {
    let length = u16::try_from(length).ok()?;
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend([8, 0, 0x45, 0]);
            out.extend((length + 20).to_be_bytes());
            out.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            out.extend(from.octets());
            out.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend(length.to_be_bytes());
            out.extend([protocol, 64]);
            out.extend(from.octets());
            out.extend(to.octets());
        }
        _ => return None,
    }
    Some(())
}

/// RFC 9293 §3.10.7.1: what a closed port answers.
fn reset(packet: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    let head = bytes.get(packet.payload..)?.first_chunk::<20>()?;
    let flags = head[13];
    if flags & 0x04 != 0 {
        return None;
    }
    let mut out = [&head[2..4], &head[..2]].concat();
    if flags & 0x10 != 0 {
        out.extend(&head[8..12]);
        out.extend([0, 0, 0, 0, 5 << 4, 0x04]);
    } else {
        let content = packet.length.saturating_sub(packet.payload + usize::from(head[12] >> 4) * 4);
        // SYN and FIN take a number each.
        let taken = u32::try_from(content).ok()? + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        let number = u32::from_be_bytes([head[4], head[5], head[6], head[7]]).wrapping_add(taken);
        out.extend([0, 0, 0, 0]);
        out.extend(number.to_be_bytes());
        out.extend([5 << 4, 0x14]);
    }
    out.extend([0; 6]);
    Some(out)
}

/// RFC 792 and RFC 4443; with the next link's MTU where RFC 1191 has it.
fn error(packet: &Packet, bytes: &[u8], reason: Reason) -> (u8, Vec<u8>) {
    let v4 = packet.source.is_ipv4();
    let (kind, code) = match (reason, v4) {
        (Reason::Refused, true) => (3, 3),
        (Reason::Refused, false) => (1, 4),
        (Reason::NoRoute, true) => (3, 0),
        (Reason::NoRoute, false) => (1, 0),
        (Reason::TooFar, true) => (11, 0),
        (Reason::TooFar, false) => (3, 0),
        (Reason::TooBig(_), true) => (3, 4),
        (Reason::TooBig(_), false) => (2, 0),
    };
    let mtu = if let Reason::TooBig(mtu) = reason { mtu } else { 0 };
    let mut out = vec![kind, code, 0, 0, 0, 0];
    out.extend(mtu.to_be_bytes());
    // As much as fits into the least MTU of each family (RFC 1812 §4.3.2.3, RFC 4443 §2.4).
    let most = if v4 { 576 - 28 } else { 1280 - 48 };
    out.extend(&bytes[..bytes.len().min(most)]);
    (if v4 { ICMP } else { ICMPV6 }, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::UDP;
    use crate::wire::packet::tests::{ping, tcp, udp};

    #[test]
    fn a_refused_syn_is_reset_in_the_name_of_its_destination() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let frame = Frame::complete(tcp((a, 1000), (b, 80), 0x02, b""));
            let told = answer(&frame, Reason::Refused, None).unwrap();
            let packet = Packet::in_frame(&told.bytes).unwrap();
            assert_eq!((packet.source.to_string(), packet.destination.to_string()), (b.to_owned(), a.to_owned()));
            let segment = &told.bytes[ETHERNET + packet.payload..];
            assert_eq!(packet.ports(&told.bytes[ETHERNET..]), Some((80, 1000)));
            assert_eq!((segment[13], segment[11]), (0x14, 8), "a reset that acknowledges 7 + 1");
            assert!(checksum::right(&told));
            assert_eq!(told.bytes[..12], [&frame.bytes[6..12], &frame.bytes[..6]].concat());
        }
    }

    #[test]
    fn errors_quote_the_packet() {
        let table = [
            ("10.0.0.1", "10.0.0.2", Reason::Refused, 3, 3),
            ("10.0.0.1", "10.0.0.2", Reason::NoRoute, 3, 0),
            ("10.0.0.1", "10.0.0.2", Reason::TooFar, 11, 0),
            ("10.0.0.1", "10.0.0.2", Reason::TooBig(1400), 3, 4),
            ("fd00::1", "fd00::2", Reason::Refused, 1, 4),
            ("fd00::1", "fd00::2", Reason::TooFar, 3, 0),
            ("fd00::1", "fd00::2", Reason::TooBig(1400), 2, 0),
        ];
        for (a, b, reason, kind, code) in table {
            let frame = Frame::complete(udp((a, 1000), (b, 53), b"x"));
            let told = answer(&frame, reason, None).unwrap();
            let packet = Packet::in_frame(&told.bytes).unwrap();
            assert_eq!(packet.icmp(&told.bytes[ETHERNET..]), Some((kind, code)), "{reason:?}");
            let quoted = Packet::parse(&told.bytes[ETHERNET + packet.payload + 8..]).unwrap();
            assert_eq!((quoted.protocol, quoted.source.to_string()), (UDP, a.to_owned()));
            assert!(checksum::right(&told));
            if matches!(reason, Reason::TooBig(_)) {
                assert_eq!(told.bytes[ETHERNET + packet.payload + 6..][..2], 1400_u16.to_be_bytes());
            }
        }
    }

    #[test]
    fn errors_and_resets_are_not_answered() {
        let reset = Frame::complete(tcp(("10.0.0.1", 1000), ("10.0.0.2", 80), 0x04, b""));
        assert_eq!(answer(&reset, Reason::Refused, None), None);
        let first = Frame::complete(ping("10.0.0.1", "10.0.0.2", 1, b"x"));
        let error = answer(&first, Reason::NoRoute, None).unwrap();
        assert_eq!(answer(&error, Reason::NoRoute, None), None);
    }
}
