//! One application stream on a QUIC connection.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::Sleep;

use super::credit::{EARLY_CREDIT, INITIAL_CREDIT, Overrun, Window};
use super::link::Shared;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::frame::{FrameError, HEADER, Item, Kind, MAX_DATA, Parser, header};
use crate::transport::message::{Credit, Detail, Frame, MessageError, Open, Opened, Refused};

/// The number of the only stream on a QUIC stream.
const N: u32 = 1;
/// No more application bytes are taken while this much waits to be handed to QUIC.
const QUEUE: usize = 64 << 10;
/// A sender that has not sent for this long gives back what it holds beyond [`INITIAL_CREDIT`].
const UNUSED: Duration = Duration::from_secs(1);
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
    #[error("{0} out of place")]
    OutOfPlace(Kind),
    #[error("a stream that ended without FIN")]
    Truncated,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Responder: OPEN has not come.
    AwaitOpen,
    /// Opener: no answer yet. Responder: to be answered.
    Awaited,
    Opened(Opened),
    Refused(Refused),
}

/// One application stream. Dropped before both FINs, it is cut.
#[derive(Debug)]
pub struct QuicStream {
    shared: Arc<Shared>,
    opener: bool,
    answer: Answer,
    asked: Option<Box<Open>>,
    broken: Option<String>,
    /// Cut, by whomever.
    reset: Option<Reason>,

    send: SendStream,
    /// How many bytes of DATA may be sent.
    allowance: u64,
    slot: Vec<u8>,
    queue: VecDeque<Bytes>,
    queued: usize,
    fin_sent: bool,
    /// The peer takes nothing more, or the QUIC stream has ended; why, is for the receiving side to find out.
    send_over: bool,
    last_sent: Instant,
    unused: Option<Pin<Box<Sleep>>>,

    recv: RecvStream,
    parser: Parser,
    window: Window,
    buffer: BytesMut,
    fin_received: bool,
    recv_over: bool,
}

impl QuicStream {
    /// The opener's end. `None` if the budget is used up: both halves are cut.
    pub(super) fn open(shared: Arc<Shared>, send: SendStream, recv: RecvStream, mut open: Open) -> Option<Self> {
        let mut stream = Self::new(shared, send, recv, true)?;
        open.credit = stream.grant(Instant::now()).unwrap_or(0);
        stream.put(&Frame::Open(N, Box::new(open)));
        stream.write_now();
        Some(stream)
    }

    /// The responder's end, before OPEN. `None` if the budget is used up: both halves are cut.
    pub(super) fn asked(shared: Arc<Shared>, send: SendStream, recv: RecvStream) -> Option<Self> {
        Self::new(shared, send, recv, false)
    }

    fn new(shared: Arc<Shared>, mut send: SendStream, mut recv: RecvStream, opener: bool) -> Option<Self> {
        let Some(window) = Window::open(&mut shared.budget()) else {
            cut(&mut send, &mut recv, Reason::Limit);
            return None;
        };
        Some(Self {
            shared,
            opener,
            answer: if opener { Answer::Awaited } else { Answer::AwaitOpen },
            asked: None,
            broken: None,
            reset: None,
            send,
            allowance: EARLY_CREDIT,
            slot: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            fin_sent: false,
            send_over: false,
            last_sent: Instant::now(),
            unused: None,
            recv,
            parser: Parser::new(),
            window,
            buffer: BytesMut::new(),
            fin_received: false,
            recv_over: false,
        })
    }

    /// Waits for the answer to OPEN. What else comes is kept. At the responder's end it is ready at once.
    ///
    /// # Errors
    /// [`Broken`] if the connection is lost. A stream that was cut counts as refused, with the reason.
    pub fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<Result<Opened, Refused>, Broken>> {
        self.pump(cx)?;
        match (&self.answer, self.reset) {
            (Answer::Opened(opened), _) => Poll::Ready(Ok(Ok(opened.clone()))),
            (Answer::Refused(refused), _) => Poll::Ready(Ok(Err(refused.clone()))),
            (_, Some(reason)) => Poll::Ready(Ok(Err(Refused { reason, detail: Detail::default() }))),
            _ => Poll::Pending,
        }
    }

    /// [`poll_opened`](Self::poll_opened) as a future.
    ///
    /// # Errors
    /// As there.
    pub async fn opened(&mut self) -> Result<Result<Opened, Refused>, Broken> {
        std::future::poll_fn(|cx| self.poll_opened(cx)).await
    }

    /// The refusal, if the stream was refused.
    pub fn refused(&self) -> Option<&Refused> {
        match &self.answer {
            Answer::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Open>, Broken>> {
        self.pump(cx)?;
        match (self.asked.take(), self.reset) {
            (Some(open), _) => Poll::Ready(Ok(open)),
            (None, Some(reason)) => Poll::Ready(Err(Broken(reason.to_string()))),
            (None, None) => Poll::Pending,
        }
    }

    pub(super) fn answer(&mut self, target: Detail, now: Instant) {
        let credit = self.grant(now).unwrap_or(0);
        let opened = Opened { credit, target };
        self.put(&Frame::Opened(N, opened.clone()));
        self.answer = Answer::Opened(opened);
        self.write_now();
    }

    pub(super) fn refuse(&mut self, refused: Refused) {
        if self.reset.is_none() {
            self.put(&Frame::Refused(N, refused.clone()));
            self.reset = Some(refused.reason);
            self.answer = Answer::Refused(refused);
            self.stop_receiving(self.reset.map_or(0, Reason::code));
        }
    }

    /// Hands over what is queued and ends the QUIC stream.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        ready!(self.poll_write(cx))?;
        self.end_sending();
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_withdrawn(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        match (self.pump(cx), self.reset) {
            (Err(_), _) => Poll::Ready(Reason::LinkLost),
            (Ok(()), Some(reason)) => Poll::Ready(reason),
            (Ok(()), None) => Poll::Pending,
        }
    }

    /// Reads and writes as far as it goes.
    fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        self.read(cx)?;
        self.return_unused(cx);
        let _rest_waits_for_quic = self.poll_write(cx)?;
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if let Some(why) = &self.broken {
            return Err(Broken(why.clone()));
        }
        while !self.recv_over {
            let chunk = match pin!(self.recv.read_chunk(usize::MAX, true)).poll(cx) {
                Poll::Pending => break,
                Poll::Ready(chunk) => chunk,
            };
            let result = match chunk {
                Ok(Some(chunk)) => self.parse(&chunk.bytes),
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
            if let Err(violation) = result {
                let what = format!("the peer broke the protocol: {violation}");
                self.shared.violated(&what);
                return Err(self.breaks(what));
            }
        }
        self.renew();
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
    fn renew(&mut self) {
        let answered = matches!(self.answer, Answer::Opened(_));
        if answered
            && !self.fin_received
            && self.reset.is_none()
            && let Some(granted) = self.grant(Instant::now())
        {
            self.put(&Frame::Credit(N, Credit { granted, returned: 0 }));
        }
    }

    fn grant(&mut self, now: Instant) -> Option<u64> {
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
                self.put(&Frame::Credit(N, Credit { granted: 0, returned }));
                return;
            }
            sleep.as_mut().reset(tokio::time::Instant::now() + (UNUSED - idle));
        }
    }

    fn put(&mut self, frame: &Frame) {
        if !self.send_over {
            self.enqueue(frame.to_bytes().into());
        }
    }

    fn enqueue(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Hands over what QUIC takes at once, for calls that nobody polls. What is left goes with the next poll.
    fn write_now(&mut self) {
        let _rest = self.poll_write(&mut Context::from_waker(Waker::noop()));
    }

    /// Ready when everything queued was handed to QUIC.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
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
                }
                Err(WriteError::ConnectionLost(lost)) => return Poll::Ready(Err(self.breaks(lost.to_string()))),
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
    fn is_complete(&self) -> bool {
        self.fin_sent && self.fin_received && self.queue.is_empty() && self.reset.is_none()
    }

    /// A cut that comes after FIN was handed on is told to the sending side, which is the only one still looked at.
    fn check_late_cut(&self) -> Result<(), Broken> {
        match self.reset {
            Some(reason) if self.fin_received => Err(Broken(reason.to_string())),
            _ => Ok(()),
        }
    }

    fn breaks(&mut self, why: String) -> Broken {
        self.broken = Some(why.clone());
        Broken(why)
    }

    fn was_cut(&mut self, code: VarInt) {
        self.recv_over = true;
        if self.reset.is_none() && !self.is_complete() {
            let reason = u8::try_from(code.into_inner()).map_or(Reason::Other, Reason::from_code);
            self.reset = Some(reason);
            self.stop_sending(reason.code().into());
            self.forget();
        }
    }

    /// Ends the QUIC stream in order: everything queued has been handed over.
    fn end_sending(&mut self) {
        if !std::mem::replace(&mut self.send_over, true) {
            // It fails only if the peer has stopped the stream.
            let _ended = self.send.finish();
        }
    }

    fn stop_sending(&mut self, code: u64) {
        if !std::mem::replace(&mut self.send_over, true) {
            // It fails only if the stream is over, which is what is wanted.
            let _ended = self.send.reset(VarInt::from_u64(code).unwrap_or_default());
        }
        self.queue.clear();
        self.queued = 0;
    }

    fn stop_receiving(&mut self, code: u8) {
        if !std::mem::replace(&mut self.recv_over, true) {
            // It fails only if the stream is over, which is what is wanted.
            let _ended = self.recv.stop(VarInt::from_u32(code.into()));
        }
        self.forget();
    }

    /// Drops what was received and not taken.
    fn forget(&mut self) {
        self.buffer = BytesMut::new();
        self.window.close(&mut self.shared.budget());
    }
}

impl Carrier for QuicStream {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.pump(cx)?;
        self.check_late_cut()?;
        let answered = self.opener || matches!(self.answer, Answer::Opened(_));
        let takes = answered && !self.fin_sent && !self.send_over && self.allowance > 0 && self.queued < QUEUE;
        if takes { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn slot(&mut self) -> &mut [u8] {
        let len = usize::try_from(self.allowance).unwrap_or(MAX_DATA).min(MAX_DATA);
        self.slot.resize(HEADER + len, 0);
        &mut self.slot[HEADER..]
    }

    fn commit(&mut self, len: usize) {
        if len == 0 || self.send_over || self.fin_sent {
            return;
        }
        assert!(HEADER + len <= self.slot.len(), "{len} bytes committed to a smaller slot");
        self.slot[..HEADER].copy_from_slice(&header(Kind::Data, len));
        // A nearly empty slot is kept, a well filled one goes to QUIC as it is.
        let bytes = if len < MAX_DATA / 4 {
            Bytes::copy_from_slice(&self.slot[..HEADER + len])
        } else {
            self.slot.truncate(HEADER + len);
            std::mem::take(&mut self.slot).into()
        };
        self.allowance -= len as u64;
        self.last_sent = Instant::now();
        self.enqueue(bytes);
    }

    fn finish(&mut self) {
        if !self.fin_sent && !self.send_over {
            self.put(&Frame::Fin(N));
            self.fin_sent = true;
            self.slot = Vec::new();
        }
    }

    fn reset(&mut self, reason: Reason) {
        if self.reset.is_none() && !self.is_complete() {
            self.reset = Some(reason);
            self.stop_sending(reason.code().into());
            self.stop_receiving(reason.code());
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let read = self.read(cx);
        if !self.is_complete() {
            read?;
            self.check_late_cut()?;
        }
        ready!(self.poll_write(cx))?;
        // An application that sends little leaves no slot behind while it says nothing.
        self.slot = Vec::new();
        Poll::Ready(Ok(()))
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        let pumped = self.pump(cx);
        // After both FINs the connection may be lost: nothing is missing.
        if !self.is_complete() {
            pumped?;
        }
        match self.reset {
            Some(reason) => Poll::Ready(Ok(Received::Reset(reason))),
            None if !self.buffer.is_empty() => Poll::Ready(Ok(Received::Data)),
            None if self.fin_received => Poll::Ready(Ok(Received::Fin)),
            None => Poll::Pending,
        }
    }

    fn chunk(&self) -> &[u8] {
        &self.buffer
    }

    fn consume(&mut self, len: usize) {
        self.buffer.advance(len);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.window.handle_consumed(len as u64, &mut self.shared.budget());
        self.renew();
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        if self.is_complete() {
            self.end_sending();
        } else if !self.send_over || !self.recv_over {
            cut(&mut self.send, &mut self.recv, self.reset.unwrap_or(Reason::Other));
        }
        self.window.close(&mut self.shared.budget());
    }
}

/// Cuts both directions. What is over already stays as it is.
fn cut(send: &mut SendStream, recv: &mut RecvStream, reason: Reason) {
    let code = VarInt::from_u32(reason.code().into());
    let _over = (send.reset(code), recv.stop(code));
}
