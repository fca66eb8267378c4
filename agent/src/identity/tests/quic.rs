use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration as Span;

use quinn::{ClientConfig, ConnectionError, Endpoint, ServerConfig, TransportErrorCode};
use rustls::AlertDescription;
use time::Duration;

use super::super::{ALPN_CTL, ALPN_QUIC, Rejection, TlsContext, Verdict};
use super::support::*;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// One QUIC handshake over loopback: what each end saw, and its verdict.
async fn connect(
    dialler: &TlsContext,
    acceptor: &TlsContext,
    peer: &str,
) -> ((Option<ConnectionError>, Verdict), (Option<ConnectionError>, Verdict)) {
    let (default, _) = acceptor.quic_server(&[ALPN_QUIC]).unwrap();
    let server = Endpoint::server(ServerConfig::with_crypto(default), LOOPBACK).unwrap();
    let client = Endpoint::client(LOOPBACK).unwrap();
    let (config, name, dialled) = dialler.quic_client(&node(peer), ALPN_QUIC).unwrap();
    let address = server.local_addr().unwrap();
    let connecting = client.connect_with(ClientConfig::new(config), address, &name).unwrap();

    let accept = async {
        let (config, accepted) = acceptor.quic_server(&[ALPN_CTL, ALPN_QUIC]).unwrap();
        let config = Arc::new(ServerConfig::with_crypto(config));
        let connection = match server.accept().await.unwrap().accept_with(config).unwrap().await {
            Ok(connection) => connection,
            Err(error) => return (Some(error), accepted),
        };
        // The dialler says when it has seen enough.
        let end = connection.closed().await;
        let graceful = matches!(&end, ConnectionError::ApplicationClosed(_));
        ((!graceful).then_some(end), accepted)
    };
    let dial = async {
        let connection = match connecting.await {
            Ok(connection) => connection,
            Err(error) => return (Some(error), dialled),
        };
        // In TLS 1.3 the dialler's handshake ends before the acceptor has judged it.
        let handshake_confirmed = connection.accept_uni();
        let end = tokio::select! {
            end = connection.closed() => Some(end),
            end = handshake_confirmed => end.err(),
            () = until_accepted(&connection) => None,
        };
        connection.close(0u32.into(), b"");
        (end, dialled)
    };
    let both = tokio::time::timeout(Span::from_secs(10), async { tokio::join!(dial, accept) });
    let outcome = both.await.expect("a handshake on loopback ends");
    client.wait_idle().await;
    outcome
}

/// The acceptor's transport acknowledges a stream only after it has the dialler's certificate.
async fn until_accepted(connection: &quinn::Connection) {
    if let Ok(mut stream) = connection.open_uni().await {
        let sent = stream.write_all(b"x").await.is_ok() && stream.finish().is_ok();
        if sent && stream.stopped().await.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn beta(pki: &Pki, issued: &Issued) -> TlsContext {
    context_of(issued.identity("beta"), pki.trust(), List::default(), Duration::ZERO)
}

#[test]
fn two_members_prove_themselves_over_quic() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), Duration::ZERO);
    let beta = beta(&pki, &pki.node("beta"));
    let ((dial_error, dialled), (accept_error, accepted)) = run(connect(&alpha, &beta, "beta"));
    assert!(dial_error.is_none() && accept_error.is_none(), "{dial_error:?} {accept_error:?}");
    assert_eq!(dialled.peer().unwrap().node(), &node("beta"));
    assert_eq!(accepted.peer().unwrap().node(), &node("alpha"));
}

#[test]
fn over_quic_the_dialler_refuses_another_member() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), Duration::ZERO);
    let beta = beta(&pki, &pki.node("beta"));
    let ((_, dialled), (accept_error, _)) = run(connect(&alpha, &beta, "gamma"));
    assert_eq!(dialled.rejection().map(Rejection::name), Some("wrong_node"));
    assert_eq!(told(accept_error), Some(TransportErrorCode::crypto(u8::from(AlertDescription::AccessDenied))));
}

#[test]
fn over_quic_the_acceptor_refuses_a_revoked_member() {
    let pki = Pki::new();
    let issued = pki.node("beta");
    let list = List { keys: vec![*issued.identity("beta").spki_sha256()], serials: vec![] };
    let alpha = context(&pki, list, Duration::ZERO);
    let ((dial_error, _), (_, accepted)) = run(connect(&beta(&pki, &issued), &alpha, "alpha"));
    assert_eq!(accepted.rejection().map(Rejection::name), Some("revoked"));
    assert_eq!(told(dial_error), Some(TransportErrorCode::crypto(u8::from(AlertDescription::CertificateRevoked))));
}

/// The code with which the other end closed the connection.
fn told(error: Option<ConnectionError>) -> Option<TransportErrorCode> {
    match error {
        Some(ConnectionError::ConnectionClosed(close)) => Some(close.error_code),
        _ => None,
    }
}
