//! The trust bundle: accepted roots, and revocation lists of outside issuers.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor};
use time::OffsetDateTime;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::{Certificate, Place, Which};
use super::flaw::{Flaw, ProfileError};
use super::profile;

/// What is known of a root beyond the name and key that webpki keeps of it.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) which: Which,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) path_length: Option<u32>,
    pub(crate) may_sign_crls: bool,
    pub(crate) key_identifier: Option<Box<[u8]>>,
}

/// The roots that this host accepts, each judged by the profile once.
///
/// A root that breaks the profile stays in the bundle so that a peer whose chain ends in it is told what about the
/// root, but no chain through it is accepted.
pub struct Trust {
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    /// In the order of `anchors`.
    pub(crate) roots: Vec<Root>,
    pub(crate) crls: Vec<CertRevocationList<'static>>,
    certificates: Vec<CertificateDer<'static>>,
    unreadable: Vec<ProfileError>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("roots", &self.roots).field("crls", &self.crls.len()).finish_non_exhaustive()
    }
}

/// Why a revocation list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// webpki does not take it.
    #[error("a revocation list cannot be used: {0}")]
    Unusable(String),
    /// It has no CRL number (RFC 5280 §5.2.3), so an old one cannot be told from a new one.
    #[error("a revocation list of \"{0}\" has no CRL number")]
    NoNumber(String),
    /// Its CRL number is critical, which RFC 5280 §5.2.3 forbids.
    #[error("a revocation list of \"{0}\" marks its CRL number as critical")]
    CriticalNumber(String),
    /// It never expires, so it could be withheld for ever (RFC 5280 §5.1.2.5).
    #[error("a revocation list of \"{0}\" does not say when the next one is due")]
    NoNextUpdate(String),
}

impl Trust {
    /// A bundle of these roots (DER).
    pub fn new(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut trust = Self {
            anchors: Vec::new(),
            roots: Vec::new(),
            crls: Vec::new(),
            certificates: Vec::new(),
            unreadable: Vec::new(),
        };
        for der in roots {
            match Certificate::parse(Place::Root, &der) {
                Ok(cert) => trust.add(&der, &cert),
                Err(flaw) => trust.unreadable.push(ProfileError::unreadable(Place::Root, flaw)),
            }
            trust.certificates.push(der);
        }
        trust
    }

    fn add(&mut self, der: &CertificateDer<'static>, cert: &Certificate<'_>) {
        let root = Root {
            which: cert.which(),
            flaw: profile::check_certificate(cert, None).err(),
            not_before: cert.not_before(),
            not_after: cert.not_after(),
            path_length: profile::path_length(cert),
            may_sign_crls: profile::may_sign_crls(cert),
            key_identifier: profile::subject_key_identifier(cert).map(Into::into),
        };
        match webpki::anchor_from_trusted_cert(der) {
            Ok(anchor) => {
                self.anchors.push(anchor.to_owned());
                self.roots.push(root);
            }
            Err(e) => {
                let flaw = root.flaw.unwrap_or_else(|| Flaw::Chain(e.to_string()));
                self.unreadable.push(ProfileError { which: root.which, flaw });
            }
        }
    }

    /// The same bundle with revocation lists of its issuers. A list past its `nextUpdate` makes what its issuer signed
    /// unacceptable; issuers without a list are not held to have one.
    ///
    /// # Errors
    /// The first list that cannot be used; keep the bundle with the old lists then.
    pub fn with_crls(
        mut self,
        crls: impl IntoIterator<Item = CertificateRevocationListDer<'static>>,
    ) -> Result<Self, CrlError> {
        self.crls = crls.into_iter().map(|der| parse_crl(&der)).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// The roots as they were given, DER.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The roots that no chain can end in, and what about them.
    pub fn flaws(&self) -> Vec<ProfileError> {
        let flawed = self
            .roots
            .iter()
            .filter_map(|root| root.flaw.clone().map(|flaw| ProfileError { which: root.which.clone(), flaw }));
        self.unreadable.iter().cloned().chain(flawed).collect()
    }

    /// The roots that chains can end in, dates apart.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter().filter(|root| root.flaw.is_none())
    }
}

fn parse_crl(der: &CertificateRevocationListDer<'_>) -> Result<CertRevocationList<'static>, CrlError> {
    let crl = OwnedCertRevocationList::from_der(der).map_err(|e| CrlError::Unusable(e.to_string()))?;
    let parsed = match CertificateRevocationList::from_der(der) {
        Ok(([], parsed)) => parsed,
        _ => return Err(CrlError::Unusable("it is not one DER revocation list".into())),
    };
    let issuer = || parsed.issuer().to_string();
    let number = parsed.extensions().iter().find(|e| matches!(e.parsed_extension(), ParsedExtension::CRLNumber(_)));
    match number {
        None => return Err(CrlError::NoNumber(issuer())),
        Some(number) if number.critical => return Err(CrlError::CriticalNumber(issuer())),
        Some(_) if parsed.next_update().is_none() => return Err(CrlError::NoNextUpdate(issuer())),
        Some(_) => {}
    }
    Ok(crl.into())
}
