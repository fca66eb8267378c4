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
            prop_assert!(out.len() <= 1);
        }
    }
}
