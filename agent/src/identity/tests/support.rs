//! A small CA and in-memory handshakes.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_config::{MeshName, NodeName};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct, DistinguishedName,
    Error, ServerConfig, ServerConnection, SignatureScheme,
};
use time::{Duration, OffsetDateTime};

use super::super::tls::PROVIDER;
use super::super::{CertificateId, Identity, Members, Revoked, TlsContext, Trust};
use crate::clock::Clock;

pub(super) fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub(super) fn mesh() -> MeshName {
    MeshName::new("lab").unwrap()
}

pub(super) fn now() -> OffsetDateTime {
    Clock::default().now()
}

/// A key and the chain that proves it.
pub(super) struct Issued {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
}

impl Issued {
    pub(super) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    pub(super) fn identity(&self, name: &str) -> Identity {
        Identity::new(self.chain.clone(), self.key_der(), &node(name), &mesh()).unwrap()
    }
}

/// Root, one intermediate, and what leaves are made of.
pub(super) struct Pki {
    pub(super) root: CertifiedIssuer<'static, KeyPair>,
    pub(super) intermediate: CertifiedIssuer<'static, KeyPair>,
}

pub(super) fn ca_params(name: &str, path_length: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now() - Duration::hours(1);
    params.not_after = now() + Duration::days(3650);
    params
}

pub(super) fn lab_constraint() -> NameConstraints {
    NameConstraints { permitted_subtrees: vec![GeneralSubtree::DnsName("lab".into())], excluded_subtrees: vec![] }
}

pub(super) fn leaf_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![uri(&format!("spiffe://lab/node/{name}")), dns(&format!("{name}.lab"))];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now() - Duration::minutes(5);
    params.not_after = now() + Duration::days(7);
    params
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(super) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

impl Pki {
    pub(super) fn new() -> Self {
        Self::with(ca_params("lab root", 1), |_| {})
    }

    pub(super) fn with(root: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let mut params = ca_params("lab intermediate", 0);
        params.name_constraints = Some(lab_constraint());
        change(&mut params);
        let intermediate = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, intermediate }
    }

    pub(super) fn trust(&self) -> Trust {
        Trust::new([self.root.der().clone()])
    }

    pub(super) fn node(&self, name: &str) -> Issued {
        self.issue(leaf_params(name))
    }

    pub(super) fn issue(&self, params: CertificateParams) -> Issued {
        self.issue_for(params, KeyPair::generate().unwrap())
    }

    pub(super) fn issue_for(&self, params: CertificateParams, key: KeyPair) -> Issued {
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        Issued { chain: vec![leaf.der().clone(), self.intermediate.der().clone()], key }
    }
}

/// The nodes of a mesh, by name.
pub(super) struct Names(pub(super) BTreeSet<&'static str>);

impl Members for Names {
    fn is_member(&self, node: &NodeName) -> bool {
        self.0.contains(node.as_str())
    }
}

/// A revocation list.
#[derive(Default)]
pub(super) struct List {
    pub(super) serials: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) keys: Vec<[u8; 32]>,
}

impl Revoked for List {
    fn is_revoked(&self, id: &CertificateId) -> bool {
        self.keys.contains(id.spki_sha256())
            || self.serials.iter().any(|(issuer, serial)| issuer == id.issuer_der() && serial == id.serial())
    }
}

/// Node alpha in a mesh of alpha, beta and gamma.
pub(super) fn context(pki: &Pki, list: List, shift: Duration) -> TlsContext {
    context_of(pki.node("alpha").identity("alpha"), pki.trust(), list, shift)
}

/// Two nodes of that mesh, who trust the same root.
pub(crate) fn contexts(names: [&str; 2]) -> [TlsContext; 2] {
    let pki = Pki::new();
    names.map(|name| context_of(pki.node(name).identity(name), pki.trust(), List::default(), Duration::ZERO))
}

pub(super) fn context_of(identity: Identity, trust: Trust, list: List, shift: Duration) -> TlsContext {
    context_by(identity, trust, Arc::new(list), shift)
}

pub(super) fn context_by(identity: Identity, trust: Trust, list: Arc<dyn Revoked>, shift: Duration) -> TlsContext {
    let members = Names(["alpha", "beta", "gamma"].into());
    TlsContext::new(Arc::new(identity), Arc::new(trust), Arc::new(members), list, Clock::shifted(shift))
}

/// A peer that believes anybody, to see what it is told.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::HandshakeNotComplete)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Credulous {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::HandshakeNotComplete)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

pub(super) fn credulous_client(issued: Option<&Issued>, provider: Arc<CryptoProvider>) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match issued {
        Some(issued) => builder.with_client_auth_cert(issued.chain.clone(), issued.key_der()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![super::super::ALPN_LANE.to_vec()];
    Arc::new(config)
}

pub(super) fn credulous_server(issued: &Issued) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Credulous))
        .with_single_cert(issued.chain.clone(), issued.key_der())
        .unwrap();
    config.alpn_protocols = vec![super::super::ALPN_LANE.to_vec()];
    Arc::new(config)
}

/// Two ends and what each of them stumbled over.
pub(super) struct Ends {
    pub(super) client: ClientConnection,
    pub(super) server: ServerConnection,
    pub(super) client_error: Option<Error>,
    pub(super) server_error: Option<Error>,
}

impl Ends {
    pub(super) fn established(&self) -> bool {
        self.client_error.is_none()
            && self.server_error.is_none()
            && !self.client.is_handshaking()
            && !self.server.is_handshaking()
    }
}

pub(super) fn handshake(client: Arc<ClientConfig>, name: ServerName<'static>, server: Arc<ServerConfig>) -> Ends {
    let mut ends = Ends {
        client: ClientConnection::new(client, name).unwrap(),
        server: ServerConnection::new(server).unwrap(),
        client_error: None,
        server_error: None,
    };
    // A handshake takes two round trips; the bound catches a loop.
    for _ in 0..10 {
        let up = sent(&mut ends.client);
        deliver(&up, &mut ends.server, &mut ends.server_error);
        let down = sent(&mut ends.server);
        deliver(&down, &mut ends.client, &mut ends.client_error);
        if up.is_empty() && down.is_empty() {
            return ends;
        }
    }
    panic!("the handshake does not end");
}

pub(super) fn sent<D>(end: &mut ConnectionCommon<D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while end.wants_write() {
        end.write_tls(&mut bytes).unwrap();
    }
    bytes
}

pub(super) fn deliver<D>(mut bytes: &[u8], end: &mut ConnectionCommon<D>, error: &mut Option<Error>) {
    while !bytes.is_empty() && error.is_none() {
        end.read_tls(&mut bytes).unwrap();
        *error = end.process_new_packets().err();
    }
}

pub(super) fn alert(error: Option<&Error>) -> Option<AlertDescription> {
    match error {
        Some(Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}
