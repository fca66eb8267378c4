//! Dialling a peer: control channels, lanes, and QUIC connections for streams.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_config::{Address, NodeName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::path::{DialFailure, FailureClass, Way};
use crate::host::Host;
use crate::identity::{ALPN_CTL, ALPN_LANE, ALPN_QUIC, Verdict, VerifiedPeer};
use crate::refusals::{Layer, Refusal};
use crate::transport::congestion;
use crate::transport::connect;
use crate::transport::failure::Failure;
use crate::transport::hello::PeerHello;
use crate::transport::lane::link::Link;
use crate::transport::lane::machine::End;
use crate::transport::message::LaneRole;
use crate::transport::quic::congestion::Algorithm;
use crate::transport::quic::endpoint::{self, Proven};
use crate::transport::quic::{self, PeerShare, QuicError, QuicLink};
use crate::transport::retry;
use crate::transport::secure::{self, Secure};
use crate::vocabulary::Direction;

/// How often it is looked at least whether the names of a peer lead elsewhere, and how often at most. An answer that is still good is
/// not asked for again; a changed hosts file is seen.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_AT_MOST: Duration = Duration::from_secs(1);

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
    /// Its congestion control, by the kernel's name. None of the kernel's over QUIC.
    pub congestion: Option<String>,
}

impl Control {
    /// A control connection over QUIC, on the stream that HELLO was said on.
    pub fn over_quic(
        connection: quinn::Connection,
        peer: VerifiedPeer,
        hello: PeerHello,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
    ) -> Self {
        let address = connection.remote_address();
        // The connection lives as long as a stream of it.
        Self { stream: Box::new(tokio::io::join(recv, send)), peer, hello, address, congestion: None }
    }
}

impl From<Secure> for Control {
    fn from(secure: Secure) -> Self {
        let congestion = congestion::in_use(secure.wire.socket().tcp());
        let Secure { wire, peer, hello, address, .. } = secure;
        Self { stream: Box::new(wire), peer, hello, address, congestion }
    }
}

/// Dials a control channel.
///
/// # Errors
/// Which layer failed; it has been noted for operators.
pub async fn control(host: &Host, peer: &NodeName, way: Way) -> Result<Control, Failure> {
    match way {
        Way::Tls => secure(host, peer, None, ALPN_CTL, LaneRole::Opener).await.map(Control::from),
        Way::Quic => {
            let greet = async |proven: Proven, verdict: Verdict| {
                let Proven { connection, peer, .. } = proven;
                let mine = host.hello(LaneRole::Opener);
                let greeted = quic::greet(&connection, mine, true, &host.clock).await;
                match greeted {
                    Ok((hello, send, recv)) => Ok(Control::over_quic(connection, peer, hello, send, recv)),
                    Err(error) => Err(quic_failure(&error, &verdict, host)),
                }
            };
            over_quic(host, peer, None, ALPN_CTL, greet).await
        }
    }
}

/// Dials the QUIC connection that application streams run over, at `known` if that is given. `share` is the peer's.
///
/// # Errors
/// Which layer failed; it has been noted for operators.
pub async fn quic_link(
    host: &Host,
    peer: &NodeName,
    known: Option<SocketAddr>,
    share: PeerShare,
) -> Result<(QuicLink, PeerHello, VerifiedPeer), Failure> {
    let greet = async |proven: Proven, verdict: Verdict| {
        let mine = host.hello(LaneRole::Opener);
        match QuicLink::handshake(proven.connection, mine, true, &host.clock, share).await {
            Ok((link, hello)) => Ok((link, hello, proven.peer)),
            Err(error) => Err(quic_failure(&error, &verdict, host)),
        }
    };
    over_quic(host, peer, known, ALPN_QUIC, greet).await
}

async fn over_quic<T>(
    host: &Host,
    peer: &NodeName,
    known: Option<SocketAddr>,
    alpn: &'static [u8],
    greet: impl AsyncFnOnce(Proven, Verdict) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let snapshot = host.snapshot.load_full();
    let started = Instant::now();
    let attempt = async {
        let addresses = match known {
            Some(address) => vec![address],
            None => addresses(host, peer, started + host.limits().connect).await?,
        };
        let deadline = Instant::now() + host.limits().handshake;
        let congestion = Algorithm::from(&snapshot.settings.congestion);
        let (proven, verdict) = host.quic.dial(&snapshot.tls, peer, &addresses, alpn, congestion, deadline).await?;
        let address = proven.connection.remote_address();
        match timeout_at(deadline, greet(proven, verdict)).await {
            Ok(result) => result.map_err(|f| f.at(address)),
            Err(_) => Err(Failure::new(Layer::Silent, "QUIC connects, but HELLO got no answer").at(address)),
        }
    };
    let result = attempt.await;
    match &result {
        Ok(_) => host.metrics.handshake_ok(Direction::Out, "quic", started.elapsed()),
        Err(failure) => note(host, peer, "quic", failure),
    }
    result
}

/// Why HELLO over QUIC came to nothing. An acceptor that refuses this side's certificate ends the connection here.
fn quic_failure(error: &QuicError, verdict: &Verdict, host: &Host) -> Failure {
    match error {
        QuicError::Connection(lost) => endpoint::explain_dial(lost, verdict, &host.snapshot.load().tls),
        QuicError::Hello(hello) => secure::hello_failure(hello),
        other => Failure::new(Layer::Hello, other.to_string()),
    }
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
    let controls = alpn == ALPN_CTL;
    let attempt = async {
        let until = Instant::now() + host.limits().connect;
        let addresses = match known {
            Some(address) => vec![address],
            None => addresses(host, peer, until).await?,
        };
        let (tcp, _) = connect::connect(&addresses, until, host.limits().keepalive, move |socket, _| {
            // By it a network that has healed is noticed.
            if controls {
                retry::soon(socket);
            }
        })
        .await?;
        let deadline = Instant::now() + host.limits().handshake;
        secure::dial(&snapshot.tls, peer, alpn, tcp, host.hello(role), host.sealing(), deadline).await
    };
    let mut result = attempt.await;
    match &mut result {
        Ok(secure) => {
            secure.choose_congestion(&snapshot.settings.congestion);
            host.metrics.handshake_ok(Direction::Out, "tls", secure.took);
        }
        Err(failure) => note(host, peer, "tls", failure),
    }
    result
}

/// The socket addresses of a peer, in the order of the mesh file.
///
/// # Errors
/// If it has none, or none of its names resolves.
pub async fn addresses(host: &Host, peer: &NodeName, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
    let known = addresses_of(host, peer);
    if known.is_empty() {
        return Err(Failure::new(Layer::Resolve, format!("the mesh file gives `{peer}` no address")));
    }
    let mut found = Vec::new();
    let mut failure = None;
    for address in &known {
        match timeout_at(deadline, host.names.resolve(address)).await {
            Ok(Ok(more)) => found.extend(more.addresses),
            Ok(Err(why)) => failure = Some(why),
            Err(_) => failure = Some(Failure::new(Layer::Resolve, "no DNS server answered in time")),
        }
    }
    match failure {
        Some(why) if found.is_empty() => Err(why),
        _ => Ok(found),
    }
}

/// Resolves when the names of a peer no longer lead to `address`: it has moved. Never if none of them is a name.
pub async fn moved_away(host: &Host, peer: &NodeName, address: SocketAddr) {
    loop {
        let known = addresses_of(host, peer);
        let mut again = Instant::now() + LOOK;
        let mut leads_there = false;
        let mut is_whole = true;
        for known in &known {
            match host.names.resolve_all(known).await {
                Ok(resolved) => {
                    leads_there |= resolved.addresses.contains(&address);
                    again = again.min(resolved.until.unwrap_or(again));
                }
                // What it would say is not known.
                Err(_) => is_whole = false,
            }
        }
        if is_whole && !leads_there && !known.is_empty() {
            return;
        }
        sleep_until(again.max(Instant::now() + LOOK_AT_MOST)).await;
    }
}

fn addresses_of(host: &Host, peer: &NodeName) -> Vec<Address> {
    host.snapshot.load().mesh.node(peer.as_str()).map(|node| node.addresses().to_vec()).unwrap_or_default()
}

/// Whether a peer has an address that is a name.
pub fn has_name(host: &Host, peer: &NodeName) -> bool {
    addresses_of(host, peer).iter().any(|address| matches!(address.host, mesh_config::Host::Dns(_)))
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
        Layer::Document => "document",
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
        Layer::Tls | Layer::Permit | Layer::Target | Layer::Document => FailureClass::Tls,
    };
    DialFailure { class, text: failure.to_string() }
}
