//! A lane as the carrier of an application's stream: what is read is parsed where TLS put it, what is sent is gathered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{CHUNK, INBOUND, OUTBOUND, Outbound, WORTHWHILE};
use super::{CLOSED, Link, Signal};
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::frame::{HEADER, Item};
use crate::transport::lane::machine::{Event, MAX_QUEUED, Piece};
use crate::transport::message::{Detail, Frame, Refused};

impl Link {
    /// Reads on to the next thing that matters to somebody.
    pub(super) fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<Result<Signal, Broken>> {
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
    pub(super) fn transfer(&mut self) {
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
