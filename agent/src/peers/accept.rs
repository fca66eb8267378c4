//! The agent's own port: strangers come in, proven peers go to their actor.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::dial::Control;
use super::path::Way;
use super::peer::Command;
use super::registry::Peers;
use crate::host::{Host, Phase};
use crate::identity::{ALPN_CTL, ALPN_LANE};
use crate::refusals::{Layer, Refusal};
use crate::transport::caps::{Caps, Slot};
use crate::transport::connect::{is_exhausted, tune};
use crate::transport::lane::link::Link;
use crate::transport::lane::machine::End;
use crate::transport::message::LaneRole;
use crate::transport::secure::{self, Refused};
use crate::vocabulary::Direction;

/// How long to wait when the process has run out of descriptors or memory.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Accepts TCP connections of peers until the agent drains.
pub async fn tcp(host: Arc<Host>, peers: Arc<Peers>, listener: TcpListener, caps: Caps) {
    let mut handshakes = JoinSet::new();
    let draining = host.reached(Phase::Draining);
    tokio::pin!(draining);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, address)) => match caps.take(address) {
                    Ok(slot) => {
                        let (host, peers) = (host.clone(), peers.clone());
                        handshakes.spawn(async move { greet(&host, &peers, tcp, address, slot).await });
                    }
                    Err(full) => {
                        // A RST, so that nothing lingers on this side.
                        tcp.set_zero_linger().ok();
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
        }
    }
}

async fn greet(host: &Host, peers: &Peers, tcp: TcpStream, address: SocketAddr, slot: Slot) {
    tune(&tcp, host.limits.keepalive);
    let snapshot = host.snapshot.load_full();
    let deadline = Instant::now() + host.limits.handshake;
    let mine = host.hello(LaneRole::Opener);
    let result = secure::accept(&snapshot.tls, &[ALPN_LANE, ALPN_CTL], tcp, mine, deadline).await;
    drop(slot);
    let secure = match result {
        Ok(secure) => secure,
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
    let Some(peer) = peers.peer(secure.peer.node()) else { return };
    let command = if secure.alpn == ALPN_CTL {
        Command::Accepted(Way::Tls, Box::new(Control::from(secure)))
    } else {
        let reverse = secure.hello.role == LaneRole::Reverse;
        let end = if reverse { End::Opener } else { End::Responder };
        Command::Lane { link: Box::new(Link::new(secure, end).0), reverse }
    };
    peer.tell(command).await;
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
