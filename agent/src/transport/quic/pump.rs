//! What moves the bytes of a stream: reading until nothing is left, credit, and writing.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::credit::{INITIAL_CREDIT, Overrun};
use super::share::Scattered;
use super::stream::{Answer, N, QuicStream};
use crate::reason::Reason;
use crate::splice::Broken;
use crate::transport::frame::{FrameError, Item, Kind};
use crate::transport::message::{Credit, Frame, MessageError};

/// A sender that has not sent for this long gives back what it holds beyond [`INITIAL_CREDIT`].
const UNUSED: Duration = Duration::from_secs(1);
/// Counting waits for this many more bytes behind gaps, or for the end of what is at hand.
const UNCOUNTED: u64 = 64 << 10;
/// The same for pieces.
const UNCOUNTED_PIECES: u64 = 1024;
/// No sender is granted more than this, whatever the peer says: so that sums do not overflow.
const MOST_ALLOWANCE: u64 = 1 << 40;

/// A rule that the peer broke. It costs the connection.
#[derive(Debug, thiserror::Error)]
enum Violation {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("more than its credit")]
    Credit(#[from] Overrun),
    #[error(transparent)]
    Gaps(#[from] Scattered),
    #[error("{0} out of place")]
    OutOfPlace(Kind),
    #[error("a stream that ended without FIN")]
    Truncated,
}

impl QuicStream {
    /// Reads and writes as far as it goes.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        self.read(cx)?;
        self.return_unused(cx);
        let _rest_waits_for_quic = self.poll_write(cx)?;
        Ok(())
    }

    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if let Some(why) = &self.broken {
            return Err(Broken(why.clone()));
        }
        while !self.recv_over {
            // In whatever order it comes: what QUIC keeps behind a gap is bounded for each stream, not for a peer.
            let chunk = match pin!(self.recv.read_chunk(usize::MAX, false)).poll(cx) {
                Poll::Pending => break,
                Poll::Ready(chunk) => chunk,
            };
            let result = match chunk {
                Ok(Some(chunk)) => self.take(chunk.offset, &chunk.bytes),
                Ok(None) if self.fin_received || self.reset.is_some() => {
                    self.recv_over = true;
                    Ok(())
                }
                Ok(None) => Err(Violation::Truncated),
                Err(ReadError::Reset(code)) => {
                    self.was_cut(code);
                    Ok(())
                }
                Err(ReadError::ConnectionLost(lost)) => return Err(self.breaks(lost.to_string())),
                // We stopped it ourselves.
                Err(_) => {
                    self.recv_over = true;
                    Ok(())
                }
            };
            result.map_err(|violation| self.violated(&violation))?;
        }
        self.count_kept().map_err(|violation| self.violated(&violation))?;
        self.renew();
        Ok(())
    }

    fn violated(&mut self, violation: &Violation) -> Broken {
        let what = format!("the peer broke the protocol: {violation}");
        self.shared.violated(&what);
        self.breaks(what)
    }

    /// Parses what is in order by these bytes, which may be behind a gap, or close one.
    fn take(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Violation> {
        let next = self.reorder.handle(offset, bytes);
        self.parse(next)?;
        while let Some(bytes) = self.reorder.poll_ready() {
            self.parse(&bytes)?;
        }
        let kept = self.reorder.kept();
        if kept.bytes.abs_diff(self.kept.bytes) >= UNCOUNTED
            || kept.pieces.abs_diff(self.kept.pieces) >= UNCOUNTED_PIECES
        {
            self.count_kept()?;
        }
        Ok(())
    }

    fn count_kept(&mut self) -> Result<(), Violation> {
        let now = self.reorder.kept();
        if now != self.kept {
            let before = std::mem::replace(&mut self.kept, now);
            self.shared.keep(before, now)?;
        }
        Ok(())
    }

    fn parse(&mut self, mut input: &[u8]) -> Result<(), Violation> {
        loop {
            match self.parser.next(&mut input)? {
                None => return Ok(()),
                // Nothing after a cut matters.
                Some(_) if self.reset.is_some() => {}
                Some(Item::Data(piece)) => {
                    let early =
                        if self.opener { self.answer == Answer::Awaited } else { self.answer == Answer::AwaitOpen };
                    if self.fin_received || early {
                        return Err(Violation::OutOfPlace(Kind::Data));
                    }
                    self.window.handle_received(piece.len() as u64)?;
                    self.buffer.extend_from_slice(piece);
                }
                Some(Item::Control { kind, payload }) => {
                    let frame = Frame::decode(kind, payload)?;
                    self.handle(frame)?;
                }
            }
        }
    }

    fn handle(&mut self, frame: Frame) -> Result<(), Violation> {
        let kind = frame.kind();
        match (frame, &self.answer) {
            (Frame::Open(N, open), Answer::AwaitOpen) => {
                self.allowance = self.allowance.saturating_add(open.credit).min(MOST_ALLOWANCE);
                self.answer = Answer::Awaited;
                self.asked = Some(open);
            }
            (Frame::Opened(N, opened), Answer::Awaited) if self.opener => {
                self.allowance = self.allowance.saturating_add(opened.credit).min(MOST_ALLOWANCE);
                self.answer = Answer::Opened(opened);
            }
            (Frame::Refused(N, refused), Answer::Awaited) if self.opener => {
                self.reset = Some(refused.reason);
                self.answer = Answer::Refused(refused);
                self.stop_sending(0);
                self.window.close(&mut self.shared.budget());
            }
            (Frame::Fin(N), Answer::Opened(_)) if !self.fin_received => self.fin_received = true,
            (Frame::Fin(N), Answer::Awaited) if !self.opener && !self.fin_received => self.fin_received = true,
            (Frame::Credit(N, credit), answer) if *answer != Answer::AwaitOpen => {
                self.allowance = self.allowance.saturating_add(credit.granted).min(MOST_ALLOWANCE);
                self.window.handle_returned(credit.returned, &mut self.shared.budget())?;
            }
            _ => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    /// Credit for what was taken, unless nothing more will come.
    pub(super) fn renew(&mut self) {
        let answered = matches!(self.answer, Answer::Opened(_));
        if answered
            && !self.fin_received
            && self.reset.is_none()
            && let Some(granted) = self.grant(Instant::now())
        {
            self.owed.granted += granted;
            self.put_credit();
        }
    }

    /// Queues what is owed, unless a CREDIT waits already: so a peer that takes nothing makes the queue no longer.
    fn put_credit(&mut self) {
        if self.credit_behind == 0 && self.owed != Credit::default() && !self.send_over {
            let owed = std::mem::take(&mut self.owed);
            self.put(&Frame::Credit(N, owed));
            self.credit_behind = self.queue.len();
        }
    }

    pub(super) fn grant(&mut self, now: Instant) -> Option<u64> {
        let round_trip = self.shared.connection.rtt();
        self.window.poll_grant(now, round_trip, &mut self.shared.budget())
    }

    /// Gives back what an application that has nothing to send holds, so that others can have it.
    fn return_unused(&mut self, cx: &mut Context<'_>) {
        if self.allowance <= INITIAL_CREDIT || self.fin_sent || self.send_over {
            self.unused = None;
            return;
        }
        let sleep = self.unused.get_or_insert_with(|| Box::pin(tokio::time::sleep(UNUSED)));
        while sleep.as_mut().poll(cx).is_ready() {
            let idle = self.last_sent.elapsed();
            if idle >= UNUSED {
                let returned = self.allowance - INITIAL_CREDIT;
                self.allowance = INITIAL_CREDIT;
                self.unused = None;
                self.owed.returned += returned;
                self.put_credit();
                return;
            }
            sleep.as_mut().reset(tokio::time::Instant::now() + (UNUSED - idle));
        }
    }

    pub(super) fn put(&mut self, frame: &Frame) {
        if !self.send_over {
            self.enqueue(frame.to_bytes().into());
        }
    }

    pub(super) fn enqueue(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Hands over what QUIC takes at once, for calls that nobody polls. What is left goes with the next poll.
    pub(super) fn write_now(&mut self) {
        let _rest = self.poll_write(&mut Context::from_waker(Waker::noop()));
    }

    /// Ready when everything queued was handed to QUIC.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if let Some(why) = &self.broken {
            return Poll::Ready(Err(Broken(why.clone())));
        }
        while !self.queue.is_empty() && !self.send_over {
            let written = {
                let writing = pin!(self.send.write_chunks(self.queue.make_contiguous()));
                ready!(writing.poll(cx))
            };
            match written {
                Ok(written) => {
                    self.queue.drain(..written.chunks);
                    self.queued -= written.bytes;
                    self.credit_behind = self.credit_behind.saturating_sub(written.chunks);
                    self.put_credit();
                }
                Err(WriteError::ConnectionLost(lost)) => {
                    // What came before is heard first, above all an answer.
                    let _lost_as_well = self.read(cx);
                    return Poll::Ready(Err(self.breaks(lost.to_string())));
                }
                Err(WriteError::Stopped(code)) => self.stop_sending(code.into_inner()),
                Err(_) => self.stop_sending(0),
            }
        }
        if self.fin_sent && self.fin_received {
            self.end_sending();
        }
        Poll::Ready(Ok(()))
    }

    /// Both FINs, and nothing of ours waits.
    pub(super) fn is_complete(&self) -> bool {
        self.fin_sent && self.fin_received && self.queue.is_empty() && self.reset.is_none()
    }

    /// This side does not serve the stream.
    pub(super) fn refuses(&self) -> bool {
        matches!(self.answer, Answer::Refused(_)) && !self.opener
    }

    /// The QUIC stream may end in order: with less, the peer would take it for broken.
    pub(super) fn has_said_all(&self) -> bool {
        self.is_complete() || self.refuses() && self.queue.is_empty()
    }

    /// A cut that comes after FIN was handed on is told to the sending side, which is the only one still looked at.
    pub(super) fn check_late_cut(&self) -> Result<(), Broken> {
        match self.reset {
            Some(reason) if self.fin_received => Err(Broken(reason.to_string())),
            _ => Ok(()),
        }
    }

    /// Whether the peer has certainly not served the stream, though it never said so: it has closed the connection after everyone
    /// whom it served there knew so.
    pub fn was_passed_by(&self) -> bool {
        let superseded = VarInt::from_u32(Reason::Superseded.code().into());
        let unanswered = self.opener && self.answer == Answer::Awaited && self.reset.is_none();
        // All that came before has been read by then.
        unanswered
            && self.broken.is_some()
            && matches!(self.shared.connection.close_reason(),
                Some(ConnectionError::ApplicationClosed(close)) if close.error_code == superseded)
    }

    fn breaks(&mut self, why: String) -> Broken {
        self.broken = Some(why.clone());
        Broken(why)
    }

    fn was_cut(&mut self, code: VarInt) {
        self.recv_over = true;
        self.drop_kept();
        if self.reset.is_none() && !self.is_complete() {
            let reason = u8::try_from(code.into_inner()).map_or(Reason::Other, Reason::from_code);
            self.reset = Some(reason);
            self.stop_sending(reason.code().into());
            self.forget();
        }
    }

    /// Ends the QUIC stream in order: everything queued has been handed over.
    pub(super) fn end_sending(&mut self) {
        if !std::mem::replace(&mut self.send_over, true) {
            // It fails only if the peer has stopped the stream.
            let _ended = self.send.finish();
        }
    }
}
