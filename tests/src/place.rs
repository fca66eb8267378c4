//! Where a program or a piece of load runs.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use netsim::Namespace;

use crate::mesh::SOON;
use crate::wait::eventually;

/// A host.
#[derive(Debug, Clone)]
pub enum Place {
    /// The network of the test program itself: its loopback.
    Here,
    /// A host of a simulated network.
    There(Namespace),
}

impl Place {
    /// A command that will run on this host. What it starts is killed when the calling thread ends.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Here => {
                let mut command = Command::new(program);
                netsim::end_with_this_thread(&mut command);
                command
            }
            Self::There(namespace) => namespace.command(program),
        }
    }

    /// Runs `work` on this host and waits for it; sockets and threads that it makes stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self {
            Self::Here => work(),
            Self::There(namespace) => namespace.run(work)?,
        }
    }

    /// Listens on this host. What listened there before and was closed just now may live on for a moment in a program that another
    /// thread is starting, between fork and exec.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        self.run(|| {
            eventually("the address is free", SOON, || {
                TcpListener::bind(address).with_context(|| format!("listen on {address}"))
            })
        })
    }

    /// Connects from this host within `bound`.
    pub fn connect(&self, address: SocketAddr, bound: Duration) -> Result<TcpStream> {
        let stream =
            self.run(|| TcpStream::connect_timeout(&address, bound).with_context(|| format!("connect to {address}")))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
