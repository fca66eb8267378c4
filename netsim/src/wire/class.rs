//! Which flow a packet belongs to, in a way that is the same in every run.

use std::net::IpAddr;

use super::packet::{ETHERNET, Packet, ethertype};
use super::random::Key;

/// Ports from here on are chosen by the kernel (RFC 6335 §6), differently in each run. Hosts are set up accordingly.
pub(crate) const FIRST_EPHEMERAL: u16 = 49_152;

/// The flow class of a frame: what it carries, between which addresses and which ports, but for the ephemeral ones.
pub(crate) fn class(frame: &[u8]) -> u64 {
    let key = Key::new(u64::from(ethertype(frame).unwrap_or_default()));
    let Some(packet) = Packet::in_frame(frame) else { return key.value() };
    let bytes = &frame[ETHERNET..];
    let key = address(address(key.with(u64::from(packet.protocol)), packet.source), packet.destination);
    let key = match (packet.ports(bytes), packet.icmp(bytes)) {
        (Some((source, destination)), _) => key.with(port(source)).with(port(destination)),
        (_, Some((kind, _))) => key.with(u64::from(kind)),
        _ => key,
    };
    key.value()
}

fn address(key: Key, ip: IpAddr) -> Key {
    match ip {
        IpAddr::V4(ip) => key.with(u64::from(ip.to_bits())),
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h] = ip.segments().map(u64::from);
            key.with(a << 48 | b << 32 | c << 16 | d).with(e << 48 | f << 32 | g << 16 | h)
        }
    }
}

fn port(port: u16) -> u64 {
    if port >= FIRST_EPHEMERAL { 0 } else { u64::from(port) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::tests::{ping, tcp, udp};

    #[test]
    fn ephemeral_ports_do_not_tell_flows_apart_and_all_else_does() {
        let same = |port| class(&udp(("10.0.0.1", port), ("10.0.0.2", 53), b"x"));
        assert_eq!(same(50_000), same(65_000));
        let all = [
            same(50_000),
            same(40_000),
            class(&udp(("10.0.0.2", 53), ("10.0.0.1", 50_000), b"x")),
            class(&udp(("10.0.0.1", 50_000), ("10.0.0.3", 53), b"x")),
            class(&tcp(("10.0.0.1", 50_000), ("10.0.0.2", 53), 2, b"x")),
            class(&tcp(("fd00::1", 50_000), ("fd00::2", 53), 2, b"x")),
            class(&ping("10.0.0.1", "10.0.0.2", 1, b"x")),
            class(&[0; 60]),
        ];
        let distinct: std::collections::HashSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
