use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::pki_types::CertificateDer;
use time::Duration;

use super::super::certificate::{Certificate, Place};
use super::super::{
    ALPN_LANE, CertificateId, CrlError, Expected, Limits, Purpose, Rejection, Trust, VerifiedPeer, verify_chain,
};
use super::support::*;

fn id(der: &CertificateDer<'_>) -> CertificateId {
    Certificate::parse(Place::Leaf, der).unwrap().id()
}

fn verify(pki: &Pki, list: List, chain: &[CertificateDer<'_>]) -> Result<VerifiedPeer, Rejection> {
    context(pki, list, Duration::ZERO).judge().verify(chain, &Expected::AnyMember, Purpose::Client, now())
}

fn by_serial(id: &CertificateId) -> List {
    List { serials: vec![(id.issuer_der().to_vec(), id.serial().to_vec())], keys: vec![] }
}

fn by_key(id: &CertificateId) -> List {
    List { serials: vec![], keys: vec![*id.spki_sha256()] }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..128 => out.push(u8::try_from(length).unwrap()),
        128..256 => out.extend([0x81, u8::try_from(length).unwrap()]),
        _ => out.extend([0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 255).unwrap()]),
    }
    out.extend(content);
    out
}

/// A DER INTEGER of these big-endian octets.
fn integer(octets: &[u8]) -> Vec<u8> {
    let start = octets.iter().position(|b| *b != 0).unwrap();
    let mut content = octets[start..].to_vec();
    if content[0] & 0x80 != 0 {
        content.insert(0, 0);
    }
    tlv(2, &content)
}

/// The same certificate with its ECDSA signature (r, s) written as (r, n − s), which verifies just as well.
fn with_other_signature(der: &CertificateDer<'_>) -> CertificateDer<'static> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let cert = Certificate::parse(Place::Leaf, der).unwrap();
    let signature = &cert.x509.signature_value.data;
    let r_length = usize::from(signature[3]);
    let r = &signature[4..4 + r_length];
    let s = &signature[4 + r_length + 2..];
    let mut padded = [0u8; 32];
    let s = if s.len() == 33 { &s[1..] } else { s };
    padded[32 - s.len()..].copy_from_slice(s);
    let mut other = [0u8; 32];
    let mut borrow = 0i16;
    for n in (0..32).rev() {
        let digit = i16::from(ORDER[n]) - i16::from(padded[n]) - borrow;
        borrow = i16::from(digit < 0);
        other[n] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    let signature = tlv(0x30, &[tlv(2, r), integer(&other)].concat());
    let algorithm = tlv(0x30, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
    let tbs = cert.x509.tbs_certificate.as_ref();
    let bits = tlv(3, &[&[0], signature.as_slice()].concat());
    tlv(0x30, &[tbs, &algorithm, &bits].concat()).into()
}

#[test]
fn a_re_encoded_signature_does_not_escape_revocation() {
    let pki = Pki::new();
    let chain = pki.node("beta").chain;
    let other = [with_other_signature(&chain[0]), chain[1].clone()];
    assert_ne!(chain[0], other[0]);
    let cert = Certificate::parse(Place::Leaf, &other[0]).unwrap();
    let issuer = Certificate::parse(Place::Intermediate, &chain[1]).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &issuer.x509.public_key().subject_public_key.data)
        .verify(cert.x509.tbs_certificate.as_ref(), &cert.x509.signature_value.data)
        .expect("the other signature is valid");
    verify(&pki, List::default(), &other).expect("and the certificate is accepted while it is not revoked");

    for list in [by_serial(&id(&chain[0])), by_key(&id(&chain[0]))] {
        let rejection = verify(&pki, list, &other).unwrap_err();
        assert_eq!(rejection.name(), "revoked");
    }
}

#[test]
fn a_new_certificate_for_a_revoked_key_is_revoked() {
    let pki = Pki::new();
    let beta = pki.node("beta");
    let list = by_key(&id(&beta.chain[0]));
    let mut params = leaf_params("beta");
    params.serial_number = Some(SerialNumber::from(77));
    let again = pki.issue_for(params, beta.key);
    assert_eq!(verify(&pki, list, &again.chain).unwrap_err().name(), "revoked");
}

#[test]
fn the_same_serial_of_another_issuer_is_not_revoked() {
    let pki = Pki::new();
    let chain = pki.node("beta").chain;
    let mut list = by_serial(&id(&chain[0]));
    list.serials[0].0 = id(&chain[1]).issuer_der().to_vec();
    verify(&pki, list, &chain).unwrap();
}

#[test]
fn a_revoked_intermediate_takes_its_leaves_with_it() {
    let pki = Pki::new();
    let chain = pki.node("beta").chain;
    let rejection = verify(&pki, by_serial(&id(&chain[1])), &chain).unwrap_err();
    assert!(rejection.to_string().contains("the intermediate certificate \"CN=lab intermediate\""), "{rejection}");
}

#[test]
fn a_live_peer_is_found_by_a_list_that_grew() {
    let pki = Pki::new();
    let beta = pki.node("beta");
    let (server, verdict) = context(&pki, List::default(), Duration::ZERO).accept(&[ALPN_LANE]).unwrap();
    let client = credulous_client(Some(&beta), super::super::PROVIDER.clone());
    assert!(handshake(client, "alpha.lab".try_into().unwrap(), server).established());
    let peer = verdict.peer().unwrap();
    assert!(!peer.is_revoked(&List::default()));
    assert!(peer.is_revoked(&by_serial(&id(&beta.chain[0]))));
    assert!(peer.is_revoked(&by_key(&id(&beta.chain[1]))));
}

/// A list of the intermediate's that revokes `serials`.
fn crl(
    pki: &Pki,
    serials: &[&[u8]],
    next_update: Duration,
) -> rustls::pki_types::CertificateRevocationListDer<'static> {
    let params = CertificateRevocationListParams {
        this_update: now() - Duration::days(2),
        next_update: now() + next_update,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: now() - Duration::days(2),
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&pki.intermediate).unwrap().der().clone()
}

fn with_crl(pki: &Pki, serials: &[&[u8]], next_update: Duration) -> Trust {
    pki.trust().with_crls([crl(pki, serials, next_update)]).unwrap()
}

#[test]
fn an_issuers_list_is_kept_and_its_expiry_too() {
    let pki = Pki::new();
    let chain = pki.node("beta").chain;
    let leaf = id(&chain[0]);
    let judge = |trust: &Trust| verify_chain(&chain, trust, Purpose::Server, now(), Limits::PEER).map(drop);
    judge(&with_crl(&pki, &[], Duration::days(1))).unwrap();
    let revoked = judge(&with_crl(&pki, &[leaf.serial()], Duration::days(1))).unwrap_err();
    assert_eq!(revoked.name(), "revoked");
    let stale = judge(&with_crl(&pki, &[], -Duration::days(1))).unwrap_err();
    assert_eq!(stale.name(), "revocation_unknown");
    assert!(stale.to_string().contains("a newer list was due 20"), "{stale}");
}

#[test]
fn a_damaged_list_is_refused_whole() {
    let pki = Pki::new();
    let good = crl(&pki, &[], Duration::days(1));
    for n in 0..good.len() {
        let cut = rustls::pki_types::CertificateRevocationListDer::from(good[..n].to_vec());
        let refused = pki.trust().with_crls([good.clone(), cut]);
        assert!(matches!(refused, Err(CrlError::Unusable(_))), "cut at {n}");
    }
}
