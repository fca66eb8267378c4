//! Cables between hosts.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};

use crate::namespace::Namespace;
use crate::netlink::{ASK, CREATE, EXCLUSIVE, Messages, REPLACE};
use crate::{Error, netlink};

// <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTA_DST: u16 = 1;
const RTA_GATEWAY: u16 = 5;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 0x02;
const IFF_UP: u32 = 1;
const IF_OPER_UP: u8 = 6;

/// How long the kernel's workers may take: they look once a second at the latest, unless the machine is overloaded.
const WORKERS: Duration = Duration::from_secs(10);

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// One end of a cable: an interface on a host, with its addresses.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The host.
    pub namespace: &'a Namespace,
    /// The interface's name there: at most 15 bytes.
    pub interface: &'a str,
    /// Addresses with prefix length, IPv4 or IPv6: `10.1.0.1/24`, `fd00::1/64`. IPv6 ones are usable at once (no
    /// duplicate address detection).
    pub addresses: &'a [&'a str],
}

/// Joins two hosts by a cable, both ends up. `mtu` is that of both ends, in bytes.
///
/// # Errors
/// When an address or name does not parse, or a host already has an interface of that name.
pub fn veth(left: End<'_>, right: End<'_>, mtu: u32) -> Result<(), Error> {
    let all = [parse_all(left.addresses)?, parse_all(right.addresses)?];
    check_name(left.interface)?;
    check_name(right.interface)?;
    left.namespace.run(|| make_veth(left.interface, right, mtu))??;
    for (end, addresses) in [left, right].into_iter().zip(&all) {
        end.namespace.run(|| {
            set_interface_up(end.interface, true)?;
            addresses.iter().try_for_each(|&(ip, bits)| add_address(end.interface, ip, bits))
        })??;
    }
    for (end, addresses) in [left, right].into_iter().zip(&all) {
        end.namespace.run(|| {
            wait_until_running(end.interface)?;
            addresses.iter().try_for_each(|&(ip, _)| wait_until_heard(end.interface, ip))
        })??;
    }
    Ok(())
}

/// An Ethernet switch: a cable for any number of hosts.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
    ports: u32,
    mtu: u32,
}

impl Switch {
    /// A switch without hosts. `mtu` is that of every port and interface, in bytes.
    ///
    /// # Errors
    /// When the kernel has no bridges or gives no namespace.
    pub fn new(mtu: u32) -> Result<Self, Error> {
        let namespace = Namespace::new()?;
        namespace.run(|| {
            let mut messages = Messages::default();
            messages.message(RTM_NEWLINK, ASK | CREATE | EXCLUSIVE, |m| {
                m.raw(&link_header(true)).name(IFLA_IFNAME, "br0").attribute(IFLA_MTU, &mtu.to_ne_bytes());
                m.nest(IFLA_LINKINFO, |m| m.name(IFLA_INFO_KIND, "bridge"))
            });
            messages.send(None).map_err(Error::kernel("make a bridge"))
        })??;
        Ok(Self { namespace, ports: 0, mtu })
    }

    /// Joins a host to the switch.
    ///
    /// # Errors
    /// As for [`veth`].
    pub fn plug(&mut self, end: End<'_>) -> Result<Port, Error> {
        let port = format!("p{}", self.ports);
        self.ports += 1;
        veth(End { namespace: &self.namespace, interface: &port, addresses: &[] }, end, self.mtu)?;
        self.namespace.run(|| {
            let master = index_of("br0")?;
            let mut messages = Messages::default();
            messages.message(RTM_NEWLINK, ASK, |m| {
                m.raw(&link_header(true)).name(IFLA_IFNAME, &port).attribute(IFLA_MASTER, &master.to_ne_bytes())
            });
            messages.send(None).map_err(Error::kernel("plug a port into a bridge"))
        })??;
        let host = (end.namespace.clone(), end.interface.to_owned());
        let port = Port { ends: [(self.namespace.clone(), port), host] };
        port.wait_until_running()?;
        Ok(port)
    }
}

/// A host's place on a [`Switch`].
#[derive(Debug)]
pub struct Port {
    /// At the switch, at the host.
    ends: [(Namespace, String); 2],
}

impl Port {
    /// Pulls the plug, or puts it back and waits until packets pass. While it is out, what the host sends vanishes without
    /// an error.
    ///
    /// # Errors
    /// When the kernel refuses, or finds no carrier.
    pub fn set_up(&self, up: bool) -> Result<(), Error> {
        let [(switch, interface), _] = &self.ends;
        switch.set_up(interface, up)?;
        if up { self.wait_until_running() } else { Ok(()) }
    }

    fn wait_until_running(&self) -> Result<(), Error> {
        self.ends.iter().try_for_each(|(namespace, interface)| namespace.run(|| wait_until_running(interface))?)
    }
}

/// Gives an interface of the calling thread's network its Ethernet address, MTU and queue length, and takes it up.
pub(crate) fn set_interface(interface: &str, mac: [u8; 6], mtu: u32, queue: u32) -> Result<(), Error> {
    let mut messages = netlink::Messages::default();
    messages.message(RTM_NEWLINK, ASK, |m| {
        m.raw(&link_header(true)).name(IFLA_IFNAME, interface).attribute(IFLA_ADDRESS, &mac);
        m.attribute(IFLA_MTU, &mtu.to_ne_bytes()).attribute(IFLA_TXQLEN, &queue.to_ne_bytes())
    });
    messages.send(None).map_err(Error::kernel(format!("set up {interface}")))
}

/// Takes an interface of the calling thread's network up or down.
pub(crate) fn set_interface_up(interface: &str, up: bool) -> Result<(), Error> {
    let mut messages = netlink::Messages::default();
    messages.message(RTM_NEWLINK, ASK, |m| m.raw(&link_header(up)).name(IFLA_IFNAME, interface));
    messages.send(None).map_err(Error::kernel(format!("take {interface} {}", if up { "up" } else { "down" })))
}

/// The kernel notices a carrier in a worker of its own, and drops what is sent before that. Waits until it has, unless the
/// interface is down.
pub(crate) fn wait_until_running(interface: &str) -> Result<(), Error> {
    wait_until(&format!("find a carrier on {interface}"), || {
        let link = netlink::link(interface)?;
        let flags = link.get(8..).and_then(|rest| rest.first_chunk());
        if flags.is_some_and(|flags| u32::from_ne_bytes(*flags) & IFF_UP == 0) {
            return Ok(true);
        }
        // Not the flag IFF_RUNNING: that is also set as long as the worker has not looked at a new link.
        Ok(netlink::attribute(link.get(16..).unwrap_or_default(), IFLA_OPERSTATE) == Some(&[IF_OPER_UP]))
    })
}

/// A worker of the kernel, too, joins the multicast group by which neighbours ask for an IPv6 address (RFC 4291 §2.7.1).
/// Whoever asks before that asks again a second later. Waits until it has been joined.
pub(crate) fn wait_until_heard(interface: &str, ip: IpAddr) -> Result<(), Error> {
    let IpAddr::V6(ip) = ip else { return Ok(()) };
    let [.., a, b, c] = ip.octets();
    let group = format!("ff0200000000000000000001ff{a:02x}{b:02x}{c:02x}");
    wait_until(&format!("have {ip} heard on {interface}"), || {
        let groups = std::fs::read_to_string("/proc/thread-self/net/igmp6")?;
        Ok(groups.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next() == Some(interface) && words.next() == Some(&group)
        }))
    })
}

fn wait_until(what: &str, mut holds: impl FnMut() -> io::Result<bool>) -> Result<(), Error> {
    let start = Instant::now();
    while !holds().map_err(Error::kernel(what))? {
        if start.elapsed() > WORKERS {
            return Err(Error::kernel(what)(io::ErrorKind::TimedOut.into()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

pub(crate) fn make_veth(interface: &str, far: End<'_>, mtu: u32) -> Result<(), Error> {
    let mut messages = Messages::default();
    messages.message(RTM_NEWLINK, ASK | CREATE | EXCLUSIVE, |m| {
        m.raw(&link_header(false)).name(IFLA_IFNAME, interface).attribute(IFLA_MTU, &mtu.to_ne_bytes());
        m.nest(IFLA_LINKINFO, |m| {
            m.name(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    let namespace = far.namespace.descriptor().as_raw_fd();
                    m.raw(&link_header(false)).name(IFLA_IFNAME, far.interface);
                    m.attribute(IFLA_MTU, &mtu.to_ne_bytes()).attribute(IFLA_NET_NS_FD, &namespace.to_ne_bytes())
                })
            })
        })
    });
    messages.send(None).map_err(Error::kernel(format!("make the cable {interface} to {}", far.interface)))
}

pub(crate) fn add_address(interface: &str, ip: IpAddr, bits: u8) -> Result<(), Error> {
    change_address(RTM_NEWADDR, ASK | CREATE | EXCLUSIVE, interface, ip, bits)
        .map_err(Error::kernel(format!("give {interface} the address {ip}/{bits}")))
}

pub(crate) fn delete_address(interface: &str, ip: IpAddr, bits: u8) -> Result<(), Error> {
    change_address(RTM_DELADDR, ASK, interface, ip, bits)
        .map_err(Error::kernel(format!("take the address {ip}/{bits} from {interface}")))
}

fn change_address(kind: u16, flags: u16, interface: &str, ip: IpAddr, bits: u8) -> io::Result<()> {
    let (family, octets) = match ip {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    let index = find(interface)?;
    let mut messages = Messages::default();
    messages.message(kind, flags, |m| {
        m.raw(&[family, bits, IFA_F_NODAD, 0]).raw(&index.to_ne_bytes());
        m.attribute(IFA_LOCAL, &octets).attribute(IFA_ADDRESS, &octets)
    });
    messages.send(None)
}

/// Adds a route of the calling thread's network, or replaces one to the same destination.
pub(crate) fn add_route(to: IpAddr, bits: u8, gateway: IpAddr) -> Result<(), Error> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let family = if to.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut messages = Messages::default();
    messages.message(RTM_NEWROUTE, ASK | CREATE | REPLACE, |m| {
        // `struct rtmsg`: the main table, set by an administrator, everywhere, to one receiver.
        m.raw(&[family, bits, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
        m.attribute(RTA_DST, &octets(to)).attribute(RTA_GATEWAY, &octets(gateway))
    });
    messages.send(None).map_err(Error::kernel(format!("add a route to {to}/{bits} by way of {gateway}")))
}

/// Has the interfaces to come of the calling thread's network use IPv6 addresses at once, and not look for routers: the
/// simulated ones do not advertise themselves.
pub(crate) fn set_neighbour_discovery() -> Result<(), Error> {
    if !std::fs::exists("/proc/sys/net/ipv6").unwrap_or_default() {
        return Ok(());
    }
    for (key, value) in [("accept_dad", "0"), ("dad_transmits", "0"), ("accept_ra", "0"), ("router_solicitations", "0")]
    {
        let path = format!("/proc/sys/net/ipv6/conf/default/{key}");
        std::fs::write(path, value).map_err(Error::kernel(format!("set {key} of IPv6 to {value}")))?;
    }
    Ok(())
}

/// `struct ifinfomsg`: any family, any type, index 0 (the link is named by an attribute), and IFF_UP as given.
pub(crate) fn link_header(up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[8..12].copy_from_slice(&if up { IFF_UP } else { 0 }.to_ne_bytes());
    header[12..].copy_from_slice(&IFF_UP.to_ne_bytes());
    header
}

pub(crate) fn index_of(interface: &str) -> Result<u32, Error> {
    find(interface).map_err(Error::kernel(format!("find the interface {interface}")))
}

fn find(interface: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket, interface)?)
}

pub(crate) fn check_name(interface: &str) -> Result<(), Error> {
    let fits = !interface.is_empty() && interface.len() < crate::filter::NAME_SIZE && !interface.contains(['/', '\0']);
    if fits { Ok(()) } else { Err(Error::Interface(interface.to_owned())) }
}

fn parse_all(addresses: &[&str]) -> Result<Vec<(IpAddr, u8)>, Error> {
    addresses.iter().map(|text| parse(text).ok_or_else(|| Error::Address((*text).to_owned()))).collect()
}

pub(crate) fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = text.split_once('/')?;
    let (ip, bits) = (ip.parse::<IpAddr>().ok()?, bits.parse().ok()?);
    (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, bits))
}
