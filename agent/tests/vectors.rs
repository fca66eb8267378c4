//! The identity core over certificate cases of other projects: [x509-limbo] and [BetterTLS].
//!
//! Reads the folder that `ADIT_VECTORS` names: `x509-limbo.json` and `bettertls.json.xz`. What is run is
//! `identity::verify_chain`: webpki's path building, then the strict profile over the path found. The cases' names are
//! web servers', not nodes', so whether a name is right is asked of webpki; the names of nodes have tests of their own.
//!
//! Every case that must fail has to fail here. The tables below list where this verifier differs and why; an unlisted
//! difference fails the test, and so does a listed one that is none.
//!
//! [x509-limbo]: https://x509-limbo.com/
//! [BetterTLS]: https://github.com/Netflix/bettertls

#![expect(clippy::print_stderr, reason = "a test harness of its own, which tells a person what it ran")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::identity::{Limits, Purpose, Rejection, Trust, verify_chain};
use libtest_mimic::{Arguments, Failed, Trial};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = std::env::var_os("ADIT_VECTORS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: ADIT_VECTORS is not set, so the outside certificate cases are not run");
    }
    let trial = |name: &str, run: fn(&Path) -> Result<(), Failed>| {
        let folder = folder.clone();
        let ignored = folder.is_none();
        Trial::test(name, move || folder.as_deref().map_or_else(|| Err("ADIT_VECTORS is not set".into()), run))
            .with_ignored_flag(ignored)
    };
    libtest_mimic::run(
        &arguments,
        vec![
            trial("x509_limbo_cases_come_out_as_expected_or_listed", x509_limbo),
            trial("bettertls_name_constraint_cases_come_out_as_expected_or_listed", bettertls_name_constraints),
            trial("bettertls_path_building_cases_come_out_as_expected_or_listed", bettertls_path_building),
        ],
    )
    .exit_code()
}

const COMMON_NAME: &str = "a rule of web browsers' issuers about the subject's common name, which is never read here";
const CHAIN: &str = "a peer's chain is capped at four certificates";
const CA_AS_LEAF: &str = "a CA's certificate is no node's (limbo itself refuses it as webpki::ca-as-leaf)";
const OTHER_CONSTRAINT: &str = "only name constraints of DNS names and IP ranges are understood";
const WILDCARD: &str = "a node's certificate is for one host, so none with a wildcard is taken";

/// Cases that limbo says must fail and that are accepted.
const LIMBO_MORE_LENIENT: &[(&str, &str)] = &[
    ("webpki::cn::ipv4-hex-mismatch", COMMON_NAME),
    ("webpki::cn::ipv4-leading-zeros-mismatch", COMMON_NAME),
    ("webpki::cn::ipv6-uppercase-mismatch", COMMON_NAME),
    ("webpki::cn::ipv6-uncompressed-mismatch", COMMON_NAME),
    ("webpki::cn::ipv6-non-rfc5952-mismatch", COMMON_NAME),
    ("webpki::cn::punycode-not-in-san", COMMON_NAME),
    ("webpki::cn::utf8-vs-punycode-mismatch", COMMON_NAME),
    ("webpki::cn::not-in-san", COMMON_NAME),
    ("webpki::cn::case-mismatch", COMMON_NAME),
];

/// Cases that limbo says must pass and that are refused.
const LIMBO_STRICTER: &[(&str, &str)] = &[
    ("cve::cve-2024-0567", CHAIN),
    ("pathlen::validation-ignores-pathlen-in-leaf", CA_AS_LEAF),
    ("rfc5280::ca-as-leaf", CA_AS_LEAF),
    (
        "pathlen::self-issued-certs-pathlen",
        "webpki counts a self-issued certificate against the path length, which RFC 5280 §6.1.4 (l) does not",
    ),
    ("pathlen::max-chain-depth-1-self-issued", "the cap counts certificates, self-issued ones too"),
    (
        "rfc5280::eku::ee-without-eku",
        "the profile asks for an extended key usage (limbo itself refuses it as webpki::eku::ee-without-eku)",
    ),
    ("rfc5280::nc::permitted-dn-match", OTHER_CONSTRAINT),
    (
        "rfc5280::nc::permitted-self-issued",
        "webpki holds a self-issued CA to its root's name constraints, which RFC 5280 §6.1.3 (b) does not",
    ),
    ("rfc5280::nc::nc-permits-email-exact", OTHER_CONSTRAINT),
    ("rfc5280::nc::nc-permits-email-domain", OTHER_CONSTRAINT),
    ("rfc5280::nc::nc-permits-email-literal-asterisk-exact-match", OTHER_CONSTRAINT),
    ("rfc5280::nc::nc-permits-email-literal-double-asterisk", OTHER_CONSTRAINT),
    ("rfc5280::nc::nc-permits-email-literal-mid-asterisk", OTHER_CONSTRAINT),
    ("rfc5280::nc::nc-forbids-othername-noop", OTHER_CONSTRAINT),
    (
        "webpki::nc::permitted-dns-match-noncritical",
        "RFC 5280 §4.2.1.10 wants name constraints critical (limbo itself refuses it as rfc5280::nc::permitted-dns-match-noncritical)",
    ),
    ("webpki::nc::nc-permits-dns-san-pattern", WILDCARD),
    ("webpki::san::leftmost-wildcard-san", WILDCARD),
    ("online::google.com", WILDCARD),
    ("online::stackoverflow.com", WILDCARD),
    ("online::cloudflare.com", WILDCARD),
    ("online::facebook.com", WILDCARD),
    ("online::amazon.com", WILDCARD),
    ("online::s3.amazonaws.com", WILDCARD),
    ("online::docs.python.org", WILDCARD),
    ("online::bing.com", WILDCARD),
    ("online::fastly.com", "its root has the serial zero (limbo refuses that in a leaf as rfc5280::serial::zero)"),
];

fn x509_limbo(folder: &Path) -> Result<(), Failed> {
    let limbo: Value = serde_json::from_slice(&std::fs::read(folder.join("x509-limbo.json"))?)?;
    let cases = limbo["testcases"].as_array().ok_or("no testcases")?;
    let mut wrong = Vec::new();
    let mut differing = 0;
    for case in cases {
        let id = case["id"].as_str().unwrap_or_default();
        let outcome = limbo_case(case)?;
        let expected = case["expected_result"] == "SUCCESS";
        let listed = if expected { LIMBO_STRICTER } else { LIMBO_MORE_LENIENT };
        let listed = listed.iter().any(|(name, _)| *name == id);
        let differs = outcome.is_ok() != expected;
        differing += usize::from(differs);
        if differs != listed {
            let outcome = outcome.err().unwrap_or_else(|| "accepted".into());
            wrong.push(format!("{id}: listed {listed}, expected {}: {outcome}", case["expected_result"]));
        }
    }
    let ids: Vec<_> = cases.iter().filter_map(|case| case["id"].as_str()).collect();
    let gone = LIMBO_MORE_LENIENT.iter().chain(LIMBO_STRICTER).filter(|(id, _)| !ids.contains(id));
    wrong.extend(gone.map(|(id, _)| format!("{id}: listed, but there is no such case")));
    eprintln!("x509-limbo: {} cases, {differing} differ", cases.len());
    report(wrong)
}

fn limbo_case(case: &Value) -> Result<Result<(), String>, Failed> {
    let pems =
        |key: &str| -> Vec<&str> { case[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
    let roots = pems("trusted_certs").into_iter().map(der).collect::<Result<Vec<_>, _>>()?;
    let leaf = der(case["peer_certificate"].as_str().ok_or("no peer certificate")?)?;
    let intermediates = pems("untrusted_intermediates").into_iter().map(der).collect::<Result<Vec<_>, _>>()?;
    let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).collect();
    let crls = pems("crls")
        .into_iter()
        .map(|pem| CertificateRevocationListDer::from_pem_slice(pem.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let now = match case["validation_time"].as_str() {
        Some(text) => OffsetDateTime::parse(text, &Rfc3339)?,
        None => OffsetDateTime::from_unix_timestamp(1_735_689_600)?,
    };
    let purpose = if case["validation_kind"] == "CLIENT" { Purpose::Client } else { Purpose::Server };
    let mut limits = Limits::PEER;
    if let Some(depth) = case["max_chain_depth"].as_u64() {
        // limbo counts the intermediates that may stand between leaf and root.
        limits.certificates = limits.certificates.min(usize::try_from(depth)? + 1);
    }
    let trust = match Trust::new(roots).with_crls(crls) {
        Ok(trust) => trust,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if let Err(rejection) = verify_chain(&chain, &trust, purpose, now, limits) {
        return Ok(Err(rejection.to_string()));
    }
    Ok(match case["expected_peer_name"]["value"].as_str() {
        Some(name) if purpose == Purpose::Server => is_for(&chain[0], name),
        _ => Ok(()),
    })
}

/// Whether a certificate is for a web server's name: not what the agent asks, so it is webpki's answer.
fn is_for(leaf: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    let cert = webpki::EndEntityCert::try_from(leaf).map_err(|e| e.to_string())?;
    let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
    cert.verify_is_valid_for_subject_name(&name).map_err(|e| e.to_string())
}

/// BetterTLS cases that must be accepted and are refused: how many by what, and why that is meant.
const NAME_CONSTRAINTS_STRICTER: &[(&str, usize, &str)] = &[];
const PATH_BUILDING_STRICTER: &[(&str, usize, &str)] = &[];

fn bettertls_name_constraints(folder: &Path) -> Result<(), Failed> {
    bettertls(folder, "nameconstraints", 9_491, NAME_CONSTRAINTS_STRICTER)
}

fn bettertls_path_building(folder: &Path) -> Result<(), Failed> {
    bettertls(folder, "pathbuilding", 81, PATH_BUILDING_STRICTER)
}

fn bettertls(folder: &Path, suite: &str, count: usize, stricter: &[(&str, usize, &str)]) -> Result<(), Failed> {
    let file = std::fs::File::open(folder.join("bettertls.json.xz"))?;
    let reader = lzma_rust2::XzReader::new(std::io::BufReader::new(file), false);
    let data: Value = serde_json::from_reader(std::io::BufReader::new(reader))?;
    let root = base64(data["trustRoot"].as_str().ok_or("no trust root")?)?;
    let trust = Trust::new([root]);
    let cases = data["suites"][suite]["testCases"].as_array().ok_or("no cases")?;
    // The cases were generated on this day and run for a year.
    let now = OffsetDateTime::parse("2026-12-01T00:00:00Z", &Rfc3339)?;
    let limits = Limits { certificates: 64, bytes: 256 * 1024 };
    let mut wrong = Vec::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases {
        let chain: Vec<_> = case["certificates"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(base64)
            .collect::<Result<_, _>>()?;
        let hostname = case["hostname"].as_str().unwrap_or_default();
        let outcome = match verify_chain(&chain, &trust, Purpose::Server, now, limits) {
            Ok(_) => is_for(&chain[0], hostname),
            Err(Rejection::Profile(error)) => Err(error.flaw.to_string()),
            Err(rejection) => Err(rejection.name().to_owned()),
        };
        match (case["expected"].as_str(), outcome) {
            (Some("REJECT"), Ok(())) => wrong.push(format!("case {} must be refused and is accepted", case["id"])),
            (Some("ACCEPT"), Err(why)) => *refused.entry(why).or_default() += 1,
            (Some("ACCEPT" | "REJECT"), _) => {}
            (other, _) => wrong.push(format!("case {} expects {other:?}", case["id"])),
        }
    }
    if cases.len() != count {
        wrong.push(format!("{} cases instead of {count}", cases.len()));
    }
    let listed: BTreeMap<String, usize> = stricter.iter().map(|(why, n, _)| ((*why).to_owned(), *n)).collect();
    if refused != listed {
        wrong.push(format!("refused {refused:?}, listed {listed:?}"));
    }
    let stricter = refused.values().sum::<usize>();
    eprintln!("BetterTLS {suite}: {} cases, {stricter} refused that others accept", cases.len());
    report(wrong)
}

fn base64(text: &str) -> Result<CertificateDer<'static>, rustls::pki_types::pem::Error> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    CertificateDer::from_pem_slice(pem.as_bytes())
}

fn report(wrong: Vec<String>) -> Result<(), Failed> {
    if wrong.is_empty() { Ok(()) } else { Err(format!("{} wrong:\n{}", wrong.len(), wrong.join("\n")).into()) }
}
