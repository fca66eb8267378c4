//! Waiting for a condition, with a bound, instead of sleeping and hoping.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Tries until `attempt` succeeds, and returns what it gave. After `bound` its last error is returned, with `what` in
/// front.
pub fn eventually<T>(what: &str, bound: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= bound => {
                return Err(error.context(format!("{what}: not within {bound:?}")));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Lets time pass that is part of the test itself: a pause of the load, an outage that lasts, a span that is measured. What waits
/// for something to come about uses [`eventually`] instead.
pub fn pass(time: Duration) {
    thread::sleep(time);
}

/// Waits until one of `sockets` is ready for what `flags` say, `bound` at most; whether one is.
pub fn any_ready<'a>(sockets: impl Iterator<Item = &'a TcpStream>, flags: PollFlags, bound: Duration) -> Result<bool> {
    let mut sockets: Vec<_> = sockets.map(|socket| PollFd::new(socket, flags)).collect();
    Ok(poll(&mut sockets, Some(&Timespec::try_from(bound)?))? > 0)
}

/// Accepts and drops what waits to be accepted: connections of earlier tries, which must not be taken for a later one's.
pub fn drain(listener: &TcpListener) -> Result<()> {
    while poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&Timespec::default()))? > 0 {
        drop(listener.accept()?);
    }
    Ok(())
}

/// Accepts a connection within `bound`. The listener stays blocking.
pub fn accept(listener: &TcpListener, bound: Duration) -> Result<TcpStream> {
    let bound = Timespec::try_from(bound).context("a bound too long")?;
    let mut ready = [PollFd::new(listener, PollFlags::IN)];
    if poll(&mut ready, Some(&bound))? == 0 {
        bail!("nobody connected to {} in time", listener.local_addr()?);
    }
    Ok(listener.accept()?.0)
}
