//! The one place where application bytes are moved.
//!
//! A [`Carrier`] is one application stream on a link. It offers slots to read application bytes into and hands out chunks
//! of received plaintext; the splice fills the ones and drains the others, and copies nothing in between.

mod alone;
mod moving;
#[cfg(test)]
mod tests;
mod timer;

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use self::alone::Place;
pub use self::alone::Places;
use self::moving::Moving;
use crate::reason::Reason;
use crate::tcp::Tcp;

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

    /// The connection that it runs over, if it has one to itself: a thread can wait for that as well as the runtime.
    fn tcp(&mut self) -> Option<&mut Tcp> {
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

/// What a connection may take: when to give up on one that moves nothing (`None` is never), and threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits<'a> {
    /// Where bulk finds a thread of its own.
    pub places: Option<&'a Places>,
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

/// What is next for a connection.
enum Next {
    End(End),
    /// It moves so much that a thread has nothing else to do.
    Alone(Place),
}

/// Moves bytes between an application's connection and a carrier until both directions are closed, or something breaks.
///
/// At a disorderly end that did not come from the carrier, the carrier has been told to reset. What the application sees when
/// its connection is dropped is for the caller to choose by [`End`]. `finished` says that the application's end has been told
/// on an earlier carrier and is told again by what this one was given. `cut` resolves when somebody else decides that the
/// connection must end.
///
/// Not an `async fn`, nor are its callers: what such a function is given it stores twice for as long as it runs, which is as long
/// as the connection.
pub fn splice<'a, C: Carrier>(
    app: &'a mut Tcp,
    carrier: &'a mut C,
    limits: Limits<'a>,
    meter: &'a Meter,
    finished: bool,
    mut cut: impl Future<Output = Reason> + Unpin,
) -> impl Future<Output = End> {
    let mut moving = Moving::new(limits, meter, finished);
    let places = limits.places;
    async move {
        let end = loop {
            let next = {
                // Only made while no read would notice that the application is gone.
                let mut gone = None;
                poll_fn(|cx| {
                    if let Poll::Ready(reason) = Pin::new(&mut cut).poll(cx) {
                        return Poll::Ready(Next::End(End::Cut(reason)));
                    }
                    let gone =
                        |cx: &mut Context<'_>| gone.get_or_insert_with(|| Box::pin(app.reset())).as_mut().poll(cx);
                    if let Poll::Ready(end) = moving.poll(cx, app, carrier, gone) {
                        return Poll::Ready(Next::End(end));
                    }
                    if let Some(places) = places
                        && moving.is_bulk(places.soon)
                        && let Some(place) = places.take()
                    {
                        return Poll::Ready(Next::Alone(place));
                    }
                    if moving.again {
                        // The other direction has had its turn, and other connections have theirs before this task goes on:
                        // also those for which something has come that nobody has looked for yet.
                        let _pending = pin!(tokio::task::yield_now()).poll(cx);
                    }
                    Poll::Pending
                })
                .await
            };
            match next {
                Next::End(end) => break end,
                Next::Alone(place) => {
                    if let Some(end) = alone::run(place, &mut moving, app, carrier, &mut cut) {
                        break end;
                    }
                }
            }
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
}
