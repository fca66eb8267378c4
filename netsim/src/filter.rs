//! A host's firewall: what it keeps out, by nf_tables.

use std::net::IpAddr;

use rustix::net::netlink::NETFILTER;

use crate::Error;
use crate::netlink::{APPEND, ASK, CREATE, Messages};

/// `IFNAMSIZ`: the room for an interface's name with its closing zero byte.
pub(crate) const NAME_SIZE: usize = 16;

/// Which packets a [`Block`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Every IP packet.
    All,
    /// TCP alone.
    Tcp,
    /// UDP alone.
    Udp,
}

/// What becomes of a blocked packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It vanishes.
    Silence,
    /// The sender is told: a reset for TCP, "port unreachable" by ICMP for everything else.
    Rejection,
}

/// One rule of a host's firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// The interface through which the packets arrive.
    pub interface: &'a str,
    /// Which of them.
    pub traffic: Traffic,
    /// Only those from this address, if one is given.
    pub from: Option<IpAddr>,
    /// What becomes of them.
    pub answer: Answer,
}

// <linux/netfilter/nfnetlink.h>, <linux/netfilter/nf_tables.h>
const NFNETLINK_V0: u8 = 0;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM << 8;
const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
const NFPROTO_INET: u8 = 1;
const HOOK_LOCAL_IN: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const NF_DROP: u32 = 0;
const REJECT_TCP_RESET: u32 = 1;
const REJECT_ICMPX: u32 = 2;
const ICMPX_PORT_UNREACHABLE: u8 = 1;

const TABLE: &str = "netsim";
const CHAIN: &str = "arriving";

/// Replaces the rules of the calling thread's network in one transaction.
pub(crate) fn replace(blocks: &[Block<'_>]) -> Result<(), Error> {
    if let Some(block) = blocks.iter().find(|b| b.interface.is_empty() || b.interface.len() >= NAME_SIZE) {
        return Err(Error::Interface(block.interface.to_owned()));
    }
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let mut messages = Messages::default();
    // The borders of a batch carry the subsystem's number, and are not acknowledged.
    messages.message(BATCH_BEGIN, 1, |m| m.raw(&[0, NFNETLINK_V0, high, low]));
    // "Create, delete, create" is how a table is emptied whether or not it exists.
    for (kind, flags) in [(NEWTABLE, ASK | CREATE), (DELTABLE, ASK), (NEWTABLE, ASK | CREATE)] {
        messages.message(kind, flags, |m| m.raw(&family()).name(1, TABLE));
    }
    messages.message(NEWCHAIN, ASK | CREATE, |m| {
        m.raw(&family()).name(1, TABLE).name(3, CHAIN);
        m.nest(4, |m| m.number_be(1, HOOK_LOCAL_IN).number_be(2, 0));
        m.name(7, "filter")
    });
    for block in blocks {
        messages.message(NEWRULE, ASK | CREATE | APPEND, |m| {
            m.raw(&family()).name(1, TABLE).name(2, CHAIN).nest(4, |m| rule(m, *block))
        });
    }
    messages.message(BATCH_END, 1, |m| m.raw(&[0, NFNETLINK_V0, high, low]));
    messages.send(Some(NETFILTER)).map_err(Error::kernel("replace the rules of nf_tables"))
}

/// `struct nfgenmsg`.
fn family() -> [u8; 4] {
    [NFPROTO_INET, NFNETLINK_V0, 0, 0]
}

fn rule<'m>(m: &'m mut Messages, block: Block<'_>) -> &'m mut Messages {
    let mut interface = [0; NAME_SIZE];
    interface[..block.interface.len()].copy_from_slice(block.interface.as_bytes());
    require_meta(m, META_IIFNAME, &interface);
    match block.traffic {
        Traffic::All => {}
        Traffic::Tcp => require_meta(m, META_L4PROTO, &[IPPROTO_TCP]),
        Traffic::Udp => require_meta(m, META_L4PROTO, &[IPPROTO_UDP]),
    }
    match block.from {
        // The protocol families' numbers, and where the source address lies in the header.
        Some(IpAddr::V4(ip)) => require_source(m, 2, 12, &ip.octets()),
        Some(IpAddr::V6(ip)) => require_source(m, 10, 8, &ip.octets()),
        None => {}
    }
    match (block.answer, block.traffic) {
        (Answer::Silence, _) => expression(m, "immediate", |m| {
            m.number_be(1, REGISTER_VERDICT).nest(2, |m| m.nest(2, |m| m.number_be(1, NF_DROP)))
        }),
        (Answer::Rejection, Traffic::Tcp) => expression(m, "reject", |m| m.number_be(1, REJECT_TCP_RESET)),
        (Answer::Rejection, Traffic::Udp | Traffic::All) => {
            expression(m, "reject", |m| m.number_be(1, REJECT_ICMPX).attribute(2, &[ICMPX_PORT_UNREACHABLE]))
        }
    }
}

fn require_meta(m: &mut Messages, key: u32, value: &[u8]) {
    expression(m, "meta", |m| m.number_be(1, REGISTER_1).number_be(2, key));
    require_equal(m, value);
}

fn require_source(m: &mut Messages, family: u8, offset: u32, address: &[u8]) {
    require_meta(m, META_NFPROTO, &[family]);
    let length = u32::try_from(address.len()).unwrap_or(u32::MAX);
    // Base 1: the network header.
    expression(m, "payload", |m| m.number_be(1, REGISTER_1).number_be(2, 1).number_be(3, offset).number_be(4, length));
    require_equal(m, address);
}

fn require_equal(m: &mut Messages, value: &[u8]) {
    expression(m, "cmp", |m| m.number_be(1, REGISTER_1).number_be(2, 0).nest(3, |m| m.attribute(1, value)));
}

fn expression<'m>(
    m: &'m mut Messages,
    name: &str,
    data: impl FnOnce(&mut Messages) -> &mut Messages,
) -> &'m mut Messages {
    m.nest(1, |m| m.name(1, name).nest(2, data))
}
