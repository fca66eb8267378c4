//! The agent's own port: strangers come in, proven peers go to their actor.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, Incoming};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::dial::Control;
use super::path::Way;
use super::peer::Command;
use super::pool::policy::LaneEpoch;
use super::registry::Peers;
use crate::host::{Host, Phase};
use crate::identity::{ALPN_CTL, ALPN_LANE};
use crate::refusals::{Layer, Refusal};
use crate::tcp::{Listener, Tcp};
use crate::transport::caps::{Caps, Slot};
use crate::transport::connect::{is_exhausted, reset_unless_in_order, tune};
use crate::transport::failure::Failure;
use crate::transport::lane::link::Link;
use crate::transport::lane::machine::End;
use crate::transport::message::LaneRole;
use crate::transport::quic::congestion::Algorithm;
use crate::transport::quic::endpoint;
use crate::transport::quic::{self, QuicError, QuicLink};
use crate::transport::retry;
use crate::transport::secure::{self, Refused};
use crate::vocabulary::Direction;

/// The receive window of a control connection, in bytes.
const CONTROL_WINDOW: u32 = 128 << 10;
/// How many QUIC handshakes with unproven addresses may be under way before Retry is asked for (RFC 9000 §8.1.2).
const UNPROVEN: usize = 32;
/// How long to wait when the process has run out of descriptors or memory.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Closes a port, once its sender is dropped.
pub type Stop = oneshot::Receiver<()>;

/// Accepts TCP connections of peers until the agent drains or the port is closed.
pub async fn tcp(host: Arc<Host>, peers: Arc<Peers>, listener: Listener, caps: Caps, mut stop: Stop) {
    let mut handshakes = JoinSet::new();
    let draining = host.reached(Phase::Draining);
    tokio::pin!(draining);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, address)) => match caps.take(address) {
                    Ok((slot, evicted)) => {
                        let (host, peers) = (host.clone(), peers.clone());
                        handshakes.spawn(async move { greet(&host, &peers, tcp, address, (slot, evicted)).await });
                    }
                    Err(full) => {
                        // A RST, so that nothing lingers on this side.
                        reset_unless_in_order(&tcp);
                        refuse(&host, address, None, Layer::Limit, "handshake_limit", full.to_string());
                    }
                },
                Err(error) => {
                    if is_exhausted(&error) {
                        refuse_here(&host, &error);
                        sleep(EXHAUSTED).await;
                    }
                }
            },
            Some(_) = handshakes.join_next() => {}
            () = &mut draining => return,
            _ = &mut stop => break,
        }
    }
    drop(listener);
    // Handshakes that are under way are nobody's fault.
    tokio::select! {
        () = async { while handshakes.join_next().await.is_some() {} } => {}
        () = &mut draining => {}
    }
}

async fn greet(
    host: &Host,
    peers: &Peers,
    tcp: Tcp,
    address: SocketAddr,
    (slot, evicted): (Slot, oneshot::Receiver<()>),
) {
    tune(&tcp, host.limits().keepalive);
    let snapshot = host.snapshot.load_full();
    let deadline = Instant::now() + host.limits().handshake;
    let mine = host.hello(LaneRole::Opener);
    let result = tokio::select! {
        result = secure::accept(&snapshot.tls, &[ALPN_LANE, ALPN_CTL], tcp, mine, host.sealing(), deadline) => result,
        Ok(()) = evicted => return evict(host, address),
    };
    drop(slot);
    let secure = match result {
        Ok(mut secure) => {
            secure.choose_congestion(&snapshot.settings.congestion);
            secure
        }
        Err(Refused::Identity(rejection)) => {
            let (name, detail) = (rejection.name(), rejection.to_string());
            host.metrics.handshake_failed(Direction::In, "tls", name);
            return refuse(host, address, None, Layer::Identity, name, detail);
        }
        Err(Refused::Failed(name, failure)) => {
            host.metrics.handshake_failed(Direction::In, "tls", name);
            return refuse(host, address, None, failure.layer, name, failure.detail);
        }
    };
    host.metrics.handshake_ok(Direction::In, "tls", secure.took);
    // A member of the mesh, or the handshake would have failed; it may have left the mesh since.
    let Some(peer) = peers.peer(secure.peer.node()) else {
        let name = Some(secure.peer.node().clone());
        return refuse(host, address, name, Layer::Limit, "draining", "this agent is stopping".to_owned());
    };
    let command = if secure.alpn == ALPN_CTL {
        retry::soon(secure.wire.socket().tcp());
        Command::Accepted(Way::Tls, Box::new(Control::from(secure)))
    } else {
        let reverse = secure.hello.role == LaneRole::Reverse;
        let end = if reverse { End::Opener } else { End::Responder };
        let epoch = LaneEpoch::from(snapshot.epochs);
        Command::Lane { link: Box::new(Link::new(secure, end).0), reverse, epoch }
    };
    peer.tell(command).await;
}

/// Accepts QUIC connections of peers until the agent drains or the port is closed. The port serves the connections that it has
/// until they end.
pub async fn quic(host: Arc<Host>, peers: Arc<Peers>, endpoint: Endpoint, caps: Caps, mut stop: Stop) {
    let mut handshakes = JoinSet::new();
    {
        let draining = host.reached(Phase::Draining);
        tokio::pin!(draining);
        loop {
            tokio::select! {
                incoming = endpoint.accept() => {
                    let Some(incoming) = incoming else { return };
                    let address = incoming.remote_address();
                    // Whoever may have forged its address has to prove it before it costs anything, once that matters.
                    if !incoming.remote_address_validated() && handshakes.len() >= UNPROVEN {
                        incoming.retry().ok();
                        continue;
                    }
                    match caps.take(address) {
                        Ok((slot, evicted)) => {
                            let (host, peers) = (host.clone(), peers.clone());
                            handshakes.spawn(async move { greet_quic(&host, &peers, incoming, slot, evicted).await });
                        }
                        Err(full) => {
                            incoming.refuse();
                            refuse(&host, address, None, Layer::Limit, "handshake_limit", full.to_string());
                        }
                    }
                }
                Some(_) = handshakes.join_next() => {}
                () = &mut draining => break,
                _ = &mut stop => {
                    endpoint.set_server_config(None);
                    break;
                }
            }
        }
    }
    // Connections live on as long as the endpoint does.
    tokio::select! {
        () = host.reached(Phase::Cut) => {}
        () = left(&endpoint, handshakes), if *host.phase.borrow() < Phase::Draining => {}
    }
    endpoint.close(0u32.into(), b"");
    endpoint.wait_idle().await;
}

/// Resolves when handshakes that were under way have ended, and every connection of a port that is closed.
async fn left(endpoint: &Endpoint, mut handshakes: JoinSet<()>) {
    while handshakes.join_next().await.is_some() {}
    endpoint.wait_idle().await;
}

async fn greet_quic(host: &Host, peers: &Peers, incoming: Incoming, slot: Slot, evicted: oneshot::Receiver<()>) {
    let address = incoming.remote_address();
    let started = Instant::now();
    let deadline = started + host.limits().handshake;
    let snapshot = host.snapshot.load_full();
    let failed = |name: &'static str, failure: Failure| {
        host.metrics.handshake_failed(Direction::In, "quic", name);
        refuse(host, address, None, failure.layer, name, failure.detail);
    };
    let congestion = Algorithm::from(&snapshot.settings.congestion);
    let accepted = tokio::select! {
        accepted = endpoint::accept(incoming, &snapshot.tls, congestion, deadline) => accepted,
        Ok(()) = evicted => return evict(host, address),
    };
    let proven = match accepted {
        Ok(proven) => proven,
        Err(Refused::Identity(rejection)) => {
            return failed(rejection.name(), Failure::new(Layer::Identity, rejection.to_string()));
        }
        Err(Refused::Failed(name, failure)) => return failed(name, failure),
    };
    let Some(peer) = peers.peer(proven.peer.node()) else { return };
    let mine = host.hello(LaneRole::Opener);
    let greeting = async {
        if proven.alpn == ALPN_CTL {
            // One stream of small frames: nothing of what application streams need.
            proven.connection.set_max_concurrent_bi_streams(1u32.into());
            proven.connection.set_receive_window(CONTROL_WINDOW.into());
            let (hello, send, recv) = quic::greet(&proven.connection, mine, false, &host.clock).await?;
            let control = Control::over_quic(proven.connection, proven.peer, hello, send, recv);
            Ok::<_, QuicError>(Command::Accepted(Way::Quic, Box::new(control)))
        } else {
            let share = peer.quic_share.clone();
            let (link, hello) = QuicLink::handshake(proven.connection, mine, false, &host.clock, share).await?;
            let epoch = LaneEpoch::from(snapshot.epochs);
            Ok(Command::Quic { link, incarnation: hello.incarnation, proven: proven.peer, epoch })
        }
    };
    let command = match timeout_at(deadline, greeting).await {
        Ok(Ok(command)) => command,
        Ok(Err(QuicError::Hello(error))) => return failed("hello", Failure::new(Layer::Hello, error.to_string())),
        Ok(Err(error)) => return failed("lost", Failure::new(Layer::Hello, format!("lost before HELLO: {error}"))),
        Err(_) => return failed("handshake_timeout", Failure::new(Layer::Silent, "no HELLO in time")),
    };
    drop(slot);
    host.metrics.handshake_ok(Direction::In, "quic", started.elapsed());
    peer.tell(command).await;
}

/// Too many handshakes are under way, and this one is the oldest.
fn evict(host: &Host, address: SocketAddr) {
    let detail = "the oldest of too many handshakes made room for a younger one".to_owned();
    refuse(host, address, None, Layer::Limit, "handshake_limit", detail);
}

fn refuse(
    host: &Host,
    address: SocketAddr,
    peer: Option<mesh_config::NodeName>,
    layer: Layer,
    reason: &'static str,
    detail: String,
) {
    host.refuse(Refusal {
        direction: Direction::In,
        peer,
        address: Some(address),
        service: None,
        layer,
        reason,
        detail,
    });
}

fn refuse_here(host: &Host, error: &std::io::Error) {
    host.refuse(Refusal {
        direction: Direction::In,
        peer: None,
        address: None,
        service: None,
        layer: Layer::Limit,
        reason: "exhausted",
        detail: format!("connections cannot be accepted: {error}"),
    });
}
