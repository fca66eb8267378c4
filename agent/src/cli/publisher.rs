//! A publisher's key on this host, and what is known here of the keys of nodes.

use std::fs;
use std::path::{Path, PathBuf};

use ca::{Authority, PUBLISHER_CHAIN, PUBLISHER_KEY, PrivateKey};
use mesh_config::published::Header;
use mesh_config::{Digest, NodeName};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use super::error::CliError;
use super::init::CA;
use super::publish::refused;
use crate::identity::Trust;
use crate::identity::published::{Signer, public_key_digest, seal, signer};

/// Where publishers' directories are made.
pub(super) const PUBLISHERS: &str = "publishers";

/// A publisher's key, with the chain that says so.
pub(super) struct Publisher {
    /// Who it is.
    pub(super) signer: Signer,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
}

impl Publisher {
    /// Reads it from `given`, else from the agent's directory, else from the only one under [`PUBLISHERS`].
    ///
    /// # Errors
    /// If there is none, several, or one that may not sign now.
    pub(super) fn load(dir: &Path, given: Option<&Path>, trust: &Trust, now: OffsetDateTime) -> Result<Self, CliError> {
        let from = match given {
            Some(given) => given.to_owned(),
            None => find(dir)?,
        };
        let (key, chain_path) = (PrivateKey::load(&from.join(PUBLISHER_KEY))?.0, from.join(PUBLISHER_CHAIN));
        let unreadable = |why: String| {
            CliError::failed("publisher", format!("{}: {why}", chain_path.display()))
                .hint("make it anew: `adit ca delegate NAME --out DIRECTORY`")
        };
        let pem = fs::read(&chain_path).map_err(|error| unreadable(format!("it cannot be read: {error}")))?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| unreadable(format!("it is no PEM: {error:?}")))?;
        let (signer, _) = signer(&chain, trust, now).map_err(|why| refused(&why))?;
        let certified = chain.first().and_then(|leaf| public_key_digest(leaf));
        if certified != Some(Digest::of(&key.public_key().to_spki())) {
            return Err(unreadable(format!("it is not the certificate of {PUBLISHER_KEY} beside it")));
        }
        Ok(Self { signer, chain, key })
    }

    /// Signs a document.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub(super) fn seal(&self, header: &Header, text: &str) -> Result<Vec<u8>, CliError> {
        Ok(seal(header, text, self.chain.clone(), |message| self.key.signature(message))?)
    }
}

fn find(dir: &Path) -> Result<PathBuf, CliError> {
    if dir.join(PUBLISHER_KEY).exists() {
        return Ok(dir.to_owned());
    }
    let publishers = dir.join(PUBLISHERS);
    let entries = fs::read_dir(&publishers).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|p| p.join(PUBLISHER_KEY).exists()).collect();
    found.sort();
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => {
            let message = format!("no publisher's key is in {} or {}", dir.display(), publishers.display());
            Err(CliError::failed("no_publisher", message)
                .hint("make one on the host with the CA key, `adit ca delegate NAME`, and name it by --publisher"))
        }
        several => {
            let names: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            let message = format!("there are several publishers' keys: {}", names.join(", "));
            Err(CliError::usage("several_publishers", message).hint("choose one by --publisher DIRECTORY"))
        }
    }
}

/// The keys that nodes were enrolled with, as far as an authority on this host knows.
pub(super) fn enrolled_keys(dir: &Path, nodes: &[NodeName]) -> Vec<(NodeName, Digest)> {
    if nodes.is_empty() || !dir.join(CA).is_dir() {
        return Vec::new();
    }
    let Ok(authority) = Authority::open(&dir.join(CA)) else { return Vec::new() };
    let issued = authority.records().iter().filter(|record| !record.publisher() && nodes.contains(record.node()));
    let mut keys: Vec<_> =
        issued.filter_map(|record| Some((record.node().clone(), public_key_digest(record.der())?))).collect();
    keys.sort();
    keys.dedup();
    keys
}
