//! An application stream to a peer, whichever way it runs.

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll};

use super::over_quic::{OverQuic, Replay};
use super::pool::Lease;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::tcp::Tcp;
use crate::transport::message::{Incarnation, Opened, Refused};
use crate::vocabulary::Path;

/// A stream that this side has opened.
pub enum Stream {
    /// Over a lane of the pool.
    Lane(Lease),
    /// Over QUIC.
    Quic(Box<OverQuic>),
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
            Self::Quic(over) => over.incarnation(),
        }
    }

    /// How it was answered, once it was.
    pub fn answer(&self) -> Option<Result<Opened, Refused>> {
        match self {
            Self::Lane(lease) => lease.link.answer().cloned(),
            Self::Quic(over) => over.answer(),
        }
    }

    /// What to say again elsewhere, after it has moved.
    pub fn take_replay(&mut self) -> Option<Replay> {
        match self {
            Self::Lane(lease) => lease.link.take_replay(),
            Self::Quic(over) => over.take_replay(),
        }
    }

    /// Winds the stream up after its end and lets what it ran over be used again.
    pub async fn give_back(self) {
        match self {
            Self::Lane(lease) => lease.give_back().await,
            // Its memory is not that of every stream over a lane.
            Self::Quic(over) => Box::pin(over.give_back()).await,
        }
    }
}

impl Carrier for Stream {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_slot(cx),
            Self::Quic(over) => over.poll_slot(cx),
        }
    }

    fn fill(
        &mut self,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Result<Poll<io::Result<usize>>, Broken> {
        match self {
            Self::Lane(lease) => lease.link.fill(read),
            Self::Quic(over) => over.fill(read),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Lane(lease) => lease.link.finish(),
            Self::Quic(over) => over.finish(),
        }
    }

    fn reset(&mut self, reason: Reason) {
        match self {
            Self::Lane(lease) => lease.link.reset(reason),
            Self::Quic(over) => over.reset(reason),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_flush(cx),
            Self::Quic(over) => over.poll_flush(cx),
        }
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        match self {
            Self::Lane(lease) => lease.link.poll_received(cx),
            Self::Quic(over) => over.poll_received(cx),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Lane(lease) => lease.link.chunk(),
            Self::Quic(over) => over.chunk(),
        }
    }

    fn consume(&mut self, len: usize) {
        match self {
            Self::Lane(lease) => lease.link.consume(len),
            Self::Quic(over) => over.consume(len),
        }
    }

    fn drain(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match self {
            Self::Lane(lease) => lease.link.drain(write),
            Self::Quic(over) => over.drain(write),
        }
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        match self {
            Self::Lane(lease) => lease.link.poll_lost(cx),
            Self::Quic(over) => over.poll_lost(cx),
        }
    }

    fn moved(&self) -> Option<Reason> {
        match self {
            Self::Lane(lease) => lease.link.moved(),
            Self::Quic(over) => over.moved(),
        }
    }

    fn tcp(&mut self) -> Option<&mut Tcp> {
        match self {
            Self::Lane(lease) => lease.link.tcp(),
            Self::Quic(_) => None,
        }
    }
}
