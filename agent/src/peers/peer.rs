//! A peer as the rest of the agent sees it: how its link stands, and streams to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::NodeName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::dial::Control;
use super::open;
use super::over_quic::Replay;
use super::path::Way;
use super::pool::policy::LaneEpoch;
use super::pool::{Counts, Pool};
use super::quic::Quic;
use super::room::{Full, Room};
use super::stream::Stream;
use crate::awaited::Awaited;
use crate::host::Phase;
use crate::identity::VerifiedPeer;
use crate::reason::Reason;
use crate::transport::lane::link::Link;
use crate::transport::message::{Incarnation, Open};
use crate::transport::quic::congestion::Algorithm;
use crate::transport::quic::{PeerShare, QuicLink};
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
    /// SHA-256 of its public key (DER SubjectPublicKeyInfo).
    pub key: Option<[u8; 32]>,
    /// The congestion control of the control connection over TCP, by the kernel's name.
    pub congestion: Option<String>,
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
        key: None,
        congestion: None,
        error: None,
        incarnation: None,
    };
}

/// By what the connections with a peer know that their time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stage {
    /// Where the agent, or the link to this peer, is in its life.
    pub(super) phase: Phase,
    /// The identity and trust in force.
    pub(super) epoch: LaneEpoch,
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
        /// The identity and trust that it was accepted with.
        epoch: LaneEpoch,
    },
    /// The peer has dialled a QUIC connection for streams.
    Quic {
        /// The connection.
        link: QuicLink,
        /// The peer's run.
        incarnation: Incarnation,
        /// Who is there.
        proven: VerifiedPeer,
        /// The identity and trust that it was accepted with.
        epoch: LaneEpoch,
    },
    /// An application waits.
    Demand,
    /// Measure a round trip.
    Ping(oneshot::Sender<Duration>),
    /// The agent stops: say goodbye and let streams finish.
    Drain,
    /// The mesh joins this node and the peer no longer: say goodbye and end.
    Leave,
    /// Another snapshot is in force.
    Changed,
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

impl From<Full> for NoStream {
    fn from(full: Full) -> Self {
        Self { reason: Reason::Limit, detail: full.to_string() }
    }
}

/// The handle of a peer.
pub struct Peer {
    pub(super) name: NodeName,
    pub(super) pool: Arc<Pool>,
    /// Where applications wait for a link, those of all peers together.
    pub(super) room: Arc<Room>,
    pub(super) status: watch::Sender<Status>,
    pub(super) commands: mpsc::Sender<Command>,
    /// The QUIC connection that streams are opened on, if the link runs that way.
    pub(super) quic: watch::Sender<Option<Arc<Quic>>>,
    /// The runs of the peer that ended last, newest first: their streams end with them.
    pub(super) ended: Awaited<Vec<Incarnation>>,
    /// What all QUIC connections of the peer share.
    pub(super) quic_share: PeerShare,
    /// When what runs to the peer is to end.
    pub(super) stage: Awaited<Stage>,
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

    /// How the link runs, while it is up.
    pub(super) fn path(&self) -> Option<Path> {
        self.status.borrow().path
    }

    /// The congestion control of the link: over QUIC that of the connection that streams are opened on, else that of the control
    /// connection, for which it is chosen as it is for lanes.
    pub fn congestion(&self) -> Option<String> {
        match self.path()? {
            Path::Quic => {
                let quic = self.quic.borrow().clone()?;
                Algorithm::of(quic.link.connection()).map(|algorithm| algorithm.name().to_owned())
            }
            Path::Lane | Path::Relay => self.status.borrow().congestion.clone(),
        }
    }

    /// Opens a stream, waiting for the link and a lane until `deadline`.
    ///
    /// # Errors
    /// [`NoStream`] says why there is none in time, or that too many wait already.
    pub async fn open(&self, open: Open, deadline: Instant) -> Result<Stream, NoStream> {
        self.reopen((open, Vec::new(), false), deadline).await
    }

    /// Opens a stream again that the peer has not served because what it ran over retires, whichever way the link runs now.
    ///
    /// # Errors
    /// [`NoStream`] says why there is none in time.
    pub async fn reopen(&self, said: Replay, deadline: Instant) -> Result<Stream, NoStream> {
        open::first(&[self], said, deadline).await.map(|(_, stream)| stream)
    }

    /// Why no stream could be had in time, for people.
    pub(super) fn why_not(&self) -> String {
        let error = self.status.borrow().error.clone();
        let why = error.unwrap_or_else(|| "no lane was ready in time".to_owned());
        format!("no way to `{}`: {why}", self.name)
    }

    /// Resolves when the peer has shown itself to be another run than `incarnation`: what runs over that is lost.
    pub fn run_ended(&self, incarnation: Incarnation) -> impl Future<Output = ()> + Send + use<> {
        self.ended.until(move |runs| runs.contains(&incarnation))
    }

    /// Resolves when the agent, or the link to this peer, has come to `phase`. What was made in `epoch` begins to drain as well
    /// when identity or trust are others.
    pub(super) fn reached(&self, phase: Phase, epoch: LaneEpoch) -> impl Future<Output = ()> + Send + use<> {
        self.stage.until(move |now| now.phase >= phase || (phase == Phase::Draining && now.epoch.is_after(epoch)))
    }

    /// Whether the agent stops, or the link to this peer does, rather than what ran over it being replaced.
    pub(super) fn is_draining(&self) -> bool {
        self.stage.look(|now| now.phase >= Phase::Draining)
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

    /// Uses a QUIC connection no longer for new streams.
    pub(super) fn forsake(&self, quic: &Arc<Quic>) {
        let forsaken = self.quic.send_if_modified(|now| {
            let mine = now.as_ref().is_some_and(|now| Arc::ptr_eq(now, quic));
            if mine {
                *now = None;
            }
            mine
        });
        if forsaken {
            // The actor looks for another. A full queue wakes it as well.
            self.commands.try_send(Command::Demand).ok();
        }
    }

    /// Gives the actor something that came in.
    pub(super) async fn tell(&self, command: Command) {
        // An actor that is gone drops what it gets: the connection closes.
        self.commands.send(command).await.ok();
    }
}

#[cfg(test)]
impl Peer {
    /// A peer without an actor, whose link is down.
    pub(super) fn of_test(name: &str, room: &Arc<Room>) -> (Self, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(4);
        let peer = Self {
            name: NodeName::new(name).unwrap(),
            pool: Pool::new(super::pool::policy::Rules::new(0, 10)),
            room: room.clone(),
            status: watch::Sender::new(Status::IDLE),
            commands,
            quic: watch::Sender::new(None),
            ended: Awaited::new(Vec::new()),
            quic_share: PeerShare::default(),
            stage: Awaited::new(Stage { phase: Phase::Ready, epoch: LaneEpoch::default() }),
        };
        (peer, queue)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::transport::message::tests::open_request;

    #[tokio::test(start_paused = true)]
    async fn no_more_applications_wait_than_may_whatever_they_wait_for() {
        for path in [None, Some(Path::Lane), Some(Path::Quic)] {
            let (peer, _queue) = Peer::of_test("beta", &Arc::new(Room::new(1)));
            peer.status.send_modify(|status| status.path = path);
            let deadline = Instant::now() + Duration::from_secs(1);
            {
                let mut waits = pin!(peer.open(open_request(), deadline));
                assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                let refused = peer.open(open_request(), deadline).await.err().map(|no| no.reason);
                assert_eq!(refused, Some(Reason::Limit), "{path:?}: at once");
                assert!(Instant::now() < deadline);
            }
            let late = peer.open(open_request(), deadline).await.err().map(|no| no.reason);
            assert_eq!(late, Some(Reason::NoPath), "{path:?}: the place is free again");
        }
    }
}
