//! A cable (veth) whose far end lies in a namespace of the wire, with a packet socket there.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Port;
use super::carrier::{Carrier, Switch};
use crate::Error;
use crate::link::{End, index_of, make_veth, set_interface_up};
use crate::namespace::Namespace;
use crate::plan::PortPlan;

// <linux/if_packet.h>
const PACKET_STATISTICS: c_int = 6;
const PACKET_VNET_HDR: c_int = 15;
const PACKET_QDISC_BYPASS: c_int = 20;
const PACKET_IGNORE_OUTGOING: c_int = 23;
// <linux/ethtool.h>
const ETHTOOL_STSO: u32 = 0x1f;

/// What the socket may hold; less where the machine's limits say so.
const BUFFER: usize = 32 << 20;

pub(crate) struct Cable {
    socket: OwnedFd,
    host: Namespace,
    interface: String,
    hub: Namespace,
    far: String,
    dropped: u64,
}

impl Cable {
    pub(crate) fn open(host: &Namespace, hub: &Namespace, plan: &PortPlan) -> Result<Self, Error> {
        let (interface, far) = (plan.interface.clone(), format!("p{}", plan.port));
        let end = End { namespace: hub, interface: &far, addresses: &[] };
        host.run(|| make_veth(&interface, end, plan.mtu.into()))??;
        let socket = hub.run(|| {
            set_interface_up(&far, true)?;
            let index = index_of(&far)?;
            open(index).map_err(Error::kernel(format!("open a packet socket at {far}")))
        })??;
        Ok(Self { socket, host: host.clone(), interface, hub: hub.clone(), far, dropped: 0 })
    }
}

impl Port for Cable {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn take_super_packets(&mut self, take: bool) -> io::Result<()> {
        // Of TCP alone. The wire cuts up what comes of UDP.
        self.host.run(|| set_segmentation(&self.interface, take)).map_err(io::Error::other)?
    }

    fn carrier(&self) -> Carrier {
        let switch = Switch::FarEnd { hub: self.hub.clone(), interface: self.far.clone() };
        Carrier::new(self.host.clone(), self.interface.clone(), switch)
    }

    fn drops(&mut self) -> Result<u64, Error> {
        let since = statistics(&self.socket).map_err(Error::kernel(format!("read the counters at {}", self.far)))?;
        self.dropped += u64::from(since);
        let sending = super::dropped_sending(&self.host, &self.interface)?;
        Ok(self.dropped + sending + super::dropped_sending(&self.hub, &self.far)?)
    }
}

fn open(index: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Without a protocol it hears nothing until it is bound to its interface.
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    for option in [PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, PACKET_QDISC_BYPASS] {
        set_option(&socket, option, 1)?;
    }
    // More than the usual limit takes a right that is had outside of user namespaces alone.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    }
    if rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, BUFFER).is_err() {
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    }
    bind(&socket, index)?;
    Ok(socket)
}

/// rustix has none of the options, addresses and requests of packet sockets and interfaces below.
fn checked(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_option(socket: &OwnedFd, option: c_int, value: c_int) -> io::Result<()> {
    let size = u32::try_from(size_of::<c_int>()).unwrap_or_default();
    #[expect(unsafe_code, reason = "options of packet sockets have no safe wrapper")]
    // SAFETY: the pointer is to a number that lives during the call, and the length is that number's.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const value).cast::<c_void>(), size)
    };
    checked(result)
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "addresses of packet sockets have no safe wrapper")]
    // SAFETY: zeroes are a valid `sockaddr_ll`; the pointer is to one that lives during the call, with its length.
    let result = unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET.unsigned_abs().try_into().unwrap_or_default();
        address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
        address.sll_ifindex = index.try_into().unwrap_or_default();
        let size = u32::try_from(size_of_val(&address)).unwrap_or_default();
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
    };
    checked(result)
}

/// What the socket has dropped since it was asked last.
fn statistics(socket: &OwnedFd) -> io::Result<u32> {
    // `struct tpacket_stats`: packets and drops.
    let mut counters = [0_u32; 2];
    let mut size = u32::try_from(size_of_val(&counters)).unwrap_or_default();
    #[expect(unsafe_code, reason = "options of packet sockets have no safe wrapper")]
    // SAFETY: both pointers are to values that live during the call, and the size is that of the counters.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_STATISTICS,
            (&raw mut counters).cast::<c_void>(),
            &raw mut size,
        )
    };
    checked(result).map(|()| counters[1])
}

/// Switches segmentation by the device on or off, for an interface of the calling thread's network.
fn set_segmentation(interface: &str, on: bool) -> io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // `struct ethtool_value`: the command and its value.
    let mut value = [ETHTOOL_STSO, u32::from(on)];
    #[expect(unsafe_code, reason = "requests about interfaces have no safe wrapper")]
    // SAFETY: zeroes are a valid `ifreq`; it and the value that it points to live during the call.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request)
    };
    checked(result)
}
