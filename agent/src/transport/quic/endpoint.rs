//! QUIC connections with proven peers: dialled from sockets of their own, accepted on the agent's port.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_config::NodeName;
use quinn::crypto::rustls::HandshakeData;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime,
};
use socket2::{Domain, Socket, Type};
use tokio::time::{Instant, timeout_at};

use super::congestion::Algorithm;
use super::{control_transport_config, transport_config};
use crate::identity::{ALPN_CTL, ALPN_QUIC, TlsContext, Verdict, VerifiedPeer};
use crate::transport::failure::{Failure, Layer};
use crate::transport::race;
use crate::transport::secure::{Refused, explain_alert};

/// Receive and send buffers of a socket: what the kernel's limits let through of it.
const SOCKET_BUFFER: usize = 2 << 20;

/// The sockets that peers are dialled from, one a family, opened when first needed.
#[derive(Debug, Default)]
pub struct Dialler {
    v4: Mutex<Option<Endpoint>>,
    v6: Mutex<Option<Endpoint>>,
}

/// A QUIC connection whose peer is proven, before HELLO.
#[derive(Debug)]
pub struct Proven {
    /// The connection.
    pub connection: Connection,
    /// Who is at the other end.
    pub peer: VerifiedPeer,
    /// The protocol that was chosen (ALPN).
    pub alpn: Vec<u8>,
}

impl Dialler {
    fn endpoint(&self, address: SocketAddr) -> io::Result<Endpoint> {
        let (slot, any) = if address.is_ipv4() {
            (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
        } else {
            (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*slot {
            return Ok(endpoint.clone());
        }
        let endpoint = open(any, None)?;
        *slot = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// Dials `peer` at the first of `addresses` that answers and accepts nobody else. The caller goes on with HELLO: only
    /// the acceptor's shows that it takes this side.
    ///
    /// # Errors
    /// Which layer failed and how.
    pub async fn dial(
        &self,
        context: &TlsContext,
        peer: &NodeName,
        addresses: &[SocketAddr],
        alpn: &'static [u8],
        congestion: Algorithm,
        deadline: Instant,
    ) -> Result<(Proven, Verdict), Failure> {
        race::first(addresses, deadline, |address| {
            let (context, peer, endpoint) = (context.clone(), peer.clone(), self.endpoint(address));
            async move {
                let endpoint = endpoint.map_err(|e| Failure::from_io(&e))?;
                one(&endpoint, &context, &peer, address, alpn, congestion).await
            }
        })
        .await
    }
}

async fn one(
    endpoint: &Endpoint,
    context: &TlsContext,
    peer: &NodeName,
    address: SocketAddr,
    alpn: &'static [u8],
    congestion: Algorithm,
) -> Result<(Proven, Verdict), Failure> {
    let own = |e: &dyn std::fmt::Display| Failure::new(Layer::Tls, format!("this agent's own QUIC: {e}"));
    let (crypto, name, verdict) = context.quic_client(peer, alpn).map_err(|e| own(&e))?;
    let mut config = ClientConfig::new(crypto);
    let transport = if alpn == ALPN_CTL { control_transport_config() } else { transport_config(congestion) };
    config.transport_config(Arc::new(transport));
    let connecting = endpoint.connect_with(config, address, &name).map_err(|e| own(&e))?;
    let connection = connecting.await.map_err(|e| explain_dial(&e, &verdict, context))?;
    match verdict.peer().cloned() {
        Some(proven) => Ok((Proven { connection, peer: proven, alpn: alpn.to_vec() }, verdict)),
        None => Err(Failure::new(Layer::Identity, "nobody was proven")),
    }
}

/// What a dialler knows of a failed connection, before or during HELLO.
pub fn explain_dial(error: &ConnectionError, verdict: &Verdict, context: &TlsContext) -> Failure {
    if let Some(rejection) = verdict.rejection() {
        return Failure::new(Layer::Identity, format!("this agent refuses the peer's certificate: {rejection}"));
    }
    match error {
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => explain_alert(alert, context.identity()),
            None => Failure::new(Layer::Tls, format!("the peer ended the connection: {close}")),
        },
        ConnectionError::TimedOut => {
            Failure::new(Layer::Silent, "no answer over UDP: a firewall drops it, or the host is down")
        }
        ConnectionError::ApplicationClosed(close) => Failure::new(Layer::Hello, format!("the peer said no: {close}")),
        other => Failure::new(Layer::Tls, format!("QUIC: {other}")),
    }
}

/// The TLS alert in a QUIC error code (RFC 9001 §4.8: 0x0100 plus the alert).
fn alert(code: quinn_proto::TransportErrorCode) -> Option<rustls::AlertDescription> {
    let code = u64::from(code);
    u8::try_from(code.checked_sub(0x100)?).ok().map(rustls::AlertDescription::from)
}

/// Opens an endpoint on `address`; with `context` it accepts as well.
///
/// # Errors
/// Those of the socket.
pub fn open(address: SocketAddr, context: Option<&TlsContext>) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // As much as the system gives: more only helps.
    socket.set_recv_buffer_size(SOCKET_BUFFER).ok();
    socket.set_send_buffer_size(SOCKET_BUFFER).ok();
    socket.bind(&address.into())?;
    let server = context.map(server_config).transpose()?;
    Endpoint::new(EndpointConfig::default(), server, socket.into(), Arc::new(TokioRuntime))
}

fn server_config(context: &TlsContext) -> io::Result<ServerConfig> {
    let (crypto, _) = context.quic_server(ALPNS).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(crypto);
    config.transport_config(Arc::new(transport_config(Algorithm::default())));
    // A peer that moves to another address is dialled, or dials, anew.
    config.migration(true);
    Ok(config)
}

/// What is spoken on the agent's port.
const ALPNS: &[&[u8]] = &[ALPN_CTL, ALPN_QUIC];

/// Makes an incoming connection one with a member of the mesh.
///
/// # Errors
/// Why not.
pub async fn accept(
    incoming: Incoming,
    context: &TlsContext,
    congestion: Algorithm,
    deadline: Instant,
) -> Result<Proven, Refused> {
    let address = incoming.remote_address();
    let internal = |e: &dyn std::fmt::Display| {
        Refused::Failed("internal", Failure::new(Layer::Tls, format!("this agent's own QUIC: {e}")))
    };
    let (crypto, verdict) = context.quic_server(ALPNS).map_err(|e| internal(&e))?;
    let mut config = ServerConfig::with_crypto(crypto);
    config.transport_config(Arc::new(transport_config(congestion)));
    let connecting = incoming
        .accept_with(Arc::new(config))
        .map_err(|e| Refused::Failed("tls", Failure::new(Layer::Tls, format!("QUIC: {e}"))))?;
    let connection = match timeout_at(deadline, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(explain_accept(&error, &verdict)),
        Err(_) => {
            let silent = Failure::new(Layer::Silent, "no QUIC handshake in time").at(address);
            return Err(Refused::Failed("handshake_timeout", silent));
        }
    };
    let data = connection.handshake_data().and_then(|d| d.downcast::<HandshakeData>().ok());
    let Some(alpn) = data.and_then(|d| d.protocol) else {
        let no = Failure::new(Layer::Tls, "the peer names no protocol of this agent (ALPN)");
        return Err(Refused::Failed("no_protocol", no));
    };
    match verdict.peer().cloned() {
        Some(peer) => Ok(Proven { connection, peer, alpn }),
        None => Err(Refused::Failed("no_certificate", Failure::new(Layer::Identity, "nobody was proven"))),
    }
}

fn explain_accept(error: &ConnectionError, verdict: &Verdict) -> Refused {
    use rustls::AlertDescription as Alert;
    if let Some(rejection) = verdict.rejection() {
        return Refused::Identity(rejection.clone());
    }
    let code = match error {
        // Found by this side.
        ConnectionError::TransportError(e) => alert(e.code),
        ConnectionError::ConnectionClosed(close) => {
            let what = match alert(close.error_code) {
                Some(alert) => format!("the peer ended the handshake: {alert:?}"),
                None => format!("the peer ended the handshake: {close}"),
            };
            return Refused::Failed("alert", Failure::new(Layer::Tls, what));
        }
        _ => None,
    };
    match code {
        Some(Alert::CertificateRequired) => Refused::Identity(crate::identity::Rejection::NoCertificate),
        Some(Alert::NoApplicationProtocol) => {
            let no = Failure::new(Layer::Tls, "the peer names no protocol of this agent (ALPN)");
            Refused::Failed("no_protocol", no)
        }
        _ => Refused::Failed("tls", Failure::new(Layer::Tls, format!("QUIC: {error}"))),
    }
}
