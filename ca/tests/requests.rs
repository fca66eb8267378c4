//! Signing requests, honest and hostile.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod common;

use std::process::Command;

use ca::{CsrError, MAX_CSR, NodeKey, PublicKey};
use common::have;
use proptest::prelude::*;
use rcgen::{
    Attribute, BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _,
};

fn request(key: &impl rcgen::SigningKey, attributes: Vec<Attribute>, params: &CertificateParams) -> Vec<u8> {
    params.serialize_request_with_attributes(key, attributes).unwrap().der().to_vec()
}

fn plain(key: &impl rcgen::SigningKey) -> Vec<u8> {
    request(key, Vec::new(), &CertificateParams::default())
}

#[test]
fn a_request_gives_its_key_in_pem_and_der() {
    let key = NodeKey::generate().unwrap();
    assert_eq!(PublicKey::from_csr(&plain(&key)), Ok(key.public_key()));
    let pem = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    assert_eq!(PublicKey::from_csr(pem.as_bytes()), Ok(key.public_key()));
    assert_eq!(PublicKey::from_csr(pem.replace('\n', "\r\n").as_bytes()), Ok(key.public_key()));
    assert_eq!(PublicKey::from_spki(&key.public_key().to_spki()), Ok(key.public_key()));
}

#[test]
fn names_and_powers_that_a_request_asks_for_do_not_matter() {
    let key = NodeKey::generate().unwrap();
    let mut params = CertificateParams::new(vec!["beta.lab".to_owned(), "*.lab".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::OrganizationName, "root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    assert_eq!(PublicKey::from_csr(&request(&key, Vec::new(), &params)), Ok(key.public_key()));
}

#[test]
fn requests_of_openssl_are_taken() {
    if !have("openssl", "version") {
        return;
    }
    let temporary = common::temporary();
    let run = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(temporary.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key"]);
    run(&["req", "-new", "-key", "key", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:y", "-out", "csr"]);
    let read = |name| std::fs::read_to_string(temporary.path().join(name)).unwrap();
    let key = ca::PrivateKey::from_pem(&read("key")).unwrap();
    assert_eq!(PublicKey::from_csr(read("csr").as_bytes()), Ok(key.public_key()));
    // And ours are read by it.
    std::fs::write(temporary.path().join("ours"), key.to_pem().unwrap().as_bytes()).unwrap();
    run(&["pkey", "-in", "ours", "-noout", "-check"]);
    run(&["req", "-new", "-key", "key", "-subj", "/CN=x", "-sha384", "-out", "sha384"]);
    assert_eq!(PublicKey::from_csr(read("sha384").as_bytes()), Err(CsrError::Algorithm));
    run(&["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "rsa", "-subj", "/CN=x", "-out", "rsa.csr"]);
    assert_eq!(PublicKey::from_csr(read("rsa.csr").as_bytes()), Err(CsrError::Key));
    assert!(ca::PrivateKey::from_pem(&read("rsa")).is_none());
}

#[test]
fn other_kinds_of_key_are_refused() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        assert_eq!(PublicKey::from_csr(&plain(&key)), Err(CsrError::Key));
        assert!(ca::PrivateKey::from_pem(&key.serialize_pem()).is_none());
    }
    // A point that is not on the curve, the point at infinity, a compressed point.
    let good = NodeKey::generate().unwrap().public_key().to_spki();
    let mut off = good.clone();
    off[90] ^= 1;
    let mut compressed = good.clone();
    compressed[26] = 2;
    for bad in [off, compressed, good[..90].to_vec(), [&good[..], &[0]].concat(), Vec::new()] {
        assert_eq!(PublicKey::from_spki(&bad), Err(CsrError::Key));
    }
}

#[test]
fn a_request_for_anothers_key_is_refused() {
    // The right form, signed by somebody who has another key than the one in it.
    struct Thief(NodeKey, Vec<u8>);
    impl rcgen::PublicKeyData for Thief {
        fn der_bytes(&self) -> &[u8] {
            &self.1
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            self.0.algorithm()
        }
    }
    impl rcgen::SigningKey for Thief {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            self.0.sign(message)
        }
    }
    let victim = NodeKey::generate().unwrap();
    let thief = Thief(NodeKey::generate().unwrap(), victim.der_bytes().to_vec());
    assert_eq!(PublicKey::from_csr(&plain(&thief)), Err(CsrError::Signature));
}

#[test]
fn size_is_looked_at_first() {
    let key = NodeKey::generate().unwrap();
    let filled = |n: usize| {
        let mut params = CertificateParams::default();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![0; n])];
        request(&key, Vec::new(), &params)
    };
    let over = filled(16_000).len() - 16_000;
    // An ECDSA signature has 70 to 72 bytes, so the size is met after some tries.
    let exactly = |size: usize| (0..1000).map(|_| filled(size - over)).find(|r| r.len() == size).unwrap();
    assert_eq!(PublicKey::from_csr(&exactly(MAX_CSR)), Ok(key.public_key()));
    assert_eq!(PublicKey::from_csr(&exactly(MAX_CSR + 1)), Err(CsrError::TooLarge));
    assert_eq!(PublicKey::from_csr(&vec![b'-'; MAX_CSR + 1]), Err(CsrError::TooLarge));
}

#[test]
fn no_flipped_bit_and_no_cut_is_accepted() {
    let der = plain(&NodeKey::generate().unwrap());
    for length in 0..der.len() {
        assert!(PublicKey::from_csr(&der[..length]).is_err());
    }
    for bit in 0..der.len() * 8 {
        let mut bad = der.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(PublicKey::from_csr(&bad).is_err(), "bit {bit}");
    }
    assert_eq!(PublicKey::from_csr(&[&der[..], &[0]].concat()), Err(CsrError::Malformed));
}

/// Values with lengths that lie, empty sequences, deep nests: what parsers stumble over.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(vec![0x30, 0x00]),
        Just(vec![0x31, 0x00]),
        Just(vec![0x30, 0x80]),
        Just(vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
        Just(vec![0x04, 0x82, 0x10, 0x00]),
        Just(vec![0x05, 0x00]),
        Just([0x30, 0x80].repeat(200)),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let wrapped = (prop::sample::select(vec![0x30_u8, 0x31, 0xa0, 0x04, 0x03]), proptest::collection::vec(leaf, 0..4));
    wrapped.prop_map(|(tag, parts)| {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, &content].concat()
    })
}

/// Attribute types that parsers know: extension request, challenge password, and one that nobody knows.
const TYPES: [&[u64]; 3] = [&[1, 2, 840, 113549, 1, 9, 14], &[1, 2, 840, 113549, 1, 9, 7], &[1, 2, 3, 4]];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hostile_attributes_and_extensions_are_stepped_over(
        attributes in proptest::collection::vec((0..3_usize, hostile()), 0..4),
        extensions in proptest::collection::vec((1..100_u64, hostile()), 0..4),
    ) {
        let key = NodeKey::generate().unwrap();
        let mut params = CertificateParams::default();
        params.custom_extensions = extensions
            .into_iter()
            .map(|(n, content)| CustomExtension::from_oid_content(&[2, 5, 29, n], content))
            .collect();
        let attributes = attributes
            .into_iter()
            .map(|(n, values)| Attribute { oid: TYPES[n], values })
            .collect();
        let der = request(&key, attributes, &params);
        // Whatever is in them, the proof of possession holds, and the key is all that is taken.
        prop_assert_eq!(PublicKey::from_csr(&der), Ok(key.public_key()));
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        text in "(-----BEGIN CERTIFICATE REQUEST-----\n)?[A-Za-z0-9+/=\n]{0,200}(-----END CERTIFICATE REQUEST-----\n)?",
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        prop_assert!(PublicKey::from_csr(&bytes).is_err());
        prop_assert!(PublicKey::from_csr(text.as_bytes()).is_err());
        let key = NodeKey::generate().unwrap();
        let mut der = plain(&key);
        let good = der.clone();
        for (at, byte) in edits {
            let at = at.index(der.len());
            der[at] = byte;
        }
        prop_assert!(der == good || PublicKey::from_csr(&der).is_err());
    }
}
