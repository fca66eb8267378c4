//! The one place where application bytes are moved.
//!
//! A [`Carrier`] is one application stream on a link. It offers slots to read application bytes into and hands out chunks
//! of received plaintext; the splice fills the ones and drains the others, and copies nothing in between.

use std::task::{Context, Poll};

use crate::reason::Reason;

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
    /// Ready when [`slot`](Carrier::slot) has room. Pending while the far side takes no more (back-pressure). Makes
    /// progress with what is queued to be sent.
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;

    /// Where to read application bytes into. Not empty after `poll_slot` was ready.
    fn slot(&mut self) -> &mut [u8];

    /// The first `len` bytes of the slot are application bytes to be sent.
    fn commit(&mut self, len: usize);

    /// The application has closed its sending side: FIN follows what was committed.
    fn finish(&mut self);

    /// Cuts both directions.
    fn reset(&mut self, reason: Reason);

    /// Sends what is queued. Ready when all of it has been handed to the kernel or to QUIC.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;

    /// Ready when there is something for the application. `Data` until all of [`chunk`](Carrier::chunk) is consumed.
    /// Handles every other frame that arrives in the meantime. After `Fin` or `Reset` it answers the same again.
    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>>;

    /// The received bytes at hand, after `poll_received` gave `Data`.
    fn chunk(&self) -> &[u8];

    /// The application has taken `len` bytes of the chunk.
    fn consume(&mut self, len: usize);
}
