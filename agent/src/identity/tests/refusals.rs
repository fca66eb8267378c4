use std::sync::Arc;

use mesh_config::published::{Generation, Tombstone, Tombstones};
use mesh_config::{Digest, MeshVersion};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, Error};
use time::Duration;

use super::super::tls::PROVIDER;
use super::super::{ALPN_LANE, Rejection, Removed};
use super::support::*;

const NO_SHIFT: Duration = Duration::ZERO;

fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
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
        case("our own name", pki.node("alpha"), "own_name", AlertDescription::AccessDenied),
        case(
            "a name outside the constraint of its CA",
            beta(|p| p.subject_alt_names = vec![uri("spiffe://lap/node/beta"), dns("beta.lap")]),
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
fn the_key_of_a_node_that_was_taken_out_is_refused_and_another_of_the_same_name_is_not() {
    let pki = Pki::new();
    let (old, new) = (pki.node("beta"), pki.node("beta"));
    let tombstone = Tombstone {
        generation: Generation::FIRST,
        version: MeshVersion::new(3).unwrap(),
        key: Digest::from_bytes(*old.identity("beta").spki_sha256()),
        node: node("beta"),
    };
    let mut tombstones = Tombstones::default();
    tombstones.extend([&tombstone]);
    let list = Arc::new(Removed(Arc::new(tombstones)));
    let alpha = context_by(pki.node("alpha").identity("alpha"), pki.trust(), list.clone(), NO_SHIFT);
    let (client, sni, verdict) = alpha.dial(&node("beta"), ALPN_LANE).unwrap();
    let ends = handshake(client, sni, credulous_server(&old));
    let told = ends.server_error.as_ref();
    check_refusal("the old key", verdict.rejection(), "revoked", told, AlertDescription::CertificateRevoked);
    assert!(verdict.rejection().unwrap().to_string().contains("taken out of the mesh"));
    let (client, sni, verdict) = alpha.dial(&node("beta"), ALPN_LANE).unwrap();
    assert!(handshake(client, sni, credulous_server(&new)).established());
    assert!(!verdict.peer().unwrap().is_revoked(&*list), "nor is it once it is proven");
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
    let thief = Thief(Arc::new(rustls::sign::CertifiedKey::new(
        pki.node("beta").chain,
        PROVIDER.key_provider.load_private_key(pki.node("gamma").key_der()).unwrap(),
    )));
    let mut config = rustls::ServerConfig::clone(&credulous_server(&pki.node("beta")));
    config.cert_resolver = Arc::new(thief);
    let (client, sni, verdict) = alpha.dial(&node("beta"), ALPN_LANE).unwrap();
    let ends = handshake(client, sni, config.into());
    assert!(!ends.established());
    assert!(verdict.peer().is_none(), "a peer is proven only by its signature");
    assert_eq!(verdict.rejection().map(Rejection::name), Some("bad_signature"));
    assert_eq!(alert(ends.server_error.as_ref()), Some(AlertDescription::DecryptError));
}

#[derive(Debug)]
struct Thief(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Thief {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
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
