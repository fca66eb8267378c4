//! A TCP connection made into one with a proven peer: TLS 1.3 with both certificates, then HELLO both ways.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_config::NodeName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::failure::{Failure, Layer};
use super::frame::{HEADER, Kind};
use super::handshake::Handshake;
use super::hello::{Greeting, HelloError, PeerHello};
use super::ktls::Kernel;
use super::message::{Hello, WallTime};
use super::record::Limits;
use super::sealing::{self, Sealing};
use super::socket::Socket;
use super::wire::Wire;
use crate::clock::Clock;
use crate::identity::{Rejection, TlsContext, Verdict, VerifiedPeer};
use crate::tcp::Tcp;
use crate::vocabulary::Congestion;

/// What is read at once of a peer's part of the handshake.
const FLIGHT: usize = 4096;

/// A TLS connection whose peer is proven and has said HELLO.
#[derive(Debug)]
pub struct Secure {
    /// Reads and writes plaintext.
    pub wire: Wire,
    /// Who is at the other end.
    pub peer: VerifiedPeer,
    /// What it said of itself.
    pub hello: PeerHello,
    /// Its address.
    pub address: SocketAddr,
    /// The protocol that was chosen (ALPN).
    pub alpn: Vec<u8>,
    /// How long handshake and HELLO took.
    pub took: Duration,
}

impl Secure {
    /// Chooses the congestion control that suits the connection.
    pub fn choose_congestion(&mut self, congestion: &Congestion) {
        if congestion.set_between_agents(self.wire.socket().tcp()) {
            self.wire.unpaced();
        }
    }
}

/// Why an accepted connection came to nothing.
#[derive(Debug)]
pub enum Refused {
    /// Its certificate was refused; the peer was told by an alert.
    Identity(Rejection),
    /// Anything else.
    Failed(&'static str, Failure),
}

/// Makes the dialled connection `tcp` one with the node `peer` and nobody else.
///
/// # Errors
/// Which layer failed and how. A refusal of this node's certificate comes as an alert after the handshake: TLS 1.3 lets the
/// dialler finish before the acceptor has judged it.
pub async fn dial(
    context: &TlsContext,
    peer: &NodeName,
    alpn: &[u8],
    tcp: Tcp,
    mine: Hello,
    sealing: Sealing,
    deadline: Instant,
) -> Result<Secure, Failure> {
    let started = Instant::now();
    let address = tcp.peer_addr().map_err(|e| Failure::from_io(&e))?;
    let work = async {
        let (config, name, verdict) =
            context.dial(peer, alpn).map_err(|e| Failure::new(Layer::Tls, format!("this agent's own TLS: {e}")))?;
        let socket = Socket::new(tcp);
        let connected = match sealing {
            Sealing::Adit | Sealing::Kernel(_) => {
                over_records(Handshake::client(&config, name), socket, sealing.kernel()).await
            }
            Sealing::Rustls => TlsConnector::from(config).connect(name, socket).await.map(over_rustls),
        };
        let (mut wire, chosen) = connected.map_err(|e| explain_dial(&e, &verdict, context))?;
        if chosen.as_deref() != Some(alpn) {
            return Err(Failure::new(Layer::Hello, "the peer does not speak this agent's protocol"));
        }
        let proven = verdict.peer().cloned().ok_or_else(|| Failure::new(Layer::Identity, "nobody was proven"))?;
        let hello = greet(&mut wire, mine, true, context.clock(), None).await.map_err(|error| match error {
            GreetError::Io(e) => explain_dial(&e, &verdict, context),
            GreetError::Hello(e) => hello_failure(&e),
        })?;
        Ok(Secure { wire, peer: proven, hello, address, alpn: alpn.to_vec(), took: started.elapsed() })
    };
    match timeout_at(deadline, work).await {
        Ok(result) => result.map_err(|f| f.at(address)),
        Err(_) => Err(Failure::new(
            Layer::Silent,
            format!("TCP connects, but TLS got no answer within {:.0?}", started.elapsed()),
        )
        .at(address)),
    }
}

/// Makes an accepted connection one with a member of the mesh.
///
/// # Errors
/// Why not.
pub async fn accept(
    context: &TlsContext,
    alpns: &[&[u8]],
    tcp: Tcp,
    mine: Hello,
    sealing: Sealing,
    deadline: Instant,
) -> Result<Secure, Refused> {
    let started = Instant::now();
    let address = tcp.peer_addr().map_err(|e| Refused::Failed("io", Failure::from_io(&e)))?;
    let work = async {
        let (config, verdict) = context
            .accept(alpns)
            .map_err(|e| Refused::Failed("internal", Failure::new(Layer::Tls, format!("this agent's own TLS: {e}"))))?;
        let socket = Socket::new(tcp);
        let accepted = match sealing {
            Sealing::Adit | Sealing::Kernel(_) => {
                over_records(Handshake::server(&config), socket, sealing.kernel()).await
            }
            Sealing::Rustls => TlsAcceptor::from(config).accept(socket).await.map(over_rustls),
        };
        let (mut wire, chosen) = accepted.map_err(|e| explain_accept(&e, &verdict))?;
        let alpn = match chosen {
            Some(alpn) => alpn,
            None => {
                return Err(Refused::Failed(
                    "no_protocol",
                    Failure::new(Layer::Tls, "the peer names no protocol of this agent (ALPN)"),
                ));
            }
        };
        let Some(proven) = verdict.peer().cloned() else {
            return Err(Refused::Failed("no_certificate", Failure::new(Layer::Identity, "nobody was proven")));
        };
        // The handshake's last flight came one round trip after this side's first.
        let round_trip = started.elapsed();
        let hello =
            greet(&mut wire, mine, false, context.clock(), Some(round_trip)).await.map_err(|error| match error {
                GreetError::Io(e) => {
                    Refused::Failed("lost", Failure::new(Layer::Hello, format!("lost before HELLO: {e}")))
                }
                GreetError::Hello(e) => Refused::Failed("hello", hello_failure(&e)),
            })?;
        Ok(Secure { wire, peer: proven, hello, address, alpn, took: started.elapsed() })
    };
    match timeout_at(deadline, work).await {
        Ok(result) => result,
        Err(_) => Err(Refused::Failed(
            "handshake_timeout",
            Failure::new(Layer::Silent, format!("no handshake within {:.0?}", started.elapsed())).at(address),
        )),
    }
}

/// Makes the handshake and hands its secrets over to the record layer, or on to the kernel. Errors are as those of tokio-rustls.
async fn over_records(
    handshake: Result<Handshake, rustls::Error>,
    socket: Socket,
    kernel: Option<Kernel>,
) -> std::io::Result<(Wire, Option<Vec<u8>>)> {
    use std::io::{Error, ErrorKind};
    let broken = |error: rustls::Error| Error::new(ErrorKind::InvalidData, error);
    let mut handshake = Box::new(handshake.map_err(broken)?);
    let mut socket = socket;
    let (mut out, mut buffer, mut rest) = (Vec::new(), vec![0; FLIGHT], 0..0);
    loop {
        if handshake.poll_output(&mut out) {
            socket.write_all(&out).await?;
            out.clear();
        }
        if handshake.is_done() {
            break;
        }
        let len = socket.read(&mut buffer).await?;
        if len == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match handshake.handle_input(&buffer[..len]) {
            Ok(taken) => rest = taken..len,
            Err(error) => {
                if handshake.poll_output(&mut out) {
                    // Who cannot be told finds out by the end of the connection.
                    socket.write_all(&out).await.ok();
                }
                return Err(broken(error));
            }
        }
    }
    let established = handshake.finish(Limits::default()).map_err(broken)?;
    let wire = sealing::connection(kernel, socket, established.records, &mut buffer[rest])?;
    Ok((wire, established.alpn))
}

fn over_rustls(stream: impl Into<TlsStream<Socket>>) -> (Wire, Option<Vec<u8>>) {
    let stream = stream.into();
    let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    (Wire::of_rustls(stream), alpn)
}

/// Why HELLO did not come about.
#[derive(Debug)]
pub enum GreetError {
    /// The connection failed.
    Io(std::io::Error),
    /// The peer said something else.
    Hello(HelloError),
}

/// Says HELLO and hears the peer's. `round_trip` is the acceptor's best guess of it.
///
/// # Errors
/// [`GreetError`].
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mine: Hello,
    dialled: bool,
    clock: Clock,
    round_trip: Option<Duration>,
) -> Result<PeerHello, GreetError> {
    let mut out = Vec::new();
    let sent = Instant::now();
    let greeting = if dialled { Greeting::dial(mine, &mut out) } else { Greeting::accept(mine) };
    if !out.is_empty() {
        stream.write_all(&out).await.map_err(GreetError::Io)?;
        stream.flush().await.map_err(GreetError::Io)?;
        out.clear();
    }
    let (kind, payload) = read_frame(stream).await?;
    let now = WallTime::from(clock.now());
    let round_trip = round_trip.unwrap_or_else(|| sent.elapsed());
    let hello = greeting.handle(kind, &payload, now, round_trip, &mut out).map_err(GreetError::Hello)?;
    if !out.is_empty() {
        stream.write_all(&out).await.map_err(GreetError::Io)?;
        stream.flush().await.map_err(GreetError::Io)?;
    }
    Ok(hello)
}

/// Reads one frame and nothing behind it.
async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(Kind, Vec<u8>), GreetError> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await.map_err(GreetError::Io)?;
    let [code, _, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Whatever it is, it is not HELLO: any kind will do to say so.
    let kind = Kind::from_code(code).unwrap_or(Kind::Data);
    if kind != Kind::Hello || !kind.takes(length) {
        return Err(GreetError::Hello(HelloError::NotHello(kind)));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.map_err(GreetError::Io)?;
    Ok((kind, payload))
}

/// A failed HELLO as a failure.
pub fn hello_failure(error: &HelloError) -> Failure {
    Failure::new(Layer::Hello, error.to_string())
}

/// What a dialler knows of a failed handshake: its own judgement of the peer, or the peer's alert and what may be behind it.
fn explain_dial(error: &std::io::Error, verdict: &Verdict, context: &TlsContext) -> Failure {
    if let Some(rejection) = verdict.rejection() {
        return Failure::new(Layer::Identity, format!("this agent refuses the peer's certificate: {rejection}"));
    }
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => explain_alert(*alert, context.identity()),
        Some(other) => Failure::new(Layer::Tls, format!("TLS: {other}: is it an agent that listens there?")),
        None => match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Failure::new(
                Layer::Tls,
                "the peer closed the connection during the handshake: is it an agent, and is it busy or stopping?",
            ),
            std::io::ErrorKind::ConnectionReset => Failure::new(
                Layer::Tls,
                "the peer reset the connection during the handshake: is it an agent, and is it busy or stopping?",
            ),
            _ => Failure::from_io(error),
        },
    }
}

/// What a peer's alert says about this node's own certificate, which is all that TLS tells a dialler.
pub fn explain_alert(alert: rustls::AlertDescription, identity: &crate::identity::Identity) -> Failure {
    use rustls::AlertDescription as Alert;
    let own = describe(identity);
    let (layer, why) = match alert {
        Alert::CertificateExpired => {
            (Layer::Identity, format!("the peer says that this node's certificate is expired or not yet valid ({own})"))
        }
        Alert::UnknownCA => {
            (Layer::Identity, format!("the peer does not know the CA of this node's certificate ({own})"))
        }
        Alert::AccessDenied => (
            Layer::Identity,
            format!(
                "the peer does not take this node for a member of its mesh: is this node in its mesh file? ({own})"
            ),
        ),
        Alert::CertificateRevoked => {
            (Layer::Identity, format!("the peer says that this node's certificate is revoked ({own})"))
        }
        Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateRequired => {
            (Layer::Identity, format!("the peer refuses this node's certificate: {alert:?} ({own})"))
        }
        Alert::NoApplicationProtocol => (Layer::Hello, "the peer does not speak this agent's protocol".to_owned()),
        _ => (Layer::Tls, format!("the peer ended the handshake: {alert:?}")),
    };
    Failure::new(layer, why)
}

fn explain_accept(error: &std::io::Error, verdict: &Verdict) -> Refused {
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    if let Some(rejection) = tls.and_then(|e| verdict.rejection_for(e)).or_else(|| verdict.rejection().cloned()) {
        return Refused::Identity(rejection);
    }
    let (name, detail) = match tls {
        Some(rustls::Error::PeerIncompatible(why)) => {
            ("incompatible", format!("TLS: the peer offers nothing that is accepted here (TLS 1.3 alone is): {why:?}"))
        }
        Some(rustls::Error::InvalidMessage(why)) => ("not_tls", format!("that is not TLS: {why:?}")),
        Some(rustls::Error::NoApplicationProtocol) => {
            ("no_protocol", "the peer names no protocol of this agent (ALPN)".to_owned())
        }
        Some(rustls::Error::AlertReceived(alert)) => ("alert", format!("the peer ended the handshake: {alert:?}")),
        Some(other) => ("tls", format!("TLS: {other}")),
        None => ("lost", format!("lost during the handshake: {error}")),
    };
    Refused::Failed(name, Failure::new(Layer::Tls, detail))
}

/// This node's own certificate, for a message about its refusal.
fn describe(identity: &crate::identity::Identity) -> String {
    use time::format_description::well_known::Rfc3339;
    let date = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    format!(
        "serial {}, valid from {} to {}, issued by {}",
        identity.serial(),
        date(identity.not_before()),
        date(identity.not_after()),
        identity.issuer()
    )
}
