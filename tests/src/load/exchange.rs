//! Both directions of one connection at once, hashed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::digest::{Context, SHA256};

use super::content::{Content, Digest, PIECE, digest_of, finish};
use crate::mesh::Mesh;

/// The longest pause in a busy connection that is not a hang.
const PAUSE: Duration = Duration::from_secs(30);

/// What came until the end of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes.
    pub bytes: u64,
    /// What they hash to.
    pub digest: Digest,
}

/// Sends `content` and its end while it receives everything up to the peer's end.
pub fn exchange(stream: &TcpStream, content: Content) -> Result<Received> {
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(stream, content));
        let received = receive(stream);
        sender.join().map_err(|_| anyhow!("the sender panicked"))??;
        received
    })
}

/// Sends `content`, then ends this side in order.
pub fn send(mut stream: &TcpStream, mut content: Content) -> Result<()> {
    stream.set_write_timeout(Some(PAUSE))?;
    let mut buffer = vec![0; PIECE];
    while content.left() > 0 {
        let left = content.left();
        stream.write_all(content.next(&mut buffer)).with_context(|| format!("send, {left} bytes before the end"))?;
    }
    stream.shutdown(Shutdown::Write).context("half-close")
}

/// Receives until the end of file. A reset is an error.
pub fn receive(mut stream: &TcpStream) -> Result<Received> {
    stream.set_read_timeout(Some(PAUSE))?;
    let (mut hash, mut buffer, mut bytes) = (Context::new(&SHA256), vec![0; PIECE], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Received { bytes, digest: finish(hash) }),
            Ok(n) => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).with_context(|| format!("receive, after {bytes} bytes")),
        }
    }
}

/// Sends `length` bytes each way at once through one connection from `beta` to the service `app` of `alpha`, and
/// compares what came with what was sent.
pub fn blast(mesh: &Mesh, server: &TcpListener, length: u64) -> Result<()> {
    const UP: u64 = 1;
    const DOWN: u64 = 2;
    let (client, served) = mesh.joined(server)?;
    let (down, up) = thread::scope(|scope| {
        let far = scope.spawn(|| exchange(&served, Content::new(DOWN, length)));
        let near = exchange(&client, Content::new(UP, length));
        (near, far.join())
    });
    let up = up.map_err(|_| anyhow!("the server panicked"))?.context("at the server")?;
    let down = down.context("at the client")?;
    for (name, got, seed) in [("up", up, UP), ("down", down, DOWN)] {
        ensure!(got.bytes == length, "{name}: {} bytes of {length}", got.bytes);
        ensure!(got.digest == digest_of(seed, length), "{name}: wrong bytes");
    }
    Ok(())
}
