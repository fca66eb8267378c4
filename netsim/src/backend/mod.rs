//! Where the wire meets a host's kernel: one interface of a host, seen from outside.

pub(crate) mod carrier;
pub(crate) mod packet;
pub(crate) mod tap;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use self::carrier::Carrier;
use crate::link::set_interface;
use crate::namespace::Namespace;
use crate::plan::PortPlan;
use crate::wire::frame::{Frame, HEADER, Offload};
use crate::{Error, netlink};

/// Longer than any frame that a kernel hands over: a super-packet has at most 64 KiB.
pub(crate) const LARGEST: usize = 66 << 10;

/// How many frames an interface may hold for the wire. Small ones of a burst fill the kernel's 1000 in a few
/// milliseconds, in which the wire may not run.
const QUEUE: u32 = 10_000;

/// How a network meets its hosts' kernels. The wire does the same with both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// TAP devices. They need `/dev/net/tun`.
    Tap,
    /// Cables (veth) with a packet socket at their far ends.
    Packet,
}

/// A host's interface, held by its wire end. Frames come and go with a `struct virtio_net_hdr` before them.
pub(crate) trait Port: Send {
    /// Readable when the host has sent something.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Lets the host's kernel leave segmentation to the wire, or has it send single packets from now on.
    fn take_super_packets(&mut self, take: bool) -> io::Result<()>;

    /// Its carrier.
    fn carrier(&self) -> Carrier;

    /// What the kernel has dropped between host and wire.
    fn drops(&mut self) -> Result<u64, Error>;
}

impl Backend {
    /// Makes an interface in a host, up, with its addresses. `hub`: the host at the far ends of cables.
    pub(crate) fn open(self, host: &Namespace, hub: &Namespace, plan: &PortPlan) -> Result<Box<dyn Port>, Error> {
        let port: Box<dyn Port> = match self {
            Self::Tap => Box::new(tap::Tap::open(host, &plan.interface)?),
            Self::Packet => Box::new(packet::Cable::open(host, hub, plan)?),
        };
        host.run(|| set_interface(&plan.interface, plan.mac, plan.mtu.into(), QUEUE))??;
        Ok(port)
    }
}

/// Takes the next frame that the host has sent, by way of `room`. `None` when there is no more.
pub(crate) fn receive(descriptor: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    loop {
        let length = match rustix::io::readv(descriptor, &mut [IoSliceMut::new(&mut header), IoSliceMut::new(room)]) {
            Ok(length) => length,
            Err(Errno::AGAIN) => return Ok(None),
            // The host has taken the interface down; it may come back.
            Err(Errno::INTR | Errno::NETDOWN) => continue,
            Err(error) => return Err(error.into()),
        };
        let bytes = length.checked_sub(HEADER).and_then(|length| room.get(..length));
        if let (Some(bytes), Some(offload)) = (bytes, Offload::read(&header)) {
            return Ok(Some(Frame { bytes: bytes.to_vec(), offload, origin: None }));
        }
    }
}

/// Gives a frame to the host. False if the kernel had no room for it.
pub(crate) fn send(descriptor: BorrowedFd<'_>, frame: &Frame) -> bool {
    let header = frame.offload.write();
    loop {
        match rustix::io::writev(descriptor, &[IoSlice::new(&header), IoSlice::new(&frame.bytes)]) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return false,
            // An interface that is down, or takes no packets of this length, drops them as a real one does.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// What an interface of `host` has dropped of what was sent through it.
fn dropped_sending(host: &Namespace, interface: &str) -> Result<u64, Error> {
    const STATISTICS: u16 = 23;
    const TX_DROPPED: usize = 7;
    let link = host.run(|| netlink::link(interface))?;
    let link = link.map_err(Error::kernel(format!("read the counters of {interface}")))?;
    let counters = netlink::attribute(link.get(16..).unwrap_or_default(), STATISTICS);
    let counter = counters.and_then(|all| all.get(TX_DROPPED * 8..)?.first_chunk());
    Ok(counter.map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
}
