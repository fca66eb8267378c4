//! The life of the streams of one lane, as a pure machine: no I/O, no clock.
//!
//! ```text
//!   opener                                              responder
//!   open ── OPEN n, DATA (≤ 64 KiB until answered) ───▶ OpenRequested
//!   Opened ◀── OPENED n ──────────────────────────────  accept
//!   Refused ◀── REFUSED n, DONE n ────────────────────  refuse           the opener answers DONE n
//!   DATA, FIN n (fin) ◀──────────────────────────────▶  DATA, FIN n      both FINs: each side says DONE n
//!   RESET n, DONE n (reset) ◀────────────────────────▶  the same         the other side answers DONE n
//!   both DONEs: the lane is idle, stream n + 1 may follow
//! ```
//!
//! - DONE n is a side's last frame of stream n. Between its own DONE and the peer's a side discards whatever else comes of n,
//!   so nothing late can reach the next stream.
//! - The responder asks the opener to leave with BYE m: it serves nothing above m. If the opener has just opened m + 1, that
//!   stream moves to another lane, and all of its frames here are discarded.
//! - Only the opener closes the connection in order, when the lane is idle.
//! - RESET may be stuck behind data that a stalled reader does not take. If the peer's DONE does not come within a second,
//!   the TCP connection is to be aborted.
//!
//! What the peer does against these rules is a [`Violation`](super::violation::Violation); what the local side asks for at a wrong time is [`NotNow`].

use std::time::{Duration, Instant};

pub use super::event::{Event, Lost, Piece, Verdict};
use super::violation::NotNow;
use crate::reason::Reason;
use crate::transport::frame::{HEADER, Kind, MAX_DATA, header};
use crate::transport::message::{Frame, Open, Opened, Refused};

/// How many bytes an opener may send before OPENED. They are kept, to be replayed should the stream move.
pub const EARLY_DATA: usize = 64 * 1024;
/// How long the peer has to answer RESET with DONE.
pub const RESET_ANSWER: Duration = Duration::from_secs(1);
/// The most that [`Lane::poll_transmit`] ever appends at once, in bytes: an OPENED, a BYE, and small frames.
pub const MAX_QUEUED: usize = 4096;

/// Which end of a lane this is. It has nothing to do with who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Opens streams, and retires the lane.
    Opener,
    /// Serves them.
    Responder,
}

/// One direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Open,
    Finished,
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    pub(super) n: u32,
    pub(super) sends: Way,
    pub(super) receives: Way,
    /// OPENED or REFUSED was sent (responder) or received (opener).
    pub(super) answered: bool,
    /// Our DONE is sent, or queued. What is still missing is the peer's.
    pub(super) done: bool,
    /// Bytes of DATA before the answer.
    pub(super) early: usize,
    /// When the peer's answer to our RESET is overdue.
    overdue: Option<Instant>,
}

/// One end of a lane, after HELLO.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    pub(super) end: End,
    pub(super) stream: Option<Stream>,
    /// The number of the stream that is open, or was last.
    pub(super) last: u32,
    /// m of the BYE sent (responder) or received (opener).
    pub(super) bye: Option<u32>,
    /// The stream above m whose frames are discarded (responder).
    pub(super) skipped: Option<u32>,
    pub(super) retiring: bool,
    queue: Vec<u8>,
    /// DONE of the last stream waits in the queue, so the peer cannot have seen it.
    pub(super) done_queued: bool,
    ping: Option<u64>,
    /// The newest PING not yet answered. Older ones need no answer: a flood of PINGs takes no memory.
    pub(super) pong: Option<u64>,
}

impl Lane {
    /// An idle lane.
    pub fn new(end: End) -> Self {
        Self {
            end,
            stream: None,
            last: 0,
            bye: None,
            skipped: None,
            retiring: false,
            queue: Vec::new(),
            done_queued: false,
            ping: None,
            pong: None,
        }
    }

    /// Which end this is.
    pub fn end(&self) -> End {
        self.end
    }

    /// Whether no stream is on the lane: a pool may hand it out unless it [is retiring](Self::is_retiring).
    pub fn is_idle(&self) -> bool {
        self.stream.is_none()
    }

    /// Whether no further stream will be opened here.
    pub fn is_retiring(&self) -> bool {
        self.retiring
    }

    /// Whether the opener is to close the connection now (close_notify): it retires and is idle.
    pub fn may_close(&self) -> bool {
        self.end == End::Opener && self.retiring && self.is_idle()
    }

    /// Whether the local application is through with the stream: all that is missing is the peer's DONE.
    pub fn is_winding_up(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.done)
    }

    /// Opens a stream and gives its number.
    ///
    /// # Errors
    /// [`NotNow`] at the responder's end, on a lane that is busy or retires, or whose numbers are used up (retire it).
    pub fn open(&mut self, open: Open) -> Result<u32, NotNow> {
        if self.end != End::Opener {
            return Err(NotNow::WrongEnd);
        }
        if self.stream.is_some() {
            return Err(NotNow::Busy);
        }
        if self.retiring {
            return Err(NotNow::Retiring);
        }
        let n = self.last.checked_add(1).ok_or(NotNow::NumbersUsedUp)?;
        self.begin(n);
        self.send(&Frame::Open(n, Box::new(open)));
        Ok(n)
    }

    /// Serves the stream that was asked for.
    ///
    /// # Errors
    /// [`NotNow`] unless a stream waits for an answer; it may have been reset in the meantime.
    pub fn accept(&mut self, opened: Opened) -> Result<(), NotNow> {
        let stream = self.waiting()?;
        stream.answered = true;
        let n = stream.n;
        self.send(&Frame::Opened(n, opened));
        Ok(())
    }

    /// Refuses the stream that was asked for.
    ///
    /// # Errors
    /// [`NotNow`] unless a stream waits for an answer; it may have been reset in the meantime.
    pub fn refuse(&mut self, refused: Refused) -> Result<(), NotNow> {
        let stream = self.waiting()?;
        stream.answered = true;
        let n = stream.n;
        self.send(&Frame::Refused(n, refused));
        self.end_stream();
        Ok(())
    }

    /// How many bytes of DATA may be sent now: 0 if the stream does not send (any more), what is left of [`EARLY_DATA`]
    /// before OPENED, [`usize::MAX`] after. What is queued goes first: see [`data`](Self::data).
    pub fn may_send_data(&self) -> usize {
        match &self.stream {
            Some(stream) if !self.sends(stream) => 0,
            Some(stream) if !stream.answered => EARLY_DATA - stream.early,
            Some(_) => usize::MAX,
            None => 0,
        }
    }

    /// How many bytes of DATA have come, or were sent, before the answer to the stream that is open.
    pub fn early_data(&self) -> usize {
        self.stream.as_ref().map_or(0, |stream| stream.early)
    }

    /// Counts `len` bytes of DATA as sent and gives the header that goes before them. The frame must directly follow what
    /// [`poll_transmit`](Self::poll_transmit) gave so far.
    ///
    /// # Errors
    /// [`NotNow`] if that is more than [`may_send_data`](Self::may_send_data), nothing, or more than a frame takes, or if
    /// frames are queued that go first.
    pub fn data(&mut self, len: usize) -> Result<[u8; HEADER], NotNow> {
        if !self.queue.is_empty() {
            return Err(NotNow::QueuedFirst);
        }
        if len == 0 || len > MAX_DATA || len > self.may_send_data() {
            return Err(NotNow::Length);
        }
        if let Some(stream) = self.stream.as_mut().filter(|stream| !stream.answered) {
            stream.early += len;
        }
        Ok(header(Kind::Data, len))
    }

    /// Ends what this side sends: all DATA has been written before.
    ///
    /// # Errors
    /// [`NotNow`] if this side does not send: no stream, not answered yet, FIN sent, or cut.
    pub fn fin(&mut self) -> Result<(), NotNow> {
        if !self.stream.as_ref().is_some_and(|stream| self.sends(stream)) {
            return Err(NotNow::NoStream);
        }
        let stream = self.stream.as_mut().ok_or(NotNow::NoStream)?;
        stream.sends = Way::Finished;
        let n = stream.n;
        self.send(&Frame::Fin(n));
        self.settle();
        Ok(())
    }

    /// Cuts both directions of the stream.
    ///
    /// # Errors
    /// [`NotNow`] without a stream, after it ended on this side, or at a responder that has not answered it: it refuses.
    pub fn reset(&mut self, reason: Reason, now: Instant) -> Result<(), NotNow> {
        let end = self.end;
        let stream = self.stream.as_mut().filter(|stream| !stream.done).ok_or(NotNow::NoStream)?;
        if end == End::Responder && !stream.answered {
            return Err(NotNow::Unanswered);
        }
        stream.overdue = Some(now + RESET_ANSWER);
        let n = stream.n;
        self.send(&Frame::Reset(n, reason));
        self.end_stream();
        Ok(())
    }

    /// The responder asks the opener to retire the lane.
    ///
    /// # Errors
    /// [`NotNow`] at the opener's end, or if it was said before.
    pub fn bye(&mut self, reason: Reason) -> Result<(), NotNow> {
        if self.end != End::Responder {
            return Err(NotNow::WrongEnd);
        }
        if self.retiring {
            return Err(NotNow::Retiring);
        }
        self.retiring = true;
        self.bye = Some(self.last);
        self.send(&Frame::Bye(self.last, reason));
        Ok(())
    }

    /// The opener opens no further stream here and closes the connection when [`may_close`](Self::may_close) says so.
    ///
    /// # Errors
    /// [`NotNow`] at the responder's end: it says [`bye`](Self::bye).
    pub fn retire(&mut self) -> Result<(), NotNow> {
        if self.end != End::Opener {
            return Err(NotNow::WrongEnd);
        }
        self.retiring = true;
        Ok(())
    }

    /// Asks for a sign of life. A PING that still waits to be sent is replaced.
    pub fn ping(&mut self, id: u64) {
        self.ping = Some(id);
    }

    /// Appends everything that is to be sent, at most [`MAX_QUEUED`] bytes, and gives its length.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        // A lane that has nothing to say keeps no memory for it.
        match out.is_empty() {
            true => std::mem::swap(out, &mut self.queue),
            false => out.append(&mut self.queue),
        }
        self.done_queued = false;
        if let Some(id) = self.pong.take() {
            Frame::Pong(id, None).encode(out);
        }
        if let Some(id) = self.ping.take() {
            Frame::Ping(id).encode(out);
        }
        out.len() - before
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has anything.
    pub fn has_to_transmit(&self) -> bool {
        !self.queue.is_empty() || self.pong.is_some() || self.ping.is_some()
    }

    /// Whether all that is to be sent can as well wait for the next OPEN: DONE of an opener's stream that is over at both ends.
    pub fn can_wait(&self) -> bool {
        let quiet = self.pong.is_none() && self.ping.is_none();
        self.done_queued && self.end == End::Opener && self.stream.is_none() && quiet
    }

    /// The connection is gone: closed by the peer, with or without close_notify, broken, or aborted after a violation. A
    /// stream that was not over on this side is cut; it is never an end of file.
    pub fn handle_lost(&mut self) -> Lost {
        self.retiring = true;
        self.queue.clear();
        (self.ping, self.pong) = (None, None);
        match self.stream.take() {
            Some(stream) if !stream.done => Lost::Cut,
            _ => Lost::Unnoticed,
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if the peer does not speak before.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.stream.as_ref().and_then(|stream| stream.overdue)
    }

    /// Looks at the time.
    pub fn handle_timeout(&mut self, now: Instant) -> Verdict {
        match self.next_timeout() {
            Some(at) if at <= now => Verdict::Abort,
            _ => Verdict::Wait,
        }
    }

    /// The stream that waits for our answer.
    fn waiting(&mut self) -> Result<&mut Stream, NotNow> {
        if self.end != End::Responder {
            return Err(NotNow::WrongEnd);
        }
        self.stream.as_mut().filter(|stream| !stream.answered && !stream.done).ok_or(NotNow::NoStream)
    }

    fn sends(&self, stream: &Stream) -> bool {
        stream.sends == Way::Open && (stream.answered || self.end == End::Opener)
    }

    pub(super) fn begin(&mut self, n: u32) {
        self.last = n;
        self.stream = Some(Stream {
            n,
            sends: Way::Open,
            receives: Way::Open,
            answered: false,
            done: false,
            early: 0,
            overdue: None,
        });
    }

    /// After REFUSED or RESET, whoever sent it: both directions are dead, and nothing of ours follows.
    pub(super) fn end_stream(&mut self) {
        if let Some(stream) = &mut self.stream {
            (stream.sends, stream.receives, stream.done) = (Way::Dead, Way::Dead, true);
            let n = stream.n;
            self.send(&Frame::Done(n));
            self.done_queued = true;
        }
    }

    /// After a FIN, whoever sent it: if it was the second, nothing of ours follows.
    pub(super) fn settle(&mut self) {
        if let Some(stream) = &mut self.stream
            && (stream.sends, stream.receives) == (Way::Finished, Way::Finished)
        {
            stream.done = true;
            let n = stream.n;
            self.send(&Frame::Done(n));
            self.done_queued = true;
        }
    }

    fn send(&mut self, frame: &Frame) {
        frame.encode(&mut self.queue);
    }
}
