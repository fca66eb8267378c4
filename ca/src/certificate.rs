//! Reading certificates back.

use std::path::Path;

use mesh_config::MeshName;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::csr::PublicKey;
use crate::der::{self, ECDSA_WITH_SHA256};
use crate::error::Error;
use crate::profile::{PUBLISHER_USAGE, Window};

/// The largest certificate file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// A certificate of a root or an intermediate, as read from its file.
#[derive(Debug, Clone)]
pub(crate) struct CaCertificate {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) mesh: MeshName,
    pub(crate) subject: String,
    pub(crate) key: PublicKey,
    pub(crate) window: Window,
}

impl CaCertificate {
    /// Reads it and checks all that can be checked without its issuer.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let length = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        if length > MAX_FILE {
            return Err(Error::damaged(path, "it is larger than a certificate"));
        }
        let pem = std::fs::read(path).map_err(Error::io("read", path))?;
        Self::parse(pem).map_err(|what| Error::damaged(path, what))
    }

    fn parse(pem: Vec<u8>) -> Result<Self, &'static str> {
        let pem = String::from_utf8(pem).map_err(|_| "it is not text")?;
        let mut sections = CertificateDer::pem_slice_iter(pem.as_bytes());
        let (Some(Ok(der)), None) = (sections.next(), sections.next()) else {
            return Err("it does not hold one certificate in PEM");
        };
        let (rest, x509) = X509Certificate::from_der(&der).map_err(|_| "it does not hold an X.509 certificate")?;
        // The parser is generous outside of what is signed.
        if !rest.is_empty() || der::signed(&der).is_none_or(|(_, algorithm, _)| algorithm != ECDSA_WITH_SHA256) {
            return Err("its certificate is not DER, signed with ECDSA and SHA-256");
        }
        if !x509.is_ca() {
            return Err("its certificate is not a CA's");
        }
        let mesh = x509
            .subject()
            .iter_organization()
            .next()
            .and_then(|o| o.as_str().ok())
            .and_then(|o| MeshName::new(o).ok())
            .ok_or("its certificate does not name a mesh")?;
        let key = PublicKey::from_spki(x509.public_key().raw).map_err(|_| "its key is not ECDSA P-256")?;
        let window = Window {
            not_before: x509.validity().not_before.to_datetime(),
            not_after: x509.validity().not_after.to_datetime(),
        };
        let subject = x509.subject().to_string();
        Ok(Self { der: der.clone(), mesh, subject, key, window, pem })
    }

    /// Whether `issuer` signed it.
    pub(crate) fn signed_by(&self, issuer: &Self) -> bool {
        let (Ok((_, own)), Ok((_, other))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&issuer.der))
        else {
            return false;
        };
        own.issuer().as_raw() == other.subject().as_raw() && own.verify_signature(Some(other.public_key())).is_ok()
    }
}

/// What a person wants to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// The subject, as RFC 4514 writes it.
    pub subject: String,
    /// The issuer, likewise.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// The first second of its life.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// The last second of its life.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// The alternative names: `URI:…`, `DNS:…`.
    pub names: Vec<String>,
    /// The extended key usages.
    pub usages: Vec<&'static str>,
    /// SHA-256 of the DER: pairs of upper-case digits with colons between, as OpenSSL shows it.
    pub fingerprint: String,
}

impl Summary {
    /// Reads a certificate; nothing if it is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, x509) = X509Certificate::from_der(der).ok()?;
        let names = x509.subject_alternative_name().ok()?.map(|s| s.value.general_names.iter().map(show).collect());
        let usages = x509.extended_key_usage().ok()?.map(|e| {
            let e = e.value;
            let publishes = e.other.iter().any(|oid| oid.as_bytes() == PUBLISHER_USAGE);
            [(e.client_auth, "clientAuth"), (e.server_auth, "serverAuth"), (e.any, "any"), (publishes, "meshPublisher")]
                .into_iter()
                .filter_map(|(on, name)| on.then_some(name))
                .collect()
        });
        Some(Self {
            subject: x509.subject().to_string(),
            issuer: x509.issuer().to_string(),
            serial: x509.raw_serial().iter().map(|b| format!("{b:02x}")).collect(),
            not_before: x509.validity().not_before.to_datetime(),
            not_after: x509.validity().not_after.to_datetime(),
            names: names.unwrap_or_default(),
            usages: usages.unwrap_or_default(),
            fingerprint: fingerprint(der),
        })
    }
}

fn show(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        other => other.to_string(),
    }
}

/// SHA-256 of `der`: pairs of upper-case hexadecimal digits with colons between.
pub fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    let pairs: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    pairs.join(":")
}
