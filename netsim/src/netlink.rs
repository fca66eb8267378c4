//! Just enough netlink to ask for links, addresses and firewall rules: messages, nested attributes, answers.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NLM_F_REQUEST`
const QUERY: u16 = 0x1;
/// `NLM_F_REQUEST | NLM_F_ACK`
pub(crate) const ASK: u16 = 0x1 | 0x4;
/// `NLM_F_CREATE`
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_REPLACE`
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_APPEND`
pub(crate) const APPEND: u16 = 0x800;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;

/// Messages in the making. Numbers are in the machine's byte order unless a method says otherwise.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    count: u32,
}

impl Messages {
    /// Adds a message; `body` writes what follows the header.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        let start = self.bytes.len();
        self.count += 1;
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Adds bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// Adds an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.with_length(kind, |m| m.raw(value))
    }

    /// Adds an attribute that holds a name with its closing zero byte.
    pub(crate) fn name(&mut self, kind: u16, name: &str) -> &mut Self {
        self.with_length(kind, |m| m.raw(name.as_bytes()).raw(&[0]))
    }

    /// Adds an attribute that holds a number in network byte order, as nf_tables wants it.
    pub(crate) fn number_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Adds an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        self.with_length(kind | NLA_F_NESTED, inner)
    }

    fn with_length(&mut self, kind: u16, value: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend(0_u16.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        value(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Sends one message to routing, and returns what follows the header of its answer.
    fn query(&self) -> io::Result<Vec<u8>> {
        let socket = open(None)?;
        rustix::net::sendto(&socket, &self.bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let ((answer, _), _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::DONTWAIT)?;
        match outcomes(answer).next() {
            Some(Err(error)) => Err(error),
            _ => Ok(answer.get(HEADER..).unwrap_or_default().to_vec()),
        }
    }

    /// Sends the messages in one datagram to `protocol` (`None`: routing) of the calling thread's network, and reads the
    /// kernel's answers. The kernel handles a datagram before the send returns, so every answer is there already.
    pub(crate) fn send(&self, protocol: Option<Protocol>) -> io::Result<()> {
        let socket = open(protocol)?;
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&socket, &self.bytes, SendFlags::empty(), &kernel)?;
        let mut acknowledged = false;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        loop {
            let answers = match rustix::net::recv(&socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok(((answers, _), _)) => &*answers,
                Err(rustix::io::Errno::AGAIN) if acknowledged => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            for outcome in outcomes(answers) {
                outcome?;
                acknowledged = true;
            }
        }
    }
}

/// What the kernel says of an interface of the calling thread's network: `struct ifinfomsg` and attributes.
pub(crate) fn link(interface: &str) -> io::Result<Vec<u8>> {
    // <linux/rtnetlink.h>, <linux/if_link.h>
    const RTM_GETLINK: u16 = 18;
    const IFLA_IFNAME: u16 = 3;
    let mut messages = Messages::default();
    messages.message(RTM_GETLINK, QUERY, |m| m.raw(&[0; 16]).name(IFLA_IFNAME, interface));
    messages.query()
}

fn open(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol).map_err(Into::into)
}

/// The value of an attribute among `attributes`.
pub(crate) fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some(&[l0, l1, k0, k1]) = attributes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([l0, l1])).max(4);
        if u16::from_ne_bytes([k0, k1]) == kind {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The outcomes in a datagram of answers: `NLMSG_ERROR` carries 0 or a negated error number.
fn outcomes(mut answers: &[u8]) -> impl Iterator<Item = io::Result<()>> {
    std::iter::from_fn(move || {
        while let Some(head) = answers.first_chunk::<{ HEADER + 4 }>() {
            let [l0, l1, l2, l3, k0, k1, .., e0, e1, e2, e3] = *head;
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            answers = answers.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
            if u16::from_ne_bytes([k0, k1]) == NLMSG_ERROR {
                let error = i32::from_ne_bytes([e0, e1, e2, e3]);
                return Some(if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) });
            }
        }
        None
    })
}
