//! Whether a signed document is a publisher's: a pure function of its arguments.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mesh_config::published::{Generation, Header, Rank};
use mesh_config::{Digest, Mesh, MeshName, NodeName};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use webpki::EndEntityCert;

use super::envelope::{Envelope, message};
use super::refused::Refused;
use crate::identity::algorithms;
use crate::identity::certificate::{Certificate, Place, hex, sha256};
use crate::identity::chain::{Limits, VerifiedChain, verify_chain};
use crate::identity::flaw::ProfileError;
use crate::identity::profile::{self, Purpose};
use crate::identity::trust::Trust;

/// What problems of a document's text call it.
const FILE: &str = "the signed document";

/// When a document is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// It has just come: its signer has to be valid both when he signed it and now, so that whoever gets hold of an old key
    /// cannot date back what he signs with it.
    Arrival,
    /// It was judged when it came, and has lain on this host's disk since: its signer has to have been valid when he signed it.
    Kept,
}

/// Who may sign mesh documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The publisher's name.
    pub name: NodeName,
    /// The mesh.
    pub mesh: MeshName,
    /// The generation whose documents he may sign.
    pub generation: Generation,
    /// His certificate's serial in lower-case hexadecimal.
    pub serial: String,
    /// When the first certificate of his chain ends.
    pub not_after: OffsetDateTime,
}

/// A signed document that is a publisher's of this mesh. Only [`verify`] makes one.
#[derive(Clone)]
pub struct Published {
    header: Arc<Header>,
    mesh: Arc<Mesh>,
    signer: Signer,
    text: Bytes,
    bytes: Arc<[u8]>,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("rank", &self.rank()).field("signer", &self.signer).finish_non_exhaustive()
    }
}

impl Published {
    /// What its publisher says of it.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// Its place in the order of all documents.
    pub fn rank(&self) -> Rank {
        self.header.rank()
    }

    /// The mesh that it describes.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// Its text.
    pub fn text(&self) -> &str {
        // It was found to be UTF-8.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// Who signed it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// It, as it was signed.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }
}

/// Whose a chain of a publisher is, as of `now`, and whether it was the root itself that made him one.
///
/// # Errors
/// [`Refused::Signer`].
pub fn signer(chain: &[CertificateDer<'_>], trust: &Trust, now: OffsetDateTime) -> Result<(Signer, bool), Refused> {
    let VerifiedChain { leaf, ids, not_after } = verify_chain(chain, trust, Purpose::Publisher, now, Limits::PEER)?;
    let named = profile::publisher_of(&leaf).map_err(|flaw| ProfileError { which: leaf.which(), flaw })?;
    let (mesh, name, generation) = named;
    let serial = hex(leaf.x509.raw_serial());
    Ok((Signer { name, mesh, generation, serial, not_after }, ids.len() == 1))
}

/// Judges a signed document of `mesh`, or of whichever mesh it and its signer are, as of `now`.
///
/// # Errors
/// The first [`Refused`] found.
pub fn verify(
    bytes: Arc<[u8]>,
    trust: &Trust,
    mesh: Option<&MeshName>,
    now: OffsetDateTime,
    occasion: Occasion,
) -> Result<Published, Refused> {
    let Envelope { header: encoded, document, chain, signature } = Envelope::decode(Bytes::from_owner(bytes.clone()))?;
    let header = Header::decode(&encoded)?;
    let mesh = mesh.unwrap_or_else(|| header.mesh());
    let of_this_mesh = |found: &MeshName| match found == mesh {
        true => Ok(()),
        false => Err(Refused::OtherMesh { found: found.clone(), expected: mesh.clone() }),
    };
    of_this_mesh(header.mesh())?;
    let digest = Digest::of(&document);
    if digest != header.document() {
        return Err(Refused::Forged("its text is not the one that its header names"));
    }

    let published = i64::try_from(header.published_at()).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let published = published.ok_or(Refused::Malformed("the time of its publication is none"))?;
    let (signer, by_root) = signer(&chain, trust, published)?;
    if occasion == Occasion::Arrival {
        self::signer(&chain, trust, now)?;
    }
    of_this_mesh(&signer.mesh)?;
    let generation = header.rank().generation;
    if signer.generation != generation {
        return Err(Refused::OtherGeneration { document: generation, signer: signer.generation });
    }
    if generation != Generation::FIRST && !by_root {
        return Err(Refused::NotByRoot(generation));
    }
    if !is_signed(&chain, &message(mesh, &encoded, &digest), &signature) {
        return Err(Refused::Forged("its signature is not its signer's"));
    }

    let text =
        std::str::from_utf8(&document).map_err(|_| Refused::Contradiction("something that is not UTF-8".into()))?;
    let checked = Mesh::check(text, FILE).map_err(Refused::Document)?.mesh;
    of_this_mesh(checked.name())?;
    if checked.version() != header.rank().version {
        let (text, header) = (checked.version(), header.rank().version);
        return Err(Refused::Contradiction(format!("version {text}, and its header {header}")));
    }
    if !checked.signed() {
        return Err(Refused::Contradiction("nothing of `signed = true`".into()));
    }
    let mesh = Arc::new(checked);
    Ok(Published { header: Arc::new(header), mesh, signer, text: document, bytes })
}

/// SHA-256 of the public key (DER SubjectPublicKeyInfo) of a certificate in DER; nothing if it is none.
pub fn public_key_digest(certificate: &[u8]) -> Option<Digest> {
    let certificate = Certificate::parse(Place::Leaf, certificate).ok()?;
    Some(Digest::from_bytes(sha256(certificate.x509.public_key().raw)))
}

fn is_signed(chain: &[CertificateDer<'_>], message: &[u8], signature: &[u8]) -> bool {
    let Some(leaf) = chain.first().and_then(|leaf| EndEntityCert::try_from(leaf).ok()) else { return false };
    // The key's kind chooses which of them can be right.
    algorithms::CHAIN.iter().any(|algorithm| leaf.verify_signature(*algorithm, message, signature).is_ok())
}
