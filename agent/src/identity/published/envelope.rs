//! A signed mesh document as bytes: pure.
//!
//! A protobuf message of four fields, of which there is one way to write each: bytes that would be written differently are not
//! taken, so nothing can be hidden in them.
//!
//! ```text
//!   1 header: bytes │ 2 document: the mesh file's text │ 3 chain: certificates in DER, the signer's first │ 4 signature
//! ```

use bytes::Bytes;
use mesh_config::published::{Header, MAX_HEADER};
use mesh_config::{Digest, MAX_FILE, MeshName};
use prost::Message as _;
use rustls::pki_types::CertificateDer;

use super::refused::Refused;

/// The most bytes of certificates.
pub const MAX_CHAIN: usize = 16 * 1024;
/// The most bytes of a signature: RSA of 8192 bits.
pub const MAX_SIGNATURE: usize = 1024;
/// What a signature is for, so that none that was made for anything else can be taken for one.
const DOMAIN: &[u8] = b"adit signed mesh document 1\n";

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(bytes = "bytes", tag = "1")]
    header: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    document: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    chain: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    signature: Bytes,
}

/// The parts of a signed document. Nothing about them is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What its publisher says of it.
    pub header: Bytes,
    /// The mesh file's text.
    pub document: Bytes,
    /// Certificates in DER, the signer's first.
    pub chain: Vec<CertificateDer<'static>>,
    /// A signature with the signer's key over [`message`].
    pub signature: Bytes,
}

impl Envelope {
    /// Takes bytes apart. What it gives shares their memory; each part is within its limit.
    ///
    /// # Errors
    /// [`Refused::TooLarge`], [`Refused::Malformed`].
    pub fn decode(bytes: Bytes) -> Result<Self, Refused> {
        let length = bytes.len();
        if length > mesh_config::gossip::MAX_DOCUMENT {
            return Err(Refused::TooLarge { what: "it", bytes: length, most: mesh_config::gossip::MAX_DOCUMENT });
        }
        let wire =
            Wire::decode(bytes.clone()).map_err(|_| Refused::Malformed("it is cut off, or no signed document"))?;
        // Lengths first: an unknown or repeated field shows as a difference.
        if wire.encoded_len() != length || wire.encode_to_vec() != bytes {
            return Err(Refused::Malformed("it is not written in the one way that it can be"));
        }
        let text = usize::try_from(MAX_FILE).unwrap_or(usize::MAX);
        for (what, part, most) in [
            ("its header", &wire.header, MAX_HEADER),
            ("its text", &wire.document, text),
            ("its chain of certificates", &wire.chain, MAX_CHAIN),
            ("its signature", &wire.signature, MAX_SIGNATURE),
        ] {
            if part.len() > most {
                return Err(Refused::TooLarge { what, bytes: part.len(), most });
            }
        }
        let chain = split(&wire.chain).ok_or(Refused::Malformed("its chain is not one certificate after the other"))?;
        Ok(Self { header: wire.header, document: wire.document, chain, signature: wire.signature })
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let chain: Vec<u8> = self.chain.iter().flat_map(|der| der.iter().copied()).collect();
        let (header, document, signature) = (self.header.clone(), self.document.clone(), self.signature.clone());
        Wire { header, document, chain: chain.into(), signature }.encode_to_vec()
    }
}

/// What is signed: the mesh, the header, and the text by its digest.
pub fn message(mesh: &MeshName, header: &[u8], document: &Digest) -> Vec<u8> {
    let mesh = mesh.as_str().as_bytes();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [DOMAIN, &length(mesh), mesh, &length(header), header, document.as_bytes()].concat()
}

/// Signs a document: `sign` is given the [`message`].
///
/// # Errors
/// Those of `sign`.
pub fn seal<E>(
    header: &Header,
    text: &str,
    chain: Vec<CertificateDer<'static>>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let encoded = header.encode();
    let signature = sign(&message(header.mesh(), &encoded, &header.document()))?;
    let document = Bytes::copy_from_slice(text.as_bytes());
    Ok(Envelope { header: encoded.into(), document, chain, signature: signature.into() }.encode())
}

/// DER values one after the other: a SEQUENCE each (X.690 §8.1.3, §10.1), of 65,535 bytes at most.
fn split(mut bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (header, length) = match *bytes {
            [0x30, short @ ..=0x7f, ..] => (2, usize::from(short)),
            [0x30, 0x81, length, ..] => (3, usize::from(length)),
            [0x30, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            _ => return None,
        };
        let (one, rest) = bytes.split_at_checked(header + length)?;
        found.push(CertificateDer::from(one.to_vec()));
        bytes = rest;
    }
    Some(found)
}
