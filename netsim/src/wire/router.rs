//! A router: it answers for its addresses, finds the way on, translates and refuses.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::answer::{self, Reason};
use super::firewall::{Firewall, Guard};
use super::fragment::{self, Cut, Reassembly, Taken};
use super::frame::Frame;
use super::nat::{Nat, Translator};
use super::neighbour;
use super::packet::{ETHERNET, ICMP, ICMPV6, Mac, Packet, destination, source};
use super::translate::{self, Change, Translated};
use super::{Nanos, checksum};
use crate::Answer;

/// Neighbours that a router remembers beside those that it was told.
const MOST_NEIGHBOURS: usize = 8192;

/// One of a router's interfaces.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    pub(crate) mac: Mac,
    pub(crate) addresses: Vec<Prefix>,
    pub(crate) mtu: u16,
    /// Whether it leads outside, as seen by NAT and firewall.
    pub(crate) outside: bool,
}

/// An address and how many bits of it the network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Prefix {
    pub(crate) ip: IpAddr,
    pub(crate) bits: u8,
}

impl Prefix {
    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let shift = 32_u32.saturating_sub(self.bits.into());
                shift >= 32 || own.to_bits() >> shift == ip.to_bits() >> shift
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let shift = 128_u32.saturating_sub(self.bits.into());
                shift >= 128 || own.to_bits() >> shift == ip.to_bits() >> shift
            }
            _ => false,
        }
    }
}

/// Where packets for a network go: out of an interface, to a next router or, without one, to the receiver itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: Prefix,
    pub(crate) interface: usize,
    pub(crate) next: Option<IpAddr>,
}

/// A router at work.
#[derive(Debug)]
pub(crate) struct Router {
    interfaces: Vec<Interface>,
    routes: Vec<Route>,
    /// By interface and address.
    neighbours: HashMap<(usize, IpAddr), Mac>,
    nat: Option<Translator>,
    guard: Guard,
    /// Pieces of packets that it has to see as a whole.
    pieces: Reassembly,
}

/// What has been decided about a packet before anything is changed in it.
struct Plan {
    change: Change,
    out: usize,
    next: Mac,
}

impl Router {
    pub(crate) fn new(interfaces: Vec<Interface>, routes: Vec<Route>, nat: Option<Nat>, firewall: Firewall) -> Self {
        let nat = nat.map(Translator::new);
        let (neighbours, guard, pieces) = (HashMap::new(), Guard::new(firewall), Reassembly::default());
        Self { interfaces, routes, neighbours, nat, guard, pieces }
    }

    /// Tells where a neighbour is, so that the first packet for it need not wait.
    pub(crate) fn meet(&mut self, interface: usize, ip: IpAddr, mac: Mac) {
        if self.neighbours.len() < MOST_NEIGHBOURS || self.neighbours.contains_key(&(interface, ip)) {
            self.neighbours.insert((interface, ip), mac);
        }
    }

    pub(crate) fn set_firewall(&mut self, firewall: Firewall) {
        self.guard = Guard::new(firewall);
    }

    /// Replaces the NAT of a router that has one; all mappings are gone.
    pub(crate) fn set_nat(&mut self, nat: Nat) -> bool {
        self.nat.as_mut().map(|own| own.replace(nat)).is_some()
    }

    /// Forgets the mappings of the NAT, if there is one.
    pub(crate) fn rebind(&mut self) -> bool {
        self.nat.as_mut().map(Translator::rebind).is_some()
    }

    /// A frame has come in: adds what goes out, with the interface, to `out`. Gives it back if it was dropped without a word.
    pub(crate) fn handle(
        &mut self,
        from: usize,
        frame: Frame,
        now: Nanos,
        out: &mut Vec<(usize, Frame)>,
    ) -> Option<Frame> {
        if let Some(message) = neighbour::read(&frame.bytes) {
            out.extend(self.neighbour(from, &message).map(|answer| (from, answer)));
            return None;
        }
        let packet = Packet::in_frame(&frame.bytes)?;
        let interface = self.interfaces.get(from)?;
        if destination(&frame.bytes) != Some(interface.mac) {
            return None;
        }
        if let Some(mac) = source(&frame.bytes)
            && interface.addresses.iter().any(|prefix| prefix.contains(packet.source))
        {
            self.meet(from, packet.source, mac);
        }
        if !self.sees_wholes(&packet) || !fragment::is_piece(&frame.bytes) {
            return self.pass(from, frame, None, now, out);
        }
        match self.pieces.take(frame, now) {
            Taken::Whole(frame, cut) => self.pass(from, frame, cut, now, out),
            Taken::Waits => None,
            Taken::Bad(frame) => Some(frame),
        }
    }

    /// Whether it looks into what a packet carries, of which only the first piece has the ports.
    fn sees_wholes(&self, packet: &Packet) -> bool {
        self.nat.as_ref().is_some_and(|nat| nat.translates(packet.source))
            || !self.guard.is_open()
            || self.owns(packet.destination)
    }

    fn owns(&self, ip: IpAddr) -> bool {
        self.interfaces.iter().any(|interface| interface.addresses.iter().any(|prefix| prefix.ip == ip))
    }

    /// A packet for it to carry. `cut`: how it came in pieces, if it did.
    fn pass(
        &mut self,
        from: usize,
        mut frame: Frame,
        cut: Option<Cut>,
        now: Nanos,
        out: &mut Vec<(usize, Frame)>,
    ) -> Option<Frame> {
        let packet = Packet::in_frame(&frame.bytes)?;
        let (to, frame) = match self.plan(from, &packet, &frame, cut, now) {
            Ok(Plan { change, out: to, next }) => {
                if change != Change::default() {
                    translate::apply(&mut frame, &packet, change);
                }
                let bytes = &mut frame.bytes;
                bytes[..6].copy_from_slice(&next);
                bytes[6..12].copy_from_slice(&self.interfaces[to].mac);
                bytes[ETHERNET + if packet.source.is_ipv4() { 8 } else { 7 }] -= 1;
                checksum::fill_header(&mut bytes[ETHERNET..]);
                (to, frame)
            }
            Err(Some(answer)) => (from, answer),
            Err(None) => return Some(frame),
        };
        let mtu = usize::from(self.interfaces[to].mtu);
        let longest = cut.map_or(mtu, |cut| cut.longest.min(mtu));
        out.extend(fragment::cut(frame, longest, cut).into_iter().map(|piece| (to, piece)));
        None
    }

    fn neighbour(&mut self, from: usize, message: &neighbour::Message) -> Option<Frame> {
        let interface = self.interfaces.get(from)?;
        let own = interface.mac;
        let wanted = message.wanted.filter(|ip| interface.addresses.iter().any(|own| own.ip == *ip));
        if let Some(ip) = message.ip {
            self.meet(from, ip, message.mac);
        }
        neighbour::answer(message, wanted?, own)
    }

    /// Decides where a packet goes and as what; otherwise gives what its sender is told.
    fn plan(
        &mut self,
        from: usize,
        packet: &Packet,
        frame: &Frame,
        cut: Option<Cut>,
        now: Nanos,
    ) -> Result<Plan, Option<Frame>> {
        let bytes = &frame.bytes[ETHERNET..];
        let outside = self.interfaces[from].outside;
        let own = self.owns(packet.destination);
        let mut change = Change::default();
        if own {
            change = self.for_us(packet, frame, outside, now)?;
        }
        let to = change.destination.map_or(packet.destination, |inside| inside.ip());
        let tell = |reason| answer::answer(frame, reason, self.speaker(from, packet));
        if packet.hops <= 1 {
            return Err(tell(Reason::TooFar));
        }
        let Some((out, next)) = self.route(to) else { return Err(tell(Reason::NoRoute)) };
        let Some(&next) = self.neighbours.get(&(out, next)) else { return Err(tell(Reason::NoRoute)) };
        let mtu = self.interfaces[out].mtu;
        let length = cut.map_or_else(|| frame.packet_length(), |cut| cut.longest);
        if length > usize::from(mtu) && !fragment::may_cut(bytes) {
            return Err(tell(Reason::TooBig(mtu)));
        }
        let leaves = !outside && self.interfaces[out].outside;
        if leaves || outside {
            self.check(packet, (frame, length), to, leaves, now)?;
        }
        if leaves
            && !own
            && let Some(nat) = &mut self.nat
            && let Some(external) = external(&self.interfaces[out], packet)
        {
            match translate::outbound(nat, packet, bytes, external, now) {
                Translated::Untouched => {}
                Translated::Changed(translated) => change = translated,
                Translated::Dropped => return Err(None),
            }
        }
        Ok(Plan { change, out, next })
    }

    /// A packet to one of the router's own addresses: through the NAT, or to the router itself.
    fn for_us(&mut self, packet: &Packet, frame: &Frame, outside: bool, now: Nanos) -> Result<Change, Option<Frame>> {
        let bytes = &frame.bytes[ETHERNET..];
        let at_outside =
            self.interfaces.iter().filter(|interface| interface.outside).find_map(|interface| {
                Some(interface.addresses.iter().find(|prefix| prefix.ip == packet.destination)?.ip)
            });
        if let (Some(nat), Some(external)) = (&mut self.nat, at_outside) {
            let translated = if outside {
                translate::inbound(nat, packet, bytes, now)
            } else {
                translate::hairpin(nat, packet, bytes, external, now)
            };
            match translated {
                Translated::Untouched => {}
                Translated::Changed(change) => return Ok(change),
                Translated::Dropped => return Err(None),
            }
        }
        Err(echo(packet, frame).or_else(|| answer::answer(frame, Reason::Refused, None)))
    }

    fn check(
        &mut self,
        packet: &Packet,
        (frame, length): (&Frame, usize),
        to: IpAddr,
        leaves: bool,
        now: Nanos,
    ) -> Result<(), Option<Frame>> {
        let bytes = &frame.bytes[ETHERNET..];
        let (source, destination) = packet.ports(bytes).unwrap_or_default();
        let (source, destination) = (SocketAddr::new(packet.source, source), SocketAddr::new(to, destination));
        // Ports of the inside change with a NAT, so that the address stands for its flows there.
        let plain = |at: SocketAddr| if self.nat.is_some() { SocketAddr::new(at.ip(), 0) } else { at };
        let (inside, beyond) = if leaves { (source, destination) } else { (destination, source) };
        let flow = (packet.protocol, plain(inside), beyond);
        match self.guard.refuses((frame, length), flow, leaves, translate::is_error(packet, bytes), now) {
            None => Ok(()),
            Some(Answer::Silence) => Err(None),
            Some(Answer::Rejection) => Err(answer::answer(frame, Reason::Refused, None)),
        }
    }

    /// The longest prefix decides.
    fn route(&self, to: IpAddr) -> Option<(usize, IpAddr)> {
        let all = self.routes.iter().filter(|route| route.to.contains(to));
        let best = all.reduce(|best, route| if route.to.bits > best.to.bits { route } else { best })?;
        Some((best.interface, best.next.unwrap_or(to)))
    }

    fn speaker(&self, interface: usize, packet: &Packet) -> Option<IpAddr> {
        let all = self.interfaces[interface].addresses.iter().map(|prefix| prefix.ip);
        all.into_iter().find(|ip| ip.is_ipv4() == packet.source.is_ipv4())
    }
}

/// The address that stands for those inside, of the packet's family.
fn external(interface: &Interface, packet: &Packet) -> Option<IpAddr> {
    let mut all = interface.addresses.iter().map(|prefix| prefix.ip);
    all.find(|ip| ip.is_ipv4() == packet.source.is_ipv4())
}

/// The answer to an echo request.
fn echo(packet: &Packet, frame: &Frame) -> Option<Frame> {
    let bytes = &frame.bytes[ETHERNET..];
    let (request, reply) = match packet.protocol {
        ICMP => (8, 0),
        ICMPV6 => (128, 129),
        _ => return None,
    };
    packet.icmp(bytes).filter(|&(kind, _)| kind == request)?;
    let mut out = [&frame.bytes[6..12], &frame.bytes[..6], &frame.bytes[12..]].concat();
    let (at, length) = if packet.source.is_ipv4() { (ETHERNET + 12, 4) } else { (ETHERNET + 8, 16) };
    out.copy_within(at + length..at + 2 * length, at);
    out[at + length..at + 2 * length].copy_from_slice(&frame.bytes[at..at + length]);
    out[ETHERNET + packet.payload] = reply;
    checksum::fill(&mut out[ETHERNET..]);
    Some(Frame::complete(out))
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
