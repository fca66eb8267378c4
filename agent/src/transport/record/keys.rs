//! From a traffic secret to keys, nonces and the next secret (RFC 8446 §7.1–7.3, §5.3).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use aws_lc_rs::aead::{self, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{self, HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::CipherSuite;
use zeroize::Zeroizing;

use super::crypto_info::CryptoInfo;
use super::error::Fatal;

/// The greatest length of a key.
pub(super) const MAX_KEY: usize = 32;

/// The crypto library could not make a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no key can be made of the traffic secret")]
pub struct KeyError;

impl From<Unspecified> for KeyError {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

impl From<KeyError> for std::io::Error {
    fn from(error: KeyError) -> Self {
        Self::other(error)
    }
}

impl From<KeyError> for Fatal {
    fn from(_: KeyError) -> Self {
        Self::Internal
    }
}

/// A cipher suite of TLS 1.3 (RFC 8446 §B.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `TLS_AES_128_GCM_SHA256`
    Aes128Gcm,
    /// `TLS_AES_256_GCM_SHA384`
    Aes256Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256`
    ChaCha20Poly1305,
}

impl Suite {
    /// All that there are.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// The suite that rustls calls so; `None` for one of another version of TLS.
    #[must_use]
    pub fn from_rustls(suite: CipherSuite) -> Option<Self> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Self::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Self::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    pub(super) fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => HKDF_SHA256,
            Self::Aes256Gcm => HKDF_SHA384,
        }
    }

    /// Length of a traffic secret: that of the suite's hash.
    fn secret_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => 32,
            Self::Aes256Gcm => 48,
        }
    }
}

/// An application traffic secret of one direction. Wiped when dropped, and not shown by `Debug`. On the heap, since a value
/// that is moved leaves its bytes behind.
pub struct Secret {
    suite: Suite,
    bytes: Zeroizing<Box<[u8]>>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl Secret {
    /// A secret for `suite`; `None` if it is not as long as the suite's hash.
    #[must_use]
    pub fn new(suite: Suite, secret: &[u8]) -> Option<Self> {
        (secret.len() == suite.secret_len()).then(|| Self { suite, bytes: Zeroizing::new(secret.into()) })
    }

    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn expand(&self, label: &[u8], out: &mut [u8]) -> Result<(), Unspecified> {
        expand(self.suite, self.bytes(), label, out)
    }

    /// The secret after a key update (RFC 8446 §7.2).
    pub(super) fn next(&self) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new(vec![0; self.suite.secret_len()].into_boxed_slice());
        self.expand(b"traffic upd", &mut bytes)?;
        Ok(Self { suite: self.suite, bytes })
    }

    /// Writes the bytes of the key into `space` and gives them back (RFC 8446 §7.3).
    pub(super) fn key<'a>(&self, space: &'a mut [u8; MAX_KEY]) -> Result<&'a [u8], KeyError> {
        let key = &mut space[..self.suite.aead().key_len()];
        self.expand(b"key", key)?;
        Ok(key)
    }

    /// What nonces are made of (RFC 8446 §7.3).
    pub(super) fn iv(&self) -> Result<Zeroizing<[u8; NONCE_LEN]>, KeyError> {
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        self.expand(b"iv", &mut iv[..])?;
        Ok(iv)
    }
}

/// `HKDF-Expand-Label(secret, label, "", out.len())` (RFC 8446 §7.1).
fn expand(suite: Suite, secret: &[u8], label: &[u8], out: &mut [u8]) -> Result<(), Unspecified> {
    struct Len(usize);
    impl KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    const PREFIX: &[u8] = b"tls13 ";
    let len = u16::try_from(out.len()).map_err(|_| Unspecified)?.to_be_bytes();
    let label_len = u8::try_from(PREFIX.len() + label.len()).map_err(|_| Unspecified)?;
    let no_context = 0;
    Prk::new_less_safe(suite.hkdf(), secret)
        .expand(&[&len, &[label_len], PREFIX, label, &[no_context]], Len(out.len()))?
        .fill(out)
}

/// How many keys are held ready for use in the whole process, by those who [rest](Keys::rest) as well. What is made ready of a key
/// takes some 600 bytes and a few hundred nanoseconds.
const READY: usize = if cfg!(test) { 0 } else { 256 };

static HELD: AtomicUsize = AtomicUsize::new(0);

/// A key made ready for use, and counted.
struct Ready(LessSafeKey);

impl Ready {
    fn new(suite: Suite, key: &[u8]) -> Result<Self, KeyError> {
        let key = UnboundKey::new(suite.aead(), key)?;
        HELD.fetch_add(1, Relaxed);
        Ok(Self(LessSafeKey::new(key)))
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Relaxed);
    }
}

/// The keys of one direction in force, and the number of the next record under them. Not `Clone`: two that count from
/// the same number would use a nonce twice.
pub(super) struct Keys {
    suite: Suite,
    /// The secret, the key, and what nonces are made of, behind one another. On the heap for the same reason as a [`Secret`].
    bytes: Zeroizing<Box<[u8]>>,
    /// What is made of the key, unless this rests.
    ready: Option<Ready>,
    sequence: u64,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("suite", &self.suite()).field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Keys {
    /// The keys of `secret`, none of whose records has been sealed or opened yet.
    pub(super) fn new(secret: Secret) -> Result<Self, KeyError> {
        let suite = secret.suite();
        let (secret_len, key_len) = (suite.secret_len(), suite.aead().key_len());
        let mut bytes = Zeroizing::new(vec![0; secret_len + key_len + NONCE_LEN].into_boxed_slice());
        let (kept, keys) = bytes.split_at_mut(secret_len);
        kept.copy_from_slice(secret.bytes());
        let (key, iv) = keys.split_at_mut(key_len);
        secret.expand(b"key", key)?;
        secret.expand(b"iv", iv)?;
        let ready = Some(Ready::new(suite, key)?);
        Ok(Self { suite, bytes, ready, sequence: 0 })
    }

    /// Keeps no more than what the key can be made ready of again, if many keys are held ready. For one that is not used for
    /// the time being.
    #[inline]
    pub(super) fn rest(&mut self) {
        if HELD.load(Relaxed) > READY {
            self.ready = None;
        }
    }

    /// Goes on with the next secret; the old one is wiped.
    pub(super) fn update(&mut self) -> Result<(), KeyError> {
        *self = Self::new(self.secret().next()?)?;
        Ok(())
    }

    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    /// The secret that they are made of.
    fn secret(&self) -> Secret {
        Secret { suite: self.suite, bytes: Zeroizing::new(self.bytes[..self.suite.secret_len()].into()) }
    }

    /// How many nonces were taken under these keys.
    pub(super) fn used(&self) -> u64 {
        self.sequence
    }

    /// The keys for somebody else who goes on with the next record.
    pub(super) fn crypto_info(&self) -> Result<CryptoInfo, KeyError> {
        CryptoInfo::new(&self.secret(), self.sequence)
    }

    /// The secret, and how many nonces were taken under its keys.
    pub(super) fn into_secret(self) -> (Secret, u64) {
        (self.secret(), self.sequence)
    }

    /// The key, and the nonce for the next record (RFC 8446 §5.3), which is never given out again.
    ///
    /// # Errors
    /// The sequence number has come to its end; it does not wrap.
    #[inline]
    pub(super) fn take_nonce(&mut self) -> Result<(&LessSafeKey, Nonce), Fatal> {
        let next = self.sequence.checked_add(1).ok_or(Fatal::Internal)?;
        let (kept, iv) = self.bytes.split_last_chunk::<NONCE_LEN>().ok_or(Fatal::Internal)?;
        let mut nonce = *iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        let ready = match &mut self.ready {
            Some(ready) => ready,
            resting => resting.insert(Ready::new(self.suite, &kept[self.suite.secret_len()..])?),
        };
        self.sequence = next;
        #[cfg(test)]
        super::tests::nonces::note(&kept[..self.suite.secret_len()], nonce);
        Ok((&ready.0, Nonce::assume_unique_for_key(nonce)))
    }

    /// Whether it is ready for use.
    #[cfg(test)]
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// Goes on at another number.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.sequence = sequence;
    }
}
