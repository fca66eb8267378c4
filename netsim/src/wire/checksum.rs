//! Internet checksums (RFC 1071): made, completed, and mended after a change.

use super::frame::{Checksum, Frame};
use super::packet::{ICMP, ICMPV6, Packet, TCP, UDP};

/// The sum of `bytes` in 16-bit words with the carries added in, begun with `start`.
fn sum(start: u32, bytes: &[u8]) -> u32 {
    let mut pairs = bytes.chunks_exact(2);
    // Wide enough for the carries of any packet: 2^32 words.
    let words: u64 = pairs.by_ref().map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let last = pairs.remainder().first().map_or(0, |&byte| u64::from(byte) << 8);
    u32::from(fold(u64::from(start) + words + last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // At most 0xffff after the loop.
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The checksum of `bytes` beside a sum that was made before.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    !fold(u64::from(sum(start, bytes)))
}

/// The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) of what `packet` carries.
fn pseudo_header(packet: &Packet, bytes: &[u8], protocol: u8, length: usize) -> u32 {
    let addresses = match packet.source {
        std::net::IpAddr::V4(_) => bytes.get(12..20),
        std::net::IpAddr::V6(_) => bytes.get(8..40),
    };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    sum(u32::from(protocol) + (length >> 16) + (length & 0xffff), addresses.unwrap_or_default())
}

/// Where the checksum of a protocol lies in its header.
fn place(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        ICMP | ICMPV6 => Some(2),
        _ => None,
    }
}

/// Makes every checksum of a whole IP packet anew: that of the IPv4 header and that of TCP, UDP or ICMP.
pub(crate) fn fill(packet: &mut [u8]) {
    let Some(found) = Packet::parse(packet) else { return };
    fill_header(packet);
    let Some(at) = place(found.protocol).filter(|_| !found.later_fragment).map(|at| found.payload + at) else { return };
    let end = found.length.min(packet.len());
    if end < at + 2 {
        return;
    }
    packet[at..at + 2].fill(0);
    let start = match found.protocol {
        ICMP => 0,
        protocol => pseudo_header(&found, packet, protocol, end - found.payload),
    };
    let made = checksum(start, &packet[found.payload..end]);
    // A UDP checksum of zero means that there is none (RFC 768).
    let made = if made == 0 && found.protocol == UDP { u16::MAX } else { made };
    packet[at..at + 2].copy_from_slice(&made.to_be_bytes());
}

/// Makes the checksum of an IPv4 header anew.
pub(crate) fn fill_header(packet: &mut [u8]) {
    if packet.first().is_some_and(|first| first >> 4 == 4) {
        let length = usize::from(packet[0] & 15) * 4;
        if let Some(header) = packet.get_mut(..length).filter(|header| header.len() >= 20) {
            header[10..12].fill(0);
            let made = checksum(0, header).to_be_bytes();
            header[10..12].copy_from_slice(&made);
        }
    }
}

/// Completes the checksum that the sender's kernel left to the device.
pub(crate) fn complete(frame: &mut Frame) {
    let Some(Checksum { start, offset }) = frame.offload.checksum.take() else { return };
    let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
    if frame.bytes.len() < at + 2 {
        return;
    }
    // The place holds the sum of the pseudo-header, so it is summed with the rest.
    let made = checksum(0, &frame.bytes[start..]);
    let made = if made == 0 { u16::MAX } else { made };
    frame.bytes[at..at + 2].copy_from_slice(&made.to_be_bytes());
}

/// Mends a checksum at `at` after the bytes it covers changed from `old` to `new` (RFC 1624), both of even length and
/// at an even place. `partial` is for the sum of a pseudo-header, which is stored without being inverted.
fn mend(packet: &mut [u8], at: usize, old: &[u8], new: &[u8], partial: bool) {
    let Some(place) = packet.get_mut(at..at + 2) else { return };
    let now = u16::from_be_bytes([place[0], place[1]]);
    let inverted: u64 = old.chunks_exact(2).map(|pair| u64::from(!u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let begin = u64::from(if partial { now } else { !now });
    let changed = fold(begin + inverted + u64::from(sum(0, new)));
    place.copy_from_slice(&if partial { changed } else { !changed }.to_be_bytes());
}

/// Changes bytes that the checksum of TCP, UDP or ICMP covers (addresses, ports), and mends that checksum, which may
/// still be a partial one. `at` counts from the IP header, of which `packet` begins.
pub(crate) fn rewrite(packet: &mut [u8], found: &Packet, at: usize, new: &[u8], partial: bool) {
    let Some(old) = packet.get(at..at + new.len()).map(<[u8]>::to_vec) else { return };
    packet[at..at + new.len()].copy_from_slice(new);
    if found.later_fragment {
        return;
    }
    let in_header = at < found.payload;
    if let Some(place) = place(found.protocol).map(|place| found.payload + place) {
        let none = found.protocol == UDP && packet.get(place..place + 2) == Some(&[0, 0]);
        // ICMP for IPv4 has no pseudo-header, and of a partial sum the ports are not part.
        let covered = if in_header { found.protocol != ICMP } else { !partial };
        if covered && !none {
            mend(packet, place, &old, new, partial);
        }
    }
}

/// Whether the checksums of a packet in a frame are right, those that are complete.
#[cfg(test)]
pub(crate) fn right(frame: &Frame) -> bool {
    let mut again = frame.clone();
    complete(&mut again);
    let packet = again.bytes[super::packet::ETHERNET..].to_vec();
    let mut made = packet.clone();
    fill(&mut made);
    made == packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::ETHERNET;
    use crate::wire::packet::tests::{ping, tcp, udp};

    #[test]
    fn the_example_of_rfc_1071_holds() {
        assert_eq!(sum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn a_known_ipv4_header_gets_its_checksum() {
        let mut header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        fill_header(&mut header);
        assert_eq!(header[10..12], [0xb8, 0x61]);
    }

    #[test]
    fn a_rewritten_port_or_address_keeps_the_checksum_right() {
        for frame in [
            udp(("10.0.0.1", 1000), ("10.0.0.2", 2000), b"odd"),
            tcp(("10.0.0.1", 1000), ("10.0.0.2", 2000), 2, b"even"),
            tcp(("fd00::1", 1000), ("fd00::2", 2000), 2, b"odd"),
            ping("10.0.0.1", "10.0.0.2", 77, b"x"),
        ] {
            let mut bytes = frame[ETHERNET..].to_vec();
            let found = Packet::parse(&bytes).unwrap();
            if found.source.is_ipv4() {
                rewrite(&mut bytes, &found, 12, &[203, 0, 113, 9], false);
            } else {
                rewrite(&mut bytes, &found, 8, &[0xfd; 16], false);
            }
            let port = if found.protocol == ICMP { found.payload + 4 } else { found.payload };
            rewrite(&mut bytes, &found, port, &4242_u16.to_be_bytes(), false);
            fill_header(&mut bytes);
            let mut anew = bytes.clone();
            fill(&mut anew);
            assert_eq!(anew, bytes);
        }
    }

    #[test]
    fn a_partial_checksum_stays_partial_and_comes_out_right() {
        let whole = tcp(("10.0.0.1", 1000), ("10.0.0.2", 2000), 2, b"content");
        let mut frame = Frame::complete(whole);
        let found = Packet::in_frame(&frame.bytes).unwrap();
        let partial = fold(u64::from(pseudo_header(&found, &frame.bytes[ETHERNET..], TCP, 27)));
        frame.bytes[ETHERNET + 36..ETHERNET + 38].copy_from_slice(&partial.to_be_bytes());
        frame.offload.checksum = Some(Checksum { start: 34, offset: 16 });
        rewrite(&mut frame.bytes[ETHERNET..], &found, 12, &[203, 0, 113, 9], true);
        rewrite(&mut frame.bytes[ETHERNET..], &found, 20, &4242_u16.to_be_bytes(), true);
        fill_header(&mut frame.bytes[ETHERNET..]);
        assert!(right(&frame));
    }
}
