//! What can be wrong with a certificate by the strict profile.

use super::certificate::{Place, Which};

/// What a certificate breaks in the profile. The text continues "the leaf certificate … ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// It does not parse.
    #[error("cannot be read: {0}")]
    Malformed(&'static str),
    /// An extension of it does not parse.
    #[error("has an extension {0} that cannot be read")]
    MalformedExtension(String),
    /// More certificates than [`super::Limits`] allow.
    #[error("comes in a chain of {count} certificates, and {most} are the most")]
    ChainTooLong {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// More bytes than [`super::Limits`] allow.
    #[error("comes in a chain of {bytes} bytes, and {most} are the most")]
    ChainTooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        most: usize,
    },
    /// A version below 3 (RFC 5280 §4.1.2.1).
    #[error("is not an X.509 version 3 certificate")]
    Version,
    /// Zero, negative, not minimally encoded, or above 20 octets (RFC 5280 §4.1.2.2).
    #[error("has a serial that is {0}")]
    Serial(&'static str),
    /// The signature algorithm inside and outside differ (RFC 5280 §4.1.1.2).
    #[error("names two different signature algorithms")]
    SignatureAlgorithmMismatch,
    /// A signature algorithm that the profile does not take.
    #[error("is signed with an algorithm that is not accepted")]
    SignatureAlgorithm,
    /// A key that the profile does not take.
    #[error("has a public key that is not accepted: {0}")]
    Key(&'static str),
    /// `notBefore` after `notAfter`.
    #[error("has a validity that ends before it begins")]
    Validity,
    /// Issuer or subject unique identifiers (RFC 5280 §4.1.2.8).
    #[error("has unique identifiers, which no current issuer may write")]
    UniqueIdentifier,
    /// No issuer (RFC 5280 §4.1.2.4).
    #[error("has an empty issuer")]
    EmptyIssuer,
    /// A CA without a subject (RFC 5280 §4.1.2.6).
    #[error("has an empty subject")]
    EmptySubject,
    /// The same extension twice (RFC 5280 §4.2).
    #[error("has the extension {0} twice")]
    DuplicateExtension(String),
    /// A critical extension that is not processed (RFC 5280 §4.2).
    #[error("has a critical extension {0} that is not understood")]
    UnknownCritical(String),
    /// An extension that must not be critical is.
    #[error("marks {0} as critical")]
    Critical(&'static str),
    /// An extension that must be critical is not.
    #[error("does not mark {0} as critical")]
    NotCritical(&'static str),
    /// A required extension is missing.
    #[error("has no {0}")]
    Missing(&'static str),
    /// An extension that has no place in such a certificate.
    #[error("has {0}, which such a certificate must not have")]
    Forbidden(&'static str),
    /// The authority key identifier is not the one of a self-signed root.
    #[error("has an authority key identifier that {0}")]
    AuthorityKeyIdentifier(&'static str),
    /// A CA certificate where a leaf must be, by basic constraints or by key usage.
    #[error("is a CA's: {0}")]
    LeafIsCa(&'static str),
    /// A certificate that may not sign others stands where a CA's must.
    #[error("is not a CA's: {0}")]
    NotCa(&'static str),
    /// A key usage that excludes what the key does here.
    #[error("has a key usage without {0}")]
    KeyUsage(&'static str),
    /// `anyExtendedKeyUsage`.
    #[error("is made for any use (anyExtendedKeyUsage)")]
    AnyExtendedKeyUsage,
    /// The role's purpose is not among the extended key usages.
    #[error("has an extended key usage without {0}")]
    ExtendedKeyUsage(&'static str),
    /// More CAs below than the path length allows (RFC 5280 §4.2.1.9).
    #[error("has more CAs below it than its path length allows")]
    PathLength,
    /// A name constraint that is not understood and so cannot be kept.
    #[error("has a name constraint that is not understood: {0}")]
    NameConstraint(&'static str),
    /// A name outside the constraints of a CA above (RFC 5280 §4.2.1.10).
    #[error("breaks a name constraint of a CA above it")]
    OutsideNameConstraints,
    /// The names are not those of a node.
    #[error("does not name a node: {0}")]
    Name(String),
    /// The chain breaks a rule that is not about one certificate.
    #[error("has a chain that does not hold: {0}")]
    Chain(String),
}

/// A [`Flaw`] and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{which} {flaw}")]
pub struct ProfileError {
    /// The certificate.
    pub which: Which,
    /// What it breaks.
    pub flaw: Flaw,
}

impl ProfileError {
    pub(crate) fn unreadable(place: Place, flaw: Flaw) -> Self {
        Self { which: Which::unreadable(place), flaw }
    }
}
