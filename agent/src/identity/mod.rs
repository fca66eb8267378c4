//! Who this host is, whom it believes, and the TLS that proves both.
//!
//! Knows the names and the mesh out of `mesh-config`, the clock, and nothing of transport.
//!
//! ```text
//!  DIR/node.pem, node.key ──▶ Identity ─┐
//!  DIR/trust.pem ───────────▶ Trust ────┼─▶ TlsContext ── dial(peer), accept() ──▶ rustls config + Verdict
//!  mesh (Members), Revoked, Clock ──────┘                                                    │
//!                                                                                            ▼
//!  certificates of the peer ─▶ chain (webpki) ─▶ profile ─▶ revoked? ─▶ name ─▶ VerifiedPeer or Rejection
//! ```
//!
//! [`published`] asks the same chain and profile whose signature a mesh document has.

mod algorithms;
mod certificate;
mod chain;
mod file;
mod flaw;
mod load;
mod profile;
pub mod published;
mod rejection;
mod tls;
mod trust;
mod verifier;

#[cfg(test)]
pub(crate) mod tests;

pub use certificate::{CertificateId, Place, Which};
pub use chain::{Limits, VerifiedChain, verify_chain};
pub use file::FileError;
pub use flaw::{Flaw, ProfileError};
pub use load::{CERTIFICATE_FILE, Identity, IdentityError, KEY_FILE, LoadError, LoadWarning, TRUST_FILE};
pub use profile::Purpose;
pub use rejection::Rejection;
pub(crate) use tls::time_provider;
pub use tls::{ALPN_CTL, ALPN_LANE, ALPN_QUIC, ConfigError, PROVIDER, TlsContext};
pub use trust::{CrlError, Trust};
pub use verifier::{Expected, Judge, Members, NothingRevoked, PeerVerifier, Removed, Revoked, Verdict, VerifiedPeer};
