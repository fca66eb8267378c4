//! Pairs of links over two endpoints in one process, and what the tests send over them.

mod bytes;
mod choice;
mod credit;
mod ends;
mod lossy;
mod pinned;
mod rules;

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::MeshName;
use quinn::{Connection, Endpoint};
use tokio::task::JoinSet;

use super::*;
use crate::clock::Clock;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier as _, Received};
use crate::transport::frame::{HEADER, Kind, header};
use crate::transport::hello::{HelloError, PeerHello};
use crate::transport::message::tests::hello_of;
pub(crate) use crate::transport::message::tests::open_request as request;
use crate::transport::message::{Detail, Frame, Hello, Incarnation, Open, Refused, TraceId};

const BOUND: Duration = Duration::from_secs(20);
/// The acceptor's name.
pub(crate) const SERVER: &str = "b.lab";

pub(crate) struct Pair {
    _endpoints: [Endpoint; 2],
    connections: [Connection; 2],
}

/// Two endpoints on loopback with a certificate made for the test, connected.
async fn connect() -> Pair {
    connect_as(transport_config(Algorithm::default())).await
}

/// The same with a dialler that has its own idea of flow control.
async fn connect_as(dialler: TransportConfig) -> Pair {
    connect_via(dialler, async |acceptor| acceptor).await
}

/// The same by way of the address that `via` gives for the acceptor's.
async fn connect_via(dialler: TransportConfig, via: impl AsyncFnOnce(SocketAddr) -> SocketAddr) -> Pair {
    let (server, client) = tls_configs();
    let server = quinn::crypto::rustls::QuicServerConfig::try_from(server).unwrap();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(Arc::new(transport_config(Algorithm::default())));
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(client).unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(Arc::new(dialler));
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let listening = Endpoint::server(server, any).unwrap();
    let dialling = Endpoint::client(any).unwrap();
    let address = via(listening.local_addr().unwrap()).await;
    let dial = dialling.connect_with(client, address, SERVER).unwrap();
    let accept = async { listening.accept().await.unwrap().await.unwrap() };
    let (dialled, accepted) = tokio::join!(dial, accept);
    Pair { connections: [dialled.unwrap(), accepted], _endpoints: [dialling, listening] }
}

/// TLS for the two ends, the acceptor's first, with a certificate made for the test.
pub(crate) fn tls_configs() -> (rustls::ServerConfig, rustls::ClientConfig) {
    let made = rcgen::generate_simple_self_signed(vec![SERVER.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13];
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"adit/1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"adit/1".to_vec()];
    (server, client)
}

async fn greeted(pair: &Pair) -> [(QuicLink, PeerHello); 2] {
    greeted_as(pair, PeerShare::default()).await
}

/// Greets as a peer that shares with its other connections at the acceptor.
async fn greeted_as(pair: &Pair, at_acceptor: PeerShare) -> [(QuicLink, PeerHello); 2] {
    let [a, b] = pair.connections.clone();
    let clock = Clock::default();
    let (a, b) = tokio::join!(
        QuicLink::handshake(a, hello_of(Incarnation(1)), true, &clock, PeerShare::default()),
        QuicLink::handshake(b, hello_of(Incarnation(2)), false, &clock, at_acceptor)
    );
    [a.unwrap(), b.unwrap()]
}

pub(crate) async fn links() -> (Pair, QuicLink, QuicLink) {
    let pair = connect().await;
    let [(a, _), (b, _)] = greeted(&pair).await;
    (pair, a, b)
}

/// A stream from one link to the other, accepted.
async fn streams(a: &QuicLink, b: &QuicLink) -> (QuicStream, QuicStream) {
    let (opened, asked) = tokio::join!(a.open(request()), b.accept());
    let mut opened = opened.unwrap();
    let accepted = asked.unwrap().accept(Detail::new("127.0.0.1:5432"));
    assert_eq!(opened.opened().await.unwrap().unwrap().target.as_str(), "127.0.0.1:5432");
    (opened, accepted)
}

/// The byte at `index` of what is sent in the direction `seed`.
fn byte(seed: u64, index: u64) -> u8 {
    let mixed = (index / 8 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).to_le_bytes()[usize::try_from(index % 8).unwrap()]
}

/// Sends `bytes` and then FIN.
async fn send(stream: &mut QuicStream, seed: u64, bytes: u64) -> Result<(), Broken> {
    push(stream, seed, 0, bytes).await?;
    stream.finish();
    poll_fn(|cx| stream.poll_flush(cx)).await
}

async fn push(stream: &mut QuicStream, seed: u64, from: u64, to: u64) -> Result<(), Broken> {
    let mut at = from;
    while at < to {
        poll_fn(|cx| stream.poll_slot(cx)).await?;
        let slot = stream.slot();
        let len = slot.len().min(usize::try_from(to - at).unwrap());
        slot[..len].iter_mut().zip(at..).for_each(|(place, index)| *place = byte(seed, index));
        stream.commit(len);
        at += len as u64;
    }
    poll_fn(|cx| stream.poll_flush(cx)).await
}

/// Takes everything up to the end, checks it, and gives its length and how it ended.
async fn drain(stream: &mut QuicStream, seed: u64) -> (u64, Result<Received, Broken>) {
    let mut at = 0;
    loop {
        match poll_fn(|cx| stream.poll_received(cx)).await {
            Ok(Received::Data) => at += take(stream, seed, at),
            end => return (at, end),
        }
    }
}

fn take(stream: &mut QuicStream, seed: u64, at: u64) -> u64 {
    let chunk = stream.chunk();
    assert!(!chunk.is_empty() && chunk.iter().zip(at..).all(|(&got, index)| got == byte(seed, index)), "wrong bytes");
    let len = chunk.len();
    stream.consume(len);
    len as u64
}

/// Both directions at once, from one task, as the splice does it.
async fn exchange(stream: &mut QuicStream, [mine, theirs]: [u64; 2], bytes: u64) -> u64 {
    let (mut sent, mut got, mut over) = (0, 0, false);
    poll_fn(|cx| {
        while sent < bytes && stream.poll_slot(cx)?.is_ready() {
            let slot = stream.slot();
            let len = slot.len().min(usize::try_from(bytes - sent).unwrap());
            slot[..len].iter_mut().zip(sent..).for_each(|(place, index)| *place = byte(mine, index));
            stream.commit(len);
            sent += len as u64;
            if sent == bytes {
                stream.finish();
            }
        }
        while !over && let std::task::Poll::Ready(received) = stream.poll_received(cx)? {
            match received {
                Received::Data => got += take(stream, theirs, got),
                Received::Fin => over = true,
                Received::Reset(reason) => panic!("{reason}"),
            }
        }
        let flushed = stream.poll_flush(cx)?.is_ready();
        if over && sent == bytes && flushed {
            std::task::Poll::Ready(Ok::<_, Broken>(()))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
    .unwrap();
    got
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, what).await.expect("in time")
}

/// Has a reader drain quickly, so that its window grows, and then stop: the sender fills all that it may. Gives how much is
/// left unread.
async fn stall(near: &mut QuicStream, far: &mut QuicStream) -> u64 {
    let grow = 2 << 20;
    let taking = async {
        let mut at = 0;
        while at < grow {
            assert_eq!(poll_fn(|cx| far.poll_received(cx)).await.unwrap(), Received::Data);
            at += take(far, 3, at);
        }
    };
    let (sent, ()) = tokio::join!(push(near, 3, 0, grow), taking);
    sent.unwrap();
    let mut at = grow;
    loop {
        let more = async {
            let pushing = push(near, 3, at, at + 16384);
            tokio::pin!(pushing);
            poll_fn(|cx| {
                // What comes is read, as the splice does it, and not taken.
                let _unread = far.poll_received(cx)?;
                pushing.as_mut().poll(cx)
            })
            .await
        };
        match tokio::time::timeout(Duration::from_millis(20), more).await {
            Ok(sent) => sent.unwrap(),
            Err(_) => return at - grow,
        }
        at += 16384;
    }
}
