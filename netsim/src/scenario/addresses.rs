//! Addresses for those that a scenario gives none.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::router::Prefix;

/// How far down from the top of an IPv6 network routers are numbered.
const V6_TOP: u128 = 0xffff;

/// A network, `10.1.0.0/24`; host bits are not set.
pub(crate) fn network(text: &str) -> Option<Prefix> {
    let (ip, bits) = crate::link::parse(text)?;
    let usable = if ip.is_ipv4() { 8..=30 } else { 16..=120 };
    let prefix = Prefix { ip: base(ip, bits), bits };
    (usable.contains(&bits) && prefix.ip == ip).then_some(prefix)
}

/// An address with the bits of the host put to zero.
pub(crate) fn base(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

fn nth(network: &Prefix, number: u128) -> Option<IpAddr> {
    match network.ip {
        IpAddr::V4(ip) => {
            let most = (1_u128 << (32 - network.bits)) - 2;
            let number = u32::try_from(number).ok().filter(|_| (1..=most).contains(&number))?;
            Some(Ipv4Addr::from_bits(ip.to_bits() + number).into())
        }
        IpAddr::V6(ip) => {
            let most = (1_u128 << (128 - network.bits)) - 2;
            (1..=most).contains(&number).then(|| Ipv6Addr::from_bits(ip.to_bits() + number).into())
        }
    }
}

/// Gives out the addresses of one network: hosts get them from the first on, routers from the last.
#[derive(Debug)]
pub(crate) struct Pool {
    network: Prefix,
    taken: HashSet<IpAddr>,
    next: u128,
    last: u128,
}

impl Pool {
    pub(crate) fn new(network: Prefix, taken: HashSet<IpAddr>) -> Self {
        let last = match network.ip {
            IpAddr::V4(_) => (1_u128 << (32 - network.bits)) - 2,
            IpAddr::V6(_) => ((1_u128 << (128 - network.bits)) - 2).min(V6_TOP),
        };
        Self { network, taken, next: 1, last }
    }

    /// The next address that is free. None if there is none.
    pub(crate) fn give(&mut self, router: bool) -> Option<Prefix> {
        while self.next <= self.last {
            let number = if router { self.last } else { self.next };
            if router {
                self.last -= 1;
            } else {
                self.next += 1;
            }
            let ip = nth(&self.network, number)?;
            if !self.taken.contains(&ip) {
                return Some(Prefix { ip, bits: self.network.bits });
            }
        }
        None
    }
}

/// Networks for those that are given none: `10.1.0.0/24`, `10.2.0.0/24` and so on; of more than 255, each a block of 256.
#[derive(Debug)]
pub(crate) struct Networks {
    used: Vec<Prefix>,
    many: bool,
    next: u32,
}

impl Networks {
    /// `used` are those that the scenario has itself, and `count` is how many networks there are in all.
    pub(crate) fn new(used: Vec<Prefix>, count: usize) -> Self {
        Self { used, many: count + 16 > 255, next: 1 }
    }

    /// The next free one that has room for so many. None if there is none.
    pub(crate) fn give(&mut self, room: usize) -> Option<Prefix> {
        while self.next < if self.many { 65_536 } else { 256 } {
            let ip = Ipv4Addr::from_bits((10 << 24) + if self.many { self.next << 8 } else { self.next << 16 });
            let bits = if room > 250 && !self.many { 16 } else { 24 };
            let prefix = Prefix { ip: ip.into(), bits };
            self.next += 1;
            let overlaps = |used: &Prefix| used.contains(prefix.ip) || prefix.contains(used.ip);
            if !self.used.iter().any(overlaps) {
                return Some(prefix);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_numbered_from_the_start_and_routers_from_the_end() {
        for (text, taken, expected) in [
            ("10.1.0.0/24", "10.1.0.1", ["10.1.0.2", "10.1.0.254", "10.1.0.3", "10.1.0.253"]),
            ("fd00::/64", "fd00::ffff", ["fd00::1", "fd00::fffe", "fd00::2", "fd00::fffd"]),
        ] {
            let taken = HashSet::from([taken.parse().unwrap()]);
            let mut pool = Pool::new(network(text).unwrap(), taken);
            let given = [false, true, false, true].map(|router| pool.give(router).unwrap().ip.to_string());
            assert_eq!(given, expected);
        }
    }

    #[test]
    fn a_pool_has_an_end() {
        for router in [false, true] {
            let mut pool = Pool::new(network("10.0.0.0/30").unwrap(), HashSet::new());
            assert_eq!([(); 3].map(|()| pool.give(router).is_some()), [true, true, false]);
        }
    }

    #[test]
    fn networks_do_not_overlap_those_that_are_used() {
        let mut networks = Networks::new(vec![network("10.2.7.0/24").unwrap()], 3);
        assert_eq!(networks.give(2), network("10.1.0.0/24"));
        assert_eq!(networks.give(1000), network("10.3.0.0/16"), "10.2.0.0/16 has one that is used in it");
        let mut many = Networks::new(Vec::new(), 1000);
        assert_eq!((0..1000).filter_map(|_| many.give(3)).collect::<HashSet<_>>().len(), 1000);
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in ["", "10.1.0.0", "10.1.0.1/24", "10.1.0.0/31", "fd00::/121", "::/0", "x/24"] {
            assert_eq!(network(text), None, "{text}");
        }
    }
}
