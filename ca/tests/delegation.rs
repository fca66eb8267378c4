//! Publishers' certificates: what stands in them, and what others make of them.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use ca::{Authority, Error, NodeKey, Summary};
use common::{NOW, authority, have, node};
use mesh_config::published::Generation;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

const OID: &str = "2.25.97786147917561254226021775744996369714.1.1";

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|c| c.unwrap()).collect()
}

fn generation(n: u64) -> Generation {
    Generation::new(n).unwrap()
}

fn delegate(authority: &mut Authority, n: u64) -> Result<String, Error> {
    let key = NodeKey::generate().unwrap().public_key();
    authority.delegate(&node("anna"), &key, generation(n), None, NOW).map(|issued| issued.chain_pem)
}

fn verdict(chain: &str, authority: &Authority, usage: KeyUsage) -> Result<(), webpki::Error> {
    let (chain, trust) = (certificates(chain), certificates(authority.trust_pem()));
    let anchors = [anchor_from_trusted_cert(&trust[0])?];
    let at = UnixTime::since_unix_epoch(Duration::from_secs(NOW.unix_timestamp().try_into().unwrap()));
    let leaf = EndEntityCert::try_from(&chain[0])?;
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &chain[1..], at, usage, None, None).map(drop)
}

#[test]
fn it_is_for_signing_mesh_documents_and_nothing_else() {
    let (_keep, _, mut authority) = authority();
    let chain = delegate(&mut authority, 1).unwrap();
    verdict(&chain, &authority, KeyUsage::required(ca::profile::PUBLISHER_USAGE)).unwrap();
    for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
        assert!(verdict(&chain, &authority, usage).is_err());
    }
    let summary = Summary::of(&certificates(&chain)[0]).unwrap();
    assert_eq!(summary.usages, ["meshPublisher"]);
    assert_eq!(summary.names, ["URI:spiffe://lab/publisher/anna/generation/1"]);
    assert_eq!(summary.not_after, NOW + time::Duration::days(365));
    let record = authority.records().last().unwrap();
    assert!(record.publisher() && record.node().as_str() == "anna");
    // A node's is none of it.
    let key = NodeKey::generate().unwrap().public_key();
    let issued = authority.issue(&node("alpha"), &key, None, NOW).unwrap();
    assert!(verdict(&issued.chain_pem, &authority, KeyUsage::required(ca::profile::PUBLISHER_USAGE)).is_err());
    let again = Authority::open(authority.dir()).unwrap();
    assert_eq!(again.records().iter().map(ca::Record::publisher).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn the_root_signs_if_it_is_there_and_else_the_intermediate_in_the_first_generation() {
    let (keep, dir, mut authority) = authority();
    for n in [1, 7] {
        let chain = delegate(&mut authority, n).unwrap();
        assert_eq!(certificates(&chain).len(), 1, "signed by the root itself");
    }
    std::fs::rename(dir.join("root.key"), keep.path().join("away")).unwrap();
    let chain = delegate(&mut authority, 1).unwrap();
    assert_eq!(certificates(&chain).len(), 2);
    let refused = delegate(&mut authority, 2).unwrap_err();
    assert!(matches!(&refused, Error::NoKey(path) if *path == dir.join("root.key")), "{refused}");
    assert_eq!(authority.records().len(), 3, "what was refused is not recorded");
}

#[test]
fn openssl_takes_it_by_its_strict_rules_and_for_no_connection() {
    if !have("openssl", "version") {
        return;
    }
    let (keep, dir, mut authority) = authority();
    let by_root = delegate(&mut authority, 1).unwrap();
    std::fs::remove_file(dir.join("root.key")).unwrap();
    let by_intermediate = delegate(&mut authority, 1).unwrap();
    let file = |name: &str, text: &str| {
        let path = keep.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let trust = file("trust", authority.trust_pem());
    let rest = file("rest", authority.intermediate_pem());
    for (name, chain) in [("by-root", by_root), ("by-intermediate", by_intermediate)] {
        let leaf = file(name, &chain);
        let verify = |more: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(["verify", "-x509_strict", "-check_ss_sig", "-no-CApath", "-no-CAstore", "-CAfile"]);
            command.arg(&trust).arg("-untrusted").arg(&rest);
            command.args(["-attime", &NOW.unix_timestamp().to_string()]).args(more).arg(&leaf).output().unwrap()
        };
        let plain = verify(&[]);
        assert!(plain.status.success(), "{name}: {}", String::from_utf8_lossy(&plain.stderr));
        for purpose in ["sslclient", "sslserver"] {
            assert!(!verify(&["-purpose", purpose]).status.success(), "{name}: {purpose}");
        }
        let shown = Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&leaf).output().unwrap();
        assert!(String::from_utf8_lossy(&shown.stdout).contains(OID), "{name}");
    }
}

#[test]
fn its_directory_has_a_key_for_its_owner_alone_and_another_key_is_not_replaced() {
    let (keep, _, mut authority) = authority();
    let dir = keep.path().join("publishers/anna");
    let key = NodeKey::generate().unwrap();
    let issued = authority.delegate(&node("anna"), &key.public_key(), generation(1), None, NOW).unwrap();
    ca::write_publisher_directory(&dir, &key, &issued.chain_pem).unwrap();
    let mode = |name| std::fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("publisher.key"), mode("publisher.pem")), (0o600, 0o644));
    assert_eq!(NodeKey::load(&dir.join(ca::PUBLISHER_KEY)).unwrap().0.public_key(), key.public_key());
    // The same key gets a new certificate, another one is refused.
    ca::write_publisher_directory(&dir, &key, &issued.chain_pem).unwrap();
    let other = NodeKey::generate().unwrap();
    assert!(matches!(ca::write_publisher_directory(&dir, &other, ""), Err(Error::Exists(_))));
    assert_eq!(std::fs::read_to_string(dir.join(ca::PUBLISHER_CHAIN)).unwrap(), issued.chain_pem);
}

#[test]
fn a_life_of_nothing_and_a_dead_issuer_are_refused() {
    let (_keep, _, mut authority) = authority();
    let key = NodeKey::generate().unwrap().public_key();
    let mut at = |validity, now| authority.delegate(&node("anna"), &key, generation(1), validity, now);
    assert!(matches!(at(Some(Duration::ZERO), NOW), Err(Error::NoValidity)));
    assert!(matches!(at(None, NOW - time::Duration::hours(1)), Err(Error::ClockBehind { .. })));
    assert!(matches!(at(None, NOW + time::Duration::days(3_700)), Err(Error::IssuerExpired(_))));
    let long = at(Some(Duration::from_secs(u64::MAX)), NOW).unwrap();
    assert!(long.not_after < NOW + time::Duration::days(3_653), "none outlives its issuer");
}
