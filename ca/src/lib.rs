//! Roots, intermediates and node certificates of a mesh, and their store on disk.
//!
//! The room may use files and randomness; it has no network and no clock: every function that needs the time is told it.
//!
//! ```text
//!   mesh name ─▶ Authority::create ─▶ DIR/ca/ root.key root.pem intermediate.key intermediate.pem index index.head lock
//!                                        │
//!   NodeKey ──▶ PublicKey ◀── CSR        ▼
//!                   └────────▶ Authority::issue(node, key, validity, now) ─▶ Issued ─▶ write_node_directory
//! ```
//!
//! What stands in the certificates is on the front page of [`profile`]. Keys of CAs and nodes are [`PrivateKey`]s, files
//! of mode 0600; an intermediate's key may also be any [`Signer`]. Whatever is written replaces a file whole
//! ([`atomic`]), appears together with others ([`Staging`]), or is appended to the index in a way that an interruption
//! at any moment leaves the old state or the new one.
//!
//! ```
//! # use ca::{Authority, NodeKey};
//! # use mesh_config::{MeshName, NodeName};
//! # let dir = std::env::temp_dir().join(format!("adit-ca-doc-{}", std::process::id()));
//! let now = time::macros::datetime!(2030-01-01 12:00 UTC);
//! let mut authority = Authority::create(&dir.join("ca"), &MeshName::new("lab")?, now)?;
//! let key = NodeKey::generate()?;
//! let issued = authority.issue(&NodeName::new("alpha")?, &key.public_key(), None, now)?;
//! ca::write_node_directory(&dir.join("alpha"), &key, &issued.chain_pem, authority.trust_pem())?;
//! assert_eq!(authority.records().len(), 1);
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Certificates for tests
//!
//! Since time is an argument, an expired certificate is one that was issued at an earlier `now`, and one that is not yet
//! valid at a later one. Another mesh's comes from another authority. What an authority would never issue (no extended
//! key usage, names of another mesh, keyCertSign in a leaf) is made with rcgen and the authority's own files:
//! `rcgen::Issuer::from_ca_cert_pem(authority.intermediate_pem(), &PrivateKey::load(&dir.join("intermediate.key"))?.0)`.

pub mod atomic;
mod authority;
mod certificate;
#[cfg(test)]
mod crash;
mod csr;
mod delegate;
mod der;
mod disk;
mod error;
mod index;
mod key;
mod last_good;
mod lock;
mod node_dir;
mod pem;
pub mod profile;
mod record;
mod serial;
mod staging;

pub use authority::{Authority, Issued};
pub use certificate::{Summary, fingerprint};
pub use csr::{MAX_CSR, PublicKey};
pub use error::{CsrError, Error};
pub use key::{NodeKey, PrivateKey, Signer, Warning, read_secret};
pub use last_good::LastGood;
pub use node_dir::{
    NODE_CHAIN, NODE_KEY, PUBLISHER_CHAIN, PUBLISHER_KEY, TRUST, write_node_directory, write_publisher_directory,
};
pub use record::{Record, State};
pub use serial::{NotASerial, Serial};
pub use staging::Staging;
