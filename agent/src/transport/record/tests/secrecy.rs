//! Secrets are neither printed nor left behind, and what a connection costs.

use zeroize::Zeroizing;

use super::super::*;
use super::support::*;

#[test]
fn no_printed_form_holds_a_secret() {
    let bytes: Vec<u8> = (100..132).collect();
    let secret = || Secret::new(Suite::Aes128Gcm, &bytes).unwrap();
    let records = Records::new(Suite::Aes128Gcm, Side::Client, secret(), secret(), Limits::default()).unwrap();
    let (mut space, iv) = (Zeroizing::new([0; 32]), secret().iv().unwrap());
    let key = secret().key(&mut space).unwrap().to_vec();
    let text = format!(
        "{records:?} {records:#?} {:?} {:?} {:?}",
        secret(),
        Sealer::new(secret(), 1).unwrap(),
        Opener::new(secret()).unwrap()
    );
    assert!(text.contains("Aes128Gcm"), "{text}");
    for hidden in [&bytes[..4], &key[..4], &iv[..4]] {
        let list = format!("{hidden:?}");
        let lines = format!("{hidden:#?}");
        let hex: String = hidden.iter().map(|byte| format!("{byte:02x}")).collect();
        for form in [list.trim_matches(['[', ']']), lines.trim_matches(['[', ']', '\n']), &hex, &hex.to_uppercase()] {
            assert!(!text.contains(form), "{form} in {text}");
        }
    }
}

#[test]
fn a_secret_of_another_length_is_none() {
    for (suite, right) in [(Suite::Aes128Gcm, 32), (Suite::Aes256Gcm, 48), (Suite::ChaCha20Poly1305, 32)] {
        for len in 0..100 {
            assert_eq!(Secret::new(suite, &vec![1; len]).is_some(), len == right, "{suite:?}, {len}");
        }
    }
    let (one, other) = (secret(Suite::Aes128Gcm, 1), secret(Suite::ChaCha20Poly1305, 2));
    assert!(Records::new(Suite::Aes128Gcm, Side::Client, one, other, Limits::default()).is_err());
}

#[test]
fn a_connection_is_small() {
    let own = size_of::<Records>();
    // Beside it lie the two secrets, and the library's two key schedules of 592 bytes each.
    println!("Records: {own} bytes");
    assert!(own <= 256, "{own}");
}
