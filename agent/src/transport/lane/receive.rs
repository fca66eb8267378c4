//! What a lane makes of what the peer sends.

use super::machine::{EARLY_DATA, End, Event, Lane, Piece, Stream, Way};
use super::violation::Violation;
use crate::reason::Reason;
use crate::transport::frame::Kind;
use crate::transport::message::{Frame, Open};

impl Lane {
    /// Takes a piece of DATA of `len` bytes.
    ///
    /// # Errors
    /// [`Violation`]: abort the connection, then [`handle_lost`](Self::handle_lost).
    pub fn handle_data(&mut self, len: usize) -> Result<Piece, Violation> {
        if self.skipped.is_some() {
            return Ok(Piece::Discard);
        }
        let end = self.end;
        let stream = self.stream.as_mut().ok_or(Violation::DataOutsideStream)?;
        match stream.receives {
            Way::Dead => return Ok(Piece::Discard),
            Way::Finished => return Err(Violation::AfterFin { kind: Kind::Data, n: stream.n }),
            Way::Open => {}
        }
        if !stream.answered {
            if end == End::Opener {
                return Err(Violation::BeforeAnswer { kind: Kind::Data, n: stream.n });
            }
            stream.early = stream.early.saturating_add(len);
            if stream.early > EARLY_DATA {
                return Err(Violation::TooMuchEarlyData(stream.n));
            }
        }
        Ok(Piece::Deliver)
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`Violation`]: abort the connection, then [`handle_lost`](Self::handle_lost).
    pub fn handle(&mut self, frame: Frame) -> Result<Option<Event>, Violation> {
        match frame {
            Frame::Ping(id) => {
                self.pong = Some(id);
                Ok(None)
            }
            Frame::Pong(id, time) => Ok(Some(Event::Pong(id, time))),
            // Datagrams may get lost, and no service asks for them on a lane.
            Frame::Datagram(_) => Ok(None),
            Frame::Bye(m, reason) => self.handle_bye(m, reason).map(Some),
            Frame::Open(n, open) => self.handle_open(n, open),
            Frame::Opened(n, opened) => Ok(self.answered(Kind::Opened, n)?.map(|()| Event::Opened(opened))),
            Frame::Refused(n, refused) => Ok(self.answered(Kind::Refused, n)?.map(|()| {
                self.end_stream();
                Event::Refused(refused)
            })),
            Frame::Fin(n) => self.handle_fin(n),
            Frame::Reset(n, reason) => self.handle_reset(n, reason),
            Frame::Done(n) => self.handle_done(n),
            Frame::Hello(_) | Frame::Credit(..) | Frame::WantLanes(_) | Frame::Gossip(_) => {
                Err(Violation::Unexpected(frame.kind()))
            }
        }
    }

    fn handle_open(&mut self, n: u32, open: Box<Open>) -> Result<Option<Event>, Violation> {
        if self.end != End::Responder {
            return Err(Violation::WrongEnd(Kind::Open));
        }
        let last = self.last;
        // A DONE that has not left cannot have been seen.
        if self.stream.is_some() || self.done_queued {
            return Err(Violation::OpenWhileBusy { n, last });
        }
        if last.checked_add(1) != Some(n) || self.skipped.is_some() {
            return Err(Violation::OutOfOrder { n, last });
        }
        if self.bye.is_some() {
            self.skipped = Some(n);
            return Ok(None);
        }
        self.begin(n);
        Ok(Some(Event::OpenRequested(open)))
    }

    /// OPENED or REFUSED. `None`: late, of a stream that is over.
    fn answered(&mut self, kind: Kind, n: u32) -> Result<Option<()>, Violation> {
        if self.end != End::Opener {
            return Err(Violation::WrongEnd(kind));
        }
        match self.current(kind, n)? {
            Some(stream) if stream.answered => Err(Violation::AnsweredTwice(n)),
            Some(stream) if !stream.done => {
                stream.answered = true;
                Ok(Some(()))
            }
            _ => Ok(None),
        }
    }

    fn handle_fin(&mut self, n: u32) -> Result<Option<Event>, Violation> {
        let end = self.end;
        let Some(stream) = self.current(Kind::Fin, n)? else { return Ok(None) };
        match stream.receives {
            Way::Dead => return Ok(None),
            Way::Finished => return Err(Violation::AfterFin { kind: Kind::Fin, n }),
            Way::Open => {}
        }
        if end == End::Opener && !stream.answered {
            return Err(Violation::BeforeAnswer { kind: Kind::Fin, n });
        }
        stream.receives = Way::Finished;
        self.settle();
        Ok(Some(Event::Fin))
    }

    fn handle_reset(&mut self, n: u32, reason: Reason) -> Result<Option<Event>, Violation> {
        let end = self.end;
        let Some(stream) = self.current(Kind::Reset, n)?.filter(|stream| !stream.done) else { return Ok(None) };
        if end == End::Opener && !stream.answered {
            return Err(Violation::BeforeAnswer { kind: Kind::Reset, n });
        }
        self.end_stream();
        Ok(Some(Event::Reset(reason)))
    }

    fn handle_done(&mut self, n: u32) -> Result<Option<Event>, Violation> {
        match self.current(Kind::Done, n)? {
            None => Ok(None),
            // Whatever ends a stream on the peer's side reaches us before its DONE, and makes us say ours.
            Some(stream) if !stream.done => Err(Violation::DoneTooSoon(n)),
            Some(_) => {
                self.stream = None;
                Ok(Some(Event::Idle))
            }
        }
    }

    fn handle_bye(&mut self, m: u32, reason: Reason) -> Result<Event, Violation> {
        if self.end != End::Opener {
            return Err(Violation::WrongEnd(Kind::Bye));
        }
        let wrong = Violation::WrongBye { m, last: self.last };
        let unseen = match &self.stream {
            _ if self.bye.is_some() => return Err(wrong),
            _ if m == self.last => false,
            Some(stream) if m.checked_add(1) == Some(stream.n) && !stream.answered => true,
            _ => return Err(wrong),
        };
        self.bye = Some(m);
        self.retiring = true;
        // A stream that was reset in the meantime has nowhere to move to.
        let moved = unseen && self.stream.as_ref().is_some_and(|stream| !stream.done);
        if unseen {
            self.stream = None;
        }
        Ok(Event::Bye { moved, reason })
    }

    /// The stream that a frame is about; `None` if it is one that moves elsewhere.
    fn current(&mut self, kind: Kind, n: u32) -> Result<Option<&mut Stream>, Violation> {
        if self.skipped == Some(n) {
            return Ok(None);
        }
        match self.stream.as_mut().filter(|stream| stream.n == n) {
            Some(stream) => Ok(Some(stream)),
            None => Err(Violation::WrongStream { kind, n }),
        }
    }
}
