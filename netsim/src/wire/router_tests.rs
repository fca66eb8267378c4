use proptest::prelude::*;

use super::*;
use crate::Traffic;
use crate::wire::packet::tests::{ping, tcp, udp};
use crate::wire::packet::{TCP, UDP};

const INSIDE: Mac = [2, 0, 0, 0, 0, 0x10];
const OUTSIDE: Mac = [2, 0, 0, 0, 0, 0x20];
const HOST: Mac = [2, 0, 0, 0, 0, 0x11];
const SERVER: Mac = [2, 0, 0, 0, 0, 0x21];

fn prefix(text: &str) -> Prefix {
    let (ip, bits) = crate::link::parse(text).unwrap();
    Prefix { ip, bits }
}

/// A router between 192.168.1.0/24 and 203.0.113.0/24, and their IPv6 brothers, with a host at .2 and a server at .20.
fn router(nat: Option<Nat>, firewall: Firewall) -> Router {
    let interface = |mac, addresses: [&str; 2], mtu, outside| Interface {
        mac,
        addresses: addresses.map(prefix).to_vec(),
        mtu,
        outside,
    };
    let interfaces = vec![
        interface(INSIDE, ["192.168.1.1/24", "fd01::1/64"], 1500, false),
        interface(OUTSIDE, ["203.0.113.7/24", "fd02::7/64"], 1400, true),
    ];
    let direct = |to: &str, interface| Route { to: prefix(to), interface, next: None };
    let routes = vec![
        direct("192.168.1.1/24", 0),
        direct("203.0.113.7/24", 1),
        direct("fd01::1/64", 0),
        direct("fd02::7/64", 1),
        Route { to: prefix("0.0.0.0/0"), interface: 1, next: Some("203.0.113.20".parse().unwrap()) },
    ];
    let mut router = Router::new(interfaces, routes, nat, firewall);
    for (interface, ip, mac) in
        [(0, "192.168.1.2", HOST), (1, "203.0.113.20", SERVER), (0, "fd01::2", HOST), (1, "fd02::20", SERVER)]
    {
        router.meet(interface, ip.parse().unwrap(), mac);
    }
    router
}

/// A frame as it comes to the router's interface.
fn to(interface: usize, mut bytes: Vec<u8>) -> Frame {
    let (to, from) = if interface == 0 { (INSIDE, HOST) } else { (OUTSIDE, SERVER) };
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&from);
    Frame::complete(bytes)
}

/// What the router makes of one frame: the interface, and the packet with its ports or its ICMP type.
fn pass(router: &mut Router, from: usize, frame: Frame) -> Option<(usize, String)> {
    let mut out = Vec::new();
    router.handle(from, frame, 1, &mut out);
    assert!(out.len() <= 1);
    let (interface, frame) = out.pop()?;
    assert!(checksum::right(&frame), "a wrong checksum");
    let bytes = &frame.bytes[ETHERNET..];
    let packet = Packet::in_frame(&frame.bytes).unwrap();
    let mac = match interface {
        0 => (HOST, INSIDE),
        _ => (SERVER, OUTSIDE),
    };
    assert_eq!((destination(&frame.bytes), source(&frame.bytes)), (Some(mac.0), Some(mac.1)));
    let (from, to) = packet.ports(bytes).unwrap_or_default();
    let icmp = packet.icmp(bytes).map(|(kind, code)| format!(" icmp {kind}/{code}")).unwrap_or_default();
    Some((
        interface,
        format!("{} > {}{icmp}", SocketAddr::new(packet.source, from), SocketAddr::new(packet.destination, to)),
    ))
}

fn said(interface: usize, text: &str) -> Option<(usize, String)> {
    Some((interface, text.to_owned()))
}

#[test]
fn packets_go_on_and_what_cannot_is_told() {
    let router = &mut router(None, Firewall::open());
    let out = |target: &str| udp(("192.168.1.2", 5000), (target, 53), b"x");
    assert_eq!(pass(router, 0, to(0, out("203.0.113.20"))), said(1, "192.168.1.2:5000 > 203.0.113.20:53"));
    assert_eq!(pass(router, 0, to(0, out("8.8.8.8"))), said(1, "192.168.1.2:5000 > 8.8.8.8:53"));
    let v6 = udp(("fd01::2", 5000), ("fd02::20", 53), b"x");
    assert_eq!(pass(router, 0, to(0, v6)), said(1, "[fd01::2]:5000 > [fd02::20]:53"));
    // Nobody has that address; no route leads there; too long for the next link; no hop left.
    let unknown = udp(("203.0.113.20", 53), ("192.168.1.99", 5000), b"x");
    assert_eq!(pass(router, 1, to(1, unknown)), said(1, "203.0.113.7:0 > 203.0.113.20:0 icmp 3/0"));
    let v6 = udp(("fd01::2", 5000), ("fd99::1", 53), b"x");
    assert_eq!(pass(router, 0, to(0, v6)), said(0, "[fd01::1]:0 > [fd01::2]:0 icmp 1/0"));
    let long = udp(("192.168.1.2", 5000), ("203.0.113.20", 53), &[0; 1400]);
    assert_eq!(pass(router, 0, to(0, long)), said(0, "192.168.1.1:0 > 192.168.1.2:0 icmp 3/4"));
    let mut last = to(0, out("203.0.113.20"));
    last.bytes[ETHERNET + 8] = 1;
    checksum::fill_header(&mut last.bytes[ETHERNET..]);
    assert_eq!(pass(router, 0, last), said(0, "192.168.1.1:0 > 192.168.1.2:0 icmp 11/0"));
    // The router itself: answers a ping, and refuses the rest.
    assert_eq!(
        pass(router, 0, to(0, ping("192.168.1.2", "192.168.1.1", 7, b"x"))),
        said(0, "192.168.1.1:0 > 192.168.1.2:0 icmp 0/0")
    );
    assert_eq!(
        pass(router, 0, to(0, tcp(("192.168.1.2", 5000), ("192.168.1.1", 80), 2, b""))),
        said(0, "192.168.1.1:80 > 192.168.1.2:5000")
    );
    // What was not sent to it stays where it is.
    assert_eq!(pass(router, 0, Frame::complete(out("203.0.113.20"))), None);
}

#[test]
fn a_nat_translates_out_and_in_and_errors_with_them() {
    let router = &mut router(Some(Nat::port_restricted()), Firewall::open());
    let out = udp(("192.168.1.2", 5000), ("203.0.113.20", 53), b"x");
    assert_eq!(pass(router, 0, to(0, out.clone())), said(1, "203.0.113.7:50000 > 203.0.113.20:53"));
    let back = udp(("203.0.113.20", 53), ("203.0.113.7", 50_000), b"x");
    assert_eq!(pass(router, 1, to(1, back.clone())), said(0, "203.0.113.20:53 > 192.168.1.2:5000"));
    let stranger = udp(("203.0.113.20", 54), ("203.0.113.7", 50_000), b"x");
    assert_eq!(pass(router, 1, to(1, stranger)), None);
    // "Port unreachable" about what went out comes in, about what came in goes out, each quoting what its reader knows.
    let sent = udp(("203.0.113.7", 50_000), ("203.0.113.20", 53), b"x");
    let error = answer::answer(&Frame::complete(sent), Reason::Refused, None).unwrap();
    assert_eq!(pass(router, 1, to(1, error.bytes)), said(0, "203.0.113.20:0 > 192.168.1.2:0 icmp 3/3"));
    let got = udp(("203.0.113.20", 53), ("192.168.1.2", 5000), b"x");
    let error = answer::answer(&Frame::complete(got), Reason::Refused, None).unwrap();
    assert_eq!(pass(router, 0, to(0, error.bytes)), said(1, "203.0.113.7:0 > 203.0.113.20:0 icmp 3/3"));
    // An identifier of a ping is a port, too.
    let echo = ping("192.168.1.2", "203.0.113.20", 7, b"x");
    assert_eq!(pass(router, 0, to(0, echo)), said(1, "203.0.113.7:0 > 203.0.113.20:0 icmp 8/0"));
    let mut reply = ping("203.0.113.20", "203.0.113.7", 50_001, b"x");
    reply[ETHERNET + 20] = 0;
    checksum::fill(&mut reply[ETHERNET..]);
    assert_eq!(pass(router, 1, to(1, reply)), said(0, "203.0.113.20:0 > 192.168.1.2:0 icmp 0/0"));
    assert!(router.rebind());
    assert_eq!(pass(router, 1, to(1, back)), None);
}

/// A datagram that may be cut, with a number of its own.
fn long(from: (&str, u16), to: (&str, u16), length: usize) -> Vec<u8> {
    let mut bytes = udp(from, to, &vec![7; length]);
    bytes[ETHERNET + 4..ETHERNET + 8].copy_from_slice(&[0, 9, 0, 0]);
    checksum::fill_header(&mut bytes[ETHERNET..]);
    bytes
}

/// What the router makes of some frames, put together again by whoever gets them: the lengths of the packets, and the
/// whole.
fn put_together(router: &mut Router, from: usize, frames: Vec<Frame>) -> (Vec<usize>, Option<Frame>) {
    let mut out = Vec::new();
    frames.into_iter().for_each(|frame| assert_eq!(router.handle(from, frame, 1, &mut out), None));
    let lengths = out.iter().map(|(_, frame)| frame.packet_length()).collect();
    let mut receiver = Reassembly::default();
    let mut taken = out.into_iter().map(|(_, frame)| receiver.take(frame, 1));
    let whole = taken.find_map(|taken| if let Taken::Whole(frame, _) = taken { Some(frame) } else { None });
    (lengths, whole.inspect(|frame| assert!(checksum::right(frame), "a wrong checksum")))
}

#[test]
fn what_may_be_cut_is_cut_for_a_narrow_link() {
    let router = &mut router(None, Firewall::open());
    let datagram = || long(("192.168.1.2", 5000), ("203.0.113.20", 53), 1400);
    let (lengths, whole) = put_together(router, 0, vec![to(0, datagram())]);
    assert_eq!(lengths, [1396, 52], "1400 leave room for 1376 bytes");
    assert_eq!(whole.map(|frame| frame.bytes[ETHERNET + 20..].to_vec()), Some(datagram()[ETHERNET + 20..].to_vec()));
    // A piece is carried as it is, and cut further where it has to be; nobody waits for the others.
    let pieces = fragment::cut(to(0, long(("192.168.1.2", 5000), ("203.0.113.20", 53), 2000)), 1500, None);
    let (lengths, _) = put_together(router, 0, vec![pieces[1].clone()]);
    assert_eq!(lengths, [548]);
    let (lengths, _) = put_together(router, 0, vec![pieces[0].clone()]);
    assert_eq!(lengths, [1396, 124]);
    // A long ping to the router itself is answered, in pieces.
    let mut long = ping("192.168.1.2", "192.168.1.1", 7, &[5; 2000]);
    long[ETHERNET + 6] = 0;
    checksum::fill_header(&mut long[ETHERNET..]);
    let (lengths, whole) = put_together(router, 0, fragment::cut(to(0, long), 1500, None));
    assert_eq!(lengths, [1500, 548]);
    let whole = whole.unwrap();
    assert_eq!(Packet::in_frame(&whole.bytes).unwrap().icmp(&whole.bytes[ETHERNET..]), Some((0, 0)));
}

#[test]
fn pieces_are_translated_in_any_order_and_leave_as_they_came() {
    for reversed in [false, true] {
        let router = &mut router(Some(Nat::port_restricted()), Firewall::open().outbound_only(Answer::Silence));
        let mut there = fragment::cut(to(0, long(("192.168.1.2", 5000), ("203.0.113.20", 53), 2000)), 700, None);
        let mut back = fragment::cut(to(1, long(("203.0.113.20", 53), ("203.0.113.7", 50_000), 2000)), 700, None);
        if reversed {
            there.reverse();
            back.reverse();
        }
        for (from, frames, expected) in
            [(0, there, "203.0.113.7:50000 > 203.0.113.20:53"), (1, back, "203.0.113.20:53 > 192.168.1.2:5000")]
        {
            let (lengths, whole) = put_together(router, from, frames);
            assert_eq!(lengths, [700, 700, 668], "as it came");
            let whole = whole.unwrap();
            let packet = Packet::in_frame(&whole.bytes).unwrap();
            let (source, destination) = packet.ports(&whole.bytes[ETHERNET..]).unwrap();
            let told = format!("{}:{source} > {}:{destination}", packet.source, packet.destination);
            assert_eq!(told, expected);
        }
    }
}

#[test]
fn a_nat_translates_ipv6_if_it_is_told_to() {
    let out = || udp(("fd01::2", 5000), ("fd02::20", 53), b"x");
    let back = || udp(("fd02::20", 53), ("fd02::7", 50_000), b"x");
    let plain = &mut router(Some(Nat::port_restricted()), Firewall::open());
    assert_eq!(pass(plain, 0, to(0, out())), said(1, "[fd01::2]:5000 > [fd02::20]:53"));
    let router = &mut router(Some(Nat::port_restricted().ipv6()), Firewall::open());
    assert_eq!(pass(router, 1, to(1, back())), None, "nobody has sent anything");
    assert_eq!(pass(router, 0, to(0, out())), said(1, "[fd02::7]:50000 > [fd02::20]:53"));
    assert_eq!(pass(router, 1, to(1, back())), said(0, "[fd02::20]:53 > [fd01::2]:5000"));
    // Errors about it, both ways; a ping; and IPv4 beside it, with ports of its own.
    let sent = udp(("fd02::7", 50_000), ("fd02::20", 53), b"x");
    let error = answer::answer(&Frame::complete(sent), Reason::Refused, None).unwrap();
    assert_eq!(pass(router, 1, to(1, error.bytes)), said(0, "[fd02::20]:0 > [fd01::2]:0 icmp 1/4"));
    let got = udp(("fd02::20", 53), ("fd01::2", 5000), b"x");
    let error = answer::answer(&Frame::complete(got), Reason::Refused, None).unwrap();
    assert_eq!(pass(router, 0, to(0, error.bytes)), said(1, "[fd02::7]:0 > [fd02::20]:0 icmp 1/4"));
    assert_eq!(
        pass(router, 0, to(0, ping("fd01::2", "fd02::20", 7, b"x"))),
        said(1, "[fd02::7]:0 > [fd02::20]:0 icmp 128/0")
    );
    assert_eq!(
        pass(router, 0, to(0, udp(("192.168.1.2", 5000), ("203.0.113.20", 53), b"x"))),
        said(1, "203.0.113.7:50002 > 203.0.113.20:53")
    );
}

#[test]
fn errors_about_what_was_turned_round_find_their_way() {
    let router = &mut router(Some(Nat::endpoint_independent()), Firewall::open());
    // A second host has a mapping, and the first sends to its outside name.
    router.meet(0, "192.168.1.3".parse().unwrap(), HOST);
    let second = udp(("192.168.1.3", 6000), ("203.0.113.20", 53), b"x");
    assert_eq!(pass(router, 0, to(0, second)), said(1, "203.0.113.7:50000 > 203.0.113.20:53"));
    let first = udp(("192.168.1.2", 5000), ("203.0.113.7", 50_000), b"x");
    assert_eq!(pass(router, 0, to(0, first)), said(0, "203.0.113.7:50001 > 192.168.1.3:6000"));
    // The second refuses it: the first hears of that from the name that it knows, about what it has sent.
    let got = udp(("203.0.113.7", 50_001), ("192.168.1.3", 6000), b"x");
    let error = answer::answer(&Frame::complete(got), Reason::Refused, None).unwrap();
    let mut out = Vec::new();
    router.handle(0, to(0, error.bytes), 1, &mut out);
    let (interface, frame) = out.pop().unwrap();
    let packet = Packet::in_frame(&frame.bytes).unwrap();
    let inner = &frame.bytes[ETHERNET + packet.payload + 8..];
    let about = Packet::parse(inner).unwrap();
    let ends = |packet: &Packet| format!("{} > {}", packet.source, packet.destination);
    assert_eq!((interface, ends(&packet)), (0, "203.0.113.7 > 192.168.1.2".to_owned()));
    assert_eq!((ends(&about), about.ports(inner)), ("192.168.1.2 > 203.0.113.7".to_owned(), Some((5000, 50_000))));
    assert!(checksum::right(&frame));
}

#[test]
fn a_firewall_asks_who_began() {
    let router =
        &mut router(None, Firewall::open().outbound_only(Answer::Rejection).block(Traffic::Tcp, Answer::Silence));
    let inward = || udp(("203.0.113.20", 53), ("192.168.1.2", 5000), b"x");
    assert_eq!(pass(router, 1, to(1, inward())), said(1, "192.168.1.2:0 > 203.0.113.20:0 icmp 3/3"));
    assert!(pass(router, 0, to(0, udp(("192.168.1.2", 5000), ("203.0.113.20", 53), b"x"))).is_some());
    assert_eq!(pass(router, 1, to(1, inward())), said(0, "203.0.113.20:53 > 192.168.1.2:5000"));
    assert_eq!(pass(router, 0, to(0, tcp(("192.168.1.2", 5000), ("203.0.113.20", 80), 2, b""))), None);
}

#[test]
fn the_longest_prefix_decides() {
    for (network, ip, inside) in [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("0.0.0.0/0", "11.0.0.1", true),
        ("0.0.0.0/0", "fd00::1", false),
        ("::/0", "fd00::1", true),
        ("fd00::/64", "fd00:0:0:1::1", false),
        ("10.0.0.1/32", "10.0.0.1", true),
    ] {
        assert_eq!(prefix(network).contains(ip.parse().unwrap()), inside, "{network} {ip}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_router_panic_and_what_leaves_has_fewer_hops(
        mut frames in prop::collection::vec((0_usize..2, prop::collection::vec(any::<u8>(), 0..120), any::<bool>()), 0..20),
    ) {
        let router = &mut router(Some(Nat::symmetric()), Firewall::open().outbound_only(Answer::Rejection));
        for (interface, bytes, well_formed) in &mut frames {
            if *well_formed && bytes.len() > ETHERNET {
                let own = if *interface == 0 { INSIDE } else { OUTSIDE };
                bytes[..6].copy_from_slice(&own);
                bytes[12..14].copy_from_slice(&[8, 0]);
                bytes[14] = 0x45;
                if let Some(protocol) = bytes.get_mut(23) {
                    *protocol = [ICMP, TCP, UDP, *protocol][usize::from(*protocol) % 4];
                }
                if let Some(place) = bytes.get_mut(30..34) {
                    place.copy_from_slice(&[203, 0, 113, if place[0] % 2 == 0 { 7 } else { 20 }]);
                }
            }
            let mut out = Vec::new();
            router.handle(*interface, Frame::complete(bytes.clone()), 0, &mut out);
            prop_assert!(out.len() <= 1, "one packet in became several");
        }
    }
}
