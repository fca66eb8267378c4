//! The verifier that rustls asks, one made for each handshake, and what comes out of it.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mesh_config::published::Tombstones;
use mesh_config::{Digest, Mesh, MeshName, NodeName};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error as TlsError, PeerIncompatible, SignatureScheme};
use time::OffsetDateTime;

use super::algorithms;
use super::certificate::{CertificateId, Place, Which, hex};
use super::chain::{Limits, verify_chain};
use super::flaw::ProfileError;
use super::profile::{self, Purpose};
use super::rejection::Rejection;
use super::trust::Trust;
use crate::clock::Clock;

/// Who is a node of the mesh.
pub trait Members: Send + Sync {
    /// Whether the mesh has `node` now.
    fn is_member(&self, node: &NodeName) -> bool;
}

impl Members for Mesh {
    fn is_member(&self, node: &NodeName) -> bool {
        self.nodes().contains_key(node)
    }
}

/// Which certificates are revoked, by issuer and serial or by public key.
pub trait Revoked: Send + Sync {
    /// Whether `certificate`, a leaf's or an intermediate's, is revoked.
    fn is_revoked(&self, certificate: &CertificateId) -> bool;

    /// By what, for people.
    fn by(&self) -> &'static str {
        "the mesh's list"
    }
}

/// An empty revocation list.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingRevoked;

impl Revoked for NothingRevoked {
    fn is_revoked(&self, _: &CertificateId) -> bool {
        false
    }
}

/// The keys that nodes had when they were taken out of a signed mesh. A host that takes the name up again has another key.
#[derive(Debug, Clone, Default)]
pub struct Removed(pub Arc<Tombstones>);

impl Revoked for Removed {
    fn is_revoked(&self, certificate: &CertificateId) -> bool {
        self.0.names(&Digest::from_bytes(*certificate.spki_sha256()))
    }

    fn by(&self) -> &'static str {
        "its key is that of a node that was taken out of the mesh"
    }
}

/// Whom a handshake may end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The node that was dialled and no other.
    Exactly(NodeName),
    /// Any node that the mesh has.
    AnyMember,
}

/// A peer whose identity is proven: it holds the key of a certificate that chains to the trust bundle, keeps the
/// profile, is not revoked and names this node. Only the verifier makes one. Clones share their memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer(Arc<Proven>);

#[derive(Debug, PartialEq, Eq)]
struct Proven {
    node: NodeName,
    issuer: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    ids: Box<[CertificateId]>,
}

impl VerifiedPeer {
    /// The node's name.
    pub fn node(&self) -> &NodeName {
        &self.0.node
    }

    /// The certificate's serial in lower-case hexadecimal.
    pub fn serial(&self) -> String {
        hex(self.0.ids[0].serial())
    }

    /// The name of the certificate's issuer, for people.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// SHA-256 of the public key (DER SubjectPublicKeyInfo).
    pub fn spki_sha256(&self) -> &[u8; 32] {
        self.0.ids[0].spki_sha256()
    }

    /// Where the leaf certificate's validity begins.
    pub fn not_before(&self) -> OffsetDateTime {
        self.0.not_before
    }

    /// Where the validity of its chain ends: the earliest end of its certificates, the root's included.
    pub fn not_after(&self) -> OffsetDateTime {
        self.0.not_after
    }

    /// Shares the memory of `known` if that says the same, and is known from now on if not: a peer proves itself anew on each of many
    /// lanes.
    pub fn share(&mut self, known: &mut Option<Self>) {
        match known {
            Some(known) if known == self => *self = known.clone(),
            other => *other = Some(self.clone()),
        }
    }

    /// Whether its certificate or one that signed it is revoked by `list`: asked again when the list grows.
    pub fn is_revoked(&self, list: &dyn Revoked) -> bool {
        self.0.ids.iter().any(|id| list.is_revoked(id))
    }
}

/// What a handshake's verifier found, readable once the handshake has ended.
///
/// It holds a peer only after that peer has also signed the handshake.
#[derive(Debug, Clone, Default)]
pub struct Verdict(Arc<OnceLock<Result<VerifiedPeer, Rejection>>>);

impl Verdict {
    /// The proven peer. To be believed only when the handshake has completed, since its Finished is checked last.
    pub fn peer(&self) -> Option<&VerifiedPeer> {
        self.0.get().and_then(|verdict| verdict.as_ref().ok())
    }

    /// Why this side refused the peer, if it did.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.0.get().and_then(|verdict| verdict.as_ref().err())
    }

    /// Why this side refused the peer, given how the handshake failed: also says [`Rejection::NoCertificate`], which
    /// rustls finds without asking the verifier.
    pub fn rejection_for(&self, error: &TlsError) -> Option<Rejection> {
        match error {
            TlsError::NoCertificatesPresented => Some(Rejection::NoCertificate),
            _ => self.rejection().cloned(),
        }
    }

    fn set(&self, verdict: Result<VerifiedPeer, Rejection>) {
        // A second one cannot come: rustls asks once for each handshake and a verifier serves one.
        let _first_stays = self.0.set(verdict);
    }
}

/// What a peer is judged by.
pub struct Judge {
    /// Accepted roots.
    pub trust: Arc<Trust>,
    /// This host's mesh.
    pub mesh: MeshName,
    /// This host's node name.
    pub own_name: NodeName,
    /// SHA-256 of this host's public key (DER SubjectPublicKeyInfo).
    pub own_spki_sha256: [u8; 32],
    /// The mesh's nodes.
    pub members: Arc<dyn Members>,
    /// Revoked certificates.
    pub revoked: Arc<dyn Revoked>,
}

impl Judge {
    /// Judges the certificates that a peer in the role `purpose` has sent (leaf first) as of `now`.
    ///
    /// # Errors
    /// The [`Rejection`].
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        expected: &Expected,
        purpose: Purpose,
        now: OffsetDateTime,
    ) -> Result<VerifiedPeer, Rejection> {
        let chain = verify_chain(chain, &self.trust, purpose, now, Limits::PEER)?;
        if let Some((which, _)) = chain.ids.iter().find(|(_, id)| self.revoked.is_revoked(id)) {
            return Err(Rejection::Revoked { which: which.clone(), by: self.revoked.by() });
        }
        let which = chain.leaf.which();
        let (mesh, node) =
            profile::identity_of(&chain.leaf).map_err(|flaw| ProfileError { which: which.clone(), flaw })?;
        if mesh != self.mesh {
            return Err(Rejection::WrongMesh { which, presented: mesh, expected: self.mesh.clone() });
        }
        let ids: Box<[_]> = chain.ids.into_iter().map(|(_, id)| id).collect();
        if node == self.own_name || ids[0].spki_sha256() == &self.own_spki_sha256 {
            return Err(Rejection::OwnName { which, node });
        }
        match expected {
            Expected::Exactly(dialled) if *dialled != node => {
                return Err(Rejection::WrongNode { which, presented: node, expected: dialled.clone() });
            }
            Expected::AnyMember if !self.members.is_member(&node) => {
                return Err(Rejection::NotAMember { which, node });
            }
            _ => {}
        }
        let (issuer, not_before) = (chain.leaf.issuer(), chain.leaf.not_before());
        Ok(VerifiedPeer(Arc::new(Proven { node, issuer, not_before, not_after: chain.not_after, ids })))
    }
}

/// Judges the one peer of one handshake, in either role.
pub struct PeerVerifier {
    judge: Arc<Judge>,
    expected: Expected,
    clock: Clock,
    verdict: Verdict,
    /// Accepted by its certificates, but has not yet signed the handshake.
    unproven: Mutex<Option<VerifiedPeer>>,
}

impl PeerVerifier {
    /// A verifier for one handshake, and where its verdict will be.
    pub fn new(judge: Arc<Judge>, expected: Expected, clock: Clock) -> (Arc<Self>, Verdict) {
        let verdict = Verdict::default();
        let verifier = Self { judge, expected, clock, verdict: verdict.clone(), unproven: Mutex::new(None) };
        (Arc::new(verifier), verdict)
    }

    fn judge_certificates(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
    ) -> Result<(), TlsError> {
        // Borrowed again, not copied.
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(end_entity).chain(intermediates).map(|der| CertificateDer::from(der.as_ref())).collect();
        match self.judge.verify(&chain, &self.expected, purpose, self.clock.now()) {
            Ok(peer) => {
                *self.unproven.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer);
                Ok(())
            }
            Err(rejection) => {
                let error = rejection.tls_error();
                self.verdict.set(Err(rejection));
                Err(error)
            }
        }
    }

    fn judge_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let peer = self.unproven.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (verify_tls13_signature(message, cert, signature, &algorithms::SUPPORTED), peer) {
            (Ok(valid), Some(peer)) => {
                self.verdict.set(Ok(peer));
                Ok(valid)
            }
            (Ok(_), None) => Err(TlsError::General("a handshake was signed before its certificate was judged".into())),
            (Err(error), peer) => {
                let (subject, serial) = peer.map_or_else(Default::default, |p| (p.node().to_string(), p.serial()));
                let which = Which { place: Place::Leaf, subject, serial };
                self.verdict
                    .set(Err(Rejection::BadSignature { which, what: "the handshake is not signed with its key" }));
                Err(error)
            }
        }
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// TLS 1.2 is not spoken, so its weaker signatures (RFC 5246 §7.4.1.4.1) are never looked at.
fn refuse_tls12() -> TlsError {
    TlsError::PeerIncompatible(PeerIncompatible::Tls12NotOffered)
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.judge_certificates(end_entity, intermediates, Purpose::Server).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.judge_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms::SUPPORTED.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Every agent has one certificate and sends it whatever is hinted; hints would tell strangers who issues here.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.judge_certificates(end_entity, intermediates, Purpose::Client).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.judge_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms::SUPPORTED.supported_schemes()
    }
}
