//! A sentinel key is looked for in everything that can be printed.

use time::Duration;

use super::super::certificate::hex;
use super::super::{ALPN_LANE, CERTIFICATE_FILE, Identity, KEY_FILE};
use super::load::Directory;
use super::support::*;

/// The forms in which key bytes could leak into text: hexadecimal, a byte list, the PEM's base64.
fn forms(issued: &Issued) -> Vec<String> {
    let der = issued.key.serialize_der();
    // PKCS #8 of a P-256 key: the scalar follows the OCTET STRING header of the inner ECPrivateKey (RFC 5915 §3).
    let at = der.windows(4).position(|w| w == [2, 1, 1, 4]).unwrap() + 5;
    let scalar = &der[at..at + 32];
    let list = format!("{:?}", &scalar[..8]);
    let base64 = issued.key.serialize_pem().lines().nth(2).unwrap().to_owned();
    vec![hex(&scalar[..8]), hex(&scalar[..8]).to_uppercase(), list.trim_matches(['[', ']']).to_owned(), base64]
}

#[test]
fn no_printed_form_of_anything_holds_the_key() {
    let (pki, dir) = (Pki::new(), Directory::new());
    let alpha = pki.node("alpha");
    dir.fill(&pki, &alpha);
    let (identity, warnings) = Identity::load(dir.path(), &node("alpha"), &mesh(), now()).unwrap();
    let mut printed = vec![format!("{identity:?} {identity:#?} {warnings:?}")];
    let context = context_of(identity, pki.trust(), List::default(), Duration::ZERO);
    let (client, _, verdict) = context.dial(&node("beta"), ALPN_LANE).unwrap();
    let (server, accepted) = context.accept(&[ALPN_LANE]).unwrap();
    printed.push(format!("{context:?} {client:?} {server:?} {verdict:?} {accepted:?} {:?}", pki.trust()));

    // Errors met while a key is in hand.
    let key = alpha.key.serialize_pem();
    for (name, contents) in [
        (KEY_FILE, key[..key.len() - 40].to_owned()),
        (KEY_FILE, key.replace("-----END", "*-----END")),
        (KEY_FILE, key.replace("PRIVATE", "ENCRYPTED PRIVATE")),
        (CERTIFICATE_FILE, key.clone()),
        (CERTIFICATE_FILE, key.replace("PRIVATE KEY", "CERTIFICATE")),
    ] {
        let dir = Directory::new();
        dir.fill(&pki, &alpha);
        dir.write(name, contents, 0o600);
        let error = Identity::load(dir.path(), &node("alpha"), &mesh(), now()).unwrap_err();
        printed.push(format!("{error} {error:?} {}", error.hint()));
    }
    for form in forms(&alpha) {
        for text in &printed {
            assert!(!text.contains(&form), "{form} in {text}");
        }
    }
}
