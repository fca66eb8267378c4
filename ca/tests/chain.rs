//! What others make of the certificates: rustls-webpki, OpenSSL, and a reading of every field.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ca::{Authority, NodeKey, PrivateKey};
use common::{NOW, authority, have, mesh, node};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|c| c.unwrap()).collect()
}

fn webpki_verdict(chain: &str, trust: &str, usage: KeyUsage, at: OffsetDateTime) -> Result<(), webpki::Error> {
    let (chain, trust) = (certificates(chain), certificates(trust));
    let leaf = EndEntityCert::try_from(&chain[0])?;
    let anchors = [anchor_from_trusted_cert(&trust[0])?];
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.unix_timestamp().try_into().unwrap()));
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &chain[1..], at, usage, None, None)?;
    Ok(())
}

fn openssl_verdict(dir: &Path, chain: &str, trust: &str, more: &[&str], at: OffsetDateTime) -> Result<(), String> {
    let split = chain.find("-----END").and_then(|n| chain[n..].find('\n').map(|m| n + m + 1)).unwrap();
    for (name, text) in [("leaf", &chain[..split]), ("rest", &chain[split..]), ("trust", trust)] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let run = Command::new("openssl")
        .args(["verify", "-x509_strict", "-check_ss_sig", "-no-CApath", "-no-CAstore", "-CAfile"])
        .arg(dir.join("trust"))
        .arg("-untrusted")
        .arg(dir.join("rest"))
        .args(["-attime", &at.unix_timestamp().to_string()])
        .args(more)
        .arg(dir.join("leaf"))
        .output()
        .unwrap();
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

fn issue(authority: &mut Authority, name: &str) -> String {
    let key = NodeKey::generate().unwrap();
    authority.issue(&node(name), &key.public_key(), None, NOW).unwrap().chain_pem
}

#[test]
fn webpki_takes_the_chain_for_both_ends_of_a_connection() {
    let (_keep, _, mut authority) = authority();
    let chain = issue(&mut authority, "alpha");
    for usage in [KeyUsage::client_auth, KeyUsage::server_auth] {
        webpki_verdict(&chain, authority.trust_pem(), usage(), NOW).unwrap();
    }
    let leaf = &certificates(&chain)[0];
    let leaf = EndEntityCert::try_from(leaf).unwrap();
    let name = |n| ServerName::try_from(n).unwrap();
    leaf.verify_is_valid_for_subject_name(&name("alpha.lab")).unwrap();
    assert!(leaf.verify_is_valid_for_subject_name(&name("beta.lab")).is_err());
}

#[test]
fn webpki_takes_it_for_its_life_alone() {
    let (_keep, _, mut authority) = authority();
    let chain = issue(&mut authority, "alpha");
    let verdict = |at| webpki_verdict(&chain, authority.trust_pem(), KeyUsage::client_auth(), at);
    verdict(NOW - time::Duration::minutes(5)).unwrap();
    verdict(NOW + time::Duration::days(7)).unwrap();
    assert!(matches!(verdict(NOW - time::Duration::seconds(301)), Err(webpki::Error::CertNotValidYet { .. })));
    assert!(matches!(verdict(NOW + time::Duration::seconds(7 * 86_400 + 1)), Err(webpki::Error::CertExpired { .. })));
}

#[test]
fn another_authority_of_the_same_name_is_not_trusted() {
    let (_keep, _, mut authority) = authority();
    let (_keep, _, other) = common::authority();
    let chain = issue(&mut authority, "alpha");
    assert!(webpki_verdict(&chain, other.trust_pem(), KeyUsage::client_auth(), NOW).is_err());
}

#[test]
fn openssl_takes_the_chain_by_its_strict_rules() {
    if !have("openssl", "version") {
        return;
    }
    let (keep, _, mut authority) = authority();
    // The longest names that there are, too: every field has to hold them.
    let long = "x".repeat(63);
    for name in ["alpha", &long] {
        let chain = issue(&mut authority, name);
        for purpose in ["sslclient", "sslserver"] {
            let host = format!("{name}.lab");
            let more = ["-purpose", purpose, "-verify_hostname", &host];
            openssl_verdict(keep.path(), &chain, authority.trust_pem(), &more, NOW).unwrap();
        }
        let other = ["-verify_hostname", "beta.lab"];
        assert!(openssl_verdict(keep.path(), &chain, authority.trust_pem(), &other, NOW).is_err());
    }
}

#[test]
fn a_mesh_with_the_longest_name_works() {
    let temporary = common::temporary();
    let name = "m".repeat(63);
    let mut authority = Authority::create(&temporary.path().join("ca"), &mesh(&name), NOW).unwrap();
    let chain = issue(&mut authority, &"n".repeat(63));
    webpki_verdict(&chain, authority.trust_pem(), KeyUsage::client_auth(), NOW).unwrap();
    if have("openssl", "version") {
        openssl_verdict(temporary.path(), &chain, authority.trust_pem(), &["-purpose", "sslclient"], NOW).unwrap();
    }
}

/// A certificate that the authority itself would never issue, signed with its intermediate's key.
fn forge(dir: &Path, authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> (String, PrivateKey) {
    let (signer, _) = PrivateKey::load(&dir.join("intermediate.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(authority.intermediate_pem(), signer).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "alpha");
    params.not_before = NOW - time::Duration::minutes(5);
    params.not_after = NOW + time::Duration::days(1);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![SanType::DnsName("alpha.lab".try_into().unwrap())];
    change(&mut params);
    let key = PrivateKey::generate().unwrap();
    let pem = params.signed_by(&key, &issuer).unwrap().pem() + authority.intermediate_pem();
    (pem, key)
}

#[test]
fn names_of_another_mesh_are_refused_under_the_constraint() {
    let (keep, dir, authority) = authority();
    let check = |names: &[&str]| {
        let names = names.iter().map(|n| SanType::DnsName((*n).try_into().unwrap())).collect();
        let (chain, _) = forge(&dir, &authority, |p| p.subject_alt_names = names);
        let by_webpki = webpki_verdict(&chain, authority.trust_pem(), KeyUsage::client_auth(), NOW);
        if have("openssl", "version") {
            let by_openssl = openssl_verdict(keep.path(), &chain, authority.trust_pem(), &[], NOW);
            assert_eq!(by_openssl.is_ok(), by_webpki.is_ok(), "{by_openssl:?}");
        }
        by_webpki
    };
    check(&["alpha.lab"]).unwrap();
    for names in [&["alpha.other"][..], &["alpha.lab", "alpha.other"], &["alpha.xlab"], &["lab.example"]] {
        assert_eq!(check(names), Err(webpki::Error::NameConstraintViolation), "{names:?}");
    }
}

#[test]
fn the_constraint_holds_on_the_root_alone_as_well() {
    // An intermediate without a constraint, signed by the root: the root's own has to stop it.
    let (keep, dir, authority) = authority();
    let root_key = PrivateKey::load(&dir.join("root.key")).unwrap().0;
    let root = Issuer::from_ca_cert_pem(authority.trust_pem(), root_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "loose");
    (params.not_before, params.not_after) = (NOW, NOW + time::Duration::days(1));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    let loose_key = PrivateKey::generate().unwrap();
    let loose = params.signed_by(&loose_key, &root).unwrap();
    let issuer = Issuer::from_params(&params, &loose_key);
    for (name, good) in [("alpha.lab", true), ("alpha.other", false)] {
        let mut leaf = params.clone();
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.distinguished_name.push(DnType::CommonName, "alpha");
        leaf.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        let chain = leaf.signed_by(&PrivateKey::generate().unwrap(), &issuer).unwrap().pem() + &loose.pem();
        let trust = authority.trust_pem();
        assert_eq!(webpki_verdict(&chain, trust, KeyUsage::client_auth(), NOW).is_ok(), good, "{name}");
        if have("openssl", "version") {
            let verdict = openssl_verdict(keep.path(), &chain, trust, &[], NOW);
            assert_eq!(verdict.is_ok(), good, "{name}: {verdict:?}");
        }
    }
}

#[test]
fn an_intermediate_cannot_make_another() {
    let (keep, dir, authority) = authority();
    let ca = |p: &mut CertificateParams| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        p.extended_key_usages.clear();
        p.subject_alt_names.clear();
    };
    let (below, key) = forge(&dir, &authority, ca);
    let issuer = Issuer::from_ca_cert_pem(&below, &key).unwrap();
    let mut params = CertificateParams::new(vec!["alpha.lab".to_owned()]).unwrap();
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (NOW, NOW + time::Duration::days(1));
    let chain = params.signed_by(&PrivateKey::generate().unwrap(), &issuer).unwrap().pem() + &below;
    assert!(webpki_verdict(&chain, authority.trust_pem(), KeyUsage::client_auth(), NOW).is_err());
    if have("openssl", "version") {
        let told = openssl_verdict(keep.path(), &chain, authority.trust_pem(), &[], NOW).unwrap_err();
        assert!(told.contains("path length constraint exceeded"), "{told}");
    }
}

#[test]
fn every_field_is_what_the_profile_says() {
    let (_keep, _, mut authority) = authority();
    let key = NodeKey::generate().unwrap();
    let issued = authority.issue(&node("alpha"), &key.public_key(), None, NOW).unwrap();
    let ders = certificates(&(issued.chain_pem.clone() + authority.trust_pem()));
    let [leaf, intermediate, root] =
        [0, 1, 2].map(|n: usize| X509Certificate::from_der(&ders[n]).map(|(_, c)| c).unwrap());

    assert_eq!(leaf.raw_serial(), issued.serial.as_bytes());
    assert_eq!(leaf.subject().to_string(), "CN=alpha");
    assert_eq!(leaf.public_key().raw, key.public_key().to_spki());
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    let names: Vec<String> = san.value.general_names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["URI(spiffe://lab/node/alpha)", "DNSName(alpha.lab)"]);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1, "digitalSignature alone");
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.server_auth && !extended.any && extended.other.is_empty());
    let basic = leaf.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    assert_eq!(leaf.validity().not_before.to_datetime(), NOW - time::Duration::minutes(5));
    assert_eq!(leaf.validity().not_after.to_datetime(), NOW + time::Duration::days(7));

    for (ca, length, kind) in [(&intermediate, 0, "intermediate"), (&root, 1, "root")] {
        let basic = ca.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint == Some(length));
        let usage = ca.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert_eq!(usage.value.flags.count_ones(), 2);
        let constraints = ca.name_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.excluded_subtrees.is_none());
        let permitted = constraints.value.permitted_subtrees.as_ref().unwrap();
        assert_eq!(permitted.iter().map(|s| s.base.to_string()).collect::<Vec<_>>(), ["DNSName(lab)"]);
        assert!(ca.subject().to_string().starts_with(&format!("O=lab, CN={kind} ")), "{}", ca.subject());
    }
    let ids = |c: &X509Certificate<'_>| {
        let mut found = (Vec::new(), Vec::new());
        for extension in c.extensions() {
            match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => found.0 = id.0.to_vec(),
                x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                    found.1 = id.key_identifier.as_ref().map(|k| k.0.to_vec()).unwrap_or_default();
                }
                _ => {}
            }
        }
        found
    };
    let [(leaf_id, leaf_issuer), (mid_id, mid_issuer), (root_id, root_issuer)] = [&leaf, &intermediate, &root].map(ids);
    assert_eq!([leaf_id.len(), mid_id.len(), root_id.len()], [20; 3]);
    assert_eq!((leaf_issuer, mid_issuer, root_issuer), (mid_id, root_id.clone(), root_id));
}

#[test]
fn serials_are_random_positive_and_sixteen_octets() {
    let (_keep, _, mut authority) = authority();
    let key = NodeKey::generate().unwrap().public_key();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..64 {
        let serial = authority.issue(&node("alpha"), &key, None, NOW).unwrap().serial;
        assert!((1..128).contains(&serial.as_bytes()[0]));
        assert_eq!(serial.to_string().len(), 32);
        assert_eq!(serial.to_string().parse(), Ok(serial));
        assert!(seen.insert(serial));
    }
}

#[test]
fn a_certificate_never_outlives_its_issuer() {
    let (_keep, _, mut authority) = authority();
    let key = NodeKey::generate().unwrap().public_key();
    let end = authority.not_after();
    for life in [Duration::from_secs(366 * 86_400), Duration::MAX] {
        let issued = authority.issue(&node("alpha"), &key, Some(life), NOW).unwrap();
        assert_eq!(issued.not_after, end);
    }
    let last = authority.issue(&node("alpha"), &key, None, end).unwrap();
    assert_eq!(last.not_after, end);
    webpki_verdict(&last.chain_pem, authority.trust_pem(), KeyUsage::client_auth(), end).unwrap();
    let refused = authority.issue(&node("alpha"), &key, None, end + time::Duration::SECOND);
    assert_eq!(refused.unwrap_err().code(), "issuer-expired");
}

#[test]
fn strange_clocks_are_refused_and_nothing_panics() {
    let (_keep, _, mut authority) = authority();
    let key = NodeKey::generate().unwrap().public_key();
    let early = NOW - time::Duration::days(3650);
    assert_eq!(authority.issue(&node("a"), &key, None, early).unwrap_err().code(), "clock-behind");
    assert_eq!(authority.issue(&node("a"), &key, Some(Duration::ZERO), NOW).unwrap_err().code(), "validity");
    for now in [OffsetDateTime::UNIX_EPOCH, time::macros::datetime!(9999-12-31 23:59:59 UTC)] {
        let temporary = common::temporary();
        let mut authority = Authority::create(&temporary.path().join("ca"), &mesh("lab"), now).unwrap();
        authority.issue(&node("a"), &key, None, now).unwrap();
    }
}
