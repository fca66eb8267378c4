//! Pieces of packets: put together where the whole has to be seen, and cut where a link takes nothing so long (RFC 791
//! §3.2, RFC 8200 §4.5).
//!
//! What is put together to be translated or judged is cut again as it came, so that its receiver sees the same pieces.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::frame::Frame;
use super::packet::{ETHERNET, Packet};
use super::segment::segment;
use super::{Nanos, checksum};

/// How long the first piece waits for the others, as in Linux.
const PATIENCE: Nanos = 30_000_000_000;
/// Packets that wait for pieces.
const MOST_PACKETS: usize = 256;
/// What waits altogether, in bytes.
const MOST_BYTES: usize = 4 << 20;
/// The longest packet, by the field for its length.
const LONGEST: usize = 0xffff;

/// How a packet came in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// What its pieces are known by.
    id: u32,
    /// The length of the longest piece, as a packet.
    pub(crate) longest: usize,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is a whole packet now; perhaps one that came in pieces.
    Whole(Frame, Option<Cut>),
    /// It waits for the other pieces.
    Waits,
    /// It does not fit the others.
    Bad(Frame),
}

/// Where a piece lies in its packet.
#[derive(Debug, Clone, Copy)]
struct Piece {
    key: (IpAddr, IpAddr, u8, u32),
    offset: usize,
    more: bool,
    /// Where the headers end that every piece has, where its content begins and ends; counted from the IP header.
    headers: usize,
    content: usize,
    end: usize,
    /// IPv6: the place of the header number that names the fragment header, and what it names in the whole.
    next: Option<(usize, u8)>,
}

impl Piece {
    /// Finds the piece in a frame; none if that holds no packet, or a whole one.
    fn in_frame(frame: &[u8]) -> Option<Self> {
        let packet = Packet::in_frame(frame)?;
        let bytes = &frame[ETHERNET..];
        let end = packet.length.min(bytes.len());
        let (source, destination) = (packet.source, packet.destination);
        let piece = if source.is_ipv4() {
            let word = u16::from_be_bytes([bytes[6], bytes[7]]);
            let id = u32::from(u16::from_be_bytes([bytes[4], bytes[5]]));
            Self {
                key: (source, destination, packet.protocol, id),
                offset: usize::from(word & 0x1fff) * 8,
                more: word & 0x2000 != 0,
                headers: packet.payload,
                content: packet.payload,
                end,
                next: None,
            }
        } else {
            let (mut at, mut names) = (40, 6);
            while matches!(*bytes.get(names)?, 0 | 43 | 60) {
                names = at;
                at += usize::from(*bytes.get(at + 1)?) * 8 + 8;
            }
            let head = bytes.get(at..)?.first_chunk::<8>().filter(|_| bytes[names] == 44)?;
            let word = u16::from_be_bytes([head[2], head[3]]);
            Self {
                // The protocol is not part of it in IPv6.
                key: (source, destination, 0, u32::from_be_bytes([head[4], head[5], head[6], head[7]])),
                offset: usize::from(word & !7),
                more: word & 1 != 0,
                headers: at,
                content: at + 8,
                end,
                next: Some((names, head[0])),
            }
        };
        ((piece.offset > 0 || piece.more) && piece.content <= piece.end).then_some(piece)
    }
}

/// Whether a frame is a piece of a packet.
pub(crate) fn is_piece(frame: &[u8]) -> bool {
    Piece::in_frame(frame).is_some()
}

/// Puts packets together.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    packets: HashMap<(IpAddr, IpAddr, u8, u32), Partial>,
    bytes: usize,
}

#[derive(Debug)]
struct Partial {
    began: Nanos,
    /// By their places in the content.
    pieces: BTreeMap<usize, Vec<u8>>,
    bytes: usize,
    /// The first piece, without its content.
    first: Option<Frame>,
    /// The length of the content, once the last piece is there.
    length: Option<usize>,
    longest: usize,
}

impl Reassembly {
    /// Takes a frame. Pieces that overlap are given up with all that was there (RFC 5722).
    pub(crate) fn take(&mut self, frame: Frame, now: Nanos) -> Taken {
        let Some(piece) = Piece::in_frame(&frame.bytes) else { return Taken::Whole(frame, None) };
        let length = piece.end - piece.content;
        if piece.more && !length.is_multiple_of(8) || piece.offset + length > LONGEST || length == 0 {
            return Taken::Bad(frame);
        }
        self.make_room(piece.key, length, now);
        let partial = self.packets.entry(piece.key).or_insert_with(|| Partial {
            began: now,
            pieces: BTreeMap::new(),
            bytes: 0,
            first: None,
            length: None,
            longest: 0,
        });
        let before = partial.pieces.range(..=piece.offset).next_back();
        if before.is_some_and(|(offset, content)| *offset == piece.offset && content.len() == length) {
            // It came twice.
            return Taken::Waits;
        }
        let after = partial.pieces.range(piece.offset..).next();
        let overlaps = before.is_some_and(|(offset, content)| offset + content.len() > piece.offset)
            || after.is_some_and(|(offset, _)| *offset < piece.offset + length);
        let last = if piece.more { partial.length } else { Some(piece.offset + length) };
        let end = partial.pieces.last_key_value().map_or(0, |(offset, content)| offset + content.len());
        let beyond = last.is_some_and(|last| end.max(piece.offset + length) > last);
        if overlaps || beyond {
            self.forget(piece.key);
            return Taken::Bad(frame);
        }
        partial.length = last;
        partial.longest = partial.longest.max(piece.end);
        partial.pieces.insert(piece.offset, frame.bytes[ETHERNET + piece.content..ETHERNET + piece.end].to_vec());
        partial.bytes += length;
        self.bytes += length;
        if piece.offset == 0 {
            let mut first = frame;
            first.bytes.truncate(ETHERNET + piece.headers);
            if let Some((names, number)) = piece.next {
                first.bytes[ETHERNET + names] = number;
            }
            partial.first = Some(first);
        }
        // Without an overlap nothing is missing if all is there.
        if partial.length != Some(partial.bytes) {
            return Taken::Waits;
        }
        let (id, longest) = (piece.key.3, partial.longest);
        match self.forget(piece.key).and_then(Partial::whole) {
            Some(whole) => Taken::Whole(whole, Some(Cut { id, longest })),
            None => Taken::Waits,
        }
    }

    fn make_room(&mut self, key: (IpAddr, IpAddr, u8, u32), length: usize, now: Nanos) {
        if self.packets.get(&key).is_some_and(|partial| now >= partial.began + PATIENCE) {
            self.forget(key);
        }
        while self.bytes + length > MOST_BYTES || self.packets.len() >= MOST_PACKETS && !self.packets.contains_key(&key)
        {
            let oldest = self.packets.iter().min_by_key(|(key, partial)| (partial.began, **key)).map(|(key, _)| *key);
            let Some(oldest) = oldest else { return };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, key: (IpAddr, IpAddr, u8, u32)) -> Option<Partial> {
        let partial = self.packets.remove(&key)?;
        self.bytes -= partial.bytes;
        Some(partial)
    }
}

impl Partial {
    fn whole(self) -> Option<Frame> {
        let mut whole = self.first?;
        self.pieces.into_values().for_each(|content| whole.bytes.extend(content));
        let header = &mut whole.bytes[ETHERNET..];
        let length = header.len();
        if header[0] >> 4 == 4 {
            header[2..4].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
            // Whether it may be cut is still told.
            header[6] &= 0x40;
            checksum::fill_header(header);
        } else {
            header[4..6].copy_from_slice(&u16::try_from(length - 40).ok()?.to_be_bytes());
        }
        Some(whole)
    }
}

/// Whether a router may cut a packet: IPv4 without "don't fragment". In IPv6 only senders do.
pub(crate) fn may_cut(packet: &[u8]) -> bool {
    matches!(packet, [first, _, _, _, _, _, flags, ..] if first >> 4 == 4 && flags & 0x40 == 0)
}

/// Cuts a packet into pieces that are `longest` at most. What is short enough comes out as it is; what cannot be cut gives
/// nothing.
pub(crate) fn cut(frame: Frame, longest: usize, cut: Option<Cut>) -> Vec<Frame> {
    if frame.packet_length() <= longest {
        return vec![frame];
    }
    if frame.offload.segments.is_some() {
        return segment(frame).into_iter().flat_map(|frame| self::cut(frame, longest, cut)).collect();
    }
    let mut frame = frame;
    checksum::complete(&mut frame);
    let Some(packet) = Packet::in_frame(&frame.bytes) else { return Vec::new() };
    if packet.source.is_ipv4() { cut_v4(&frame, &packet, longest) } else { cut_v6(&frame, &packet, longest, cut) }
}

/// The content in pieces of `room` bytes at most, each with its place and whether more follow.
fn pieces(content: &[u8], room: usize) -> impl Iterator<Item = (usize, &[u8], bool)> {
    let room = room & !7;
    let all = content.chunks(room.max(8)).take(if room == 0 { 0 } else { usize::MAX });
    let length = content.len();
    all.enumerate().map(move |(number, piece)| (number * room, piece, number * room + piece.len() < length))
}

fn cut_v4(frame: &Frame, packet: &Packet, longest: usize) -> Vec<Frame> {
    let bytes = &frame.bytes[ETHERNET..];
    let parts = bytes[..packet.length.min(bytes.len())].split_at_checked(packet.payload);
    let Some((headers, content)) = parts else { return Vec::new() };
    // It may be a piece already.
    let word = u16::from_be_bytes([headers[6], headers[7]]);
    let all = pieces(content, longest.saturating_sub(headers.len())).map(|(offset, piece, more)| {
        let mut out = [&frame.bytes[..ETHERNET], headers, piece].concat();
        let header = &mut out[ETHERNET..];
        let length = u16::try_from(headers.len() + piece.len()).unwrap_or(u16::MAX);
        header[2..4].copy_from_slice(&length.to_be_bytes());
        let place = u16::try_from(offset / 8).unwrap_or_default();
        let flags = (word & 0xe000) | if more { 0x2000 } else { 0 };
        header[6..8].copy_from_slice(&(flags | ((word & 0x1fff) + place)).to_be_bytes());
        if offset > 0 {
            drop_options(&mut header[20..headers.len()]);
        }
        checksum::fill_header(header);
        Frame { bytes: out, origin: frame.origin, ..Frame::default() }
    });
    all.collect()
}

/// Options without the copied flag are for the first piece alone; "no operation" takes their place.
fn drop_options(mut options: &mut [u8]) {
    while let Some(&kind) = options.first() {
        let length = match (kind, options.get(1)) {
            (0, _) => return,
            (1, _) => 1,
            (_, Some(&length)) => usize::from(length).clamp(2, options.len().max(2)),
            (_, None) => return,
        };
        let (option, rest) = options.split_at_mut(length.min(options.len()));
        if kind & 0x80 == 0 {
            option.fill(1);
        }
        options = rest;
    }
}

fn cut_v6(frame: &Frame, packet: &Packet, longest: usize, cut: Option<Cut>) -> Vec<Frame> {
    let Some(Cut { id, .. }) = cut else { return Vec::new() };
    let bytes = &frame.bytes[ETHERNET..];
    // What every router on the way looks at is not cut: everything up to a routing header, or to hop-by-hop options.
    let (mut at, mut names, mut headers, mut named) = (40, 6, 40, 6);
    while let (Some(&number @ (0 | 43 | 60)), Some(&length)) = (bytes.get(names), bytes.get(at + 1)) {
        names = at;
        at += usize::from(length) * 8 + 8;
        if number != 60 {
            (headers, named) = (at, names);
        }
    }
    let end = packet.length.min(bytes.len());
    let (Some(head), Some(content)) = (bytes.get(..headers), bytes.get(headers..end)) else { return Vec::new() };
    let all = pieces(content, longest.saturating_sub(headers + 8)).map(|(offset, piece, more)| {
        let mut out = [&frame.bytes[..ETHERNET], head].concat();
        let number = std::mem::replace(&mut out[ETHERNET + named], 44);
        let length = u16::try_from(headers - 40 + 8 + piece.len()).unwrap_or(u16::MAX);
        out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length.to_be_bytes());
        let place = u16::try_from(offset).unwrap_or_default() | u16::from(more);
        out.extend([number, 0]);
        out.extend(place.to_be_bytes());
        out.extend(id.to_be_bytes());
        out.extend(piece);
        Frame { bytes: out, origin: frame.origin, ..Frame::default() }
    });
    all.collect()
}

#[cfg(test)]
#[path = "fragment_tests.rs"]
mod tests;
