use proptest::prelude::*;

use super::*;
use crate::wire::packet::tests::{tcp, udp};

fn whole(v6: bool, length: usize) -> Frame {
    let content: Vec<u8> = (0..=250).cycle().take(length).collect();
    let (from, to) = if v6 { (("fd00::1", 1000), ("fd00::2", 53)) } else { (("10.0.0.1", 1000), ("10.0.0.2", 53)) };
    let mut bytes = udp(from, to, &content);
    if !v6 {
        // It may be cut, and is known by this number.
        bytes[ETHERNET + 4..ETHERNET + 8].copy_from_slice(&[0x12, 0x34, 0, 0]);
        checksum::fill_header(&mut bytes[ETHERNET..]);
    }
    Frame { origin: Some(3), ..Frame::complete(bytes) }
}

fn in_pieces(v6: bool, length: usize, longest: usize) -> Vec<Frame> {
    cut(whole(v6, length), longest, Some(Cut { id: 0x1234, longest }))
}

#[test]
fn pieces_have_their_places_and_together_are_the_whole() {
    for (v6, headers) in [(false, 20), (true, 48)] {
        let all = in_pieces(v6, 3000, 1400);
        let room = (1400 - headers) / 8 * 8;
        let lengths: Vec<usize> = all.iter().map(|piece| piece.packet_length()).collect();
        assert_eq!(lengths, [headers + room, headers + room, headers + 3008 - 2 * room]);
        let found: Vec<(usize, bool)> = all
            .iter()
            .map(|frame| Piece::in_frame(&frame.bytes).map(|piece| (piece.offset, piece.more)).unwrap())
            .collect();
        assert_eq!(found, [(0, true), (room, true), (2 * room, false)]);
        let mut reassembly = Reassembly::default();
        // In any order.
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let taken: Vec<Taken> = order.iter().map(|&number| reassembly.take(all[number].clone(), 0)).collect();
            let longest = headers + room;
            let expected = Taken::Whole(whole(v6, 3000), Some(Cut { id: 0x1234, longest }));
            assert_eq!(taken, [Taken::Waits, Taken::Waits, expected]);
            assert_eq!((reassembly.packets.len(), reassembly.bytes), (0, 0));
        }
    }
}

#[test]
fn a_piece_is_cut_further() {
    let first = in_pieces(false, 3000, 1400);
    let again: Vec<Frame> = first.into_iter().flat_map(|piece| cut(piece, 600, None)).collect();
    assert!(again.len() > 5 && again.iter().all(|piece| piece.packet_length() <= 600));
    let mut reassembly = Reassembly::default();
    let last = again.into_iter().map(|piece| reassembly.take(piece, 0)).last();
    assert!(matches!(last, Some(Taken::Whole(frame, _)) if frame == whole(false, 3000)));
}

#[test]
fn what_may_not_be_cut_is_not() {
    let mut frame = whole(false, 1000);
    assert!(may_cut(&frame.bytes[ETHERNET..]) && !may_cut(&whole(true, 1000).bytes[ETHERNET..]));
    frame.bytes[ETHERNET + 6] = 0x40;
    assert!(!may_cut(&frame.bytes[ETHERNET..]) && !may_cut(&[]));
    assert_eq!(cut(whole(true, 1000), 500, None), [], "without a number it cannot be");
    assert_eq!(cut(whole(false, 1000), 27, None), [], "not eight bytes fit");
    assert_eq!(cut(whole(false, 10), 1000, None), [whole(false, 10)]);
}

#[test]
fn options_that_are_for_the_first_piece_are_not_in_the_others() {
    let mut frame = whole(false, 100);
    // Record route (7, not copied), a router alert (148, copied), the end.
    frame.bytes.splice(ETHERNET + 20..ETHERNET + 20, [7, 3, 4, 148, 4, 0, 0, 0]);
    frame.bytes[ETHERNET] = 0x47;
    frame.bytes[ETHERNET + 3] += 8;
    checksum::fill_header(&mut frame.bytes[ETHERNET..]);
    let all = cut(frame, 68, None);
    let options: Vec<&[u8]> = all.iter().map(|piece| &piece.bytes[ETHERNET + 20..ETHERNET + 28]).collect();
    assert_eq!(options, [[7, 3, 4, 148, 4, 0, 0, 0], [1, 1, 1, 148, 4, 0, 0, 0], [1, 1, 1, 148, 4, 0, 0, 0]]);
}

#[test]
fn what_does_not_fit_is_given_up_and_nothing_waits_for_ever() {
    let all = in_pieces(false, 3000, 1400);
    let mut reassembly = Reassembly::default();
    assert_eq!(reassembly.take(all[0].clone(), 0), Taken::Waits);
    assert_eq!(reassembly.take(all[0].clone(), 0), Taken::Waits, "twice the same is no harm");
    let overlapping = in_pieces(false, 3000, 1000).swap_remove(1);
    assert_eq!(reassembly.take(overlapping.clone(), 0), Taken::Bad(overlapping));
    assert_eq!((reassembly.packets.len(), reassembly.bytes), (0, 0));
    // What came too long ago is not taken for a part of it.
    reassembly.take(all[0].clone(), 0);
    assert_eq!(reassembly.take(all[1].clone(), PATIENCE), Taken::Waits);
    assert_eq!(reassembly.take(all[2].clone(), PATIENCE), Taken::Waits);
    let mut other = Reassembly::default();
    for id in 0..1000_u16 {
        let mut piece = all[0].clone();
        piece.bytes[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&id.to_be_bytes());
        other.take(piece, id.into());
    }
    assert_eq!((other.packets.len(), other.bytes), (MOST_PACKETS, MOST_PACKETS * 1376));
    let segment = Frame::complete(tcp(("10.0.0.1", 1), ("10.0.0.2", 2), 2, b"x"));
    assert_eq!(other.take(segment.clone(), 0), Taken::Whole(segment, None));
}

proptest! {
    #[test]
    fn pieces_in_any_order_with_some_twice_make_the_whole(
        v6: bool, length in 100_usize..9000, longest in 200_usize..1500, seed: u64,
    ) {
        let mut all = in_pieces(v6, length, longest);
        all.sort_by_key(|piece| piece.bytes.iter().fold(seed, |sum, byte| {
            sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(*byte)).rotate_left(17)
        }));
        let last = all.pop().unwrap();
        let mut reassembly = Reassembly::default();
        for piece in all.iter().chain(&all) {
            prop_assert_eq!(reassembly.take(piece.clone(), 1), Taken::Waits);
        }
        let Taken::Whole(made, _) = reassembly.take(last, 2) else { return Err(TestCaseError::fail("not whole")) };
        prop_assert_eq!(made, whole(v6, length));
    }

    #[test]
    fn no_bytes_make_it_panic(frames in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..90)), 0..30)) {
        let mut reassembly = Reassembly::default();
        for (v6, mut bytes) in frames {
            if let Some(place) = bytes.get_mut(12..15) {
                place.copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] });
            }
            if let Some(next) = bytes.get_mut(20).filter(|_| v6) {
                *next = [44, 0, 43, 60][usize::from(*next) % 4];
            }
            cut(Frame::complete(bytes.clone()), 30, Some(Cut { id: 1, longest: 30 }));
            reassembly.take(Frame::complete(bytes), 0);
            prop_assert!(reassembly.packets.len() <= 30);
        }
    }
}
