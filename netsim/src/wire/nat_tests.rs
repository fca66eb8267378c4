use proptest::prelude::*;

use super::*;
use crate::wire::packet::UDP;

const SECOND: Nanos = 1_000_000_000;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An address of either family: `.1:80` is 203.0.113.1:80, or its IPv6 brother.
fn outside(v6: bool, text: &str) -> SocketAddr {
    let (host, port) = text.strip_prefix('.').and_then(|rest| rest.split_once(':')).unwrap();
    at(&if v6 { format!("[2001:db8::{host}]:{port}") } else { format!("203.0.113.{host}:{port}") })
}

#[test]
fn each_kind_maps_and_filters_as_its_name_says() {
    use Depends::{OnAddress, OnAddressAndPort, OnNothing};
    let custom = |mapping, filtering| Nat { mapping, filtering, ..Nat::endpoint_independent() };
    let table = [
        // RFC 4787 §4.1, §5. The mapping of what went to .1:80 is used again for: .1:81? .2:80? Whoever may send to it
        // then beside .1:80: .1:81? .2:80?
        (Nat::endpoint_independent(), [true, true], [true, true]),
        (Nat::address_restricted(), [true, true], [true, false]),
        (Nat::port_restricted(), [true, true], [false, false]),
        (Nat::carrier_grade(), [true, true], [false, false]),
        (Nat::symmetric(), [false, false], [false, false]),
        (custom(OnAddress, OnNothing), [true, false], [true, true]),
        (custom(OnAddress, OnAddress), [true, false], [true, false]),
        (custom(OnAddressAndPort, OnAddress), [false, false], [true, false]),
        (custom(OnAddressAndPort, OnNothing), [false, false], [true, true]),
    ];
    for v6 in [false, true] {
        for (nat, mapped_again, enter) in table.clone() {
            let told = format!("{nat:?}");
            let mut translator = Translator::new(nat.clone().ipv6());
            let inside = at(if v6 { "[fd01::2]:5000" } else { "192.168.1.2:5000" });
            let peer = outside(v6, ".1:80");
            let others = [outside(v6, ".1:81"), outside(v6, ".2:80")];
            let port = translator.outbound(UDP, inside, peer, 0).unwrap();
            assert_eq!(port, 50_000, "{told}");
            assert_eq!(translator.outbound(UDP, inside, peer, 1), Some(port), "{told}");
            assert_eq!(translator.inbound(UDP, peer, port, 2), Some(inside), "{told}");
            for (other, enters) in others.into_iter().zip(enter) {
                assert_eq!(translator.inbound(UDP, other, port, 2).is_some(), enters, "{other} {told}");
            }
            // Neither the other protocol nor the other family has anything to do with it.
            assert_eq!(translator.inbound(TCP, peer, port, 2), None, "{told}");
            assert_eq!(translator.inbound(UDP, outside(!v6, ".1:80"), port, 2), None, "{told}");
            for (other, again) in others.into_iter().zip(mapped_again) {
                // Alone, so that what was sent to the one before is not in the way.
                let mut alone = Translator::new(nat.clone());
                let first = alone.outbound(UDP, inside, peer, 0);
                assert_eq!(alone.outbound(UDP, inside, other, 3) == first, again, "{other} {told}");
            }
        }
    }
}

#[test]
fn kinds_differ_in_what_else_they_do() {
    let seconds = |nat: &Nat| (nat.udp_timeout.as_secs(), nat.tcp_timeout.as_secs());
    for (nat, hairpin, lasts, ports) in [
        (Nat::endpoint_independent(), true, (120, 7440), usize::MAX),
        (Nat::address_restricted(), true, (120, 7440), usize::MAX),
        (Nat::port_restricted(), true, (120, 7440), usize::MAX),
        (Nat::symmetric(), false, (120, 7440), usize::MAX),
        (Nat::carrier_grade(), true, (30, 7440), 512),
    ] {
        // Two minutes are the least that RFC 4787 §4.3 has for UDP, 2 h 4 min those of RFC 5382 §5 for TCP.
        assert_eq!((nat.hairpin, seconds(&nat), nat.ports_per_host), (hairpin, lasts, ports), "{nat:?}");
        assert!(!nat.ipv6 && nat.ipv6().ipv6);
    }
    let (inside, peer) = (at("192.168.1.2:5000"), at("203.0.113.1:80"));
    for (protocol, lasts) in [(UDP, 120), (TCP, 7440)] {
        let mut translator = Translator::new(Nat::port_restricted());
        let port = translator.outbound(protocol, inside, peer, 0).unwrap();
        assert!(translator.inbound(protocol, peer, port, lasts * SECOND - 1).is_some());
        assert!(translator.inbound(protocol, peer, port, lasts * SECOND).is_none());
    }
}

#[test]
fn mappings_end_after_their_time_unless_packets_go_out() {
    let mut translator = Translator::new(Nat::port_restricted().udp_timeout(Duration::from_secs(30)));
    let (inside, peer) = (at("192.168.1.2:5000"), at("203.0.113.1:80"));
    let port = translator.outbound(UDP, inside, peer, 0).unwrap();
    assert_eq!(translator.outbound(UDP, inside, peer, 29 * SECOND), Some(port));
    assert!(translator.inbound(UDP, peer, port, 58 * SECOND).is_some());
    assert!(translator.inbound(UDP, peer, port, 59 * SECOND).is_none(), "what comes in keeps nothing alive");
    assert_ne!(translator.outbound(UDP, inside, peer, 60 * SECOND), Some(port));
}

#[test]
fn after_a_rebinding_flows_get_other_ports() {
    let mut translator = Translator::new(Nat::endpoint_independent());
    let (inside, peer) = (at("192.168.1.2:5000"), at("203.0.113.1:80"));
    let before = translator.outbound(UDP, inside, peer, 0).unwrap();
    translator.rebind();
    assert_eq!(translator.inbound(UDP, peer, before, 1), None);
    assert_ne!(translator.outbound(UDP, inside, peer, 1), Some(before));
}

#[test]
fn a_carrier_gives_each_customer_its_ports_and_no_more() {
    let mut translator = Translator::new(Nat { ports_per_host: 3, ..Nat::carrier_grade() });
    let peer = at("203.0.113.1:80");
    let all: Vec<_> =
        (0..5).map(|n| translator.outbound(UDP, SocketAddr::from(([100, 64, 0, 1], 5000 + n)), peer, 0)).collect();
    assert_eq!(all, [Some(50_000), Some(50_001), Some(50_002), None, None]);
    assert!(translator.outbound(UDP, at("100.64.0.2:5000"), peer, 0).is_some());
    assert!(translator.outbound(UDP, at("100.64.0.1:5009"), peer, 31 * SECOND).is_some(), "old ones have ended");
}

proptest! {
    #[test]
    fn a_port_stands_for_one_inside_address_at_a_time(
        steps in prop::collection::vec((0_u8..4, 0_u16..6, 0_u8..3, 0_u64..20), 1..200),
        symmetric: bool,
    ) {
        let nat = if symmetric { Nat::symmetric() } else { Nat::port_restricted() };
        let nat = Nat { ports: 50_000..=50_009, ..nat.udp_timeout(Duration::from_secs(30)) };
        let mut translator = Translator::new(nat);
        let mut now = 0;
        for (host, port, peer, gap) in steps {
            now += gap * SECOND;
            let inside = SocketAddr::from(([192, 168, 1, host], port));
            let peer = SocketAddr::from(([203, 0, 113, peer], 80));
            if let Some(outside) = translator.outbound(UDP, inside, peer, now) {
                prop_assert!((50_000..=50_009).contains(&outside));
                prop_assert_eq!(translator.inbound(UDP, peer, outside, now), Some(inside));
            } else {
                prop_assert_eq!(translator.mappings.len(), 10, "refused with ports left");
            }
            prop_assert_eq!(translator.mappings.len(), translator.ports.len());
        }
    }
}
