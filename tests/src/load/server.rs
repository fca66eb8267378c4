//! A server that hands each connection to a thread.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};

use crate::place::Place;

/// Enough stack for a handler with its buffers on the heap: thousands run at once.
pub const STACK: usize = 128 * 1024;

/// A server for as long as it lives. Connections that are being handled when it ends are handled to their end.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on `address` of `place`, each connection by `handle` in a thread of its own.
    pub fn start(
        place: &Place,
        address: SocketAddr,
        handle: impl Fn(TcpStream) + Clone + Send + 'static,
    ) -> Result<Self> {
        let listener = place.listen(address)?;
        // The kernel's queue of finished handshakes must take a burst: std asks for 128 only.
        rustix::net::listen(&listener, 4096)?;
        let own = listener.try_clone()?;
        let acceptor = thread::Builder::new().stack_size(STACK).spawn(move || {
            while let Ok((stream, _)) = own.accept() {
                let handle = handle.clone();
                // Without a thread the connection is closed, which its client notices.
                drop(thread::Builder::new().stack_size(STACK).spawn(move || handle(stream)));
            }
        });
        Ok(Self { listener, acceptor: Some(acceptor.context("start the acceptor")?) })
    }

    /// A server that sends back what it gets, and ends when the client has.
    pub fn echo(place: &Place, address: SocketAddr) -> Result<Self> {
        Self::start(place, address, echo)
    }

    /// A server that swallows what it gets.
    pub fn sink(place: &Place, address: SocketAddr) -> Result<Self> {
        Self::start(place, address, |stream| {
            // How it ends does not matter to a sink.
            let _ = std::io::copy(&mut &stream, &mut std::io::sink());
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes the acceptor out of accept.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Read);
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

fn echo(mut stream: TcpStream) {
    // Without it small answers wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 16 * 1024];
    // A connection that breaks is the client's to notice.
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}
