//! One certificate, parsed once, and how it is named to people.

use std::fmt;

use aws_lc_rs::digest;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::flaw::Flaw;

/// The longest subject or issuer that is repeated to people, in characters.
const SHOWN_NAME: usize = 120;

/// Where a certificate stands in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The end entity's.
    Leaf,
    /// A CA's below the root.
    Intermediate,
    /// One out of the trust bundle.
    Root,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate",
            Self::Root => "root",
        })
    }
}

/// Which certificate something is said about, in words that an operator can look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// Where it stands in its chain.
    pub place: Place,
    /// Its subject, printable and cut to a sane length; empty if it could not be read.
    pub subject: String,
    /// Its serial in lower-case hexadecimal; empty if it could not be read.
    pub serial: String,
}

impl Which {
    /// A certificate of which nothing could be read.
    pub(crate) fn unreadable(place: Place) -> Self {
        Self { place, subject: String::new(), serial: String::new() }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} certificate", self.place)?;
        if !self.subject.is_empty() {
            write!(f, " \"{}\"", self.subject)?;
        }
        if !self.serial.is_empty() {
            write!(f, " (serial {})", self.serial)?;
        }
        Ok(())
    }
}

/// What a revocation list knows a certificate by: its issuer and serial, and its public key.
///
/// None of the three covers the signature, so signing the same contents anew, or writing the same signature another
/// way, leaves them as they are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CertificateId {
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
    spki_sha256: [u8; 32],
}

impl CertificateId {
    /// The issuer's name as DER (RFC 5280 §4.1.2.4).
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The serial's content octets, big-endian. DER leaves one way to write it.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// SHA-256 of the public key (DER SubjectPublicKeyInfo).
    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateId")
            .field("serial", &hex(&self.serial))
            .field("spki_sha256", &hex(&self.spki_sha256))
            .finish_non_exhaustive()
    }
}

/// A parsed certificate at its place in a chain.
pub(crate) struct Certificate<'a> {
    pub(crate) place: Place,
    pub(crate) x509: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    /// Takes all of `der` as one certificate.
    pub(crate) fn parse(place: Place, der: &'a [u8]) -> Result<Self, Flaw> {
        match X509Certificate::from_der(der) {
            Ok(([], x509)) => Ok(Self { place, x509 }),
            Ok(_) => Err(Flaw::Malformed("it has bytes after its end")),
            Err(_) => Err(Flaw::Malformed("it is not a DER certificate")),
        }
    }

    pub(crate) fn which(&self) -> Which {
        Which { place: self.place, subject: self.subject(), serial: hex(self.x509.raw_serial()) }
    }

    pub(crate) fn subject(&self) -> String {
        shown(self.x509.subject())
    }

    pub(crate) fn issuer(&self) -> String {
        shown(self.x509.issuer())
    }

    pub(crate) fn id(&self) -> CertificateId {
        CertificateId {
            issuer: self.x509.issuer().as_raw().into(),
            serial: self.x509.raw_serial().into(),
            spki_sha256: sha256(self.x509.public_key().raw),
        }
    }

    pub(crate) fn not_before(&self) -> OffsetDateTime {
        self.x509.validity().not_before.to_datetime()
    }

    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.x509.validity().not_after.to_datetime()
    }
}

/// A distinguished name as text that cannot break a terminal or a log line.
fn shown(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for (n, c) in name.to_string().chars().enumerate() {
        if n == SHOWN_NAME {
            text.push('…');
            break;
        }
        if c.is_control() || c == '"' {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}
