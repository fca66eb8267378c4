//! One application stream on a QUIC connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::time::Sleep;

use super::credit::{EARLY_CREDIT, Window};
use super::link::{Served, Shared};
use super::reorder::{Kept, Reorder};
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::frame::{HEADER, Kind, MAX_DATA, Parser, header};
use crate::transport::message::{Credit, Detail, Frame, Open, Opened, Refused};

/// The number of the only stream on a QUIC stream.
pub(super) const N: u32 = 1;
/// No more application bytes are taken while this much waits to be handed to QUIC.
pub(super) const QUEUE: usize = 64 << 10;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
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
    pub(super) shared: Arc<Shared>,
    pub(super) opener: bool,
    pub(super) answer: Answer,
    pub(super) asked: Option<Box<Open>>,
    pub(super) broken: Option<String>,
    /// Cut, by whomever.
    pub(super) reset: Option<Reason>,

    pub(super) send: SendStream,
    /// How many bytes of DATA may be sent.
    pub(super) allowance: u64,
    pub(super) slot: Vec<u8>,
    pub(super) queue: VecDeque<Bytes>,
    pub(super) queued: usize,
    /// Of the queue's first frames, those up to and with its only CREDIT. 0: there is no CREDIT among them.
    pub(super) credit_behind: usize,
    /// What the next CREDIT will say: it is added up while one waits in the queue.
    pub(super) owed: Credit,
    pub(super) fin_sent: bool,
    /// The peer takes nothing more, or the QUIC stream has ended; why, is for the receiving side to find out.
    pub(super) send_over: bool,
    pub(super) last_sent: Instant,
    pub(super) unused: Option<Pin<Box<Sleep>>>,

    pub(super) recv: RecvStream,
    pub(super) reorder: Reorder,
    /// What the peer's share knows of what is kept behind gaps.
    pub(super) kept: Kept,
    /// The peer's stream as one of those that are being served.
    pub(super) served: Option<Served>,
    pub(super) parser: Parser,
    pub(super) window: Window,
    pub(super) buffer: BytesMut,
    pub(super) fin_received: bool,
    pub(super) recv_over: bool,
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
            credit_behind: 0,
            owed: Credit::default(),
            fin_sent: false,
            send_over: false,
            last_sent: Instant::now(),
            unused: None,
            recv,
            reorder: Reorder::default(),
            kept: Kept::default(),
            served: None,
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
        poll_fn(|cx| self.poll_opened(cx)).await
    }

    /// The refusal, if the stream was refused.
    pub fn refused(&self) -> Option<&Refused> {
        match &self.answer {
            Answer::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// Waits until the peer has everything that was sent, or will not take it: a connection that is closed before loses it.
    /// Whether it then knows how the stream has ended.
    pub async fn settle(&mut self) -> bool {
        if !self.has_said_all() {
            return false;
        }
        self.end_sending();
        // Its error says that the connection is lost, which settles it too. What comes is read as before.
        let mut settled = pin!(self.send.stopped());
        poll_fn(|cx| {
            let _nothing_more = self.read(cx);
            settled.as_mut().poll(cx).map(|settled| settled.is_ok())
        })
        .await
    }

    /// How the stream was answered, once it was.
    pub fn answered(&self) -> Option<Result<Opened, Refused>> {
        match &self.answer {
            Answer::Opened(opened) => Some(Ok(opened.clone())),
            Answer::Refused(refused) => Some(Err(refused.clone())),
            Answer::AwaitOpen | Answer::Awaited => None,
        }
    }

    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<Open>, Broken>> {
        self.pump(cx)?;
        match (self.asked.take(), self.reset) {
            (Some(open), _) => {
                self.served = Some(Served::new(Arc::clone(&self.shared)));
                Poll::Ready(Ok(open))
            }
            (None, Some(reason)) => Poll::Ready(Err(Broken(reason.to_string()))),
            (None, None) => Poll::Pending,
        }
    }

    /// Serves the stream that was asked for. `target` is what was reached, for people.
    pub fn answer(&mut self, target: Detail, now: Instant) {
        let credit = self.grant(now).unwrap_or(0);
        let opened = Opened { credit, target };
        self.put(&Frame::Opened(N, opened.clone()));
        self.answer = Answer::Opened(opened);
        self.write_now();
    }

    /// Refuses the stream that was asked for. The answer leaves with the next flush.
    pub fn refuse(&mut self, refused: Refused) {
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

    pub(super) fn stop_sending(&mut self, code: u64) {
        if !std::mem::replace(&mut self.send_over, true) {
            // It fails only if the stream is over, which is what is wanted.
            let _ended = self.send.reset(VarInt::from_u64(code).unwrap_or_default());
        }
        self.queue.clear();
        (self.queued, self.credit_behind) = (0, 0);
    }

    fn stop_receiving(&mut self, code: u8) {
        if !std::mem::replace(&mut self.recv_over, true) {
            // It fails only if the stream is over, which is what is wanted.
            let _ended = self.recv.stop(VarInt::from_u32(code.into()));
            self.leave_kept();
        }
        self.forget();
    }

    /// Drops what is kept behind gaps of a stream that QUIC keeps nothing of.
    pub(super) fn drop_kept(&mut self) {
        self.reorder = Reorder::default();
        // Fewer than before cannot be too many.
        let _fewer = self.shared.keep(std::mem::take(&mut self.kept), Kept::default());
    }

    /// Drops it of a stream that the peer has yet to end.
    fn leave_kept(&mut self) {
        self.reorder = Reorder::default();
        self.shared.leave(std::mem::take(&mut self.kept));
    }

    /// Drops what was received and not taken.
    pub(super) fn forget(&mut self) {
        self.served = None;
        self.buffer = BytesMut::new();
        self.window.close(&mut self.shared.budget());
    }
}

impl QuicStream {
    /// Where the next application bytes go.
    pub(crate) fn slot(&mut self) -> &mut [u8] {
        let len = usize::try_from(self.allowance).unwrap_or(MAX_DATA).min(MAX_DATA);
        self.slot.resize(HEADER + len, 0);
        &mut self.slot[HEADER..]
    }

    /// The first `len` bytes of the slot are to be sent.
    pub(crate) fn commit(&mut self, len: usize) {
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
}

impl Carrier for QuicStream {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.pump(cx)?;
        self.check_late_cut()?;
        let answered = self.opener || matches!(self.answer, Answer::Opened(_));
        let takes = answered && !self.fin_sent && !self.send_over && self.allowance > 0 && self.queued < QUEUE;
        if takes { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn fill(
        &mut self,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Result<Poll<io::Result<usize>>, Broken> {
        let read = read(&mut [IoSliceMut::new(self.slot())]);
        if let Poll::Ready(Ok(len)) = read {
            self.commit(len);
        }
        Ok(read)
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
        // A refusal goes out although the opener has finished already.
        if !self.is_complete() && !self.refuses() {
            read?;
            self.check_late_cut()?;
        }
        match ready!(self.poll_write(cx)) {
            // All has been said and heard: nobody needs the connection any more.
            Err(_) if self.is_complete() => {}
            written => written?,
        }
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

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let pumped = self.pump(cx);
        if self.is_complete() {
            // All of it is here: nobody needs the connection any more.
            return Poll::Pending;
        }
        match (pumped, self.reset) {
            (Err(broken), _) => Poll::Ready(broken),
            (Ok(()), Some(reason)) => Poll::Ready(Broken(reason.to_string())),
            (Ok(()), None) => Poll::Pending,
        }
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
        if self.has_said_all() {
            // A refusal is the whole of what this end says, and must not be overtaken by a cut.
            self.end_sending();
        } else if !self.send_over || !self.recv_over {
            cut(&mut self.send, &mut self.recv, self.reset.unwrap_or(Reason::Other));
        }
        if self.recv_over {
            self.drop_kept()
        } else {
            self.leave_kept()
        }
        self.window.close(&mut self.shared.budget());
    }
}

/// Cuts both directions. What is over already stays as it is.
fn cut(send: &mut SendStream, recv: &mut RecvStream, reason: Reason) {
    let code = VarInt::from_u32(reason.code().into());
    let _over = (send.reset(code), recv.stop(code));
}
