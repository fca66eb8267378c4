use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConnection, Connection, Error, HandshakeKind, NamedGroup, PeerIncompatible,
    ProtocolVersion, ServerConnection,
};
use time::Duration;

use super::super::tls::PROVIDER;
use super::super::{ALPN_CTL, ALPN_LANE, Rejection, TlsContext};
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

/// What alpha makes of a peer, and what that peer is told, whichever of the two dialled.
struct Case {
    what: &'static str,
    peer: Issued,
    list: List,
    shift: Duration,
    rejection: &'static str,
    alert: AlertDescription,
}

fn bad_peers(pki: &Pki) -> Vec<Case> {
    let case =
        |what, peer, rejection, alert| Case { what, peer, list: List::default(), shift: NO_SHIFT, rejection, alert };
    let beta = |change: fn(&mut CertificateParams)| {
        let mut params = leaf_params("beta");
        change(&mut params);
        pki.issue(params)
    };
    let revoked = pki.node("beta");
    let list = List { keys: vec![*revoked.identity("beta").spki_sha256()], serials: vec![] };
    let mut reflected = pki.node("alpha");
    reflected.chain.truncate(2);
    let mut forged = pki.node("beta");
    let mut bytes = forged.chain[0].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    forged.chain[0] = bytes.into();
    vec![
        Case {
            shift: Duration::days(8),
            ..case("expired", pki.node("beta"), "expired", AlertDescription::CertificateExpired)
        },
        Case {
            shift: Duration::minutes(-10),
            ..case("not yet valid", pki.node("beta"), "not_yet_valid", AlertDescription::CertificateExpired)
        },
        case("another CA of the same name", Pki::new().node("beta"), "unknown_ca", AlertDescription::UnknownCA),
        case(
            "another CA of another name",
            Pki::with(ca_params("elsewhere", 1), |_| {}).node("beta"),
            "unknown_ca",
            AlertDescription::UnknownCA,
        ),
        case(
            "a chain without its intermediate",
            {
                let mut peer = pki.node("beta");
                peer.chain.truncate(1);
                peer
            },
            "unknown_ca",
            AlertDescription::UnknownCA,
        ),
        case("a wrong signature", forged, "bad_signature", AlertDescription::BadCertificate),
        Case { list, ..case("revoked", revoked, "revoked", AlertDescription::CertificateRevoked) },
        case(
            "no extended key usage",
            beta(|p| p.extended_key_usages.clear()),
            "profile",
            AlertDescription::BadCertificate,
        ),
        case(
            "any extended key usage",
            beta(|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::Any)),
            "profile",
            AlertDescription::BadCertificate,
        ),
        case("our own name", reflected, "own_name", AlertDescription::AccessDenied),
        case(
            "another mesh",
            Issued { ..beta(|p| p.subject_alt_names = vec![uri("spiffe://lap/node/beta"), dns("beta.lap")]) },
            "profile",
            AlertDescription::BadCertificate,
        ),
    ]
}

fn check_refusal(
    what: &str,
    rejection: Option<&Rejection>,
    wanted: &str,
    told: Option<&Error>,
    sent: AlertDescription,
) {
    let rejection = rejection.unwrap_or_else(|| panic!("{what}: not refused"));
    assert_eq!(rejection.name(), wanted, "{what}: {rejection}");
    assert_eq!(rejection.alert(), sent, "{what}");
    assert_eq!(alert(told), Some(sent), "{what}: the peer was told {told:?}");
    assert!(!rejection.hint().is_empty() && Rejection::NAMES.contains(&rejection.name()));
}

#[test]
fn a_dialler_tells_a_bad_acceptor_why() {
    let pki = Pki::new();
    for case in bad_peers(&pki) {
        let alpha = context(&pki, case.list, case.shift);
        let dialled = if case.rejection == "own_name" { "alpha" } else { "beta" };
        let (client, sni, verdict) = alpha.dial(&node(dialled), ALPN_LANE).unwrap();
        let ends = handshake(client, sni, credulous_server(&case.peer));
        assert!(!ends.established() && verdict.peer().is_none(), "{}", case.what);
        check_refusal(case.what, verdict.rejection(), case.rejection, ends.server_error.as_ref(), case.alert);
    }
}

#[test]
fn an_acceptor_tells_a_bad_dialler_why() {
    let pki = Pki::new();
    for case in bad_peers(&pki) {
        let alpha = context(&pki, case.list, case.shift);
        let (server, verdict) = alpha.accept(&[ALPN_LANE]).unwrap();
        let ends = handshake(credulous_client(Some(&case.peer), PROVIDER.clone()), name("alpha.lab"), server);
        assert!(!ends.established() && verdict.peer().is_none(), "{}", case.what);
        check_refusal(case.what, verdict.rejection(), case.rejection, ends.client_error.as_ref(), case.alert);
    }
}

#[test]
fn a_dialler_accepts_no_other_member_than_the_one_it_dialled() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), NO_SHIFT);
    let (client, sni, verdict) = alpha.dial(&node("beta"), ALPN_LANE).unwrap();
    let ends = handshake(client, sni, credulous_server(&pki.node("gamma")));
    let told = ends.server_error.as_ref();
    check_refusal("gamma", verdict.rejection(), "wrong_node", told, AlertDescription::AccessDenied);
    assert!(verdict.rejection().unwrap().to_string().contains("is node gamma's, but beta was dialled"));
}

#[test]
fn an_acceptor_accepts_only_nodes_that_the_mesh_has() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), NO_SHIFT);
    let (server, verdict) = alpha.accept(&[ALPN_LANE]).unwrap();
    let ends = handshake(credulous_client(Some(&pki.node("delta")), PROVIDER.clone()), name("alpha.lab"), server);
    let told = ends.client_error.as_ref();
    check_refusal("delta", verdict.rejection(), "not_a_member", told, AlertDescription::AccessDenied);
}

#[test]
fn a_node_of_another_mesh_under_the_same_ca_is_refused() {
    let pki = Pki::with(ca_params("lab root", 1), |p| p.name_constraints = None);
    let mut params = leaf_params("beta");
    params.subject_alt_names = vec![uri("spiffe://lap/node/beta"), dns("beta.lap")];
    let alpha = context(&pki, List::default(), NO_SHIFT);
    let (server, verdict) = alpha.accept(&[ALPN_LANE]).unwrap();
    let ends = handshake(credulous_client(Some(&pki.issue(params)), PROVIDER.clone()), name("alpha.lab"), server);
    let told = ends.client_error.as_ref();
    check_refusal("lap", verdict.rejection(), "wrong_mesh", told, AlertDescription::AccessDenied);
}

#[test]
fn another_name_on_our_own_key_is_refused() {
    let pki = Pki::new();
    let own = pki.node("alpha");
    let identity = own.identity("alpha");
    let copied = pki.issue_for(leaf_params("beta"), own.key);
    let alpha = context_of(identity, pki.trust(), List::default(), NO_SHIFT);
    let (server, verdict) = alpha.accept(&[ALPN_LANE]).unwrap();
    let ends = handshake(credulous_client(Some(&copied), PROVIDER.clone()), name("alpha.lab"), server);
    let told = ends.client_error.as_ref();
    check_refusal("copied key", verdict.rejection(), "own_name", told, AlertDescription::AccessDenied);
}

#[test]
fn a_peer_without_a_certificate_is_refused() {
    let pki = Pki::new();
    let (server, verdict) = context(&pki, List::default(), NO_SHIFT).accept(&[ALPN_LANE]).unwrap();
    let ends = handshake(credulous_client(None, PROVIDER.clone()), name("alpha.lab"), server);
    let rejection = verdict.rejection_for(ends.server_error.as_ref().unwrap());
    check_refusal(
        "none",
        rejection.as_ref(),
        "no_certificate",
        ends.client_error.as_ref(),
        AlertDescription::CertificateRequired,
    );
}

/// It shows beta's certificate and signs with a key of its own.
#[test]
fn a_stolen_certificate_without_its_key_proves_nothing() {
    let pki = Pki::new();
    let alpha = context(&pki, List::default(), NO_SHIFT);
    let thief = Thief(std::sync::Arc::new(rustls::sign::CertifiedKey::new(
        pki.node("beta").chain,
        PROVIDER.key_provider.load_private_key(pki.node("gamma").key_der()).unwrap(),
    )));
    let mut config = rustls::ServerConfig::clone(&credulous_server(&pki.node("beta")));
    config.cert_resolver = std::sync::Arc::new(thief);
    let (client, sni, verdict) = alpha.dial(&node("beta"), ALPN_LANE).unwrap();
    let ends = handshake(client, sni, config.into());
    assert!(!ends.established());
    assert!(verdict.peer().is_none(), "a peer is proven only by its signature");
    assert_eq!(verdict.rejection().map(Rejection::name), Some("bad_signature"));
    assert_eq!(alert(ends.server_error.as_ref()), Some(AlertDescription::DecryptError));
}

#[derive(Debug)]
struct Thief(std::sync::Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Thief {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn a_chain_bomb_is_refused_before_it_is_parsed() {
    let pki = Pki::new();
    let mut bomb = pki.node("beta");
    let more = bomb.chain[1].clone();
    bomb.chain.extend(std::iter::repeat_n(more, 98));
    let (server, verdict) = context(&pki, List::default(), NO_SHIFT).accept(&[ALPN_LANE]).unwrap();
    let ends = handshake(credulous_client(Some(&bomb), PROVIDER.clone()), name("alpha.lab"), server);
    let told = ends.client_error.as_ref();
    check_refusal("bomb", verdict.rejection(), "profile", told, AlertDescription::BadCertificate);
    assert!(verdict.rejection().unwrap().to_string().contains("100 certificates"));
}

#[test]
fn a_chain_of_too_many_bytes_is_refused_before_it_is_parsed() {
    let pki = Pki::new();
    let mut params = leaf_params("beta");
    params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![0; 17 * 1024])];
    let (server, verdict) = context(&pki, List::default(), NO_SHIFT).accept(&[ALPN_LANE]).unwrap();
    let ends = handshake(credulous_client(Some(&pki.issue(params)), PROVIDER.clone()), name("alpha.lab"), server);
    let told = ends.client_error.as_ref();
    check_refusal("bomb", verdict.rejection(), "profile", told, AlertDescription::BadCertificate);
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
    for _ in 0..2 {
        let ends = handshake(client.clone(), name("alpha.lab"), server.clone());
        assert!(ends.established());
        assert_eq!(ends.client.tls13_tickets_received(), 0);
        assert_eq!(ends.client.handshake_kind(), Some(HandshakeKind::Full));
    }
    // And a server that hands out tickets meets a client that keeps none.
    let beta = credulous_server(&pki.node("beta"));
    let (client, sni, _) = alpha.dial(&node("beta"), ALPN_LANE).unwrap();
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
