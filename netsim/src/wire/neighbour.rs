//! How a router answers those who ask for its Ethernet address (RFC 826, RFC 4861), and what it learns from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;
use super::frame::Frame;
use super::packet::{ETHERNET, ETHERTYPE_ARP, ICMPV6, Mac, Packet, ethertype, source};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// A neighbour's question or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    /// Who speaks.
    pub(crate) mac: Mac,
    /// From which address, if it has one.
    pub(crate) ip: Option<IpAddr>,
    /// Whose Ethernet address it wants to know.
    pub(crate) wanted: Option<IpAddr>,
}

/// Reads a frame that is about neighbours; none if it is about something else.
pub(crate) fn read(frame: &[u8]) -> Option<Message> {
    if ethertype(frame)? == ETHERTYPE_ARP {
        let arp = frame.get(ETHERNET..)?.first_chunk::<28>()?;
        let ip = |at: usize| Ipv4Addr::new(arp[at], arp[at + 1], arp[at + 2], arp[at + 3]);
        let sender = ip(14);
        return Some(Message {
            mac: arp[8..14].try_into().ok()?,
            ip: (!sender.is_unspecified()).then_some(sender.into()),
            wanted: (arp[7] == 1).then_some(ip(24).into()),
        });
    }
    let packet = Packet::in_frame(frame)?;
    let bytes = &frame[ETHERNET..];
    if !packet.finds_neighbours(bytes) {
        return None;
    }
    let target =
        bytes.get(packet.payload + 8..)?.first_chunk::<16>().map(|octets| IpAddr::from(Ipv6Addr::from(*octets)));
    let sender = (!packet.source.is_unspecified()).then_some(packet.source);
    match packet.icmp(bytes)? {
        (SOLICITATION, _) => Some(Message { mac: source(frame)?, ip: sender, wanted: target }),
        (ADVERTISEMENT, _) => Some(Message { mac: source(frame)?, ip: target, wanted: None }),
        _ => Some(Message { mac: source(frame)?, ip: sender, wanted: None }),
    }
}

/// The answer that `ip` is at `own`.
pub(crate) fn answer(to: &Message, ip: IpAddr, own: Mac) -> Option<Frame> {
    let mut bytes = [to.mac, own].concat();
    match ip {
        IpAddr::V4(ip) => {
            bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
            bytes.extend(own);
            bytes.extend(ip.octets());
            bytes.extend(to.mac);
            bytes.extend(match to.ip {
                Some(IpAddr::V4(ip)) => ip.octets(),
                _ => [0; 4],
            });
        }
        IpAddr::V6(ip) => {
            let Some(IpAddr::V6(asker)) = to.ip else { return None };
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
            bytes.extend(ip.octets());
            bytes.extend(asker.octets());
            // A router, asked for it, and this holds from now on.
            bytes.extend([ADVERTISEMENT, 0, 0, 0, 0xe0, 0, 0, 0]);
            bytes.extend(ip.octets());
            bytes.extend([2, 1]);
            bytes.extend(own);
            checksum::fill(&mut bytes[ETHERNET..]);
        }
    }
    Some(Frame::complete(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: Mac = [2, 0, 0, 0, 0, 1];
    const OWN: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn an_arp_question_is_read_and_answered() {
        let question =
            [&[255; 6][..], &ASKER, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &ASKER, &[10, 0, 0, 1], &[0; 6], &[10, 0, 0, 9]]
                .concat();
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let message = read(&question).unwrap();
        assert_eq!(message, Message { mac: ASKER, ip: Some(ip(1)), wanted: Some(ip(9)) });
        let told = answer(&message, ip(9), OWN).unwrap();
        assert_eq!(read(&told.bytes), Some(Message { mac: OWN, ip: Some(ip(9)), wanted: None }));
        assert_eq!(told.bytes[..6], ASKER);
    }

    #[test]
    fn a_neighbour_solicitation_is_read_and_answered() {
        let (asker, wanted): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::9".parse().unwrap());
        let mut question =
            [&[0x33, 0x33, 0xff, 0, 0, 9][..], &ASKER, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]].concat();
        question.extend(asker.octets());
        question.extend("ff02::1:ff00:9".parse::<Ipv6Addr>().unwrap().octets());
        question.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        question.extend(wanted.octets());
        let message = read(&question).unwrap();
        assert_eq!(message, Message { mac: ASKER, ip: Some(asker.into()), wanted: Some(wanted.into()) });
        let told = answer(&message, wanted.into(), OWN).unwrap();
        assert!(checksum::right(&told));
        assert_eq!(read(&told.bytes), Some(Message { mac: OWN, ip: Some(wanted.into()), wanted: None }));
    }
}
