//! A lane as the carrier of an application's stream: what is received is parsed where it was decrypted, and application bytes
//! go right into the records that leave.

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll, ready};

use super::{Link, Signal, Span};
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::tcp::Tcp;
use crate::transport::frame::Item;
use crate::transport::lane::machine::{Event, MAX_QUEUED, Piece};
use crate::transport::message::{Detail, Frame, Purpose, Refused};
use crate::transport::wire::Lost;

/// The most pieces of DATA that are handed to the application at once.
pub(super) const MOST_PIECES: usize = 8;

impl Link {
    /// Reads on to the next thing that matters to somebody.
    pub(super) fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<Result<Signal, Broken>> {
        loop {
            if !self.pieces.is_empty() {
                return Poll::Ready(Ok(Signal::Data));
            }
            if let Some(why) = &self.broken {
                return Poll::Ready(Err(Broken(why.clone())));
            }
            if let Some(lost) = self.late.take() {
                return Poll::Ready(Err(self.lost(lost)));
            }
            match self.parse() {
                Ok(Some(signal)) => return Poll::Ready(Ok(signal)),
                Ok(None) => {}
                Err(broken) => return Poll::Ready(Err(broken)),
            }
            // What was parsed may have to be answered before the peer says more.
            if self.machine.has_to_transmit()
                && !self.machine.can_wait()
                && let Poll::Ready(Err(broken)) = self.poll_flush(cx)
            {
                return Poll::Ready(Err(broken));
            }
            if let Err(lost) = ready!(self.wire.poll_plain(cx)) {
                return Poll::Ready(Err(self.lost(lost)));
            }
        }
    }

    /// The next thing in what was received, if there is a whole one: an event, or as many pieces of DATA as are here in a row.
    fn parse(&mut self) -> Result<Option<Signal>, Broken> {
        loop {
            if let Some(event) = self.parse_record()? {
                return Ok(Some(event));
            }
            if !self.wire.plain().is_empty() || self.pieces.len() >= MOST_PIECES {
                return Ok(Some(Signal::Data));
            }
            match self.wire.open_next() {
                Ok(true) => {}
                Ok(false) => return Ok((!self.pieces.is_empty()).then_some(Signal::Data)),
                Err(lost) if !self.pieces.is_empty() => {
                    self.late = Some(lost);
                    return Ok(Some(Signal::Data));
                }
                Err(lost) => return Err(self.lost(lost)),
            }
        }
    }

    /// Parses what was decrypted last: to its end, to an event, or to what has to wait until the pieces before it were taken.
    fn parse_record(&mut self) -> Result<Option<Signal>, Broken> {
        while let [next, ..] = *self.wire.plain() {
            let held = self.pieces.len();
            if held >= MOST_PIECES || (held > 0 && !self.parser.continues_with_data(next)) {
                return Ok(None);
            }
            let mut rest = self.wire.plain();
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
                    // The parser has taken the header, in this call or an earlier one, and this piece right behind it.
                    Ok(Piece::Deliver) => {
                        let piece = self.wire.advance(used, len);
                        self.pieces.push_back(Span::of(&piece));
                    }
                    Ok(Piece::Discard) => drop(self.wire.advance(used, 0)),
                    Err(error) => return Err(self.violation(&error)),
                },
                Ok(Some(Ok(frame))) => {
                    self.wire.advance(used, 0);
                    match self.machine.handle(frame) {
                        Ok(Some(event)) => return Ok(Some(Signal::Event(event))),
                        Ok(None) => {}
                        Err(error) => return Err(self.violation(&error)),
                    }
                }
                Ok(None) => drop(self.wire.advance(used, 0)),
                Err(error) => return Err(self.violation(&error)),
            }
        }
        Ok(None)
    }

    /// Moves what the machine has to say behind what is queued, as far as there is room.
    pub(super) fn transfer(&mut self) -> Result<(), Broken> {
        if self.machine.has_to_transmit() && self.wire.has_room(MAX_QUEUED) {
            let mut frames = Vec::new();
            self.machine.poll_transmit(&mut frames);
            self.wire.push(&frames).map_err(|lost| self.lost(lost))?;
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.wire.poll_write(cx).map_err(|lost| self.lost(lost))
    }
}

impl Carrier for Link {
    fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if let Some(why) = &self.broken {
                return Poll::Ready(Err(Broken(why.clone())));
            }
            self.transfer()?;
            let allowed = self.machine.may_send_data();
            if allowed == 0 {
                // Until OPENED comes, or the end of the stream: `poll_received` hears of both, and wakes for OPENED.
                self.slot_waits = true;
                return Poll::Pending;
            }
            if !self.machine.has_to_transmit() {
                return self.wire.poll_room(cx, allowed).map_err(|lost| self.lost(lost));
            }
            ready!(self.poll_write(cx))?;
        }
    }

    fn fill(
        &mut self,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
    ) -> Result<Poll<io::Result<usize>>, Broken> {
        let Self { machine, wire, replay, answer, .. } = self;
        let allowed = machine.may_send_data();
        let mut kept = replay.as_mut().filter(|_| answer.is_none());
        let header = |data: &[u8]| {
            if let Some(replay) = &mut kept {
                replay.bytes.extend_from_slice(data);
            }
            machine.data(data.len()).map_err(|e| Lost::Broken(e.to_string()))
        };
        let read = wire.fill(allowed, read, header);
        if matches!(read, Ok(Poll::Ready(Ok(1..)))) {
            self.held = None;
        }
        read.map_err(|lost| self.lost(lost))
    }

    fn finish(&mut self) {
        if let Some(replay) = &mut self.replay {
            replay.fin = true;
        }
        self.held = None;
        // A stream that was cut meanwhile has nothing to finish; `poll_received` says so.
        let _over = self.machine.fin();
    }

    fn reset(&mut self, reason: Reason) {
        self.held = None;
        // Likewise. A responder that has not answered refuses.
        if self.machine.reset(reason, std::time::Instant::now()).is_err() {
            let _over = self.machine.refuse(Refused { reason, detail: Detail::new("") });
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if let Some(why) = &self.broken {
            return Poll::Ready(Err(Broken(why.clone())));
        }
        if let Some(held) = &mut self.held {
            if held.as_mut().poll(cx).is_pending() {
                return Poll::Ready(Ok(()));
            }
            self.held = None;
        }
        loop {
            self.transfer()?;
            ready!(self.poll_write(cx))?;
            if !self.machine.has_to_transmit() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        loop {
            if let Some(reset @ Received::Reset(_)) = self.ended {
                return Poll::Ready(Ok(reset));
            }
            // Over at both ends: what the peer says from here on belongs to its next stream, and is `settle`'s to hear.
            if self.ended.is_some() && self.machine.is_idle() {
                return Poll::Ready(Ok(Received::Fin));
            }
            let signal = match self.poll_signal(cx) {
                Poll::Pending if self.ended.is_some() => return Poll::Ready(Ok(Received::Fin)),
                signal => ready!(signal)?,
            };
            match signal {
                Signal::Data => return Poll::Ready(Ok(Received::Data)),
                Signal::Event(Event::Opened(mut opened)) => {
                    let asked = self.replay.take().map(|replay| replay.open.purpose);
                    if matches!(asked, Some(Purpose::Service(_))) {
                        // Nobody asks for it, and every connection would keep it.
                        opened.target = Detail::default();
                    }
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
                Signal::Event(Event::Bye { moved: true, reason }) => {
                    self.moved = Some(reason);
                    return Poll::Ready(Err(Broken("the peer serves no more streams on this lane".to_owned())));
                }
                Signal::Event(_) => {}
            }
        }
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| self.wire.bytes(piece.range()))
    }

    fn consume(&mut self, mut len: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let mine = len.min(piece.range().len());
            *piece = Span::of(&(piece.range().start + mine..piece.range().end));
            len -= mine;
            if piece.start < piece.end {
                break;
            }
            self.pieces.pop_front();
        }
    }

    fn drain(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut chunks: [IoSlice<'_>; MOST_PIECES] = std::array::from_fn(|_| IoSlice::new(&[]));
        let used = self.pieces.len().min(MOST_PIECES);
        for (chunk, piece) in chunks.iter_mut().zip(&self.pieces) {
            *chunk = IoSlice::new(self.wire.bytes(piece.range()));
        }
        let written = ready!(write(&chunks[..used]))?;
        self.consume(written);
        Poll::Ready(Ok(written))
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let tcp = self.wire.socket().tcp();
        let error = match tcp.has_failed() {
            Some(error) => error,
            None => ready!(self.watch.get_or_insert_with(|| Box::pin(tcp.reset())).as_mut().poll(cx)),
        };
        Poll::Ready(self.lost(error.into()))
    }

    fn moved(&self) -> Option<Reason> {
        self.moved
    }

    fn tcp(&mut self) -> Option<&mut Tcp> {
        // It has a share of the socket, and is made anew when it is needed.
        self.watch = None;
        Some(self.wire.socket_mut().tcp_mut())
    }
}
