//! Stepping over DER (X.690), value by value.

use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};

/// The algorithm identifier ecdsa-with-SHA256, without its outer header (RFC 5758 §3.2).
pub(crate) const ECDSA_WITH_SHA256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// The content of the one value that `der` is. Sequences are constructed, all else is primitive (X.690 §8.9.1, §10.2).
pub(crate) fn one(der: &[u8], tag: Tag) -> Option<&[u8]> {
    let Ok((&[], value)) = Any::from_der(der) else { return None };
    let constructed = value.header.is_constructed() == (tag == Tag::Sequence);
    (value.class() == Class::Universal && value.tag() == tag && constructed).then_some(value.data)
}

/// Exactly `N` values that follow each other, each with its header.
pub(crate) fn split<const N: usize>(mut der: &[u8]) -> Option<[&[u8]; N]> {
    let mut values = [&[][..]; N];
    for value in &mut values {
        let (rest, _) = Any::from_der(der).ok()?;
        *value = &der[..der.len() - rest.len()];
        der = rest;
    }
    der.is_empty().then_some(values)
}

/// The three parts of what X.509 and PKCS#10 sign: what is signed, with its header; the inside of the algorithm
/// identifier; the signature.
pub(crate) fn signed(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let [signed, algorithm, signature] = split(one(der, Tag::Sequence)?)?;
    let [0, signature @ ..] = one(signature, Tag::BitString)? else { return None };
    Some((signed, one(algorithm, Tag::Sequence)?, signature))
}
