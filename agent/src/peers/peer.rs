//! A peer as the rest of the agent sees it: how its link stands, and streams to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::NodeName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::dial::Control;
use super::path::Way;
use super::pool::{Counts, Lease, Pool};
use super::stream::Stream;
use crate::reason::Reason;
use crate::transport::lane::link::Link;
use crate::transport::message::{Incarnation, Open};
use crate::vocabulary::{Path, PeerState};

/// How a link stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Whether it is up.
    pub state: PeerState,
    /// How it runs.
    pub path: Option<Path>,
    /// The peer's end.
    pub address: Option<SocketAddr>,
    /// The newest round-trip time.
    pub rtt: Option<Duration>,
    /// How far the peer's clock is ahead.
    pub skew: Option<time::Duration>,
    /// The version of its mesh document.
    pub mesh_version: Option<u64>,
    /// The serial number of its certificate, in hex.
    pub certificate: Option<String>,
    /// Why there is no link, or not a better one.
    pub error: Option<String>,
    /// The peer's run.
    pub incarnation: Option<Incarnation>,
}

impl Status {
    /// No link, and no reason to have one yet.
    pub const IDLE: Self = Self {
        state: PeerState::Idle,
        path: None,
        address: None,
        rtt: None,
        skew: None,
        mesh_version: None,
        certificate: None,
        error: None,
        incarnation: None,
    };
}

/// What the actor of a peer is told.
pub(super) enum Command {
    /// The peer has dialled a control channel.
    Accepted(Way, Box<Control>),
    /// The peer has dialled a lane to open streams on, or, if `reverse`, for this side to open streams on.
    Lane {
        /// The lane.
        link: Box<Link>,
        /// This side opens.
        reverse: bool,
    },
    /// An application waits.
    Demand,
    /// Measure a round trip.
    Ping(oneshot::Sender<Duration>),
    /// The agent stops: say goodbye and let streams finish.
    Drain,
}

/// No stream could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct NoStream {
    /// Why, for the application's RST and for machines.
    pub reason: Reason,
    /// Why, for people.
    pub detail: String,
}

/// The handle of a peer.
pub struct Peer {
    pub(super) name: NodeName,
    pub(super) pool: Arc<Pool>,
    pub(super) status: watch::Sender<Status>,
    pub(super) commands: mpsc::Sender<Command>,
    /// The run of the peer that ended last: its streams end with it.
    pub(super) ended: watch::Sender<Option<Incarnation>>,
}

impl Peer {
    /// Its name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// How the link stands.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Its lanes.
    pub fn lanes(&self) -> Counts {
        self.pool.counts()
    }

    /// Whether the link is up.
    pub fn is_up(&self) -> bool {
        self.status.borrow().state == PeerState::Up
    }

    /// Opens a stream, waiting for the link and a lane until `deadline`.
    ///
    /// # Errors
    /// [`NoStream`] says why there is none in time.
    pub async fn open(&self, open: Open, deadline: Instant) -> Result<Stream, NoStream> {
        let mut status = self.status.subscribe();
        loop {
            let path = status.borrow_and_update().path;
            match path {
                None => {
                    // A full queue has enough to do with this peer already.
                    self.commands.try_send(Command::Demand).ok();
                    if timeout_at(deadline, status.changed()).await.is_err() {
                        return Err(self.no_path());
                    }
                }
                Some(Path::Lane | Path::Relay) => {
                    tokio::select! {
                        lease = self.pool.take() => {
                            let Some(lease) = lease else { return Err(self.no_path()) };
                            if let Some(stream) = self.begin(lease, &open) {
                                return Ok(stream);
                            }
                        }
                        _ = status.changed() => {}
                        () = tokio::time::sleep_until(deadline) => return Err(self.no_path()),
                    }
                }
                Some(Path::Quic) => return Err(self.no_path()),
            }
        }
    }

    fn begin(&self, mut lease: Lease, open: &Open) -> Option<Stream> {
        // A lane that has just been retired is given up, and another is taken.
        lease.link.open(open.clone()).ok()?;
        Some(Stream::Lane(Box::new(lease)))
    }

    /// Opens a stream again that its lane's end of the peer had never seen.
    ///
    /// # Errors
    /// [`NoStream`] says why there is none in time.
    pub async fn reopen(&self, replay: (Open, Vec<u8>, bool), deadline: Instant) -> Result<Stream, NoStream> {
        let lease = timeout_at(deadline, self.pool.take()).await;
        let Ok(Some(mut lease)) = lease else { return Err(self.no_path()) };
        match lease.link.reopen(replay) {
            Ok(()) => Ok(Stream::Lane(Box::new(lease))),
            Err(_) => Err(self.no_path()),
        }
    }

    fn no_path(&self) -> NoStream {
        let error = self.status.borrow().error.clone();
        let why = error.unwrap_or_else(|| "no lane was ready in time".to_owned());
        NoStream { reason: Reason::NoPath, detail: format!("no way to `{}`: {why}", self.name) }
    }

    /// Resolves when the peer has shown itself to be another run than `incarnation`: what runs over that is lost.
    pub fn run_ended(&self, incarnation: Incarnation) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.subscribe();
        async move {
            if ended.wait_for(|run| *run == Some(incarnation)).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Measures one round trip of the control channel.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ping(&self, limit: Duration) -> Result<Duration, String> {
        if !self.is_up() {
            self.commands.try_send(Command::Demand).ok();
            let status = self.status.borrow();
            return Err(status.error.clone().unwrap_or_else(|| format!("there is no link to `{}`", self.name)));
        }
        let (sender, answer) = oneshot::channel();
        let ask = async {
            self.commands.send(Command::Ping(sender)).await.map_err(|_| "the agent stops".to_owned())?;
            answer.await.map_err(|_| "the link was lost".to_owned())
        };
        timeout_at(Instant::now() + limit, ask).await.map_err(|_| "no answer in time".to_owned())?
    }

    /// Gives the actor something that came in.
    pub(super) async fn tell(&self, command: Command) {
        // An actor that is gone drops what it gets: the connection closes.
        self.commands.send(command).await.ok();
    }
}
