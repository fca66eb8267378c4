//! The one place where application bytes are moved.
//!
//! A [`Carrier`] is one application stream on a link. It offers slots to read application bytes into and hands out chunks
//! of received plaintext; the splice fills the ones and drains the others, and copies nothing in between.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::reason::Reason;
use crate::vectored;

/// How many reads, and how many writes, of one connection go in a row before others have their turn.
const TURNS: usize = 2;

/// What the far side of a stream has for the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Bytes: see [`Carrier::chunk`].
    Data,
    /// The far application closed its sending side in order. Nothing follows.
    Fin,
    /// The far side cut the stream: the application gets a RST.
    Reset(Reason),
}

/// The link was lost under a stream. The application gets a RST, never an end of file.
#[derive(Debug, thiserror::Error)]
#[error("the link was lost: {0}")]
pub struct Broken(pub String);

/// One application stream on a link. Every `poll_*` registers the waker of its context when it answers `Pending`; the
/// sending and the receiving half are polled from one task.
pub trait Carrier {
    /// Ready when there is room to [fill](Carrier::fill). Pending while the far side takes no more (back-pressure). Makes
    /// progress with what is queued to be sent.
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;

    /// Has `read` put application bytes into the slots at hand, one after the other, and takes as many as it says. Gives what
    /// `read` gave. After `poll_slot` was ready the slots are not empty.
    ///
    /// # Errors
    /// If the link is lost.
    fn fill(
        &mut self,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Result<Poll<io::Result<usize>>, Broken>;

    /// The application has closed its sending side: FIN follows what was committed.
    fn finish(&mut self);

    /// Cuts both directions.
    fn reset(&mut self, reason: Reason);

    /// Sends what is queued. Ready when all of it has been handed to the kernel or to QUIC.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;

    /// Ready when there is something for the application. `Data` until all that is at hand is consumed.
    /// Handles every other frame that arrives in the meantime. After `Reset` it answers the same again, after `Fin` too
    /// unless the far side cuts the stream, or it is lost, while this side still sends.
    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>>;

    /// The first received bytes at hand, after `poll_received` gave `Data`.
    fn chunk(&self) -> &[u8];

    /// The application has taken `len` bytes of those at hand.
    fn consume(&mut self, len: usize);

    /// Has `write` give all received bytes at hand to the application, and consumes as many as it says. Gives what `write` gave.
    fn drain(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let written = ready!(write(&[IoSlice::new(self.chunk())]))?;
        self.consume(written);
        Poll::Ready(Ok(written))
    }

    /// Ready when the stream is beyond repair although a stalled application keeps received bytes from being drained.
    /// Polled instead of `poll_received` while the application takes nothing, because a RST would otherwise wait behind
    /// those bytes.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let _ = cx;
        Poll::Pending
    }

    /// Why the far side did not take the stream, if it broke before that had seen anything of it, so that it can be opened again
    /// elsewhere.
    fn moved(&self) -> Option<Reason> {
        None
    }
}

/// How many bytes a connection has moved, read live by others.
#[derive(Debug, Default)]
pub struct Meter {
    /// From the application to the link.
    pub to_link: AtomicU64,
    /// From the link to the application.
    pub to_app: AtomicU64,
}

/// When to give up on a connection that moves nothing. `None` is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Neither direction moved a byte for this long.
    pub idle: Option<Duration>,
    /// One direction is closed and the other moved nothing for this long.
    pub half_closed: Option<Duration>,
}

/// How a spliced connection ended.
#[derive(Debug)]
pub enum End {
    /// Both directions were closed in order and every byte was delivered.
    Closed,
    /// The application at this end reset its connection, or is gone.
    Application(io::Error),
    /// The far side cut the stream.
    Far(Reason),
    /// This agent cut it: a limit, a drain, a permit withdrawn.
    Cut(Reason),
    /// The link was lost under it.
    Lost(Broken),
    /// The far side has seen nothing of it and will not: it can go on over another stream.
    Moved(Reason),
}

impl End {
    /// The reason to be told, if it is not an orderly end.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Closed => None,
            Self::Application(_) => Some(Reason::Application),
            Self::Far(reason) | Self::Cut(reason) | Self::Moved(reason) => Some(*reason),
            Self::Lost(_) => Some(Reason::LinkLost),
        }
    }
}

/// Moves bytes between an application's connection and a carrier until both directions are closed, or something breaks.
///
/// At a disorderly end that did not come from the carrier, the carrier has been told to reset. What the application sees when
/// its connection is dropped is for the caller to choose by [`End`]. `finished` says that the application's end has been told
/// on an earlier carrier and is told again by what this one was given. `cut` resolves when somebody else decides that the
/// connection must end; it is small, because what is handed over by value is stored twice while the connection lives.
pub async fn splice<C: Carrier>(
    app: &TcpStream,
    carrier: &mut C,
    limits: Limits,
    meter: &Meter,
    finished: bool,
    mut cut: impl Future<Output = Reason> + Unpin,
) -> End {
    let end = {
        let mut timer = Timer::new(limits);
        // Only polled while no read would notice that the application is gone.
        let mut gone = pin!(reset_of(app));
        let mut up = if finished { Half::Closed } else { Half::Open };
        let mut down = Half::Open;
        poll_fn(|cx| {
            if let Poll::Ready(reason) = Pin::new(&mut cut).poll(cx) {
                return Poll::Ready(End::Cut(reason));
            }
            let (mut moved, mut again) = (false, false);
            let mut watch_app = false;

            let mut turns = TURNS;
            while up == Half::Open {
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
                        up = Half::Closed;
                        moved = true;
                    }
                    Poll::Ready(Ok(len)) => {
                        meter.to_link.fetch_add(len as u64, Relaxed);
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
            while down == Half::Open {
                match carrier.poll_received(cx) {
                    Poll::Ready(Ok(Received::Data)) => {}
                    Poll::Ready(Ok(Received::Fin)) => {
                        // Where nothing else is left, the end of the connection tells the application.
                        let last = up == Half::Closed && flushed;
                        if last && let Poll::Ready(error) = gone.as_mut().poll(cx) {
                            return Poll::Ready(End::Application(error));
                        }
                        if !last && let Err(error) = SockRef::from(app).shutdown(Shutdown::Write) {
                            return Poll::Ready(End::Application(error));
                        }
                        down = Half::Closed;
                        moved = true;
                        break;
                    }
                    Poll::Ready(Ok(Received::Reset(reason))) => return Poll::Ready(End::Far(reason)),
                    Poll::Ready(Err(broken)) => return Poll::Ready(End::Lost(broken)),
                    Poll::Pending => break,
                }
                match carrier.drain(|chunks| vectored::poll_write(app, cx, chunks)) {
                    Poll::Ready(Ok(len)) => {
                        meter.to_app.fetch_add(len as u64, Relaxed);
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

            if down == Half::Closed && (up == Half::Open || !flushed) {
                // The far side may still cut what it has finished sending on.
                match carrier.poll_received(cx) {
                    Poll::Ready(Ok(Received::Reset(reason))) => return Poll::Ready(End::Far(reason)),
                    Poll::Ready(Err(broken)) => return Poll::Ready(End::Lost(broken)),
                    _ => {}
                }
            }
            if up == Half::Closed {
                if down == Half::Closed && flushed {
                    return Poll::Ready(End::Closed);
                }
                watch_app = true;
            }
            if watch_app && let Poll::Ready(error) = gone.as_mut().poll(cx) {
                return Poll::Ready(End::Application(error));
            }
            if again {
                // The other direction has had its turn, and other connections have theirs before this task goes on: also those for
                // which something has come that nobody has looked for yet.
                let _pending = pin!(tokio::task::yield_now()).poll(cx);
            }
            timer.poll(cx, moved, up != down).map(End::Cut)
        })
        .await
    };
    if matches!(end, End::Lost(_))
        && let Some(reason) = carrier.moved()
    {
        return End::Moved(reason);
    }
    if let End::Application(error) = &end {
        tracing::debug!(%error, "the application's connection has ended with an error");
    }
    if let End::Application(_) | End::Cut(_) = end
        && let Some(reason) = end.reason()
    {
        carrier.reset(reason);
    }
    end
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    Closed,
}

/// Resolves when a socket has an error pending, so when its peer has reset it, whatever is still unread.
pub async fn reset_of(socket: &TcpStream) -> io::Error {
    match socket.ready(Interest::ERROR).await {
        Ok(_) => {}
        Err(error) => return error,
    }
    match socket.take_error() {
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => io::ErrorKind::ConnectionReset.into(),
    }
}

/// The idle and half-closed limits of one connection. Without limits it holds no timer at all.
struct Timer {
    limits: Limits,
    sleep: Option<Pin<Box<Sleep>>>,
    moved: Instant,
}

impl Timer {
    fn new(limits: Limits) -> Self {
        Self { limits, sleep: None, moved: Instant::now() }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: bool, half_closed: bool) -> Poll<Reason> {
        let half_limit = self.limits.half_closed.filter(|_| half_closed);
        let (limit, reason) = match (self.limits.idle, half_limit) {
            (None, None) => return Poll::Pending,
            (Some(idle), Some(half)) if idle < half => (idle, Reason::Idle),
            (_, Some(half)) => (half, Reason::HalfClosed),
            (Some(idle), None) => (idle, Reason::Idle),
        };
        if moved {
            self.moved = Instant::now();
        }
        let deadline = self.moved + limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        // A timer that was set for an earlier moment is moved only when it fires: that keeps busy connections cheap.
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(reason);
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
