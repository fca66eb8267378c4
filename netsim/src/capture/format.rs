//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng), in the machine's byte order.

/// The longest comment.
const MOST_COMMENT: usize = 256;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

const MAGIC: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;

// Options: of every block, of sections, of interfaces, of statistics.
const END: u16 = 0;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const RESOLUTION: u16 = 9;
const RECEIVED: u16 = 4;
const DROPPED: u16 = 5;

/// How a file begins.
pub(super) fn section(application: &str) -> Vec<u8> {
    block(SECTION, |body| {
        body.extend(MAGIC.to_ne_bytes());
        body.extend([1_u16.to_ne_bytes(), 0_u16.to_ne_bytes()].concat());
        // The length of the section: not known.
        body.extend(u64::MAX.to_ne_bytes());
        option(body, APPLICATION, application.as_bytes());
        option(body, END, &[]);
    })
}

/// An interface of the section; they count from 0. `snap`: the bytes that are kept of a packet.
pub(super) fn interface(name: &str, description: &str, snap: u32) -> Vec<u8> {
    block(INTERFACE, |body| {
        body.extend([ETHERNET.to_ne_bytes(), [0, 0]].concat());
        body.extend(snap.to_ne_bytes());
        option(body, NAME, name.as_bytes());
        option(body, DESCRIPTION, description.as_bytes());
        // Times are in nanoseconds.
        option(body, RESOLUTION, &[9]);
        option(body, END, &[]);
    })
}

/// A packet of `length` bytes, of which `bytes` are kept.
pub(super) fn packet(interface: u32, at: u64, bytes: &[u8], length: u32, comment: &str) -> Vec<u8> {
    block(PACKET, |body| {
        body.extend(interface.to_ne_bytes());
        body.extend(time(at));
        body.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_ne_bytes());
        body.extend(length.to_ne_bytes());
        padded(body, bytes);
        if !comment.is_empty() {
            option(body, COMMENT, &comment.as_bytes()[..comment.floor_char_boundary(MOST_COMMENT)]);
            option(body, END, &[]);
        }
    })
}

/// How many packets came to an interface, and how many of them are not in the file.
pub(super) fn statistics(interface: u32, at: u64, received: u64, missing: u64) -> Vec<u8> {
    block(STATISTICS, |body| {
        body.extend(interface.to_ne_bytes());
        body.extend(time(at));
        option(body, RECEIVED, &received.to_ne_bytes());
        option(body, DROPPED, &missing.to_ne_bytes());
        option(body, END, &[]);
    })
}

/// A time is two words, the higher one first.
fn time(at: u64) -> Vec<u8> {
    let [high, low] = [at >> 32, at & u64::from(u32::MAX)].map(|word| u32::try_from(word).unwrap_or_default());
    [high.to_ne_bytes(), low.to_ne_bytes()].concat()
}

/// A block has its length at both ends.
fn block(kind: u32, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = [kind.to_ne_bytes(), [0; 4]].concat();
    fill(&mut out);
    let length = u32::try_from(out.len() + 4).unwrap_or(u32::MAX).to_ne_bytes();
    out[4..8].copy_from_slice(&length);
    out.extend(length);
    out
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_ne_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_padded_and_has_its_length_at_both_ends() {
        let all = [
            section("netsim"),
            interface("alpha > beta", "", 96),
            packet(1, 5_000_000_007, b"abcde", 1500, "dropped: lost by chance"),
            packet(0, 1, b"", 0, ""),
            statistics(1, 9, 10, 3),
        ];
        for bytes in all {
            let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            assert_eq!((bytes.len() % 4, word(4), word(bytes.len() - 4)), (0, bytes.len(), bytes.len()));
        }
    }

    #[test]
    fn a_packet_is_laid_out_as_the_draft_says() {
        let bytes = packet(1, (3 << 32) + 4, b"abcde", 1500, "why");
        let words = [6, 52, 1, 3, 4, 5, 1500].map(u32::to_ne_bytes).concat();
        let comment = [1_u16.to_ne_bytes(), 3_u16.to_ne_bytes()].concat();
        let expected = [&*words, b"abcde\0\0\0", &comment, b"why\0", &[0; 4], &52_u32.to_ne_bytes()].concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_comment_is_cut_between_characters() {
        let bytes = packet(0, 0, b"", 0, &"ä".repeat(1000));
        assert!(bytes.len() < 320);
        let long = [&b"x"[..], "ä".repeat(1000).as_bytes()].concat();
        assert!(packet(0, 0, b"", 0, std::str::from_utf8(&long).unwrap()).len() < 320);
    }
}
