//! A TAP device in the host, with a virtio-net header before every frame.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{IntegerSetter, Opcode, Updater, ioctl, opcode};

use super::Port;
use super::carrier::{Carrier, Switch};
use crate::Error;
use crate::namespace::Namespace;

// <linux/if_tun.h>
const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
/// Checksums, TCP over IPv4, over IPv6, with congestion notification.
const OFFLOAD_TCP: usize = 0x01 | 0x02 | 0x04 | 0x08;
/// UDP over IPv4 and over IPv6: kernels before 6.2 do not know it.
const OFFLOAD_UDP: usize = 0x20 | 0x40;

/// The device file that TAP devices are made with.
pub(crate) const DEVICE: &str = "/dev/net/tun";

pub(crate) struct Tap {
    /// Others may use it, and none keeps it.
    device: Arc<OwnedFd>,
    host: Namespace,
    interface: String,
}

impl Tap {
    /// Makes the device in the host itself: one that is moved there loses its queue for a moment.
    pub(crate) fn open(host: &Namespace, interface: &str) -> Result<Self, Error> {
        let device = host.run(|| make(interface))?;
        let device = device.map_err(Error::kernel(format!("make the TAP device {interface} with {DEVICE}")))?;
        let mut tap = Self { device: Arc::new(device), host: host.clone(), interface: interface.to_owned() };
        tap.take_super_packets(true).map_err(Error::kernel(format!("set what {interface} takes over")))?;
        Ok(tap)
    }
}

impl Port for Tap {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    fn take_super_packets(&mut self, take: bool) -> io::Result<()> {
        if !take {
            return set_offload(&self.device, 0);
        }
        match set_offload(&self.device, OFFLOAD_TCP | OFFLOAD_UDP) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => set_offload(&self.device, OFFLOAD_TCP),
            outcome => outcome,
        }
    }

    fn carrier(&self) -> Carrier {
        let switch = Switch::Device(Arc::downgrade(&self.device));
        Carrier::new(self.host.clone(), self.interface.clone(), switch)
    }

    fn drops(&mut self) -> Result<u64, Error> {
        super::dropped_sending(&self.host, &self.interface)
    }
}

fn make(interface: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open(DEVICE, flags, Mode::empty())?;
    // `struct ifreq`: the name, the flags, and room for what other calls need.
    let mut request = [0_u8; 40];
    request[..interface.len()].copy_from_slice(interface.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR).to_ne_bytes());
    #[expect(unsafe_code, reason = "rustix has no call of its own for this ioctl")]
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which has 40 bytes at most.
    unsafe {
        ioctl(&device, Updater::<TUNSETIFF, [u8; 40]>::new(&mut request))?;
    }
    Ok(device)
}

fn set_offload(device: &OwnedFd, what: usize) -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix has no call of its own for this ioctl")]
    // SAFETY: TUNSETOFFLOAD takes its flags as the argument itself, and no pointer.
    unsafe {
        ioctl(device, IntegerSetter::<TUNSETOFFLOAD>::new_usize(what)).map_err(Into::into)
    }
}
