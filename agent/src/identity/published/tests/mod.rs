//! Documents as publishers and others sign them, and what becomes of each.

mod table;

use ca::{Authority, NodeKey, PrivateKey};
use mesh_config::published::{Generation, Header, Heads, Publication};
use mesh_config::{Digest, MeshName, MeshVersion, NodeName};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;
use crate::identity::Trust;

/// When all of these were signed.
pub(crate) const NOW: OffsetDateTime = datetime!(2030-06-01 12:00 UTC);

/// Whoever has a key and a chain.
pub(crate) struct Hand {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKey,
}

/// A mesh's authority, in a directory of its own.
pub(crate) struct Root {
    pub(crate) authority: Authority,
    dir: TempDir,
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

pub(crate) fn lab() -> MeshName {
    MeshName::new("lab").unwrap()
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

impl Root {
    pub(crate) fn of(mesh: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mesh = MeshName::new(mesh).unwrap();
        let authority = Authority::create(&dir.path().join("ca"), &mesh, NOW - time::Duration::days(30)).unwrap();
        Self { authority, dir }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::new(chain(self.authority.trust_pem()))
    }

    fn take_root_away(&self) {
        std::fs::remove_file(self.dir.path().join("ca/root.key")).unwrap();
    }

    /// A publisher of a generation, made `since` with a life of so many days.
    fn delegated(&mut self, generation: u64, since: OffsetDateTime, days: u64) -> Hand {
        let key = PrivateKey::generate().unwrap();
        let life = Some(std::time::Duration::from_secs(days * 86_400));
        let generation = Generation::new(generation).unwrap();
        let issued = self.authority.delegate(&name("anna"), &key.public_key(), generation, life, since).unwrap();
        Hand { chain: chain(&issued.chain_pem), key }
    }

    pub(crate) fn publisher(&mut self) -> Hand {
        self.delegated(1, NOW - time::Duration::days(1), 30)
    }

    fn node(&mut self) -> Hand {
        let key = NodeKey::generate().unwrap();
        let issued = self.authority.issue(&name("alpha"), &key.public_key(), None, NOW).unwrap();
        Hand { chain: chain(&issued.chain_pem), key }
    }
}

pub(crate) fn text(version: u64) -> String {
    format!("[mesh]\nname = \"lab\"\nversion = {version}\nsigned = true\n[node.alpha]\n[node.beta]\n")
}

/// What is published after `heads`, of `version`.
pub(crate) fn header(heads: &Heads, text: &str, version: u64) -> Header {
    header_of(heads, "lab", text, version, false)
}

fn header_of(heads: &Heads, mesh: &str, text: &str, version: u64, opens_generation: bool) -> Header {
    let now = u64::try_from(NOW.unix_timestamp()).unwrap();
    let publication = Publication {
        document: Digest::of(text.as_bytes()),
        version: MeshVersion::new(version).unwrap(),
        opens_generation,
        published_at: now,
        refresh_by: now + 86_400,
        removed: Vec::new(),
    };
    heads.next(&MeshName::new(mesh).unwrap(), publication).unwrap()
}

pub(crate) fn signed(header: &Header, text: &str, hand: &Hand) -> Vec<u8> {
    seal(header, text, hand.chain.clone(), |message| hand.key.signature(message)).unwrap()
}

/// A good document of this version.
pub(crate) fn document(hand: &Hand, heads: &Heads, version: u64) -> Vec<u8> {
    let text = text(version);
    signed(&header(heads, &text, version), &text, hand)
}

pub(crate) fn judged(bytes: Vec<u8>, root: &Root) -> Result<Published, Refused> {
    verify(bytes.into(), &root.trust(), Some(&lab()), NOW, Occasion::Arrival)
}
