//! An application stream to a peer, whichever way it runs.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::timeout;

use super::pool::Lease;
use super::serve::SETTLE;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::message::{Incarnation, Open, Opened, Refused};
use crate::transport::quic::QuicStream;
use crate::vocabulary::Path;

/// A stream that this side has opened.
pub enum Stream {
    /// Over a lane of the pool.
    Lane(Lease),
    /// Over QUIC.
    Quic(Box<OverQuic>),
}

/// A stream over QUIC.
pub struct OverQuic {
    pub(super) stream: QuicStream,
    pub(super) incarnation: Incarnation,
    pub(super) _counted: Arc<()>,
}

impl Stream {
    /// How it runs.
    pub fn path(&self) -> Path {
        match self {
            Self::Lane(_) => Path::Lane,
            Self::Quic(..) => Path::Quic,
        }
    }

    /// The peer's run that it leads to.
    pub fn incarnation(&self) -> Incarnation {
        match self {
            Self::Lane(lease) => lease.link.incarnation(),
            Self::Quic(over) => over.incarnation,
        }
    }

    /// How it was answered, once it was.
    pub fn answer(&self) -> Option<Result<Opened, Refused>> {
        match self {
            Self::Lane(lease) => lease.link.answer().cloned(),
            Self::Quic(over) => over.stream.answered(),
        }
    }

    /// What to say again elsewhere, after it has moved.
    pub fn take_replay(&mut self) -> Option<(Open, Vec<u8>, bool)> {
        match self {
            Self::Lane(lease) => lease.link.take_replay(),
            Self::Quic(..) => None,
        }
    }

    /// Winds the stream up after its end and lets what it ran over be used again.
    pub async fn give_back(self) {
        match self {
            Self::Lane(lease) => lease.give_back().await,
            // One that is not over is cut by its drop.
            Self::Quic(mut over) => drop(timeout(SETTLE, over.stream.settle()).await),
        }
    }
}

impl Carrier for Stream {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_slot(cx),
            Self::Quic(over) => over.stream.poll_slot(cx),
        }
    }

    fn slot(&mut self) -> &mut [u8] {
        match self {
            Self::Lane(lease) => lease.link.slot(),
            Self::Quic(over) => over.stream.slot(),
        }
    }

    fn commit(&mut self, len: usize) {
        match self {
            Self::Lane(lease) => lease.link.commit(len),
            Self::Quic(over) => over.stream.commit(len),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Lane(lease) => lease.link.finish(),
            Self::Quic(over) => over.stream.finish(),
        }
    }

    fn reset(&mut self, reason: Reason) {
        match self {
            Self::Lane(lease) => lease.link.reset(reason),
            Self::Quic(over) => over.stream.reset(reason),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_flush(cx),
            Self::Quic(over) => over.stream.poll_flush(cx),
        }
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_received(cx),
            Self::Quic(over) => over.stream.poll_received(cx),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Lane(lease) => lease.link.chunk(),
            Self::Quic(over) => over.stream.chunk(),
        }
    }

    fn consume(&mut self, len: usize) {
        match self {
            Self::Lane(lease) => lease.link.consume(len),
            Self::Quic(over) => over.stream.consume(len),
        }
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        match self {
            Self::Lane(lease) => lease.link.poll_lost(cx),
            Self::Quic(over) => over.stream.poll_lost(cx),
        }
    }

    fn moved(&self) -> bool {
        match self {
            Self::Lane(lease) => lease.link.moved(),
            Self::Quic(over) => over.stream.moved(),
        }
    }
}
