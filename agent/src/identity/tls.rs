//! TLS configurations: one for each handshake, cheap because everything heavy in them is shared.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mesh_config::{MeshName, NodeName};
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::compress::CompressionCache;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::algorithms;
use super::load::Identity;
use super::trust::Trust;
use super::verifier::{Expected, Judge, Members, PeerVerifier, Revoked, Verdict};
use crate::clock::Clock;

/// A lane: application streams over TCP.
pub const ALPN_LANE: &[u8] = b"adit-lane/1";
/// A control channel, over TCP or QUIC.
pub const ALPN_CTL: &[u8] = b"adit-ctl/1";
/// Application streams over QUIC.
pub const ALPN_QUIC: &[u8] = b"adit/1";

/// What is spoken: X25519MLKEM768 and X25519, and the three suites of TLS 1.3 (RFC 8446 §B.4) with AES-128-GCM first
/// where the CPU has instructions for AES and ChaCha20-Poly1305 first where it has not.
///
/// QUIC's Initial packets need AES-128-GCM whatever comes first (RFC 9001 §5.2).
pub static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let (aes128, aes256, chacha20) = (
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    );
    Arc::new(CryptoProvider {
        cipher_suites: if cpu_has_aes() { vec![aes128, aes256, chacha20] } else { vec![chacha20, aes128, aes256] },
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        signature_verification_algorithms: algorithms::SUPPORTED,
        ..default_provider()
    })
});

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn cpu_has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn cpu_has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn cpu_has_aes() -> bool {
    false
}

/// Why a configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// rustls refused it.
    #[error("no TLS configuration can be made")]
    Tls(#[from] rustls::Error),
    /// It lacks QUIC's initial suite.
    #[error("the TLS configuration does not suit QUIC")]
    Quic(#[from] NoInitialCipherSuite),
    /// A node and mesh do not make a DNS name.
    #[error("`{0}` is not a DNS name")]
    Name(String),
}

/// The injected clock, for rustls.
#[derive(Debug)]
struct WallTime(Clock);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        u64::try_from(self.0.now().unix_timestamp()).ok().map(|s| UnixTime::since_unix_epoch(Duration::from_secs(s)))
    }
}

/// The injected clock, for other configurations than the mesh's own.
pub(crate) fn time_provider(clock: Clock) -> Arc<dyn TimeProvider> {
    Arc::new(WallTime(clock))
}

/// What handshakes are made with: this host's identity, and what peers are judged by. Immutable; a change of any of
/// them makes a new one.
#[derive(Clone)]
pub struct TlsContext {
    judge: Arc<Judge>,
    identity: Arc<Identity>,
    credentials: Arc<SingleCertAndKey>,
    time: Arc<WallTime>,
    clock: Clock,
}

impl std::fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsContext").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl TlsContext {
    /// A context in which `identity` meets the nodes of its mesh.
    pub fn new(
        identity: Arc<Identity>,
        trust: Arc<Trust>,
        members: Arc<dyn Members>,
        revoked: Arc<dyn Revoked>,
        clock: Clock,
    ) -> Self {
        let judge = Judge {
            trust,
            mesh: identity.mesh().clone(),
            own_name: identity.node().clone(),
            own_spki_sha256: *identity.spki_sha256(),
            members,
            revoked,
        };
        Self {
            judge: Arc::new(judge),
            credentials: Arc::new(SingleCertAndKey::from(identity.certified_key().clone())),
            identity,
            time: Arc::new(WallTime(clock)),
            clock,
        }
    }

    /// This host's identity.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The clock by which peers are judged.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What peers are judged by.
    pub fn judge(&self) -> &Arc<Judge> {
        &self.judge
    }

    /// Dials `peer` and accepts nobody else: a configuration for one handshake, the name to send (`PEER.MESH`), and
    /// where its verdict will be.
    ///
    /// # Errors
    /// [`ConfigError`]; none is expected of checked names.
    pub fn dial(
        &self,
        peer: &NodeName,
        alpn: &[u8],
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>, Verdict), ConfigError> {
        let name = server_name(peer, &self.judge.mesh)?;
        let (verifier, verdict) = PeerVerifier::new(self.judge.clone(), Expected::Exactly(peer.clone()), self.clock);
        let mut config = ClientConfig::builder_with_details(PROVIDER.clone(), self.time.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.credentials.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = true;
        config.cert_compressors = Vec::new();
        config.cert_decompressors = Vec::new();
        config.cert_compression_cache = NO_COMPRESSION.clone();
        Ok((Arc::new(config), name, verdict))
    }

    /// Accepts any member of the mesh that dials, in one of the protocols `alpns`: a configuration for one handshake
    /// and where its verdict will be.
    ///
    /// # Errors
    /// [`ConfigError`]; none is expected.
    pub fn accept(&self, alpns: &[&[u8]]) -> Result<(Arc<ServerConfig>, Verdict), ConfigError> {
        let (verifier, verdict) = PeerVerifier::new(self.judge.clone(), Expected::AnyMember, self.clock);
        let mut config = ServerConfig::builder_with_details(PROVIDER.clone(), self.time.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.credentials.clone());
        config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
        config.session_storage = NO_SESSIONS.clone();
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.cert_compressors = Vec::new();
        config.cert_decompressors = Vec::new();
        config.cert_compression_cache = NO_COMPRESSION.clone();
        Ok((Arc::new(config), verdict))
    }

    /// [`TlsContext::dial`] for one QUIC connection. The name is what quinn's `connect_with` takes.
    ///
    /// # Errors
    /// [`ConfigError`]; none is expected of checked names.
    pub fn quic_client(
        &self,
        peer: &NodeName,
        alpn: &[u8],
    ) -> Result<(Arc<QuicClientConfig>, String, Verdict), ConfigError> {
        let (config, name, verdict) = self.dial(peer, alpn)?;
        Ok((Arc::new(QuicClientConfig::try_from(config)?), name.to_str().into_owned(), verdict))
    }

    /// [`TlsContext::accept`] for one QUIC connection (quinn's `Incoming::accept_with`).
    ///
    /// # Errors
    /// [`ConfigError`]; none is expected.
    pub fn quic_server(&self, alpns: &[&[u8]]) -> Result<(Arc<QuicServerConfig>, Verdict), ConfigError> {
        let (config, verdict) = self.accept(alpns)?;
        Ok((Arc::new(QuicServerConfig::try_from(config)?), verdict))
    }
}

static NO_COMPRESSION: LazyLock<Arc<CompressionCache>> = LazyLock::new(|| Arc::new(CompressionCache::Disabled));
static NO_SESSIONS: LazyLock<Arc<NoServerSessionStorage>> = LazyLock::new(|| Arc::new(NoServerSessionStorage {}));

fn server_name(node: &NodeName, mesh: &MeshName) -> Result<ServerName<'static>, ConfigError> {
    let name = format!("{node}.{mesh}");
    ServerName::try_from(name.clone()).map_err(|_| ConfigError::Name(name))
}
