//! A sender that seals what no careful one would: any type inside, any padding, keys renewed without a word.

use agent::transport::record::{HEADER, Suite};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, KeyType, Prk};

/// One sending direction, by its traffic secret (RFC 8446 §5.2, §5.3, §7.3).
pub(crate) struct Forger {
    suite: Suite,
    secret: Vec<u8>,
    sequence: u64,
}

impl Forger {
    /// The sender that has this application traffic secret.
    pub(crate) fn new(suite: Suite, secret: Vec<u8>) -> Self {
        Self { suite, secret, sequence: 0 }
    }

    /// A record with `kind`, `content` and so much padding inside.
    pub(crate) fn seal(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let (algorithm, _) = algorithms(self.suite);
        let key = UnboundKey::new(algorithm, &expand(self.suite, &self.secret, b"key", algorithm.key_len())).unwrap();
        let mut nonce: [u8; 12] = expand(self.suite, &self.secret, b"iv", 12).try_into().unwrap();
        nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        self.sequence += 1;
        let mut inside = [content, &[kind], &vec![0; padding]].concat();
        let [.., high, low] = (inside.len() + 16).to_be_bytes();
        let header: [u8; HEADER] = [23, 3, 3, high, low];
        let nonce = Nonce::assume_unique_for_key(nonce);
        LessSafeKey::new(key).seal_in_place_append_tag(nonce, Aad::from(header), &mut inside).unwrap();
        [&header[..], &inside].concat()
    }

    /// Goes on with the next keys (RFC 8446 §7.2).
    pub(crate) fn update(&mut self) {
        self.secret = expand(self.suite, &self.secret, b"traffic upd", self.secret.len());
        self.sequence = 0;
    }
}

fn algorithms(suite: Suite) -> (&'static aead::Algorithm, hkdf::Algorithm) {
    match suite {
        Suite::Aes128Gcm => (&aead::AES_128_GCM, hkdf::HKDF_SHA256),
        Suite::Aes256Gcm => (&aead::AES_256_GCM, hkdf::HKDF_SHA384),
        Suite::ChaCha20Poly1305 => (&aead::CHACHA20_POLY1305, hkdf::HKDF_SHA256),
    }
}

/// `HKDF-Expand-Label` without a context (RFC 8446 §7.1).
fn expand(suite: Suite, secret: &[u8], label: &[u8], len: usize) -> Vec<u8> {
    struct Len(usize);
    impl KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let [.., high, low] = len.to_be_bytes();
    let info = [&[high, low, u8::try_from(6 + label.len()).unwrap()], &b"tls13 "[..], label, &[0]].concat();
    let mut out = vec![0; len];
    let prk = Prk::new_less_safe(algorithms(suite).1, secret);
    prk.expand(&[&info], Len(len)).unwrap().fill(&mut out).unwrap();
    out
}
