//! Cuts a super-packet into the packets that a device would send, for links that judge single packets.

use super::checksum;
use super::frame::{Frame, Offload, Segmented, Segments};
use super::packet::{ETHERNET, Packet};

const FIN: u8 = 0x01;
const PUSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The packets of `frame`, each with its checksums. What is no super-packet comes out as it is.
pub(crate) fn segment(frame: Frame) -> Vec<Frame> {
    let Some(segments) = frame.offload.segments else { return vec![frame] };
    let Some(packet) = Packet::in_frame(&frame.bytes) else { return vec![frame] };
    let transport = ETHERNET + packet.payload;
    let parts = frame.bytes.split_at_checked(content(segments, transport, &frame.bytes));
    let Some((headers, payload)) = parts.filter(|(_, payload)| !payload.is_empty()) else { return vec![frame] };
    let count = payload.len().div_ceil(usize::from(segments.size));
    let pieces = payload.chunks(usize::from(segments.size)).enumerate();
    pieces
        .map(|(index, piece)| {
            let mut bytes = [headers, piece].concat();
            number(&mut bytes, &packet, index);
            match segments.protocol {
                Segmented::Udp => {
                    let length = u16::try_from(piece.len() + 8).unwrap_or(u16::MAX);
                    bytes[transport + 4..transport + 6].copy_from_slice(&length.to_be_bytes());
                }
                Segmented::Tcp4 | Segmented::Tcp6 => {
                    let ahead = u32::try_from(index * usize::from(segments.size)).unwrap_or(u32::MAX);
                    advance(&mut bytes, transport, ahead);
                    let flags = &mut bytes[transport + 13];
                    // The last segment ends, the first one answers to congestion.
                    *flags &= !(if index + 1 < count { FIN | PUSH } else { 0 } | if index > 0 { CWR } else { 0 });
                }
            }
            checksum::fill(&mut bytes[ETHERNET..]);
            let offload = Offload { verified: true, ..Offload::default() };
            Frame { bytes, offload, origin: frame.origin }
        })
        .collect()
}

/// How many packets a frame stands for, and their bytes altogether: each has the headers.
pub(crate) fn size(frame: &Frame) -> (u64, u64) {
    let length = frame.bytes.len();
    let cut = frame.offload.segments.and_then(|segments| {
        let transport = ETHERNET + Packet::in_frame(&frame.bytes)?.payload;
        let headers = content(segments, transport, &frame.bytes);
        let more = length.checked_sub(headers)?.div_ceil(usize::from(segments.size)).checked_sub(1)?;
        Some((1 + more as u64, (length + more * headers) as u64))
    });
    cut.unwrap_or((1, length as u64))
}

/// Where the content begins that is to be cut up. Not by the header length that the kernel gave: it is a hint.
fn content(segments: Segments, transport: usize, bytes: &[u8]) -> usize {
    match segments.protocol {
        Segmented::Udp => transport + 8,
        Segmented::Tcp4 | Segmented::Tcp6 => {
            transport + bytes.get(transport + 12).map_or(0, |byte| usize::from(byte >> 4) * 4)
        }
    }
}

/// Gives the IP header of the `index`-th piece its length and identification.
fn number(bytes: &mut [u8], packet: &Packet, index: usize) {
    let length = bytes.len() - ETHERNET;
    let header = &mut bytes[ETHERNET..];
    if packet.source.is_ipv4() {
        header[2..4].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        let first = u16::from_be_bytes([header[4], header[5]]);
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        header[4..6].copy_from_slice(&first.wrapping_add(index).to_be_bytes());
    } else {
        header[4..6].copy_from_slice(&u16::try_from(length - 40).unwrap_or(u16::MAX).to_be_bytes());
    }
}

fn advance(bytes: &mut [u8], transport: usize, ahead: u32) {
    let place = &mut bytes[transport + 4..transport + 8];
    let first = u32::from_be_bytes([place[0], place[1], place[2], place[3]]);
    place.copy_from_slice(&first.wrapping_add(ahead).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Checksum;
    use crate::wire::packet::tests::{tcp, udp};

    fn big(bytes: Vec<u8>, protocol: Segmented, size: u16) -> Frame {
        let segments = Segments { protocol, congested: false, headers: 54, size };
        let checksum = Some(Checksum { start: 34, offset: 16 });
        Frame { bytes, offload: Offload { checksum, segments: Some(segments), verified: false }, origin: Some(3) }
    }

    #[test]
    fn the_segments_of_a_tcp_packet_carry_its_content_in_order() {
        let content: Vec<u8> = (0..=255).cycle().take(2500).collect();
        for (a, b, protocol) in [("10.0.0.1", "10.0.0.2", Segmented::Tcp4), ("fd00::1", "fd00::2", Segmented::Tcp6)] {
            let whole = tcp((a, 1), (b, 2), FIN | PUSH | 0x10, &content);
            let headers = whole.len() - content.len();
            let whole = big(whole, protocol, 1000);
            let counted = size(&whole);
            let cut = segment(whole);
            let bytes = cut.iter().map(|frame| frame.bytes.len() as u64).sum();
            assert_eq!(counted, (3, bytes));
            let sizes: Vec<usize> = cut.iter().map(|frame| frame.bytes.len() - headers).collect();
            assert_eq!(sizes, [1000, 1000, 500]);
            let joined: Vec<u8> = cut.iter().flat_map(|frame| frame.bytes[headers..].to_vec()).collect();
            assert_eq!(joined, content);
            let transport = headers - 20;
            let numbers: Vec<u8> = cut.iter().map(|frame| frame.bytes[transport + 6]).collect();
            assert_eq!(numbers, [0, 3, 7], "7, 1007, 2007 in the second lowest byte");
            let flags: Vec<u8> = cut.iter().map(|frame| frame.bytes[transport + 13]).collect();
            assert_eq!(flags, [0x10, 0x10, FIN | PUSH | 0x10]);
            assert!(cut.iter().all(|frame| checksum::right(frame) && frame.origin == Some(3)));
        }
    }

    #[test]
    fn the_segments_of_udp_are_datagrams() {
        let cut = segment(big(udp(("10.0.0.1", 1), ("10.0.0.2", 2), &[9; 250]), Segmented::Udp, 100));
        let lengths: Vec<usize> = cut.iter().map(|frame| usize::from(frame.bytes[ETHERNET + 25])).collect();
        assert_eq!(lengths, [108, 108, 58]);
        assert!(cut.iter().all(checksum::right));
    }

    #[test]
    fn what_is_no_super_packet_stays_as_it_is() {
        let frame = Frame::complete(udp(("10.0.0.1", 1), ("10.0.0.2", 2), b"x"));
        assert_eq!((size(&frame), segment(frame.clone())), ((1, frame.bytes.len() as u64), vec![frame]));
        for content in [&b"x"[..], b""] {
            let whole = big(tcp(("10.0.0.1", 1), ("10.0.0.2", 2), 0x10, content), Segmented::Tcp4, 1000);
            assert_eq!((size(&whole).0, segment(whole).len()), (1, 1));
        }
    }
}
