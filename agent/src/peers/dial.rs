//! Dialling a peer: control channels and lanes over TLS.

use std::net::SocketAddr;

use mesh_config::NodeName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::path::{DialFailure, FailureClass};
use crate::host::Host;
use crate::identity::{ALPN_CTL, ALPN_LANE, VerifiedPeer};
use crate::refusals::{Layer, Refusal};
use crate::transport::connect;
use crate::transport::failure::Failure;
use crate::transport::hello::PeerHello;
use crate::transport::lane::link::Link;
use crate::transport::lane::machine::End;
use crate::transport::message::LaneRole;
use crate::transport::secure::{self, Secure};
use crate::vocabulary::Direction;

/// A byte stream that a control channel runs over.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A control connection after HELLO.
pub struct Control {
    /// What it runs over.
    pub stream: Box<dyn Duplex>,
    /// Who is there.
    pub peer: VerifiedPeer,
    /// What it said of itself.
    pub hello: PeerHello,
    /// Its address.
    pub address: SocketAddr,
}

impl From<Secure> for Control {
    fn from(secure: Secure) -> Self {
        Self { stream: Box::new(secure.tls), peer: secure.peer, hello: secure.hello, address: secure.address }
    }
}

/// Dials a control channel over TLS.
///
/// # Errors
/// Which layer failed; it has been noted for operators.
pub async fn control(host: &Host, peer: &NodeName) -> Result<Control, Failure> {
    secure(host, peer, None, ALPN_CTL, LaneRole::Opener).await.map(Control::from)
}

/// Dials a lane, at `known` if that is given. `role` says who will open streams on it.
///
/// # Errors
/// Which layer failed; it has been noted for operators.
pub async fn lane(host: &Host, peer: &NodeName, known: Option<SocketAddr>, role: LaneRole) -> Result<Link, Failure> {
    let end = match role {
        LaneRole::Opener => End::Opener,
        LaneRole::Reverse => End::Responder,
    };
    secure(host, peer, known, ALPN_LANE, role).await.map(|secure| Link::new(secure, end).0)
}

async fn secure(
    host: &Host,
    peer: &NodeName,
    known: Option<SocketAddr>,
    alpn: &[u8],
    role: LaneRole,
) -> Result<Secure, Failure> {
    let snapshot = host.snapshot.load_full();
    let attempt = async {
        let until = Instant::now() + host.limits.connect;
        let addresses = match known {
            Some(address) => vec![address],
            None => addresses(host, peer, until).await?,
        };
        let (tcp, _) = connect::connect(&addresses, until, host.limits.keepalive).await?;
        let deadline = Instant::now() + host.limits.handshake;
        secure::dial(&snapshot.tls, peer, alpn, tcp, host.hello(role), deadline).await
    };
    let result = attempt.await;
    match &result {
        Ok(secure) => host.metrics.handshake_ok(Direction::Out, "tls", secure.took),
        Err(failure) => note(host, peer, "tls", failure),
    }
    result
}

/// The socket addresses of a peer, in the order of the mesh file.
///
/// # Errors
/// If it has none, or none of its names resolves.
pub async fn addresses(host: &Host, peer: &NodeName, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
    let snapshot = host.snapshot.load_full();
    let known = snapshot.mesh.node(peer.as_str()).map(|n| n.addresses()).unwrap_or_default();
    if known.is_empty() {
        return Err(Failure::new(Layer::Resolve, format!("the mesh file gives `{peer}` no address")));
    }
    let mut found = Vec::new();
    let mut failure = None;
    for address in known {
        match timeout_at(deadline, host.names.resolve(address)).await {
            Ok(Ok(more)) => found.extend(more),
            Ok(Err(why)) => failure = Some(why),
            Err(_) => failure = Some(Failure::new(Layer::Resolve, "no DNS server answered in time")),
        }
    }
    match failure {
        Some(why) if found.is_empty() => Err(why),
        _ => Ok(found),
    }
}

/// Notes a failed dial where operators look.
pub fn note(host: &Host, peer: &NodeName, transport: &'static str, failure: &Failure) {
    let reason = reason(failure);
    host.metrics.handshake_failed(Direction::Out, transport, reason);
    host.refuse(Refusal {
        direction: Direction::Out,
        peer: Some(peer.clone()),
        address: failure.address,
        service: None,
        layer: failure.layer,
        reason,
        detail: failure.detail.clone(),
    });
}

/// A stable name for a failed dial.
fn reason(failure: &Failure) -> &'static str {
    match failure.layer {
        Layer::Resolve => "unresolved",
        Layer::NoRoute => "no_route",
        Layer::Refused => "connection_refused",
        Layer::Silent => "no_answer",
        Layer::Tls => "tls_failed",
        Layer::Identity => "identity_refused",
        Layer::Hello => "hello_failed",
        Layer::Permit => "not_permitted",
        Layer::Target => "target_failed",
        Layer::Limit => "limit",
    }
}

/// A failure as the machine of a peer takes it.
pub fn for_machine(failure: &Failure) -> DialFailure {
    let class = match failure.layer {
        Layer::Resolve => FailureClass::Name,
        Layer::NoRoute => FailureClass::NoRoute,
        Layer::Refused => FailureClass::Refused,
        Layer::Silent => FailureClass::Silent,
        Layer::Identity => FailureClass::Identity,
        Layer::Hello => FailureClass::Hello,
        Layer::Limit => FailureClass::Local,
        Layer::Tls | Layer::Permit | Layer::Target => FailureClass::Tls,
    };
    DialFailure { class, text: failure.to_string() }
}
