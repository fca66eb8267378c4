use rcgen::{
    CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::Duration;

use super::super::certificate::{Certificate, Place};
use super::super::profile::{Purpose, identity_of};
use super::super::{Flaw, Limits, Rejection, Trust, verify_chain};
use super::support::*;

fn judge(chain: &[CertificateDer<'_>], trust: &Trust) -> Result<(), Rejection> {
    for purpose in [Purpose::Server, Purpose::Client] {
        verify_chain(chain, trust, purpose, now(), Limits::PEER)?;
    }
    Ok(())
}

fn flaw(outcome: Result<(), Rejection>, what: &str) -> (Place, String) {
    match outcome {
        Err(Rejection::Profile(error)) => (error.which.place, error.flaw.to_string()),
        other => panic!("{what}: {other:?}"),
    }
}

fn unknown_extension(critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55_555, 1], vec![5, 0]);
    extension.set_criticality(critical);
    extension
}

#[test]
fn a_leaf_that_breaks_the_profile_is_refused_with_what_about_it() {
    type Change = fn(&mut CertificateParams);
    let cases: &[(&str, Change)] = &[
        ("has no extended key usage", |p| p.extended_key_usages.clear()),
        ("is made for any use (anyExtendedKeyUsage)", |p| {
            p.extended_key_usages.push(ExtendedKeyUsagePurpose::Any);
        }),
        ("is a CA's: its key usage lets it sign certificates or revocation lists", |p| {
            p.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }),
        ("is a CA's: its key usage lets it sign certificates or revocation lists", |p| {
            p.key_usages.push(KeyUsagePurpose::CrlSign);
        }),
        ("has a key usage without digitalSignature", |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        ("is a CA's: its basic constraints say cA", |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0))),
        ("has a serial that is zero", |p| p.serial_number = Some(SerialNumber::from_slice(&[0]))),
        ("has a serial that is longer than 20 octets", |p| {
            p.serial_number = Some(SerialNumber::from_slice(&[1; 21]));
        }),
        ("has a serial that is longer than 20 octets", |p| {
            p.serial_number = Some(SerialNumber::from_slice(&[0xff; 20]));
        }),
        ("has a critical extension 1.3.6.1.4.1.55555.1 that is not understood", |p| {
            p.custom_extensions.push(unknown_extension(true));
        }),
        ("has the extension 1.3.6.1.4.1.55555.1 twice", |p| {
            p.custom_extensions = vec![unknown_extension(false), unknown_extension(false)];
        }),
        ("has no authority key identifier", |p| p.use_authority_key_identifier_extension = false),
        ("has no subject alternative name", |p| p.subject_alt_names.clear()),
        ("has name constraints, which such a certificate must not have", |p| {
            // permittedSubtrees { dNSName "lab" }
            let mut extension = CustomExtension::from_oid_content(
                &[2, 5, 29, 30],
                vec![0x30, 0x09, 0xa0, 0x07, 0x30, 0x05, 0x82, 0x03, b'l', b'a', b'b'],
            );
            extension.set_criticality(true);
            p.custom_extensions.push(extension);
        }),
        ("does not name a node: its DNS name *.lab is not that of one host", |p| {
            p.subject_alt_names = vec![uri("spiffe://lab/node/beta"), dns("*.lab")];
        }),
        ("breaks a name constraint of a CA above it", |p| {
            p.subject_alt_names = vec![uri("spiffe://lab/node/beta"), dns("beta.lap")];
        }),
    ];
    let pki = Pki::new();
    for (text, change) in cases {
        let mut params = leaf_params("beta");
        change(&mut params);
        let outcome = judge(&pki.issue(params).chain, &pki.trust());
        assert_eq!(flaw(outcome, text), (Place::Leaf, (*text).to_owned()));
    }
}

#[test]
fn a_non_critical_unknown_extension_is_passed_over() {
    let pki = Pki::new();
    let mut params = leaf_params("beta");
    params.custom_extensions.push(unknown_extension(false));
    judge(&pki.issue(params).chain, &pki.trust()).unwrap();
}

#[test]
fn a_leaf_for_one_role_is_refused_in_the_other() {
    let pki = Pki::new();
    for (has, works, fails, lacks) in [
        (ExtendedKeyUsagePurpose::ServerAuth, Purpose::Server, Purpose::Client, "clientAuth"),
        (ExtendedKeyUsagePurpose::ClientAuth, Purpose::Client, Purpose::Server, "serverAuth"),
    ] {
        let mut params = leaf_params("beta");
        params.extended_key_usages = vec![has];
        let chain = pki.issue(params).chain;
        let trust = pki.trust();
        verify_chain(&chain, &trust, works, now(), Limits::PEER).unwrap();
        let refused = verify_chain(&chain, &trust, fails, now(), Limits::PEER).map(drop);
        assert_eq!(flaw(refused, lacks).1, format!("has an extended key usage without {lacks}"));
    }
}

#[test]
fn curves_other_than_p256_and_p384_are_refused() {
    let pki = Pki::new();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let outcome = judge(&pki.issue_for(leaf_params("beta"), key).chain, &pki.trust());
    assert!(flaw(outcome, "P-521").1.contains("only P-256 and P-384"));
}

#[test]
fn a_root_is_judged_though_webpki_does_not() {
    type Change = fn(&mut CertificateParams);
    let cases: &[(&str, Change)] = &[
        ("has more CAs below it than its path length allows", |p| {
            p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        }),
        ("is not a CA's: its key usage lacks keyCertSign", |p| p.key_usages = vec![KeyUsagePurpose::CrlSign]),
        ("has an extended key usage, which such a certificate must not have", |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("has a serial that is zero", |p| p.serial_number = Some(SerialNumber::from_slice(&[0]))),
        ("has a critical extension 1.3.6.1.4.1.55555.1 that is not understood", |p| {
            p.custom_extensions.push(unknown_extension(true));
        }),
    ];
    for (text, change) in cases {
        let mut params = ca_params("lab root", 1);
        change(&mut params);
        let pki = Pki::with(params, |_| {});
        let outcome = judge(&pki.node("beta").chain, &pki.trust());
        assert_eq!(flaw(outcome, text), (Place::Root, (*text).to_owned()));
    }
}

#[test]
fn the_rejection_says_which_certificate_is_out_of_date() {
    let expired = |p: &mut CertificateParams| p.not_after = now() - Duration::minutes(1);
    let early = |p: &mut CertificateParams| p.not_before = now() + Duration::days(1);
    let mut root = ca_params("lab root", 1);
    expired(&mut root);
    let mut early_root = ca_params("lab root", 1);
    early(&mut early_root);
    let mut leaf = leaf_params("beta");
    expired(&mut leaf);
    let good = Pki::new();
    let cases = [
        (good.issue(leaf).chain, good.trust(), "the leaf certificate \"CN=beta\""),
        {
            let pki = Pki::with(ca_params("lab root", 1), expired);
            (pki.node("beta").chain, pki.trust(), "the intermediate certificate \"CN=lab intermediate\"")
        },
        {
            let pki = Pki::with(root, |_| {});
            (pki.node("beta").chain, pki.trust(), "the root certificate \"CN=lab root\"")
        },
        {
            let pki = Pki::with(early_root, |_| {});
            (pki.node("beta").chain, pki.trust(), "the root certificate \"CN=lab root\"")
        },
    ];
    for (chain, trust, whose) in cases {
        let rejection = judge(&chain, &trust).unwrap_err();
        assert!(matches!(rejection.name(), "expired" | "not_yet_valid"), "{rejection}");
        let text = rejection.to_string();
        assert!(text.starts_with(whose) && text.contains("this host's clock says 20"), "{text}");
    }
}

#[test]
fn a_good_root_beside_an_expired_one_of_the_same_key_is_found() {
    let pki = Pki::new();
    let mut expired = ca_params("lab root", 1);
    expired.not_after = now() - Duration::minutes(1);
    let expired = expired.self_signed(pki.root.key()).unwrap();
    let trust = Trust::new([expired.der().clone(), pki.root.der().clone()]);
    judge(&pki.node("beta").chain, &trust).unwrap();
}

#[test]
fn name_constraints_that_are_not_understood_are_refused() {
    let constrain = |subtrees: Vec<GeneralSubtree>| {
        let pki = Pki::with(ca_params("lab root", 1), |p| {
            p.name_constraints = Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees: subtrees });
        });
        judge(&pki.node("beta").chain, &pki.trust())
    };
    for suffix in ["*.evil", ".evil", "evil.", "e vil"] {
        let (place, text) = flaw(constrain(vec![GeneralSubtree::DnsName(suffix.into())]), suffix);
        assert_eq!(place, Place::Intermediate, "{suffix}");
        assert!(text.contains("name constraint that is not understood"), "{suffix}: {text}");
    }
    let (_, text) = flaw(constrain(vec![GeneralSubtree::Rfc822Name("evil".into())]), "e-mail");
    assert!(text.contains("other than DNS names and IP ranges"), "{text}");
    constrain(vec![GeneralSubtree::DnsName("evil".into())]).unwrap();
    constrain(vec![GeneralSubtree::IpAddress(rcgen::CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8))]).unwrap();
}

#[test]
fn a_constraint_of_uris_is_refused() {
    // permittedSubtrees { uniformResourceIdentifier "lab" }
    let mut extension = CustomExtension::from_oid_content(
        &[2, 5, 29, 30],
        vec![0x30, 0x09, 0xa0, 0x07, 0x30, 0x05, 0x86, 0x03, b'l', b'a', b'b'],
    );
    extension.set_criticality(true);
    let pki = Pki::with(ca_params("lab root", 1), |p| {
        p.name_constraints = None;
        p.custom_extensions.push(extension);
    });
    assert!(judge(&pki.node("beta").chain, &pki.trust()).is_err());
}

#[test]
fn only_the_names_of_one_node_are_an_identity() {
    let pki = Pki::with(ca_params("lab root", 1), |p| p.name_constraints = None);
    let spiffe = "spiffe://lab/node/beta";
    let bad: Vec<Vec<rcgen::SanType>> = vec![
        vec![dns("beta.lab")],
        vec![uri(spiffe)],
        vec![uri(spiffe), dns("beta.lab"), dns("gamma.lab")],
        vec![uri(spiffe), uri("spiffe://lab/node/gamma"), dns("beta.lab")],
        vec![uri(spiffe), dns("gamma.lab")],
        vec![uri(spiffe), dns("beta.lap")],
        vec![uri(spiffe), dns("beta.lab.lab")],
        vec![uri(spiffe), dns("Beta.lab")],
        vec![uri("spiffe://lab/node/Beta"), dns("beta.lab")],
        vec![uri("SPIFFE://lab/node/beta"), dns("beta.lab")],
        vec![uri("spiffe://lab/node/beta/"), dns("beta.lab")],
        vec![uri("spiffe://lab/node/beta/x"), dns("beta.lab")],
        vec![uri("spiffe://lab//node/beta"), dns("beta.lab")],
        vec![uri("spiffe://lab/node/"), dns("beta.lab")],
        vec![uri("spiffe://lab/service/beta"), dns("beta.lab")],
        vec![uri("spiffe://lab:1/node/beta"), dns("beta.lab")],
        vec![uri("spiffe://u@lab/node/beta"), dns("beta.lab")],
        vec![uri("spiffe://lab/node/beta?x"), dns("beta.lab")],
        vec![uri("spiffe://lab/node/b%65ta"), dns("beta.lab")],
        vec![uri("https://lab/node/beta"), dns("beta.lab")],
        vec![uri("spiffe://1/node/beta"), dns("beta.1")],
        vec![uri(spiffe), dns("beta.lab"), rcgen::SanType::IpAddress([127, 0, 0, 1].into())],
    ];
    for names in bad {
        let text = format!("{names:?}");
        let mut params = leaf_params("beta");
        params.subject_alt_names = names;
        let chain = pki.issue(params).chain;
        let leaf = Certificate::parse(Place::Leaf, &chain[0]).unwrap();
        assert!(matches!(identity_of(&leaf), Err(Flaw::Name(_))), "{text}");
    }
    let chain = pki.node("beta").chain;
    let leaf = Certificate::parse(Place::Leaf, &chain[0]).unwrap();
    assert_eq!(identity_of(&leaf).unwrap(), (mesh(), node("beta")));
}

#[test]
fn hostile_text_in_a_subject_cannot_break_a_log_line() {
    let pki = Pki::new();
    let mut params = leaf_params("beta");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "x\n\u{1b}[31m\"level\"=error");
    params.distinguished_name.push(rcgen::DnType::LocalityName, "y".repeat(1000));
    params.extended_key_usages.clear();
    let text = judge(&pki.issue(params).chain, &pki.trust()).unwrap_err().to_string();
    assert!(!text.contains(char::is_control) && text.len() < 400, "{text:?}");
}

/// Every truncation and every flipped byte of a good leaf: refused or the same, never a panic.
#[test]
fn damaged_certificates_are_refused_without_a_panic() {
    let pki = Pki::new();
    let trust = pki.trust();
    let chain = pki.node("beta").chain;
    for n in 0..chain[0].len() {
        let cut = [CertificateDer::from(chain[0][..n].to_vec()), chain[1].clone()];
        assert!(verify_chain(&cut, &trust, Purpose::Server, now(), Limits::PEER).is_err(), "cut at {n}");
        let mut bytes = chain[0].to_vec();
        bytes[n] ^= 0x41;
        let flipped = [CertificateDer::from(bytes), chain[1].clone()];
        assert!(verify_chain(&flipped, &trust, Purpose::Server, now(), Limits::PEER).is_err(), "flipped at {n}");
    }
    let none = verify_chain(&[], &trust, Purpose::Server, now(), Limits::PEER);
    assert_eq!(none.unwrap_err(), Rejection::NoCertificate);
}
