//! A connection that moves bulk has a thread to itself for as long as it does, if one is left.
//!
//! The worker that served it hands its other connections to another thread and waits for the sockets of this one alone. So what is
//! said beside bulk does not wait behind it: the threads that serve the others sleep most of the time, and whoever has slept gets
//! the processor at once. And the bulk pays for no wake-up of another thread.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::moving::Moving;
use super::{Broken, Carrier, End};
use crate::reason::Reason;
use crate::tcp::Tcp;

/// What has moved nothing for this long, in ns, goes back to the others.
const QUIET: i64 = 20_000_000;

/// What moves 4 MiB in this time is bulk: some 670 Mbit/s.
const SOON: Duration = Duration::from_millis(50);

/// How many more connections may have a thread.
#[derive(Debug, Clone)]
pub struct Places {
    left: Arc<AtomicUsize>,
    /// In what time bulk moves what makes it bulk.
    pub(super) soon: Duration,
}

impl Places {
    /// So many.
    pub fn new(most: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(most)), soon: SOON }
    }

    /// As many as the runtime has workers: those serve the other connections meanwhile.
    pub fn of_this_runtime() -> Self {
        Self::new(Handle::try_current().map_or(0, |runtime| runtime.metrics().num_workers()))
    }

    /// How many more.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left.load(Relaxed)
    }

    /// One of them, if there is one.
    pub(super) fn take(&self) -> Option<Place> {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok()?;
        Some(Place(Arc::clone(&self.left)))
    }
}

/// The right to a thread. Dropped, another may have it.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Wakes the thread from a wait for sockets.
#[derive(Debug)]
struct Bell(OwnedFd);

impl Bell {
    fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    fn silence(&self) {
        let _rings = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // A counter that is full rings all the same.
        let _rung = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// Serves a connection on this thread until it ends, or is bulk no more (`None`).
pub(super) fn run<C: Carrier>(
    place: Place,
    moving: &mut Moving<'_>,
    app: &mut Tcp,
    carrier: &mut C,
    cut: &mut (impl Future<Output = Reason> + Unpin),
) -> Option<End> {
    // Only there others go on meanwhile.
    if Handle::try_current().ok()?.runtime_flavor() != RuntimeFlavor::MultiThread {
        return None;
    }
    let bell = Bell::new().ok()?;
    if !carrier.tcp()?.leave_runtime() {
        return None;
    }
    let end = app.leave_runtime().then(|| tokio::task::block_in_place(|| serve(&bell, moving, app, carrier, cut)));
    drop(place);
    let joined = carrier.tcp().map_or(Ok(()), Tcp::join_runtime);
    let end = end.flatten();
    match (end, joined, app.join_runtime()) {
        (None, Err(error), _) => Some(End::Lost(Broken(error.to_string()))),
        (None, _, Err(error)) => Some(End::Application(error)),
        (end, ..) => end,
    }
}

fn serve<C: Carrier>(
    bell: &Arc<Bell>,
    moving: &mut Moving<'_>,
    app: &Tcp,
    carrier: &mut C,
    cut: &mut (impl Future<Output = Reason> + Unpin),
) -> Option<End> {
    let waker = Waker::from(Arc::clone(bell));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(reason) = Pin::new(&mut *cut).poll(&mut cx) {
            return Some(End::Cut(reason));
        }
        let gone = |_: &mut Context<'_>| app.has_failed().map_or(Poll::Pending, Poll::Ready);
        if let Poll::Ready(end) = moving.poll(&mut cx, app, carrier, gone) {
            return Some(end);
        }
        if moving.is_slow() || (!moving.again && !wait(bell, app, carrier.tcp()?)) {
            return None;
        }
    }
}

/// Waits for what was asked for. Whether it came.
fn wait(bell: &Bell, app: &Tcp, link: &Tcp) -> bool {
    let mut fds = [const { None }; 3];
    fds[0] = Some(PollFd::new(&bell.0, PollFlags::IN));
    let mut count = 1;
    let sockets = [app, link];
    let mut of = [None; 2];
    for (tcp, at) in sockets.iter().zip(&mut of) {
        if let Some(flags) = tcp.interest() {
            fds[count] = Some(PollFd::new(*tcp, flags));
            *at = Some(count);
            count += 1;
        }
    }
    let mut fds = fds.map(|fd| fd.unwrap_or_else(|| PollFd::new(&bell.0, PollFlags::empty())));
    let quiet = Timespec { tv_sec: 0, tv_nsec: QUIET };
    match poll(&mut fds[..count], Some(&quiet)) {
        Ok(0) => return false,
        Ok(_) => {}
        Err(Errno::INTR) => return true,
        // The kernel is out of memory: the runtime's way needs none.
        Err(_) => return false,
    }
    if !fds[0].revents().is_empty() {
        bell.silence();
    }
    for (tcp, at) in sockets.iter().zip(of) {
        if let Some(at) = at {
            tcp.woke(fds[at].revents());
        }
    }
    true
}
