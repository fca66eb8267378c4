//! A lane with its TLS connection: the machine driven by a socket, and the carrier that an application's stream runs over.
//!
//! Frames are gathered behind one another in a buffer of a few records and written together; what was received is parsed
//! where TLS put it, and DATA is handed to the application from there.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsStream;

use super::machine::{End, Event, Lane, MAX_QUEUED, Piece, Verdict};
use crate::identity::VerifiedPeer;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::frame::{HEADER, Item, Parser};
use crate::transport::hello::PeerHello;
use crate::transport::message::{Detail, Frame, Incarnation, Open, Opened, Refused};
use crate::transport::secure::Secure;
use crate::transport::socket::Socket;

/// The payload that fills a record together with its header (RFC 8446 §5.1: a record holds 2^14 bytes).
const CHUNK: usize = 16 * 1024 - HEADER;
/// Four records and what the machine may queue before them.
const OUTBOUND: usize = 4 * (CHUNK + HEADER) + MAX_QUEUED;
/// One record.
const INBOUND: usize = 16 * 1024;
/// A slot smaller than this is not worth a frame: what is queued is written first.
const WORTHWHILE: usize = 1024;
/// How long an orderly end may take to be written.
const CLOSE: Duration = Duration::from_secs(1);

/// Bytes to be written: frames behind one another.
#[derive(Default)]
struct Outbound {
    buffer: Vec<u8>,
    head: usize,
    tail: usize,
}

impl Outbound {
    fn room(&self) -> usize {
        OUTBOUND - self.tail
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; OUTBOUND];
        }
        self.buffer[self.tail..self.tail + bytes.len()].copy_from_slice(bytes);
        self.tail += bytes.len();
    }

    /// Moves what is left to the front.
    fn compact(&mut self) {
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.tail, 0);
            (self.head, self.tail) = (0, self.tail - self.head);
        }
    }
}

/// Received plaintext that has not been consumed yet.
#[derive(Default)]
struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How many bytes from `start` are DATA for the application.
    data: usize,
}

/// What an opener may have to say again on another lane.
struct Replay {
    open: Open,
    bytes: Vec<u8>,
    fin: bool,
}

/// What the next thing on a lane is.
enum Signal {
    Data,
    Event(Event),
}

/// One end of a lane and its connection.
pub struct Link {
    tls: TlsStream<Socket>,
    machine: Lane,
    parser: Parser,
    inbound: Inbound,
    outbound: Outbound,
    slot: usize,
    slot_waits: bool,
    peer: VerifiedPeer,
    incarnation: Incarnation,
    address: SocketAddr,
    ended: Option<Received>,
    answer: Option<Result<Opened, Refused>>,
    replay: Option<Replay>,
    moved: bool,
    broken: Option<String>,
    watch: Option<Pin<Box<dyn Future<Output = io::Error> + Send>>>,
}

impl Link {
    /// The lane on a connection whose peer has said HELLO. `end`: whether this side opens streams or serves them.
    pub fn new(secure: Secure, end: End) -> (Self, PeerHello) {
        let Secure { tls, peer, hello, address, .. } = secure;
        let link = Self {
            tls,
            machine: Lane::new(end),
            parser: Parser::new(),
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            slot: 0,
            slot_waits: false,
            peer,
            incarnation: hello.incarnation,
            address,
            ended: None,
            answer: None,
            replay: None,
            moved: false,
            broken: None,
            watch: None,
        };
        (link, hello)
    }

    /// The proven peer.
    pub fn peer(&self) -> &VerifiedPeer {
        &self.peer
    }

    /// The peer's run that this lane leads to.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Lets somebody judge the connection without keeping it.
    pub fn watched(&self) -> Weak<TcpStream> {
        self.tls.get_ref().0.watched()
    }

    /// The peer's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a pool may keep it.
    pub fn is_reusable(&self) -> bool {
        self.broken.is_none() && self.machine.is_idle() && !self.machine.is_retiring()
    }

    /// Asks for a stream. OPEN is queued and leaves with the first bytes, or at the next flush.
    ///
    /// # Errors
    /// If the lane is not idle or retires.
    pub fn open(&mut self, open: Open) -> Result<(), Broken> {
        self.begin();
        self.machine.open(open.clone()).map_err(|e| Broken(e.to_string()))?;
        self.replay = Some(Replay { open, bytes: Vec::new(), fin: false });
        Ok(())
    }

    /// Asks for the stream of another lane that its peer will never serve, with the bytes that it had sent there.
    ///
    /// # Errors
    /// If the lane is not idle or retires.
    pub fn reopen(&mut self, (open, bytes, fin): (Open, Vec<u8>, bool)) -> Result<(), Broken> {
        self.open(open)?;
        for chunk in bytes.chunks(CHUNK) {
            self.transfer();
            self.slot = chunk.len();
            self.slot()[..chunk.len()].copy_from_slice(chunk);
            self.commit(chunk.len());
        }
        if fin {
            self.finish();
        }
        Ok(())
    }

    /// After the stream has [moved](Carrier::moved): what has to be said again elsewhere.
    pub fn take_replay(&mut self) -> Option<(Open, Vec<u8>, bool)> {
        self.replay.take().map(|r| (r.open, r.bytes, r.fin))
    }

    /// How the stream was answered, once it was.
    pub fn answer(&self) -> Option<&Result<Opened, Refused>> {
        self.answer.as_ref()
    }

    /// The responder's next stream; `None` after an orderly end of the lane.
    ///
    /// # Errors
    /// If the lane is lost.
    pub async fn next_open(&mut self) -> Result<Option<Open>, Broken> {
        self.rest();
        loop {
            let signal = poll_fn(|cx| {
                if let Poll::Ready(Err(broken)) = self.poll_flush(cx) {
                    return Poll::Ready(Err(broken));
                }
                self.poll_signal(cx)
            })
            .await;
            match signal {
                Ok(Signal::Event(Event::OpenRequested(open))) => {
                    self.begin();
                    return Ok(Some(*open));
                }
                Ok(Signal::Event(_)) => {}
                Ok(Signal::Data) => return Err(self.fail("data outside a stream".to_owned())),
                Err(_) if self.closed_in_order() => return Ok(None),
                Err(broken) => return Err(broken),
            }
        }
    }

    /// Serves the stream that was asked for.
    ///
    /// # Errors
    /// If it was reset, or the lane lost, in the meantime.
    pub fn accept(&mut self, target: &str) -> Result<(), Broken> {
        let opened = Opened { credit: 0, target: Detail::new(target) };
        self.machine.accept(opened).map_err(|e| Broken(e.to_string()))
    }

    /// Refuses the stream that was asked for.
    ///
    /// # Errors
    /// If it was reset, or the lane lost, in the meantime.
    pub fn refuse(&mut self, reason: Reason, detail: &str) -> Result<(), Broken> {
        let refused = Refused { reason, detail: Detail::new(detail) };
        self.machine.refuse(refused).map_err(|e| Broken(e.to_string()))
    }

    /// Asks the opener to retire the lane (responder), or opens no further stream (opener).
    pub fn retire(&mut self, reason: Reason) {
        // Said twice, it is said once.
        let _already = match self.machine.end() {
            End::Opener => self.machine.retire(),
            End::Responder => self.machine.bye(reason),
        };
    }

    /// Waits until the lane is idle after a stream has ended on this side. Whether it can be used again.
    pub async fn settle(&mut self) -> bool {
        loop {
            if self.broken.is_some() {
                return false;
            }
            if self.machine.is_idle() {
                let flushed = poll_fn(|cx| self.poll_flush(cx)).await.is_ok();
                self.rest();
                return flushed && !self.machine.is_retiring();
            }
            let deadline = self.machine.next_timeout();
            let step = poll_fn(|cx| {
                if let Poll::Ready(Err(broken)) = self.poll_flush(cx) {
                    return Poll::Ready(Err(broken));
                }
                self.poll_signal(cx)
            });
            let signal = match deadline {
                Some(at) => timeout_at(Instant::from_std(at), step).await,
                None => Ok(step.await),
            };
            match signal {
                Ok(Ok(Signal::Data)) => {
                    let len = self.inbound.data;
                    self.consume(len);
                }
                Ok(Ok(Signal::Event(_))) => {}
                Ok(Err(_)) => return false,
                Err(_) => {
                    if self.machine.handle_timeout(std::time::Instant::now()) == Verdict::Abort {
                        self.abort();
                        return false;
                    }
                }
            }
        }
    }

    /// Closes an idle lane in order.
    pub async fn close(mut self) {
        let orderly = async {
            poll_fn(|cx| self.poll_flush(cx)).await.ok();
            self.tls.shutdown().await.ok();
        };
        // A peer that takes nothing is not waited for.
        timeout(CLOSE, orderly).await.ok();
    }

    /// Cuts the connection: the peer sees a RST.
    pub fn abort(&mut self) {
        self.tls.get_ref().0.abort_on_drop();
        if self.broken.is_none() {
            self.broken = Some("aborted".to_owned());
        }
    }

    /// Watches an idle lane of the opener. Ready when it is of no further use.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.poll_flush(cx).is_ready() && self.broken.is_some() {
                return Poll::Ready(());
            }
            match ready!(self.poll_signal(cx)) {
                Ok(Signal::Event(Event::Pong(..) | Event::Idle)) => {}
                _ => return Poll::Ready(()),
            }
            if !self.is_reusable() {
                return Poll::Ready(());
            }
        }
    }

    /// Asks an idle lane for a sign of life.
    pub fn ping(&mut self, id: u64) {
        self.machine.ping(id);
    }

    fn begin(&mut self) {
        (self.ended, self.answer, self.replay) = (None, None, None);
        (self.moved, self.slot_waits) = (false, false);
    }

    /// Gives buffers back while nothing moves.
    fn rest(&mut self) {
        if self.outbound.head == self.outbound.tail {
            self.outbound = Outbound::default();
        }
        if self.inbound.start == self.inbound.end {
            self.inbound = Inbound::default();
        }
        self.watch = None;
        self.replay = None;
    }

    fn closed_in_order(&self) -> bool {
        self.broken.as_deref() == Some(CLOSED)
    }

    fn fail(&mut self, why: String) -> Broken {
        let why = self.broken.get_or_insert(why).clone();
        // What this means for the application is said by `Broken`.
        let _cut = self.machine.handle_lost();
        Broken(why)
    }

    fn violation(&mut self, why: &dyn std::fmt::Display) -> Broken {
        self.tls.get_ref().0.abort_on_drop();
        self.fail(format!("the peer broke the protocol: {why}"))
    }

    /// Reads on to the next thing that matters to somebody.
    fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<Result<Signal, Broken>> {
        loop {
            if self.inbound.data > 0 {
                return Poll::Ready(Ok(Signal::Data));
            }
            if let Some(why) = &self.broken {
                return Poll::Ready(Err(Broken(why.clone())));
            }
            match self.parse() {
                Ok(Some(signal)) => return Poll::Ready(Ok(signal)),
                Ok(None) => {}
                Err(broken) => return Poll::Ready(Err(broken)),
            }
            // What was parsed may have to be answered before the peer says more.
            if self.machine.has_to_transmit()
                && let Poll::Ready(Err(broken)) = self.poll_flush(cx)
            {
                return Poll::Ready(Err(broken));
            }
            if self.inbound.buffer.is_empty() {
                self.inbound.buffer = vec![0; INBOUND];
            }
            let mut buffer = ReadBuf::new(&mut self.inbound.buffer);
            let read = ready!(Pin::new(&mut self.tls).poll_read(cx, &mut buffer));
            let len = buffer.filled().len();
            match read {
                Ok(()) if len > 0 => (self.inbound.start, self.inbound.end) = (0, len),
                Ok(()) => return Poll::Ready(Err(self.fail(CLOSED.to_owned()))),
                Err(error) => {
                    let why = lost_text(&error);
                    return Poll::Ready(Err(self.fail(why)));
                }
            }
        }
    }

    /// The next thing in what was received, if there is a whole one.
    fn parse(&mut self) -> Result<Option<Signal>, Broken> {
        while self.inbound.start < self.inbound.end {
            let mut rest = &self.inbound.buffer[self.inbound.start..self.inbound.end];
            let before = rest.len();
            let found = match self.parser.next(&mut rest) {
                Ok(Some(Item::Data(piece))) => Ok(Some(Err(piece.len()))),
                Ok(Some(Item::Control { kind, payload })) => Frame::decode(kind, payload).map(|f| Some(Ok(f))),
                Ok(None) => Ok(None),
                Err(error) => return Err(self.violation(&error)),
            };
            let used = before - rest.len();
            match found {
                Ok(Some(Err(len))) => match self.machine.handle_data(len) {
                    Ok(Piece::Deliver) => {
                        // The parser has taken exactly the header, in this call or an earlier one, and this piece.
                        self.inbound.start += used - len;
                        self.inbound.data = len;
                        return Ok(Some(Signal::Data));
                    }
                    Ok(Piece::Discard) => self.inbound.start += used,
                    Err(error) => return Err(self.violation(&error)),
                },
                Ok(Some(Ok(frame))) => {
                    self.inbound.start += used;
                    match self.machine.handle(frame) {
                        Ok(Some(event)) => return Ok(Some(Signal::Event(event))),
                        Ok(None) => {}
                        Err(error) => return Err(self.violation(&error)),
                    }
                }
                Ok(None) => self.inbound.start += used,
                Err(error) => return Err(self.violation(&error)),
            }
        }
        Ok(None)
    }

    /// Moves what the machine has to say behind what is queued, as far as there is room.
    fn transfer(&mut self) {
        if self.machine.has_to_transmit() {
            self.outbound.compact();
            if self.outbound.room() >= MAX_QUEUED {
                let mut frames = Vec::new();
                self.machine.poll_transmit(&mut frames);
                self.outbound.push(&frames);
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Outbound { buffer, head, tail } = &mut self.outbound;
        while *head < *tail {
            match ready!(Pin::new(&mut self.tls).poll_write(cx, &buffer[*head..*tail])) {
                Ok(len) => *head += len,
                Err(error) => {
                    let why = lost_text(&error);
                    return Poll::Ready(Err(self.fail(why)));
                }
            }
        }
        (*head, *tail) = (0, 0);
        Poll::Ready(Ok(()))
    }
}

/// The peer has closed the connection in order.
const CLOSED: &str = "the peer closed the lane";

fn lost_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the peer closed the lane without close_notify".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the lane was reset".to_owned(),
        io::ErrorKind::TimedOut => "the peer no longer answers".to_owned(),
        _ => error.to_string(),
    }
}

impl Carrier for Link {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if let Some(why) = &self.broken {
                return Poll::Ready(Err(Broken(why.clone())));
            }
            self.transfer();
            let allowed = self.machine.may_send_data();
            if allowed == 0 {
                // Until OPENED comes, or the end of the stream: `poll_received` hears of both, and wakes for OPENED.
                self.slot_waits = true;
                return Poll::Pending;
            }
            self.slot = allowed.min(CHUNK).min(self.outbound.room().saturating_sub(HEADER + MAX_QUEUED));
            if !self.machine.has_to_transmit() && self.slot >= WORTHWHILE.min(allowed) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write(cx))?;
        }
    }

    fn slot(&mut self) -> &mut [u8] {
        let out = &mut self.outbound;
        if out.buffer.is_empty() {
            out.buffer = vec![0; OUTBOUND];
        }
        let start = out.tail + HEADER;
        &mut out.buffer[start..start + self.slot]
    }

    fn commit(&mut self, len: usize) {
        let out = &mut self.outbound;
        match self.machine.data(len) {
            Ok(header) => {
                out.buffer[out.tail..out.tail + HEADER].copy_from_slice(&header);
                if self.answer.is_none()
                    && let Some(replay) = &mut self.replay
                {
                    replay.bytes.extend_from_slice(&out.buffer[out.tail + HEADER..out.tail + HEADER + len]);
                }
                out.tail += HEADER + len;
            }
            Err(error) => {
                self.fail(error.to_string());
            }
        }
    }

    fn finish(&mut self) {
        if let Some(replay) = &mut self.replay {
            replay.fin = true;
        }
        // A stream that was cut meanwhile has nothing to finish; `poll_received` says so.
        let _over = self.machine.fin();
    }

    fn reset(&mut self, reason: Reason) {
        // Likewise. A responder that has not answered refuses.
        if self.machine.reset(reason, std::time::Instant::now()).is_err() {
            let _over = self.machine.refuse(Refused { reason, detail: Detail::new("") });
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if let Some(why) = &self.broken {
            return Poll::Ready(Err(Broken(why.clone())));
        }
        loop {
            self.transfer();
            ready!(self.poll_write(cx))?;
            if !self.machine.has_to_transmit() {
                break;
            }
        }
        match ready!(Pin::new(&mut self.tls).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => {
                let why = lost_text(&error);
                Poll::Ready(Err(self.fail(why)))
            }
        }
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        loop {
            if let Some(reset @ Received::Reset(_)) = self.ended {
                return Poll::Ready(Ok(reset));
            }
            let signal = match self.poll_signal(cx) {
                Poll::Pending if self.ended.is_some() => return Poll::Ready(Ok(Received::Fin)),
                signal => ready!(signal)?,
            };
            match signal {
                Signal::Data => return Poll::Ready(Ok(Received::Data)),
                Signal::Event(Event::Opened(opened)) => {
                    self.replay = None;
                    self.answer = Some(Ok(opened));
                    if std::mem::take(&mut self.slot_waits) {
                        // The sending side has been polled before this and waits for it.
                        cx.waker().wake_by_ref();
                    }
                }
                Signal::Event(Event::Refused(refused)) => {
                    self.ended = Some(Received::Reset(refused.reason));
                    self.answer = Some(Err(refused));
                }
                Signal::Event(Event::Fin) => self.ended = Some(Received::Fin),
                Signal::Event(Event::Reset(reason)) => self.ended = Some(Received::Reset(reason)),
                Signal::Event(Event::Bye { moved: true, .. }) => {
                    self.moved = true;
                    return Poll::Ready(Err(Broken("the peer serves no more streams on this lane".to_owned())));
                }
                Signal::Event(_) => {}
            }
        }
    }

    fn chunk(&self) -> &[u8] {
        &self.inbound.buffer[self.inbound.start..self.inbound.start + self.inbound.data]
    }

    fn consume(&mut self, len: usize) {
        self.inbound.start += len;
        self.inbound.data -= len;
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let socket = &self.tls.get_ref().0;
        let watch = self.watch.get_or_insert_with(|| Box::pin(socket.reset()));
        let error = ready!(watch.as_mut().poll(cx));
        let why = lost_text(&error);
        Poll::Ready(self.fail(why))
    }

    fn moved(&self) -> bool {
        self.moved
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("peer", self.peer.node())
            .field("address", &self.address)
            .field("machine", &self.machine)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
