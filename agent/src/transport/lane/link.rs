//! A lane with its TLS connection: the machine driven by a socket, and the carrier that an application's stream runs over.
//!
//! Frames are gathered behind one another in a buffer of a few records and written together; what was received is parsed
//! where TLS put it, and DATA is handed to the application from there.

mod carrier;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

use super::machine::{EARLY_DATA, End, Event, Lane, Verdict};
use crate::identity::VerifiedPeer;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier, Received};
use crate::transport::frame::{HEADER, Parser};
use crate::transport::hello::PeerHello;
use crate::transport::message::{Detail, Incarnation, Open, Opened, Refused};
use crate::transport::secure::Secure;
use crate::transport::wire::{Lost, Wire};

/// DATA that is said again comes in frames of which a record holds four.
const EARLY_FRAME: usize = 4 * 1024 - HEADER;
/// For how long OPENED waits for the first bytes of the target, to leave in one record with them.
const ANSWER_WAITS: Duration = Duration::from_millis(1);
/// An opener that has sent this much before OPENED may soon not be allowed to send more.
const ANSWER_NOW: usize = EARLY_DATA / 4;
/// How long an orderly end may take to be written.
const CLOSE: Duration = Duration::from_secs(1);

/// What an opener may have to say again on another lane.
struct Replay {
    open: Open,
    bytes: Vec<u8>,
    fin: bool,
}

/// Where a piece of what was received is, in half the memory of a range.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// No buffer is larger than this can say.
    fn of(range: &Range<usize>) -> Self {
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: place(range.start), end: place(range.end) }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What the next thing on a lane is.
enum Signal {
    Data,
    Event(Event),
}

/// One end of a lane and its connection.
pub struct Link {
    wire: Wire,
    machine: Lane,
    parser: Parser,
    /// Where the DATA for the application is that was received and not taken.
    pieces: VecDeque<Span>,
    /// How the connection ended, behind those pieces.
    late: Option<Lost>,
    slot_waits: bool,
    peer: VerifiedPeer,
    incarnation: Incarnation,
    address: SocketAddr,
    ended: Option<Received>,
    answer: Option<Result<Opened, Refused>>,
    replay: Option<Box<Replay>>,
    /// Why the peer left without the stream.
    moved: Option<Reason>,
    broken: Option<String>,
    closed: bool,
    /// OPENED waits for what follows it, until then.
    held: Option<Pin<Box<Sleep>>>,
    watch: Option<Pin<Box<dyn Future<Output = io::Error> + Send>>>,
}

impl Link {
    /// The lane on a connection whose peer has said HELLO. `end`: whether this side opens streams or serves them.
    pub fn new(secure: Secure, end: End) -> (Self, PeerHello) {
        let Secure { wire, peer, hello, address, .. } = secure;
        let link = Self {
            wire,
            machine: Lane::new(end),
            parser: Parser::new(),
            pieces: VecDeque::new(),
            late: None,
            slot_waits: false,
            peer,
            incarnation: hello.incarnation,
            address,
            ended: None,
            answer: None,
            replay: None,
            moved: None,
            broken: None,
            closed: false,
            held: None,
            watch: None,
        };
        (link, hello)
    }

    /// The proven peer.
    pub fn peer(&self) -> &VerifiedPeer {
        &self.peer
    }

    /// The same, to be [shared](VerifiedPeer::share).
    pub fn peer_mut(&mut self) -> &mut VerifiedPeer {
        &mut self.peer
    }

    /// The peer's run that this lane leads to.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Lets somebody judge the connection without keeping it.
    pub fn watched(&self) -> Weak<TcpStream> {
        self.wire.socket().tcp().watched()
    }

    /// The peer's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a pool may keep it.
    pub fn is_reusable(&self) -> bool {
        // A peer that does not take what is to be said on an idle lane would not take a stream either.
        let writes = self.wire.is_written() && !self.wire.is_worn();
        self.broken.is_none() && self.machine.is_idle() && !self.machine.is_retiring() && writes
    }

    /// Whether it should carry no further stream, since its keys have been used for long and cannot be changed.
    pub fn is_worn(&self) -> bool {
        self.wire.is_worn()
    }

    /// Asks for a stream. OPEN is queued and leaves with the first bytes, or at the next flush.
    ///
    /// # Errors
    /// If the lane is not idle or retires.
    pub fn open(&mut self, open: Open) -> Result<(), Broken> {
        self.begin();
        self.machine.open(open.clone()).map_err(|e| Broken(e.to_string()))?;
        self.replay = Some(Box::new(Replay { open, bytes: Vec::new(), fin: false }));
        Ok(())
    }

    /// Asks for the stream of another lane that its peer will never serve, with the bytes that it had sent there.
    ///
    /// # Errors
    /// If the lane is not idle or retires.
    pub fn reopen(&mut self, (open, bytes, fin): (Open, Vec<u8>, bool)) -> Result<(), Broken> {
        self.open(open)?;
        for chunk in bytes.chunks(EARLY_FRAME) {
            self.transfer()?;
            let header = self.machine.data(chunk.len()).map_err(|e| Broken(e.to_string()))?;
            let frame = [&header, chunk].concat();
            if !self.wire.takes(frame.len()) {
                return Err(Broken("something else waits to be written on the lane".to_owned()));
            }
            self.wire.push(&frame).map_err(|lost| self.lost(lost))?;
        }
        if let Some(replay) = &mut self.replay {
            replay.bytes = bytes;
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
    pub async fn next_open(&mut self) -> Result<Option<Box<Open>>, Broken> {
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
                    return Ok(Some(open));
                }
                Ok(Signal::Event(_)) => {}
                Ok(Signal::Data) => return Err(self.fail("data outside a stream".to_owned())),
                Err(_) if self.closed => return Ok(None),
                Err(broken) => return Err(broken),
            }
        }
    }

    /// Serves the stream that was asked for. OPENED leaves with what this side says first, or a moment later without it.
    ///
    /// # Errors
    /// If it was reset, or the lane lost, in the meantime.
    pub fn accept(&mut self, target: &str) -> Result<(), Broken> {
        let early = self.machine.early_data();
        // Who waited for the target waits no more.
        self.watch = None;
        let opened = Opened { credit: 0, target: Detail::new(target) };
        self.machine.accept(opened).map_err(|e| Broken(e.to_string()))?;
        if early < ANSWER_NOW {
            self.held = Some(Box::pin(sleep(ANSWER_WAITS)));
        }
        Ok(())
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
                // A lane that is not used again has nothing to wait for.
                let waits = self.machine.can_wait() && !self.is_worn();
                let flushed = waits || poll_fn(|cx| self.poll_flush(cx)).await.is_ok();
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
                    self.pieces.clear();
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
            poll_fn(|cx| self.wire.poll_close(cx)).await.ok();
        };
        // A peer that takes nothing is not waited for.
        timeout(CLOSE, orderly).await.ok();
    }

    /// Cuts the connection: the peer sees a RST.
    pub fn abort(&mut self) {
        self.wire.socket().abort_on_drop();
        if self.broken.is_none() {
            self.broken = Some("aborted".to_owned());
        }
    }

    /// Whether the last stream's DONE waits for the next OPEN; it leaves with [`poll_flush`](Carrier::poll_flush) without one.
    pub fn has_unsaid(&self) -> bool {
        self.machine.can_wait()
    }

    /// Watches an idle lane of the opener. Ready when it is of no further use.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.machine.can_wait() && self.poll_flush(cx).is_ready() && self.broken.is_some() {
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
        (self.moved, self.slot_waits) = (None, false);
    }

    /// Keeps nothing that an idle lane does not need.
    fn rest(&mut self) {
        self.watch = None;
        self.replay = None;
        self.held = None;
    }

    fn fail(&mut self, why: String) -> Broken {
        let why = self.broken.get_or_insert(why).clone();
        // What this means for the application is said by `Broken`.
        let _cut = self.machine.handle_lost();
        Broken(why)
    }

    fn lost(&mut self, lost: Lost) -> Broken {
        self.closed = matches!(lost, Lost::Closed);
        self.fail(lost.to_string())
    }

    fn violation(&mut self, why: &dyn std::fmt::Display) -> Broken {
        self.wire.socket().abort_on_drop();
        self.fail(format!("the peer broke the protocol: {why}"))
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
