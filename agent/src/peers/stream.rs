//! An application stream to a peer, whichever way it runs.

use std::task::{Context, Poll};

use super::pool::Lease;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::message::{Incarnation, Open, Opened, Refused};
use crate::vocabulary::Path;

/// A stream that this side has opened.
pub enum Stream {
    /// Over a lane of the pool.
    Lane(Box<Lease>),
}

impl Stream {
    /// How it runs.
    pub fn path(&self) -> Path {
        match self {
            Self::Lane(_) => Path::Lane,
        }
    }

    /// The peer's run that it leads to.
    pub fn incarnation(&self) -> Incarnation {
        match self {
            Self::Lane(lease) => lease.link.incarnation(),
        }
    }

    /// How it was answered, once it was.
    pub fn answer(&self) -> Option<&Result<Opened, Refused>> {
        match self {
            Self::Lane(lease) => lease.link.answer(),
        }
    }

    /// What to say again elsewhere, after it has moved.
    pub fn take_replay(&mut self) -> Option<(Open, Vec<u8>, bool)> {
        match self {
            Self::Lane(lease) => lease.link.take_replay(),
        }
    }

    /// Winds the stream up after its end and lets what it ran over be used again.
    pub async fn give_back(self) {
        match self {
            Self::Lane(lease) => lease.give_back().await,
        }
    }
}

impl Carrier for Stream {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_slot(cx),
        }
    }

    fn slot(&mut self) -> &mut [u8] {
        match self {
            Self::Lane(lease) => lease.link.slot(),
        }
    }

    fn commit(&mut self, len: usize) {
        match self {
            Self::Lane(lease) => lease.link.commit(len),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Lane(lease) => lease.link.finish(),
        }
    }

    fn reset(&mut self, reason: Reason) {
        match self {
            Self::Lane(lease) => lease.link.reset(reason),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_flush(cx),
        }
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_received(cx),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Lane(lease) => lease.link.chunk(),
        }
    }

    fn consume(&mut self, len: usize) {
        match self {
            Self::Lane(lease) => lease.link.consume(len),
        }
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        match self {
            Self::Lane(lease) => lease.link.poll_lost(cx),
        }
    }

    fn moved(&self) -> bool {
        match self {
            Self::Lane(lease) => lease.link.moved(),
        }
    }
}
