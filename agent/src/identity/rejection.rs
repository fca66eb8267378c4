//! Why a peer's certificate was refused: for the peer as a TLS alert, for machines as a name, for people as a sentence.

use mesh_config::{MeshName, NodeName};
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use time::OffsetDateTime;
use time::macros::format_description;

use super::certificate::Which;
use super::flaw::ProfileError;

/// Why a peer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The peer showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// A certificate of the chain is past its `notAfter`.
    #[error("{which} expired {}, this host's clock says {}", date(.not_after), date(.now))]
    Expired {
        /// Whose.
        which: Which,
        /// Its end.
        not_after: OffsetDateTime,
        /// The time it was judged at.
        now: OffsetDateTime,
    },
    /// A certificate of the chain is before its `notBefore`.
    #[error("{which} is not yet valid: it is from {} on, and this host's clock says {}", date(.not_before), date(.now))]
    NotYetValid {
        /// Whose.
        which: Which,
        /// Its beginning.
        not_before: OffsetDateTime,
        /// The time it was judged at.
        now: OffsetDateTime,
    },
    /// No chain to a root of the trust bundle.
    #[error("{which} was issued by \"{issuer}\", which leads to no root of this host's trust bundle")]
    UnknownCa {
        /// The certificate shown that is nearest to a root.
        which: Which,
        /// Its issuer.
        issuer: String,
    },
    /// A signature in the chain or in the handshake is wrong.
    #[error("{which}: {what}")]
    BadSignature {
        /// Whose.
        which: Which,
        /// Which signature.
        what: &'static str,
    },
    /// A certificate of the chain is revoked.
    #[error("{which} is revoked ({by})")]
    Revoked {
        /// Whose.
        which: Which,
        /// By which list.
        by: &'static str,
    },
    /// A revocation list of the trust bundle cannot be used, so nothing issued by its issuer can be accepted.
    #[error("{which}: its revocation status is unknown: {why}")]
    RevocationUnknown {
        /// Whose.
        which: Which,
        /// What about the list.
        why: String,
    },
    /// A certificate breaks the strict profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A node of another mesh.
    #[error("{which} is a node's of mesh {presented}, not of {expected}")]
    WrongMesh {
        /// Whose.
        which: Which,
        /// The mesh in the certificate.
        presented: MeshName,
        /// This host's.
        expected: MeshName,
    },
    /// Another node than the one dialled.
    #[error("{which} is node {presented}'s, but {expected} was dialled")]
    WrongNode {
        /// Whose.
        which: Which,
        /// The node in the certificate.
        presented: NodeName,
        /// The node that was dialled.
        expected: NodeName,
    },
    /// A node that the mesh does not have.
    #[error("{which} is node {node}'s, which the mesh does not have")]
    NotAMember {
        /// Whose.
        which: Which,
        /// The node in the certificate.
        node: NodeName,
    },
    /// Our own name or our own key.
    #[error("{which} claims to be this node itself, {node}: another host uses its name or key, or a dial came back")]
    OwnName {
        /// Whose.
        which: Which,
        /// The name in the certificate.
        node: NodeName,
    },
}

/// Dates as RFC 3339 to the second, UTC.
fn date(at: &OffsetDateTime) -> String {
    let utc = at.to_offset(time::UtcOffset::UTC);
    utc.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
        .unwrap_or_else(|_| utc.to_string())
}

impl Rejection {
    /// Every [`Rejection::name`], for tables and metrics.
    pub const NAMES: &[&str] = &[
        "no_certificate",
        "expired",
        "not_yet_valid",
        "unknown_ca",
        "bad_signature",
        "revoked",
        "revocation_unknown",
        "profile",
        "wrong_mesh",
        "wrong_node",
        "not_a_member",
        "own_name",
    ];

    /// A stable snake_case name: metric labels, JSON, audit events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnknownCa { .. } => "unknown_ca",
            Self::BadSignature { .. } => "bad_signature",
            Self::Revoked { .. } => "revoked",
            Self::RevocationUnknown { .. } => "revocation_unknown",
            Self::Profile(_) => "profile",
            Self::WrongMesh { .. } => "wrong_mesh",
            Self::WrongNode { .. } => "wrong_node",
            Self::NotAMember { .. } => "not_a_member",
            Self::OwnName { .. } => "own_name",
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoCertificate => "only agents of this mesh can connect here; is the peer one?",
            Self::Expired { .. } => "renew that certificate, and compare both hosts' clocks",
            Self::NotYetValid { .. } => "compare both hosts' clocks",
            Self::UnknownCa { .. } => "both hosts need the same root in trust.pem",
            Self::BadSignature { .. } => "the certificate or the handshake was altered, or made with another key",
            Self::Revoked { .. } => "if the host may come back, give it a new key and certificate",
            Self::RevocationUnknown { .. } => "install a current revocation list of that issuer",
            Self::Profile(_) => "issue the certificate again",
            Self::WrongMesh { .. } => "compare mesh.name in both hosts' mesh files",
            Self::WrongNode { .. } => "compare the node's address in the mesh file with the host that answers there",
            Self::NotAMember { .. } => "add the node to the mesh file, or stop that host",
            Self::OwnName { .. } => "give each host a node name and a key of its own",
        }
    }

    /// The alert that the peer is sent (RFC 8446 §6.2).
    pub fn alert(&self) -> AlertDescription {
        match self {
            Self::NoCertificate => AlertDescription::CertificateRequired,
            other => AlertDescription::from(other.certificate_error()),
        }
    }

    /// The error that makes rustls send [`Rejection::alert`].
    pub(crate) fn tls_error(&self) -> TlsError {
        match self {
            Self::NoCertificate => TlsError::NoCertificatesPresented,
            other => TlsError::InvalidCertificate(other.certificate_error()),
        }
    }

    /// RFC 8446 §6.2 counts wrong signatures in a chain among `bad_certificate`; `decrypt_error`, which rustls would
    /// send for them, is the handshake's own signature, which rustls reports itself.
    fn certificate_error(&self) -> CertificateError {
        match self {
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::UnknownCa { .. } => CertificateError::UnknownIssuer,
            Self::RevocationUnknown { .. } => CertificateError::UnknownRevocationStatus,
            Self::Revoked { .. } => CertificateError::Revoked,
            Self::WrongMesh { .. } | Self::WrongNode { .. } | Self::NotAMember { .. } | Self::OwnName { .. } => {
                CertificateError::ApplicationVerificationFailure
            }
            Self::NoCertificate | Self::Profile(_) | Self::BadSignature { .. } => CertificateError::BadEncoding,
        }
    }
}
