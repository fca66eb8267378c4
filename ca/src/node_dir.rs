//! A node's own files: key, certificate, trust.

use std::path::Path;

use crate::atomic;
use crate::error::Error;
use crate::key::NodeKey;

/// The file of a node's private key.
pub const NODE_KEY: &str = "node.key";
/// The file of a node's certificate chain, leaf first.
pub const NODE_CHAIN: &str = "node.pem";
/// The file of the accepted roots.
pub const TRUST: &str = "trust.pem";

/// Writes `node.key` (0600), `node.pem` and `trust.pem` to `dir`, which is made (0700) if it is not there; each file
/// whole or not at all.
///
/// # Errors
/// [`Error::Exists`] if another key is there already: replacing one is more than writing it, since for a moment key and
/// certificate would not fit. [`Error::Io`], [`Error::Crypto`].
pub fn write_node_directory(dir: &Path, key: &NodeKey, chain_pem: &str, trust_pem: &str) -> Result<(), Error> {
    atomic::make_directory(dir)?;
    let path = dir.join(NODE_KEY);
    if path.symlink_metadata().is_ok() {
        if NodeKey::load(&path)?.0.public_key() != key.public_key() {
            return Err(Error::Exists(path));
        }
    } else {
        key.save(&path)?;
    }
    atomic::write(&dir.join(NODE_CHAIN), chain_pem.as_bytes(), atomic::PUBLIC)?;
    atomic::write(&dir.join(TRUST), trust_pem.as_bytes(), atomic::PUBLIC)
}
