//! Public keys, and the signing requests (PKCS#10, RFC 2986) that carry them.
//!
//! Of a request nothing is taken but its key: subject and attributes are stepped over as opaque bytes, never parsed.
//! Names are given by who signs, not by who asks.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, EcdsaKeyPair, KeyPair as _, ParsedPublicKey};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::asn1_rs::Tag;

use crate::der::{self, ECDSA_WITH_SHA256};
use crate::error::CsrError;

/// The largest request that is looked at, in bytes.
pub const MAX_CSR: usize = 16 * 1024;

/// A SubjectPublicKeyInfo up to the point: id-ecPublicKey, prime256v1, a bit string of 65 bytes (RFC 5480 §2).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point of P-256 (SEC 1 §2.3.3).
const POINT: usize = 65;

/// An ECDSA P-256 public key: a point that is on the curve.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    point: [u8; POINT],
}

impl PublicKey {
    /// Takes a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7). There is one encoding for each key; others are refused.
    ///
    /// # Errors
    /// [`CsrError::Key`].
    pub fn from_spki(der: &[u8]) -> Result<Self, CsrError> {
        let point: [u8; POINT] = der.strip_prefix(&SPKI_PREFIX).and_then(|p| p.try_into().ok()).ok_or(CsrError::Key)?;
        if point[0] != 4 || ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).is_err() {
            return Err(CsrError::Key);
        }
        Ok(Self { point })
    }

    /// Takes the key of a signing request, in PEM or DER, whose signature proves possession of it.
    ///
    /// # Errors
    /// [`CsrError`] says what does not hold.
    pub fn from_csr(request: &[u8]) -> Result<Self, CsrError> {
        if request.len() > MAX_CSR {
            return Err(CsrError::TooLarge);
        }
        if request.first() == Some(&0x30) {
            return Self::from_csr_der(request);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(request).map_err(|_| CsrError::Malformed)?;
        Self::from_csr_der(&der)
    }

    fn from_csr_der(der: &[u8]) -> Result<Self, CsrError> {
        let (signed, algorithm, signature) = der::signed(der).ok_or(CsrError::Malformed)?;
        let [version, _subject, spki, attributes] =
            der::one(signed, Tag::Sequence).and_then(der::split).ok_or(CsrError::Malformed)?;
        if version != [0x02, 0x01, 0x00] || attributes.first() != Some(&0xa0) {
            return Err(CsrError::Malformed);
        }
        let key = Self::from_spki(spki)?;
        if algorithm != ECDSA_WITH_SHA256 {
            return Err(CsrError::Algorithm);
        }
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point)
            .map_err(|_| CsrError::Key)?
            .verify_sig(signed, signature)
            .map_err(|_| CsrError::Signature)?;
        Ok(key)
    }

    /// The key as SubjectPublicKeyInfo in DER.
    pub fn to_spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.point].concat()
    }

    pub(crate) fn from_pair(pair: &EcdsaKeyPair) -> Self {
        let mut point = [0; POINT];
        // aws-lc gives P-256 points uncompressed, which is this length.
        point.copy_from_slice(pair.public_key().as_ref());
        Self { point }
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.point[1..9].iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str("…)")
    }
}
