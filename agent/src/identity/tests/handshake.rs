use rcgen::KeyPair;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConnection, Connection, Error, HandshakeKind, NamedGroup, PeerIncompatible,
    ProtocolVersion, ServerConnection,
};
use time::Duration;

use super::super::tls::PROVIDER;
use super::super::{ALPN_CTL, ALPN_LANE, TlsContext};
use super::support::*;

const NO_SHIFT: Duration = Duration::ZERO;

fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
}

#[test]
fn two_members_prove_themselves_to_each_other() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), NO_SHIFT);
    let beta = context_of(pki.node("beta").identity("beta"), pki.trust(), List::default(), NO_SHIFT);

    let (client, sni, dialled) = alpha.dial(&node("beta"), ALPN_CTL).unwrap();
    let (server, accepted) = beta.accept(&[ALPN_LANE, ALPN_CTL]).unwrap();
    assert!(dialled.peer().is_none() && accepted.rejection().is_none(), "nothing is known before the handshake");
    let ends = handshake(client, sni, server);

    assert!(ends.established(), "{:?} {:?}", ends.client_error, ends.server_error);
    assert_eq!(dialled.peer().unwrap().node(), &node("beta"));
    assert_eq!(accepted.peer().unwrap().node(), &node("alpha"));
    let peer = accepted.peer().unwrap();
    assert_eq!(peer.spki_sha256(), alpha.identity().spki_sha256());
    assert_eq!(peer.serial(), alpha.identity().serial());
    assert_eq!(peer.issuer(), "CN=lab intermediate");
    assert_eq!(peer.not_after(), alpha.identity().not_after());
    assert_eq!(ends.server.server_name(), Some("beta.lab"));
    assert_eq!(ends.server.alpn_protocol(), Some(ALPN_CTL));
    assert_eq!(ends.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = ends.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(ends.client.negotiated_cipher_suite(), Some(PROVIDER.cipher_suites[0]));
}

fn only(groups: &[&'static dyn rustls::crypto::SupportedKxGroup]) -> std::sync::Arc<CryptoProvider> {
    CryptoProvider { kx_groups: groups.to_vec(), ..CryptoProvider::clone(&PROVIDER) }.into()
}

#[test]
fn x25519_alone_is_enough_and_p256_is_not() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), NO_SHIFT);
    let beta = pki.node("beta");
    let (server, verdict) = alpha.accept(&[ALPN_LANE]).unwrap();
    let ends = handshake(credulous_client(Some(&beta), only(&[kx_group::X25519])), name("alpha.lab"), server);
    assert!(ends.established() && verdict.peer().is_some());

    for group in [kx_group::SECP256R1, kx_group::SECP384R1, kx_group::MLKEM768] {
        let (server, _) = alpha.accept(&[ALPN_LANE]).unwrap();
        let ends = handshake(credulous_client(Some(&beta), only(&[group])), name("alpha.lab"), server);
        let refused = Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon);
        assert_eq!(ends.server_error, Some(refused), "{group:?}");
        assert_eq!(alert(ends.client_error.as_ref()), Some(AlertDescription::HandshakeFailure));
    }
}

#[test]
fn what_is_offered_is_two_groups_and_three_suites() {
    let groups: Vec<_> = PROVIDER.kx_groups.iter().map(|g| g.name()).collect();
    assert_eq!(groups, [NamedGroup::X25519MLKEM768, NamedGroup::X25519]);
    assert_eq!(PROVIDER.cipher_suites.len(), 3);
    assert!(PROVIDER.cipher_suites.iter().all(|suite| suite.tls13().is_some()));
    let alpha = context(&Pki::new(), List::default(), NO_SHIFT);
    let (client, _, _) = alpha.dial(&node("beta"), ALPN_LANE).unwrap();
    let (server, _) = alpha.accept(&[ALPN_LANE]).unwrap();
    assert!(client.cert_compressors.is_empty() && client.cert_decompressors.is_empty());
    assert!(server.cert_compressors.is_empty() && server.cert_decompressors.is_empty());
}

/// A ClientHello as a TLS 1.2 client sends it (RFC 5246 §7.4.1.2): no supported_versions.
fn tls12_client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // no session
    body.extend([0, 2, 0xc0, 0x2b]); // ECDHE-ECDSA-AES128-GCM-SHA256
    body.extend([1, 0]); // no compression
    let groups = [0, 10, 0, 4, 0, 2, 0, 29];
    let schemes = [0, 13, 0, 4, 0, 2, 4, 3];
    body.extend([0, 16]);
    body.extend(groups);
    body.extend(schemes);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

#[test]
fn a_tls_1_2_client_is_told_the_protocol_version() {
    let (server, _) = context(&Pki::new(), List::default(), NO_SHIFT).accept(&[ALPN_LANE]).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut error = None;
    deliver(&tls12_client_hello(), &mut server, &mut error);
    assert!(matches!(error, Some(Error::PeerIncompatible(_))), "{error:?}");
    // A fatal alert, protocol_version (70), in the clear.
    assert_eq!(sent(&mut server), [21, 3, 3, 0, 2, 2, 70]);
}

#[test]
fn nothing_is_resumed_and_no_tickets_are_sent() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), NO_SHIFT);
    // A client that would resume if it could, twice to the same server configuration.
    let client = credulous_client(Some(&pki.node("beta")), PROVIDER.clone());
    let (server, _) = alpha.accept(&[ALPN_LANE]).unwrap();
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    for _ in 0..2 {
        let ends = handshake(client.clone(), name("alpha.lab"), server.clone());
        assert!(ends.established());
        assert_eq!(ends.client.tls13_tickets_received(), 0);
        assert_eq!(ends.client.handshake_kind(), Some(HandshakeKind::Full));
    }
    // And a server that hands out tickets meets a client that keeps none.
    let beta = credulous_server(&pki.node("beta"));
    let (client, sni, _) = alpha.dial(&node("beta"), ALPN_LANE).unwrap();
    assert!(!client.enable_early_data);
    for _ in 0..2 {
        let ends = handshake(client.clone(), sni.clone(), beta.clone());
        assert!(ends.client_error.is_none());
        assert_eq!(ends.client.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn plaintext_after_keys_is_fatal() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), NO_SHIFT);
    let handshake_message = [22, 3, 3, 0, 4, 20, 0, 0, 0].as_slice();
    let alert_message = [21, 3, 3, 0, 2, 1, 0].as_slice();
    let data = [23, 3, 3, 0, 5, b'h', b'e', b'l', b'l', b'o'].as_slice();
    for plaintext in [handshake_message, alert_message, data] {
        let (server, _) = alpha.accept(&[ALPN_LANE]).unwrap();
        let client = credulous_client(Some(&pki.node("beta")), PROVIDER.clone());
        let mut ends = handshake(client, name("alpha.lab"), server);
        assert!(ends.established());
        deliver(plaintext, &mut ends.server, &mut ends.server_error);
        assert!(ends.server_error.is_some(), "{plaintext:?}");
        let mut again = None;
        deliver(plaintext, &mut ends.server, &mut again);
        assert_eq!(again, ends.server_error, "the connection stays dead");
    }
}

#[test]
fn an_unknown_protocol_is_refused() {
    let pki = Pki::new();
    let (server, _) = context(&pki, List::default(), NO_SHIFT).accept(&[ALPN_CTL]).unwrap();
    let ends = handshake(credulous_client(Some(&pki.node("beta")), PROVIDER.clone()), name("alpha.lab"), server);
    assert_eq!(alert(ends.client_error.as_ref()), Some(AlertDescription::NoApplicationProtocol));
}

#[test]
fn every_kind_of_key_makes_a_node() {
    let pki = Pki::new();
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let beta = pki.issue_for(leaf_params("beta"), KeyPair::generate_for(algorithm).unwrap());
        let (server, verdict) = context(&pki, List::default(), NO_SHIFT).accept(&[ALPN_LANE]).unwrap();
        let ends = handshake(credulous_client(Some(&beta), PROVIDER.clone()), name("alpha.lab"), server);
        assert!(ends.established() && verdict.peer().is_some(), "{algorithm:?}: {:?}", ends.server_error);
    }
}

fn pump(from: &mut Connection, to: &mut Connection) -> bool {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().unwrap();
    }
    !bytes.is_empty()
}

/// Not a benchmark: it prints what one handshake's configurations cost, and holds a generous bound.
#[test]
fn a_configuration_for_each_handshake_is_cheap() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), NO_SHIFT);
    let beta = context_of(pki.node("beta").identity("beta"), pki.trust(), List::default(), NO_SHIFT);
    let peer = node("beta");
    let rounds = 2_000u32;
    let micros = |what: &dyn Fn()| {
        let start = std::time::Instant::now();
        (0..rounds).for_each(|_| what());
        start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    };
    let dial = micros(&|| drop(alpha.dial(&peer, ALPN_LANE).unwrap()));
    let accept = micros(&|| drop(beta.accept(&[ALPN_LANE, ALPN_CTL]).unwrap()));
    let chain = pki.node("beta").chain;
    let verify = micros(&|| {
        let judge = alpha.judge();
        drop(judge.verify(&chain, &super::super::Expected::AnyMember, super::super::Purpose::Client, now()).unwrap());
    });
    let whole = |alpha: &TlsContext, beta: &TlsContext| {
        let (client, sni, _) = alpha.dial(&peer, ALPN_LANE).unwrap();
        let (server, _) = beta.accept(&[ALPN_LANE]).unwrap();
        let mut client = Connection::Client(ClientConnection::new(client, sni).unwrap());
        let mut server = Connection::Server(ServerConnection::new(server).unwrap());
        while pump(&mut client, &mut server) | pump(&mut server, &mut client) {}
        assert!(!client.is_handshaking() && !server.is_handshaking());
    };
    let start = std::time::Instant::now();
    (0..200).for_each(|_| whole(&alpha, &beta));
    let handshake = start.elapsed().as_secs_f64() * 1e6 / 200.0;
    println!("dial {dial:.1} µs, accept {accept:.1} µs, verify {verify:.0} µs, both ends' handshake {handshake:.0} µs");
    assert!(dial < 200.0 && accept < 200.0, "dial {dial:.1} µs, accept {accept:.1} µs");
}

#[test]
fn a_client_hello_one_byte_a_segment_is_a_client_hello() {
    let pki = Pki::new();
    let (server, verdict) = context(&pki, List::default(), NO_SHIFT).accept(&[ALPN_LANE]).unwrap();
    let client = credulous_client(Some(&pki.node("beta")), PROVIDER.clone());
    let mut client = ClientConnection::new(client, name("alpha.lab")).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    for _ in 0..3 {
        for byte in sent(&mut client) {
            deliver(&[byte], &mut server, &mut server_error);
        }
        for byte in sent(&mut server) {
            deliver(&[byte], &mut client, &mut client_error);
        }
    }
    assert!(client_error.is_none() && server_error.is_none() && verdict.peer().is_some());
}

#[test]
fn a_close_right_after_the_client_hello_ends_the_handshake() {
    let pki = Pki::new();
    let (server, verdict) = context(&pki, List::default(), NO_SHIFT).accept(&[ALPN_LANE]).unwrap();
    let client = credulous_client(Some(&pki.node("beta")), PROVIDER.clone());
    let mut client = ClientConnection::new(client, name("alpha.lab")).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut error = None;
    let mut bytes = sent(&mut client);
    bytes.extend([21, 3, 3, 0, 2, 1, 0]);
    deliver(&bytes, &mut server, &mut error);
    assert!(error.is_some() || server.process_new_packets().is_ok_and(|state| state.peer_has_closed()));
    assert!(server.is_handshaking() && verdict.peer().is_none());
}
