//! An authority of the tests' own, which issues what no careful authority would.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use crate::mesh::NAME;

/// A root with its key.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
}

/// What a node's certificate shall say. [`Leaf::of`] is a right one.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The node's name.
    pub node: String,
    /// The mesh's name.
    pub mesh: String,
    /// From when it is valid, counted from now.
    pub not_before: Duration,
    /// Until when it is valid, counted from now.
    pub not_after: Duration,
}

impl Leaf {
    /// A certificate for `node` of the mesh under test, valid from an hour ago for a day.
    pub fn of(node: &str) -> Self {
        let (not_before, not_after) = (Duration::hours(-1), Duration::days(1));
        Self { node: node.to_owned(), mesh: NAME.to_owned(), not_before, not_after }
    }
}

/// A certificate chain, leaf first and without the root, and the leaf's key.
pub struct Identity {
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    certificate_pem: String,
}

impl Identity {
    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    /// The private key as PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The chain as PEM.
    pub fn chain_pem(&self) -> &str {
        &self.certificate_pem
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates of the tests are dated by the machine's clock")]
fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

impl Authority {
    /// A new root for the mesh under test.
    pub fn new() -> Result<Self> {
        // Roots of one name would be told apart by their signatures alone.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut params = CertificateParams::default();
        let name = format!("root {} of the tests", NEXT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now() - Duration::days(30);
        params.not_after = now() + Duration::days(30);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { root: CertifiedIssuer::self_signed(params, key)? })
    }

    /// The root as PEM.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The root as DER.
    pub fn root_der(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// Issues a certificate for a server at an address, or for a client of such a server.
    pub fn issue_host(&self, address: IpAddr) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a host of the tests");
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = now() - Duration::hours(1);
        params.not_after = now() + Duration::days(1);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.root)?;
        Ok(Identity { chain: vec![certificate.der().clone()], certificate_pem: certificate.pem(), key })
    }

    /// Issues a certificate in the form that members have, with what `leaf` says.
    pub fn issue(&self, leaf: &Leaf) -> Result<Identity> {
        let Leaf { node, mesh, .. } = leaf;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        params.subject_alt_names = vec![
            SanType::DnsName(format!("{node}.{mesh}").try_into()?),
            SanType::URI(format!("spiffe://{mesh}/node/{node}").try_into()?),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.not_before = now() + leaf.not_before;
        params.not_after = now() + leaf.not_after;
        // Positive and 128 bits long whatever the random bytes are.
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial).map_err(|_| anyhow::anyhow!("no random bytes"))?;
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.root)?;
        Ok(Identity { chain: vec![certificate.der().clone()], certificate_pem: certificate.pem(), key })
    }
}
