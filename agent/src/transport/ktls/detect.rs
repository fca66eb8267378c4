//! Whether the kernel can do it, found out by doing it: one connection of this host to itself.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use super::sys::{self, Direction};
use crate::transport::record::{ContentType, CryptoInfo, KeyError, Secret, Suite};

/// How long a step may take: bytes of this host to itself are there at once.
const BOUND: Duration = Duration::from_secs(1);
/// What is sent.
const WORD: &[u8] = b"adit";
/// A KeyUpdate that asks for none in return (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A kernel that has sealed and opened records. There is no other way to come by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    rekeys: bool,
}

/// What the kernel did not do.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct Missing {
    step: &'static str,
    source: io::Error,
}

impl Missing {
    fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { step, source }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.source.raw_os_error() {
            Some(libc::ENOENT) => "load its module (`modprobe tls`), or run a kernel that is built with CONFIG_TLS",
            Some(libc::EPERM | libc::EACCES) => "load its module (`modprobe tls`) before the agent starts",
            _ => "see what the kernel says: `dmesg`",
        }
    }
}

impl Kernel {
    /// Tries it out. Takes a few milliseconds, and seconds at the most.
    ///
    /// # Errors
    /// The step that did not work.
    pub fn detect() -> Result<Self, Missing> {
        let (near, far) = pair().map_err(Missing::at("a connection of this host to itself"))?;
        for end in [&near, &far] {
            sys::attach(end.as_fd()).map_err(Missing::at("TCP_ULP tls"))?;
        }
        let set = |step, end: &TcpStream, direction, keys: &CryptoInfo| {
            sys::set_keys(end.as_fd(), direction, keys).map_err(Missing::at(step))
        };
        let keys = |byte| keys(byte).map_err(|error| Missing { step: "keys", source: io::Error::other(error) });
        let (there, back) = (keys(1)?, keys(2)?);
        set("TLS_TX", &near, Direction::Sending, &there)?;
        set("TLS_RX", &near, Direction::Receiving, &back)?;
        set("TLS_TX", &far, Direction::Sending, &back)?;
        set("TLS_RX", &far, Direction::Receiving, &there)?;
        tell(&near, &far).map_err(Missing::at("a record there"))?;
        tell(&far, &near).map_err(Missing::at("a record back"))?;
        let next = keys(3)?;
        let rekeyed = rekey(&near, &far, &next);
        if let Err(error) = &rekeyed {
            tracing::debug!(%error, "this kernel does not change the keys of a TLS connection");
        }
        Ok(Self { rekeys: rekeyed.is_ok() })
    }

    /// One that nobody has tried, for tests of what becomes of it.
    #[cfg(test)]
    pub(crate) fn untried() -> Self {
        Self { rekeys: false }
    }

    /// Whether it can change the keys of a connection, which Linux does from 6.14 on.
    pub fn rekeys(self) -> bool {
        self.rekeys
    }
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, BOUND)?;
    let (far, from) = listener.accept()?;
    if from != near.local_addr()? {
        return Err(io::Error::other("somebody else has connected"));
    }
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(BOUND))?;
        end.set_write_timeout(Some(BOUND))?;
    }
    Ok((near, far))
}

fn keys(byte: u8) -> Result<CryptoInfo, KeyError> {
    // Nothing is kept secret with them.
    CryptoInfo::new(&Secret::new(Suite::Aes128Gcm, &[byte; 32]).ok_or(KeyError)?, 0)
}

/// A record of data goes from one end to the other.
fn tell(mut from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    from.write_all(WORD)?;
    expect(to, ContentType::ApplicationData, WORD)
}

fn expect(at: &TcpStream, kind: ContentType, content: &[u8]) -> io::Result<()> {
    let mut room = [0; 64];
    let (len, of) = sys::receive(at.as_fd(), &mut room)?;
    if of == Some(kind as u8) && room[..len] == *content {
        return Ok(());
    }
    Err(io::Error::other(format!("{len} bytes of a record of type {of:?} came, and not what was sent")))
}

fn rekey(near: &TcpStream, far: &TcpStream, next: &CryptoInfo) -> io::Result<()> {
    let sent = sys::send(near.as_fd(), ContentType::Handshake as u8, &KEY_UPDATE)?;
    if sent != KEY_UPDATE.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    sys::set_keys(near.as_fd(), Direction::Sending, next)?;
    expect(far, ContentType::Handshake, &KEY_UPDATE)?;
    sys::set_keys(far.as_fd(), Direction::Receiving, next)?;
    tell(near, far)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_has_it_is_told_from_one_that_has_not() {
        match Kernel::detect() {
            Ok(kernel) => println!("this kernel has kTLS: {kernel:?}"),
            Err(missing) => {
                println!("this kernel has no kTLS: {missing}; {}", missing.hint());
                // Without TLS in the kernel every socket refuses it.
                assert_eq!(missing.step, "TCP_ULP tls", "{missing}");
                assert!(missing.to_string().contains("os error 2"), "{missing}");
                assert!(missing.hint().contains("modprobe tls"), "{}", missing.hint());
            }
        }
    }
}
