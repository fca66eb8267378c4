//! The keys of one direction as the kernel takes them (linux/tls.h, Documentation/networking/tls.rst).
//!
//! | bytes | AES-128-GCM | AES-256-GCM | ChaCha20-Poly1305 |
//! |---|---|---|---|
//! | version, TLS 1.3 | 2 | 2 | 2 |
//! | cipher | 2 | 2 | 2 |
//! | iv | 8, the last of the twelve | 8, likewise | 12 |
//! | key | 16 | 32 | 32 |
//! | salt | 4, the first of the twelve | 4, likewise | 0 |
//! | number of the next record | 8, big endian | 8 | 8 |
//! | in all | 40 | 56 | 56 |

use aws_lc_rs::aead::NONCE_LEN;
use zeroize::Zeroizing;

use super::keys::{KeyError, MAX_KEY, Secret, Suite};

/// How much of what nonces are made of the kernel calls the salt, with AES-GCM.
const SALT: usize = 4;

/// The keys of one direction, and the number of the next record under them, as `setsockopt` takes them for `TLS_TX` and
/// `TLS_RX`. Wiped when dropped, and not shown by `Debug`; on the heap, since a value that is moved leaves its bytes behind.
pub struct CryptoInfo(Zeroizing<Box<[u8]>>);

impl std::fmt::Debug for CryptoInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[keys]")
    }
}

impl CryptoInfo {
    /// The keys of `secret`, when `sequence` records have been sealed or opened with them.
    ///
    /// # Errors
    /// The crypto library failed; it has no reason to.
    pub fn new(secret: &Secret, sequence: u64) -> Result<Self, KeyError> {
        let mut space = Zeroizing::new([0; MAX_KEY]);
        let iv = secret.iv()?;
        Ok(Self(lay_out(secret.suite(), secret.key(&mut space)?, &iv, sequence)))
    }

    /// The structure of linux/tls.h.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn lay_out(suite: Suite, key: &[u8], nonce: &[u8; NONCE_LEN], sequence: u64) -> Zeroizing<Box<[u8]>> {
    let (salt, iv) = match suite {
        Suite::Aes128Gcm | Suite::Aes256Gcm => nonce.split_at(SALT),
        Suite::ChaCha20Poly1305 => (&[][..], &nonce[..]),
    };
    let (version, cipher) = (libc::TLS_1_3_VERSION.to_ne_bytes(), cipher(suite).to_ne_bytes());
    let parts: [&[u8]; 6] = [&version, &cipher, iv, key, salt, &sequence.to_be_bytes()];
    // All at once, so that no shorter copy is left behind.
    let mut bytes = Zeroizing::new(vec![0; parts.iter().map(|part| part.len()).sum()].into_boxed_slice());
    let mut rest = &mut bytes[..];
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
    bytes
}

/// The kernel's number of the cipher.
fn cipher(suite: Suite) -> u16 {
    match suite {
        Suite::Aes128Gcm => libc::TLS_CIPHER_AES_GCM_128,
        Suite::Aes256Gcm => libc::TLS_CIPHER_AES_GCM_256,
        Suite::ChaCha20Poly1305 => libc::TLS_CIPHER_CHACHA20_POLY1305,
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use libc::{
        tls12_crypto_info_aes_gcm_128 as Gcm128, tls12_crypto_info_aes_gcm_256 as Gcm256,
        tls12_crypto_info_chacha20_poly1305 as ChaCha,
    };

    use super::*;

    /// Where the structures of the C library have their parts: all of it, iv, key, salt, number.
    macro_rules! places {
        ($($structure:ty),*) => {
            [$([
                size_of::<$structure>(),
                offset_of!($structure, iv),
                offset_of!($structure, key),
                offset_of!($structure, salt),
                offset_of!($structure, rec_seq),
            ]),*]
        };
    }

    #[test]
    fn every_suite_is_laid_out_as_the_kernel_takes_it() {
        let key: Vec<u8> = (100..132).collect();
        let nonce: [u8; NONCE_LEN] = std::array::from_fn(|at| 200 + u8::try_from(at).unwrap());
        let sequence = 0x0102_0304_0506_0708_u64;
        let (salt, iv) = nonce.split_at(4);
        let expected: [(Suite, u16, [&[u8]; 3]); 3] = [
            (Suite::Aes128Gcm, 51, [iv, &key[..16], salt]),
            (Suite::Aes256Gcm, 52, [iv, &key, salt]),
            (Suite::ChaCha20Poly1305, 54, [&nonce, &key, &[]]),
        ];
        let places = places![Gcm128, Gcm256, ChaCha];
        assert_eq!(places.map(|[size, ..]| size), [40, 56, 56]);
        for ((suite, cipher, [iv, key, salt]), [size, at_iv, at_key, at_salt, at_number]) in
            expected.into_iter().zip(places)
        {
            let bytes = lay_out(suite, key, &nonce, sequence);
            assert_eq!(bytes.len(), size, "{suite:?}");
            assert_eq!(bytes[..2], 0x0304_u16.to_ne_bytes(), "{suite:?}");
            assert_eq!(bytes[2..4], cipher.to_ne_bytes(), "{suite:?}");
            assert_eq!(&bytes[at_iv..][..iv.len()], iv, "{suite:?}");
            assert_eq!(&bytes[at_key..][..key.len()], key, "{suite:?}");
            assert_eq!(&bytes[at_salt..][..salt.len()], salt, "{suite:?}");
            assert_eq!(bytes[at_number..], [1, 2, 3, 4, 5, 6, 7, 8], "{suite:?}");
        }
    }

    #[test]
    fn it_prints_nothing_of_the_keys() {
        let secret = Secret::new(Suite::Aes128Gcm, &[7; 32]).unwrap();
        assert_eq!(format!("{:?}", CryptoInfo::new(&secret, 0).unwrap()), "[keys]");
    }
}
