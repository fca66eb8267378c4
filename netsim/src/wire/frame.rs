//! A frame on its way through the wire, and what its sender's kernel left undone in it.

/// The length of `struct virtio_net_hdr`, which precedes every frame at both backends.
pub(crate) const HEADER: usize = 10;

// <linux/virtio_net.h>
const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// An Ethernet frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// From the destination's address on, without the check sequence.
    pub(crate) bytes: Vec<u8>,
    /// What has still to be done to it.
    pub(crate) offload: Offload,
    /// The host whose kernel sent it; none for what the wire itself says.
    pub(crate) origin: Option<u32>,
}

/// Work that a kernel leaves to its device: to complete a checksum, to cut a super-packet into segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offload {
    pub(crate) checksum: Option<Checksum>,
    /// The checksum is right: the receiver need not verify it.
    pub(crate) verified: bool,
    pub(crate) segments: Option<Segments>,
}

/// A checksum over everything from `start` on belongs at `start + offset`, where now the sum of the pseudo-header lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checksum {
    pub(crate) start: u16,
    pub(crate) offset: u16,
}

/// The payload is to be cut into pieces of `size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segments {
    pub(crate) protocol: Segmented,
    pub(crate) congested: bool,
    pub(crate) headers: u16,
    pub(crate) size: u16,
}

/// What a super-packet consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segmented {
    Tcp4,
    Tcp6,
    Udp,
}

impl Frame {
    /// A frame that needs nothing more.
    pub(crate) fn complete(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// The longest IP packet that this frame becomes: of a super-packet, one segment.
    pub(crate) fn packet_length(&self) -> usize {
        let length = self.bytes.len().saturating_sub(14);
        match self.offload.segments {
            Some(Segments { headers, size, .. }) => length.min(usize::from(headers) + usize::from(size) - 14),
            None => length,
        }
    }
}

impl Offload {
    /// Reads `struct virtio_net_hdr`. Kinds of super-packets that were never allowed to come give none.
    pub(crate) fn read(header: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let protocol = match header[1] & !GSO_ECN {
            0 => None,
            GSO_TCPV4 => Some(Segmented::Tcp4),
            GSO_TCPV6 => Some(Segmented::Tcp6),
            GSO_UDP_L4 => Some(Segmented::Udp),
            _ => return None,
        };
        Some(Self {
            checksum: (header[0] & NEEDS_CHECKSUM != 0).then(|| Checksum { start: word(6), offset: word(8) }),
            verified: header[0] & DATA_VALID != 0,
            segments: protocol.filter(|_| word(2) >= 14 && word(4) > 0).map(|protocol| Segments {
                protocol,
                congested: header[1] & GSO_ECN != 0,
                headers: word(2),
                size: word(4),
            }),
        })
    }

    /// Writes `struct virtio_net_hdr`.
    pub(crate) fn write(self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let mut word = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        if let Some(Checksum { start, offset }) = self.checksum {
            word(6, start);
            word(8, offset);
        }
        if let Some(segments) = self.segments {
            word(2, segments.headers);
            word(4, segments.size);
        }
        header[0] = if self.checksum.is_some() { NEEDS_CHECKSUM } else { u8::from(self.verified) * DATA_VALID };
        header[1] = self.segments.map_or(0, |segments| {
            let kind = match segments.protocol {
                Segmented::Tcp4 => GSO_TCPV4,
                Segmented::Tcp6 => GSO_TCPV6,
                Segmented::Udp => GSO_UDP_L4,
            };
            kind | if segments.congested { GSO_ECN } else { 0 }
        });
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let word = u16::to_ne_bytes;
        for (flags, kind) in [(1, 0), (2, 0), (0, 0), (1, GSO_TCPV4), (1, GSO_TCPV6 | GSO_ECN), (1, GSO_UDP_L4)] {
            let (headers, size) = if kind == 0 { (0, 0) } else { (66, 1448) };
            let (start, offset) = if flags == 1 { (34, 16) } else { (0, 0) };
            let words = [word(headers), word(size), word(start), word(offset)].concat();
            let header: [u8; HEADER] = [&[flags, kind], &*words].concat().try_into().unwrap();
            assert_eq!(Offload::read(&header).unwrap().write(), header);
        }
    }

    #[test]
    fn a_kind_that_is_not_known_is_refused() {
        assert_eq!(Offload::read(&[0, 3, 42, 0, 1, 1, 0, 0, 0, 0]), None);
    }
}
