//! Certificates for both ends, and configurations that speak one suite.

use std::sync::{Arc, LazyLock};

use agent::transport::record::Suite;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};

/// The name that the certificate is for.
pub(crate) const NAME: &str = "node.test";

/// A CA and one certificate, which both ends use.
pub(crate) struct Pki {
    pub(crate) ca_pem: String,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    ca: CertificateDer<'static>,
    cert: CertificateDer<'static>,
    key: KeyPair,
}

pub(crate) static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &ca).unwrap();
    Pki {
        ca_pem: ca.pem(),
        cert_pem: cert.pem(),
        key_pem: key.serialize_pem(),
        ca: ca.der().clone(),
        cert: cert.der().clone(),
        key,
    }
});

/// The name to dial.
pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

fn rustls_suite(suite: Suite) -> SupportedCipherSuite {
    match suite {
        Suite::Aes128Gcm => cipher_suite::TLS13_AES_128_GCM_SHA256,
        Suite::Aes256Gcm => cipher_suite::TLS13_AES_256_GCM_SHA384,
        Suite::ChaCha20Poly1305 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    }
}

fn provider(suite: Suite) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: vec![rustls_suite(suite)], ..default_provider() })
}

fn roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(PKI.ca.clone()).unwrap();
    Arc::new(roots)
}

fn key() -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(PKI.key.serialize_der()).unwrap()
}

/// A client with a certificate.
pub(crate) fn client(suite: Suite) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots())
        .with_client_auth_cert(vec![PKI.cert.clone()], key())
        .unwrap();
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"test/1".to_vec()];
    config
}

/// A server that wants one.
pub(crate) fn server(suite: Suite) -> ServerConfig {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(), provider(suite)).build().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider(suite))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![PKI.cert.clone()], key())
        .unwrap();
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"test/1".to_vec()];
    config
}
