//! A node's own files: key, certificate, trust; and a publisher's: key and certificate.

use std::path::Path;

use crate::atomic;
use crate::error::Error;
use crate::key::{NodeKey, PrivateKey};

/// The file of a node's private key.
pub const NODE_KEY: &str = "node.key";
/// The file of a node's certificate chain, leaf first.
pub const NODE_CHAIN: &str = "node.pem";
/// The file of the accepted roots.
pub const TRUST: &str = "trust.pem";

/// The file of a publisher's private key.
pub const PUBLISHER_KEY: &str = "publisher.key";
/// The file of a publisher's certificate chain, leaf first.
pub const PUBLISHER_CHAIN: &str = "publisher.pem";

/// Writes `node.key` (0600), `node.pem` and `trust.pem` to `dir`, which is made (0700) if it is not there; each file
/// whole or not at all.
///
/// # Errors
/// [`Error::Exists`] if another key is there already: replacing one is more than writing it, since for a moment key and
/// certificate would not fit. [`Error::Io`], [`Error::Crypto`].
pub fn write_node_directory(dir: &Path, key: &NodeKey, chain_pem: &str, trust_pem: &str) -> Result<(), Error> {
    write_key(dir, NODE_KEY, key)?;
    atomic::write(&dir.join(NODE_CHAIN), chain_pem.as_bytes(), atomic::PUBLIC)?;
    atomic::write(&dir.join(TRUST), trust_pem.as_bytes(), atomic::PUBLIC)
}

/// Writes `publisher.key` (0600) and `publisher.pem` to `dir`, which is made (0700) if it is not there; each file whole
/// or not at all.
///
/// # Errors
/// Those of [`write_node_directory`].
pub fn write_publisher_directory(dir: &Path, key: &PrivateKey, chain_pem: &str) -> Result<(), Error> {
    write_key(dir, PUBLISHER_KEY, key)?;
    atomic::write(&dir.join(PUBLISHER_CHAIN), chain_pem.as_bytes(), atomic::PUBLIC)
}

fn write_key(dir: &Path, name: &str, key: &PrivateKey) -> Result<(), Error> {
    atomic::make_directory(dir)?;
    let path = dir.join(name);
    if path.symlink_metadata().is_err() {
        key.save(&path)
    } else if PrivateKey::load(&path)?.0.public_key() == key.public_key() {
        Ok(())
    } else {
        Err(Error::Exists(path))
    }
}
