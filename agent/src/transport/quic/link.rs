//! A connection to a peer: greeting, opening, accepting.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quinn::{Connection, ConnectionError, ReadExactError, RecvStream, SendStream, VarInt, WriteError};
use tokio::task::JoinSet;

use super::credit::Budget;
use super::reorder::Kept;
use super::share::{ConnectionWindow, PeerShare, Scattered};
use super::stream::QuicStream;
use super::{MOST_STREAMS, UNSERVED};
use crate::clock::Clock;
use crate::reason::Reason;
use crate::splice::Broken;
use crate::transport::frame::{FrameError, HEADER, Item, Kind, Parser};
use crate::transport::hello::{Greeting, HelloError, PeerHello};
use crate::transport::message::{Detail, Hello, Open, Refused};

/// How long a stream of the peer may take to say OPEN.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Why a connection or a stream on it could not be had.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The connection is lost.
    #[error("the QUIC connection is lost")]
    Connection(#[from] ConnectionError),
    /// The peer cut or ended the first stream before its HELLO was whole.
    #[error("the peer ended its HELLO early")]
    Ended,
    /// What came first is no frame.
    #[error("the peer does not speak this protocol")]
    Frame(#[from] FrameError),
    /// HELLO did not agree.
    #[error("HELLO failed")]
    Hello(#[from] HelloError),
    /// No room for another stream with this peer.
    #[error("the streams of this peer take up their whole budget")]
    Full,
}

impl From<ReadExactError> for QuicError {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::ReadError(quinn::ReadError::ConnectionLost(lost)) => Self::Connection(lost),
            _ => Self::Ended,
        }
    }
}

impl From<WriteError> for QuicError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(lost) => Self::Connection(lost),
            _ => Self::Ended,
        }
    }
}

/// Exchanges HELLO on the first stream of a connection and gives that stream, which a control channel goes on to use.
/// `mine` carries the dialler's wall time; the acceptor's is read from `clock` when it answers. The caller bounds the time.
///
/// # Errors
/// [`QuicError`]: the connection is to be closed.
pub async fn greet(
    connection: &Connection,
    mine: Hello,
    dialled: bool,
    clock: &Clock,
) -> Result<(PeerHello, SendStream, RecvStream), QuicError> {
    let mut out = Vec::new();
    let (greeting, mut send, mut recv) = if dialled {
        let (mut send, recv) = connection.open_bi().await?;
        let greeting = Greeting::dial(mine, &mut out);
        send.write_all(&out).await?;
        out.clear();
        (greeting, send, recv)
    } else {
        let (send, recv) = connection.accept_bi().await?;
        (Greeting::accept(mine), send, recv)
    };
    let (kind, payload) = first_frame(&mut recv).await?;
    let hello = greeting.handle(kind, &payload, clock.now().into(), connection.rtt(), &mut out)?;
    send.write_all(&out).await?;
    Ok((hello, send, recv))
}

/// Reads one frame and not a byte more.
async fn first_frame(recv: &mut RecvStream) -> Result<(Kind, Vec<u8>), QuicError> {
    let (mut parser, mut head) = (Parser::new(), [0; HEADER]);
    recv.read_exact(&mut head).await?;
    if let Some(Item::Control { kind, .. }) = parser.next(&mut &head[..])? {
        return Ok((kind, Vec::new()));
    }
    // The parser has taken the header, so the length is within its limits.
    let mut payload = vec![0; u16::from_be_bytes([head[2], head[3]]).into()];
    recv.read_exact(&mut payload).await?;
    match parser.next(&mut &payload[..])? {
        Some(Item::Control { kind, payload }) => Ok((kind, payload.to_vec())),
        Some(Item::Data(_)) => Ok((Kind::Data, Vec::new())),
        None => Err(QuicError::Ended),
    }
}

/// What a link and its streams share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: Connection,
    peer: PeerShare,
    window: Mutex<ConnectionWindow>,
    /// How many streams of the peer are being served.
    served: Mutex<u32>,
}

impl Shared {
    pub(super) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.peer.budget()
    }

    fn window(&self) -> MutexGuard<'_, ConnectionWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what other connections of the peer have left of its windows.
    fn widen(&self) {
        let mut window = self.window();
        if let Some(window) = window.grow() {
            self.connection.set_receive_window(window.into());
        }
    }

    /// A stream keeps `now` behind gaps instead of `before`.
    pub(super) fn keep(&self, before: Kept, now: Kept) -> Result<(), Scattered> {
        if before != now {
            let mut window = self.window();
            if let Some(window) = window.keep(before, now)? {
                self.connection.set_receive_window(window.into());
            }
        }
        Ok(())
    }

    /// A stream that keeps `before` behind gaps is cut, and the peer has yet to end it.
    pub(super) fn leave(&self, before: Kept) {
        if before != Kept::default() {
            let mut window = self.window();
            if let Some(window) = window.leave(before) {
                self.connection.set_receive_window(window.into());
            }
        }
    }

    fn serve(&self, change: impl FnOnce(u32) -> u32) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let before = most_streams(*served);
        *served = change(*served);
        let now = most_streams(*served);
        if now != before {
            self.connection.set_max_concurrent_bi_streams(now.into());
        }
    }

    /// The peer broke the rules: the whole connection ends.
    pub(super) fn violated(&self, what: &str) {
        self.connection.close(VarInt::from_u32(Reason::Protocol.code().into()), what.as_bytes());
    }
}

/// A stream of the peer that has said OPEN and is neither refused nor cut. While there are more of them, there may be more
/// streams at all.
#[derive(Debug)]
pub(super) struct Served(Arc<Shared>);

impl Served {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.serve(|served| served + 1);
        Self(shared)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.serve(|served| served - 1);
    }
}

/// How many streams the peer may have while so many of them are being served: as many again for those that begin and end. It
/// doubles, as QUIC tells the peer of more streams only when they make up an eighth.
fn most_streams(served: u32) -> u32 {
    (UNSERVED + 2 * served.min(MOST_STREAMS).next_power_of_two()).min(MOST_STREAMS)
}

/// A QUIC connection that carries application streams, after HELLO. Either end opens.
#[derive(Debug)]
pub struct QuicLink {
    shared: Arc<Shared>,
    /// Streams of the peer that have not said OPEN yet.
    asking: tokio::sync::Mutex<JoinSet<Option<QuicRequest>>>,
}

impl QuicLink {
    /// Greets on a fresh connection (ALPN `adit/1`, [`transport_config`](super::transport_config)) of the peer that has
    /// `share`. The caller bounds the time.
    ///
    /// # Errors
    /// [`QuicError`]: the connection is to be closed.
    pub async fn handshake(
        connection: Connection,
        mine: Hello,
        dialled: bool,
        clock: &Clock,
        share: PeerShare,
    ) -> Result<(Self, PeerHello), QuicError> {
        let (hello, mut send, _recv) = greet(&connection, mine, dialled, clock).await?;
        // It fails only if the peer has stopped the stream, which carries nothing more anyway.
        let _ended = send.finish();
        let window = Mutex::new(ConnectionWindow::new(share.clone()));
        let shared = Arc::new(Shared { connection, peer: share, window, served: Mutex::new(0) });
        shared.widen();
        shared.connection.set_max_concurrent_bi_streams(most_streams(0).into());
        Ok((Self { shared, asking: tokio::sync::Mutex::new(JoinSet::new()) }, hello))
    }

    /// The connection: addresses, round trip, statistics, [`closed`](Connection::closed).
    pub fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    /// How many bytes of the budget the streams of the peer take up.
    pub fn budget_used(&self) -> u64 {
        self.shared.budget().used()
    }

    /// Opens a stream. It waits only while the peer has as many streams of ours as it takes, not for the answer: see
    /// [`QuicStream::opened`]. Data may be sent at once.
    ///
    /// # Errors
    /// [`QuicError::Full`] or [`QuicError::Connection`].
    pub async fn open(&self, open: Open) -> Result<QuicStream, QuicError> {
        self.shared.widen();
        let (send, recv) = self.shared.connection.open_bi().await?;
        QuicStream::open(Arc::clone(&self.shared), send, recv, open).ok_or(QuicError::Full)
    }

    /// The next stream that the peer asks for. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Broken`] when the connection is lost.
    pub async fn accept(&self) -> Result<QuicRequest, Broken> {
        let mut asking = self.asking.lock().await;
        loop {
            tokio::select! {
                Some(asked) = asking.join_next() => {
                    if let Ok(Some(request)) = asked {
                        return Ok(request);
                    }
                }
                stream = self.shared.connection.accept_bi(), if asking.len() < MOST_STREAMS as usize => {
                    let (send, recv) = stream.map_err(|lost| Broken(lost.to_string()))?;
                    self.shared.widen();
                    asking.spawn(asked(Arc::clone(&self.shared), send, recv));
                }
            }
        }
    }

    /// Ends the connection, with all of its streams, now.
    pub fn close(&self, reason: Reason) {
        self.shared.connection.close(VarInt::from_u32(reason.code().into()), reason.name().as_bytes());
    }
}

async fn asked(shared: Arc<Shared>, send: SendStream, recv: RecvStream) -> Option<QuicRequest> {
    let mut stream = QuicStream::asked(shared, send, recv)?;
    let opened = tokio::time::timeout(OPEN_LIMIT, poll_fn(|cx| stream.poll_open(cx))).await;
    match opened {
        Ok(Ok(open)) => Some(QuicRequest { open, stream }),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// A stream that the peer asks for. Dropped, it is cut.
#[derive(Debug)]
pub struct QuicRequest {
    /// What is asked for.
    pub open: Box<Open>,
    stream: QuicStream,
}

impl QuicRequest {
    /// What is asked for, and the stream to answer on.
    pub fn into_parts(self) -> (Open, QuicStream) {
        (*self.open, self.stream)
    }

    /// Serves it. `target` is what was reached, for people.
    pub fn accept(mut self, target: Detail) -> QuicStream {
        self.stream.answer(target, Instant::now());
        self.stream
    }

    /// Refuses it, and gives the answer over to QUIC.
    pub async fn refuse(mut self, refused: Refused) {
        self.stream.refuse(refused);
        // A lost connection tells the peer as well.
        let _told = poll_fn(|cx| self.stream.poll_end(cx)).await;
    }

    /// Waits until the opener gives up. What else comes is kept.
    pub async fn withdrawn(&mut self) -> Reason {
        poll_fn(|cx| self.stream.poll_withdrawn(cx)).await
    }
}
