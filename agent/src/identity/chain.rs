//! From certificates as a peer sent them to a chain that holds: webpki's path building, then the profile over the
//! path that was found, its root included. A pure function of its arguments.

use std::cell::RefCell;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use webpki::{
    EndEntityCert, Error as PkiError, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy, VerifiedPath,
};

use super::algorithms;
use super::certificate::{Certificate, CertificateId, Place, Which};
use super::flaw::{Flaw, ProfileError};
use super::profile::{self, Purpose};
use super::rejection::Rejection;
use super::trust::{Root, Trust};

/// How much a peer may send before any of it is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most certificates, the leaf included.
    pub certificates: usize,
    /// The most bytes of them together.
    pub bytes: usize,
}

impl Limits {
    /// For peers: a leaf and three CAs, 16 KiB.
    pub const PEER: Self = Self { certificates: 4, bytes: 16 * 1024 };
}

/// A leaf whose chain to a root of the bundle holds. Only [`verify_chain`] makes one. It says nothing yet about whose
/// it is.
pub struct VerifiedChain<'a> {
    pub(crate) leaf: Certificate<'a>,
    /// The leaf's, then those of the intermediates towards the root, each with how to name it.
    pub(crate) ids: Vec<(Which, CertificateId)>,
    /// When the first certificate of the chain ends, the root's included.
    pub(crate) not_after: OffsetDateTime,
}

impl std::fmt::Debug for VerifiedChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedChain").field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// Builds and checks a chain from `chain` (leaf first, then intermediates in any order) to a root of `trust`, as seen
/// at `now`, for a peer in the role `purpose`.
///
/// # Errors
/// The [`Rejection`], with the certificate that it is about.
pub fn verify_chain<'a>(
    chain: &'a [CertificateDer<'a>],
    trust: &Trust,
    purpose: Purpose,
    now: OffsetDateTime,
    limits: Limits,
) -> Result<VerifiedChain<'a>, Rejection> {
    let Some((end_entity, intermediates)) = chain.split_first() else {
        return Err(Rejection::NoCertificate);
    };
    check_size(chain, limits)?;
    let leaf = Certificate::parse(Place::Leaf, end_entity).map_err(|f| ProfileError::unreadable(Place::Leaf, f))?;

    let crls: Vec<_> = trust.crls.iter().collect();
    let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|builder| {
        builder
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build()
    });
    let usage = match purpose {
        Purpose::Server => KeyUsage::server_auth(),
        Purpose::Client => KeyUsage::client_auth(),
        // Of the leaf alone the profile asks for more: that it is there, and nothing beside it.
        Purpose::Publisher => KeyUsage::required_if_present(ca::profile::PUBLISHER_USAGE),
    };
    let refused = RefCell::new(None);
    let accepted = RefCell::new(None);
    let check = |path: &VerifiedPath<'_>| match check_path(path, &leaf, trust, purpose, now) {
        Ok(found) => {
            accepted.replace(Some(found));
            Ok(())
        }
        Err(rejection) => {
            refused.borrow_mut().get_or_insert(rejection);
            Err(PkiError::UnknownIssuer)
        }
    };
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    let built = EndEntityCert::try_from(end_entity).and_then(|cert| {
        cert.verify_for_usage(
            algorithms::CHAIN,
            &trust.anchors,
            intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            usage,
            revocation,
            Some(&check),
        )
        .map(drop)
    });
    match (built, accepted.take(), refused.take()) {
        (Ok(()), Some((ids, not_after)), _) => Ok(VerifiedChain { leaf, ids, not_after }),
        (_, _, Some(rejection)) => Err(rejection),
        (Err(error), _, None) => Err(explain(error, &leaf, intermediates, trust, purpose, now)),
        (Ok(()), None, None) => {
            Err(Rejection::Profile(ProfileError { which: leaf.which(), flaw: Flaw::Chain("it was not judged".into()) }))
        }
    }
}

/// Before anything is parsed.
fn check_size(chain: &[CertificateDer<'_>], limits: Limits) -> Result<(), ProfileError> {
    let bytes = chain.iter().map(|der| der.len()).sum();
    if chain.len() > limits.certificates {
        Err(ProfileError::unreadable(Place::Leaf, Flaw::ChainTooLong { count: chain.len(), most: limits.certificates }))
    } else if bytes > limits.bytes {
        Err(ProfileError::unreadable(Place::Leaf, Flaw::ChainTooLarge { bytes, most: limits.bytes }))
    } else {
        Ok(())
    }
}

type Judged = (Vec<(Which, CertificateId)>, OffsetDateTime);

fn check_path(
    path: &VerifiedPath<'_>,
    leaf: &Certificate<'_>,
    trust: &Trust,
    purpose: Purpose,
    now: OffsetDateTime,
) -> Result<Judged, Rejection> {
    let root = trust
        .anchors
        .iter()
        .position(|anchor| std::ptr::eq(anchor, path.anchor()))
        .and_then(|n| trust.roots.get(n))
        .ok_or_else(|| unknown_ca(leaf))?;

    check_one(leaf, purpose, now)?;
    let mut ids = vec![(leaf.which(), leaf.id())];
    let mut not_after = leaf.not_after().min(root.not_after);
    let mut issuers_below_root = 0u32;
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let cert = Certificate::parse(Place::Intermediate, &der)
            .map_err(|f| ProfileError::unreadable(Place::Intermediate, f))?;
        check_one(&cert, purpose, now)?;
        // RFC 5280 §6.1.4 (l): a self-issued certificate does not use up path length.
        if cert.x509.issuer() != cert.x509.subject() {
            issuers_below_root += 1;
        }
        not_after = not_after.min(cert.not_after());
        ids.push((cert.which(), cert.id()));
    }
    check_root(root, &path.anchor().subject, trust, issuers_below_root, now)?;
    Ok((ids, not_after))
}

fn check_one(cert: &Certificate<'_>, purpose: Purpose, now: OffsetDateTime) -> Result<(), Rejection> {
    check_dates(&cert.which(), cert.not_before(), cert.not_after(), now)?;
    profile::check_certificate(cert, Some(purpose)).map_err(|flaw| ProfileError { which: cert.which(), flaw }.into())
}

/// Certificates carry whole seconds, and the second of `notAfter` is still valid (RFC 5280 §4.1.2.5).
pub(crate) fn check_dates(
    which: &Which,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<(), Rejection> {
    let seconds = now.unix_timestamp();
    if seconds > not_after.unix_timestamp() {
        Err(Rejection::Expired { which: which.clone(), not_after, now })
    } else if seconds < not_before.unix_timestamp() {
        Err(Rejection::NotYetValid { which: which.clone(), not_before, now })
    } else {
        Ok(())
    }
}

fn check_root(
    root: &Root,
    subject: &[u8],
    trust: &Trust,
    issuers_below: u32,
    now: OffsetDateTime,
) -> Result<(), Rejection> {
    check_dates(&root.which, root.not_before, root.not_after, now)?;
    let flaw = match &root.flaw {
        Some(flaw) => flaw.clone(),
        None if root.path_length.is_some_and(|most| issuers_below > most) => Flaw::PathLength,
        None if !root.may_sign_crls && trust.crls.iter().any(|crl| crl.issuer() == subject) => {
            Flaw::KeyUsage("cRLSign, yet signs a revocation list")
        }
        None => return Ok(()),
    };
    Err(ProfileError { which: root.which.clone(), flaw }.into())
}

fn unknown_ca(cert: &Certificate<'_>) -> Rejection {
    Rejection::UnknownCa { which: cert.which(), issuer: cert.issuer() }
}

/// webpki says what is wrong, but not with which certificate: look for the one.
fn explain(
    error: PkiError,
    leaf: &Certificate<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Trust,
    purpose: Purpose,
    now: OffsetDateTime,
) -> Rejection {
    let issuers: Vec<_> =
        intermediates.iter().filter_map(|der| Certificate::parse(Place::Intermediate, der).ok()).collect();
    let shown = || std::iter::once(leaf).chain(&issuers);
    let about_leaf = |flaw| Rejection::Profile(ProfileError { which: leaf.which(), flaw });
    let top = top_of(leaf, &issuers);
    match error {
        PkiError::CertExpired { .. } | PkiError::CertNotValidYet { .. } => shown()
            .find_map(|cert| check_dates(&cert.which(), cert.not_before(), cert.not_after(), now).err())
            .unwrap_or_else(|| about_leaf(Flaw::Validity)),
        PkiError::UnknownIssuer => unknown_ca(top),
        PkiError::InvalidSignatureForPublicKey if !names_a_root_key(top, trust) => unknown_ca(top),
        PkiError::InvalidSignatureForPublicKey => {
            Rejection::BadSignature { which: leaf.which(), what: "a signature in its chain is not its issuer's" }
        }
        PkiError::CertRevoked => {
            let listed = |cert: &&Certificate<'_>| {
                trust.crls.iter().any(|crl| matches!(crl.find_serial(cert.x509.raw_serial()), Ok(Some(_))))
            };
            Rejection::Revoked { which: shown().find(listed).unwrap_or(leaf).which(), by: "its issuer's list" }
        }
        PkiError::CrlExpired { next_update, .. } => {
            let due =
                i64::try_from(next_update.as_secs()).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
            let due = due.map_or_else(String::new, |at| format!(" {}", at.date()));
            Rejection::RevocationUnknown { which: leaf.which(), why: format!("a newer list was due{due}") }
        }
        PkiError::UnknownRevocationStatus
        | PkiError::IssuerNotCrlSigner
        | PkiError::InvalidCrlSignatureForPublicKey
        | PkiError::UnsupportedCrlSignatureAlgorithmContext(_)
        | PkiError::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            Rejection::RevocationUnknown { which: leaf.which(), why: error.to_string() }
        }
        PkiError::NameConstraintViolation => about_leaf(Flaw::OutsideNameConstraints),
        PkiError::UnsupportedSignatureAlgorithmContext(_)
        | PkiError::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => about_leaf(Flaw::SignatureAlgorithm),
        PkiError::PathLenConstraintViolated => Rejection::Profile(ProfileError {
            which: issuers.iter().find(|c| profile::path_length(c).is_some()).unwrap_or(leaf).which(),
            flaw: Flaw::PathLength,
        }),
        other => shown()
            .find_map(|cert| {
                let flaw = profile::check_certificate(cert, Some(purpose)).err()?;
                Some(Rejection::Profile(ProfileError { which: cert.which(), flaw }))
            })
            .unwrap_or_else(|| about_leaf(Flaw::Chain(other.to_string()))),
    }
}

/// The certificate shown that is nearest to a root, going up by names from the leaf.
fn top_of<'c, 'a>(leaf: &'c Certificate<'a>, issuers: &'c [Certificate<'a>]) -> &'c Certificate<'a> {
    let mut top = leaf;
    for _ in issuers {
        let above =
            issuers.iter().find(|c| c.x509.subject() == top.x509.issuer() && c.x509.issuer() != c.x509.subject());
        match above {
            Some(above) => top = above,
            None => break,
        }
    }
    top
}

/// Two meshes of the same name have roots of the same name, so a foreign chain shows as a wrong signature; the key
/// identifiers tell it from one that was altered.
fn names_a_root_key(top: &Certificate<'_>, trust: &Trust) -> bool {
    let wanted = profile::authority_key_identifier(top);
    trust.usable().any(|root| root.key_identifier.as_deref() == wanted)
}
