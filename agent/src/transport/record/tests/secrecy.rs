//! Secrets are neither printed nor left behind, and what a connection costs.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use zeroize::{Zeroize, Zeroizing};

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

/// What is looked for is kept under this, so that it is not found where it is kept.
const MASK: u8 = 0xa5;

fn masked(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ MASK).collect()
}

/// How often it lies in this process' writable memory.
fn copies(wanted: &[u8]) -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut found = 0;
    let mut chunk = vec![0; 1 << 20];
    for (range, _) in maps.lines().filter_map(|line| line.split_once(" rw")) {
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        let mut at = from;
        while at < to {
            let len = chunk.len().min(usize::try_from(to - at).unwrap());
            // What other threads give back meanwhile cannot be read.
            let Ok(len) = memory.read_at(&mut chunk[..len], at) else { break };
            let same = |window: &[u8]| window.iter().zip(wanted).all(|(byte, wanted)| byte ^ MASK == *wanted);
            found += chunk[..len].windows(wanted.len()).filter(|window| same(window)).count();
            at += u64::try_from(len).unwrap().max(1);
        }
    }
    // The last chunk read must not be met by the next search.
    chunk.zeroize();
    found
}

/// Overwrites what calls before have left on this stack.
#[inline(never)]
fn scrub_stack() {
    black_box(&mut [0u8; 256 << 10]);
}

#[test]
fn nothing_is_left_of_a_secret_or_key_once_it_is_dropped_or_updated() {
    let suite = Suite::Aes256Gcm;
    let mut bytes: Vec<u8> = (0..48u8).map(|n| black_box(n).wrapping_mul(37) ^ 0x6b).collect();
    let first = Secret::new(suite, &bytes).unwrap();
    let wanted = masked(&bytes);
    bytes.zeroize();
    let masks = |secret: &Secret| {
        let mut space = Zeroizing::new([0; 32]);
        (masked(secret.bytes()), masked(secret.key(&mut space).unwrap()))
    };
    let next = first.next().unwrap();
    let ((_, key), (next_secret, next_key)) = (masks(&first), masks(&next));
    drop(next);

    let mut sealer = Sealer::new(first, 1).unwrap();
    scrub_stack();
    assert!(copies(&wanted) > 0 && copies(&key) > 0, "the search finds what is there");
    assert_eq!((copies(&next_secret), copies(&next_key)), (0, 0));
    sealer.update().unwrap();
    scrub_stack();
    assert_eq!((copies(&wanted), copies(&key)), (0, 0), "after an update");
    assert!(copies(&next_secret) > 0 && copies(&next_key) > 0);
    drop(sealer);
    scrub_stack();
    assert_eq!((copies(&next_secret), copies(&next_key)), (0, 0), "after the end");
}
