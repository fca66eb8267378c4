//! Many connections at once, each with content of its own.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::content::Content;
use super::server::STACK;
use crate::place::Place;

/// How long a connection may take to come about when thousands do at once.
const CONNECT: Duration = Duration::from_secs(60);
/// The longest pause of one among thousands.
const PAUSE: Duration = Duration::from_secs(60);
/// How much is on its way at once in each connection, in bytes.
const PIECE: usize = 8 * 1024;

/// Opens `count` connections from `place` to an echo service. When all are open, and proven to be by a byte that came
/// back, each sends `length` bytes of its own, and checks every byte that comes back and the end of file.
pub fn echoes(place: &Place, address: SocketAddr, count: usize, length: u64) -> Result<()> {
    let open = Barrier::new(count);
    let outcomes: Vec<Result<()>> = thread::scope(|scope| {
        let spawn = |number: usize| {
            let open = &open;
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || one(place, address, number as u64, length, open))
        };
        let threads: Vec<_> = (0..count).map(spawn).collect();
        threads.into_iter().map(|t| t?.join().map_err(|_| anyhow!("a client panicked"))?).collect()
    });
    let failed = outcomes.iter().filter(|o| o.is_err()).count();
    let first = outcomes.into_iter().find_map(Result::err);
    first.map_or(Ok(()), |error| Err(error.context(format!("{failed} of {count} connections failed"))))
}

fn one(place: &Place, address: SocketAddr, number: u64, length: u64, open: &Barrier) -> Result<()> {
    let connected = place.connect(address, CONNECT).and_then(|mut stream| {
        stream.set_read_timeout(Some(CONNECT))?;
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0]).context("the first byte")?;
        Ok(stream)
    });
    // Also after a failure, or the others would wait for ever.
    open.wait();
    let mut stream = connected?;
    stream.set_read_timeout(Some(PAUSE))?;
    stream.set_write_timeout(Some(PAUSE))?;
    let (mut content, mut sent, mut got) = (Content::new(number, length), [0; PIECE], [0; PIECE]);
    while content.left() > 0 {
        let before = length - content.left();
        let piece = content.next(&mut sent);
        stream.write_all(piece).with_context(|| format!("connection {number} sends after {before} bytes"))?;
        let back = &mut got[..piece.len()];
        stream.read_exact(back).with_context(|| format!("connection {number} receives after {before} bytes"))?;
        ensure!(back == piece, "connection {number}: wrong bytes after {before}");
    }
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut got).context("the end")? == 0, "connection {number}: more came back than was sent");
    Ok(())
}
