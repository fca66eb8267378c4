//! One connection whose bytes are moved, and its next step, whoever waits for its sockets.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::timer::Timer;
use super::{Carrier, End, Limits, Meter, Received};
use crate::tcp::Tcp;
use crate::vectored;

/// How many reads, and how many writes, of one connection go in a row before others have their turn.
const TURNS: usize = 2;
/// Bulk is what moves this much in [`Places::soon`](super::Places).
const BULK: u64 = 4 * 1024 * 1024;
/// What was bulk is no more when it has not moved a quarter of that
const SLOW: u64 = BULK / 4;
/// in this time.
const LONG: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    Closed,
}

/// What is known of it between two steps.
pub(super) struct Moving<'m> {
    meter: &'m Meter,
    timer: Timer,
    up: Half,
    down: Half,
    /// There is more to be moved at once.
    pub(super) again: bool,
    /// Moved since `since`.
    bytes: u64,
    since: Instant,
}

impl<'m> Moving<'m> {
    pub(super) fn new(limits: Limits<'_>, meter: &'m Meter, finished: bool) -> Self {
        Self {
            meter,
            timer: Timer::new(&limits),
            up: if finished { Half::Closed } else { Half::Open },
            down: Half::Open,
            again: false,
            bytes: 0,
            since: Instant::now(),
        }
    }

    /// Whether it moves so much that a thread has enough to do with it. Asked for every once in a while.
    pub(super) fn is_bulk(&mut self, soon: Duration) -> bool {
        if self.bytes < BULK {
            return false;
        }
        self.bytes = 0;
        std::mem::replace(&mut self.since, Instant::now()).elapsed() <= soon
    }

    /// Whether what was bulk is so no more.
    pub(super) fn is_slow(&mut self) -> bool {
        let now = Instant::now();
        if now - self.since < LONG {
            return false;
        }
        self.since = now;
        std::mem::take(&mut self.bytes) < SLOW
    }

    /// Moves what can be moved now, a few buffers at most. `gone` is ready when the application has reset its connection.
    pub(super) fn poll<C: Carrier>(
        &mut self,
        cx: &mut Context<'_>,
        app: &Tcp,
        carrier: &mut C,
        mut gone: impl FnMut(&mut Context<'_>) -> Poll<io::Error>,
    ) -> Poll<End> {
        let (mut moved, mut again, mut watch_app) = (false, false, false);

        let mut turns = TURNS;
        while self.up == Half::Open {
            match carrier.poll_slot(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(broken)) => return Poll::Ready(End::Lost(broken)),
                Poll::Pending => {
                    watch_app = true;
                    break;
                }
            }
            let read = match carrier.fill(|slots| vectored::poll_read_app(app, cx, slots)) {
                Ok(read) => read,
                Err(broken) => return Poll::Ready(End::Lost(broken)),
            };
            match read {
                Poll::Ready(Ok(0)) => {
                    carrier.finish();
                    self.up = Half::Closed;
                    moved = true;
                }
                Poll::Ready(Ok(len)) => {
                    self.meter.to_link.fetch_add(len as u64, Relaxed);
                    self.bytes += len as u64;
                    moved = true;
                    turns -= 1;
                    if turns == 0 {
                        again = true;
                        break;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(End::Application(error)),
                Poll::Pending => break,
            }
        }
        let flushed = match carrier.poll_flush(cx) {
            Poll::Ready(Err(broken)) => return Poll::Ready(End::Lost(broken)),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };

        let mut turns = TURNS;
        while self.down == Half::Open {
            match carrier.poll_received(cx) {
                Poll::Ready(Ok(Received::Data)) => {}
                Poll::Ready(Ok(Received::Fin)) => {
                    // Where nothing else is left, the end of the connection tells the application.
                    let last = self.up == Half::Closed && flushed;
                    if last && let Poll::Ready(error) = gone(cx) {
                        return Poll::Ready(End::Application(error));
                    }
                    if !last && let Err(error) = app.socket().shutdown(Shutdown::Write) {
                        return Poll::Ready(End::Application(error));
                    }
                    self.down = Half::Closed;
                    moved = true;
                    break;
                }
                Poll::Ready(Ok(Received::Reset(reason))) => return Poll::Ready(End::Far(reason)),
                Poll::Ready(Err(broken)) => return Poll::Ready(End::Lost(broken)),
                Poll::Pending => break,
            }
            match carrier.drain(|chunks| vectored::poll_write(app, cx, chunks)) {
                Poll::Ready(Ok(len)) => {
                    self.meter.to_app.fetch_add(len as u64, Relaxed);
                    self.bytes += len as u64;
                    moved = true;
                    turns -= 1;
                    if turns == 0 {
                        again = true;
                        break;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(End::Application(error)),
                Poll::Pending => {
                    if let Poll::Ready(broken) = carrier.poll_lost(cx) {
                        return Poll::Ready(End::Lost(broken));
                    }
                    break;
                }
            }
        }

        if self.down == Half::Closed && (self.up == Half::Open || !flushed) {
            // The far side may still cut what it has finished sending on.
            match carrier.poll_received(cx) {
                Poll::Ready(Ok(Received::Reset(reason))) => return Poll::Ready(End::Far(reason)),
                Poll::Ready(Err(broken)) => return Poll::Ready(End::Lost(broken)),
                _ => {}
            }
        }
        if self.up == Half::Closed {
            if self.down == Half::Closed && flushed {
                return Poll::Ready(End::Closed);
            }
            watch_app = true;
        }
        if watch_app && let Poll::Ready(error) = gone(cx) {
            return Poll::Ready(End::Application(error));
        }
        self.again = again;
        self.timer.poll(cx, moved, self.up != self.down).map(End::Cut)
    }
}
