//! A node's identity and trust bundle, read from its directory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_config::{MeshName, NodeName};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::certificate::{Certificate, Place, Which, hex};
use super::file::{self, FileError, Readers};
use super::flaw::ProfileError;
use super::profile;
use super::rejection::Rejection;
use super::tls::PROVIDER;
use super::trust::Trust;

/// The certificate chain, leaf first.
pub const CERTIFICATE_FILE: &str = "node.pem";
/// The private key.
pub const KEY_FILE: &str = "node.key";
/// The accepted roots.
pub const TRUST_FILE: &str = "trust.pem";

/// This host's key and certificate, found to belong together and to name its node.
pub struct Identity {
    node: NodeName,
    mesh: MeshName,
    key: Arc<CertifiedKey>,
    which: Which,
    issuer: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    spki_sha256: [u8; 32],
}

/// Never the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("node", &self.node)
            .field("mesh", &self.mesh)
            .field("serial", &self.which.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why key and certificate are no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate breaks the profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The certificate is another node's or another mesh's.
    #[error("{which} is for node {found_node} of mesh {found_mesh}, but this host is {node} of {mesh}")]
    Name {
        /// Whose.
        which: Which,
        /// The node in the certificate.
        found_node: NodeName,
        /// The mesh in the certificate.
        found_mesh: MeshName,
        /// The node that this host is.
        node: NodeName,
        /// The mesh that this host is in.
        mesh: MeshName,
    },
    /// The key is of a kind that is not accepted, or damaged.
    #[error("the private key cannot be used: it is damaged or not ECDSA, Ed25519 or RSA")]
    Key,
    /// The key is not the certificate's.
    #[error("the private key does not belong to {0}: it is the key of another node or of an older certificate")]
    KeyMismatch(Which),
}

/// Why a directory gives no identity. Its text says what and where; [`LoadError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file's contents are not PEM of the expected kind.
    #[error("{}: {why}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Key and certificate are no identity.
    #[error("{}: {error}", path.display())]
    Identity {
        /// The file that is most likely the wrong one.
        path: PathBuf,
        /// What is wrong.
        error: Box<IdentityError>,
    },
    /// No root of the bundle can be used.
    #[error("{}: no usable root certificate: {error}", path.display())]
    NoRoot {
        /// The file.
        path: PathBuf,
        /// What is wrong with the first.
        error: ProfileError,
    },
}

impl LoadError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::File(error) => error.hint(),
            Self::Pem { hint, .. } => (*hint).to_owned(),
            Self::Identity { error, .. } => match **error {
                IdentityError::Name { .. } => {
                    "put this node's own certificate there, or correct the node's name in agent.toml".to_owned()
                }
                IdentityError::KeyMismatch(_) => {
                    format!(
                        "put {KEY_FILE} and {CERTIFICATE_FILE} of the same issue there, or replace both: `adit ca issue`"
                    )
                }
                IdentityError::Key | IdentityError::Profile(_) => {
                    "issue the certificate again: `adit ca issue`".to_owned()
                }
            },
            Self::NoRoot { .. } => format!("copy {TRUST_FILE} from a host of the mesh that works"),
        }
    }
}

/// Something that does not stop a start but will hurt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadWarning {
    /// The key is readable by its group.
    #[error("{}: the private key can be read by its group (mode {mode:03o})", path.display())]
    GroupReadableKey {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate is not valid now.
    #[error("{}: {rejection}; every peer will refuse this host until that is mended", path.display())]
    NotValidNow {
        /// The file.
        path: PathBuf,
        /// How so.
        rejection: Rejection,
    },
    /// A root that cannot be used.
    #[error("{}: {error}; chains that end in it are refused", path.display())]
    UnusableRoot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ProfileError,
    },
    /// A root that is not valid now.
    #[error("{}: {rejection}; chains that end in it are refused meanwhile", path.display())]
    RootNotValidNow {
        /// The file.
        path: PathBuf,
        /// How so.
        rejection: Rejection,
    },
}

impl LoadWarning {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::GroupReadableKey { path, .. } => format!("chmod 600 {}", path.display()),
            Self::NotValidNow { rejection, .. } | Self::RootNotValidNow { rejection, .. } => {
                rejection.hint().to_owned()
            }
            Self::UnusableRoot { .. } => format!("remove that root from {TRUST_FILE} or replace it"),
        }
    }
}

impl Identity {
    /// Takes a chain (leaf first) and its key as the identity of `node` in `mesh`. Dates are not judged.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        node: &NodeName,
        mesh: &MeshName,
    ) -> Result<Self, IdentityError> {
        let der = chain.first().cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()));
        let leaf = Certificate::parse(Place::Leaf, &der).map_err(|f| ProfileError::unreadable(Place::Leaf, f))?;
        let which = leaf.which();
        let flawed = |flaw| ProfileError { which: which.clone(), flaw };
        profile::check_certificate(&leaf, None).map_err(flawed)?;
        let (found_mesh, found_node) = profile::identity_of(&leaf).map_err(flawed)?;
        if found_mesh != *mesh || found_node != *node {
            return Err(IdentityError::Name { which, found_node, found_mesh, node: node.clone(), mesh: mesh.clone() });
        }
        let key = PROVIDER.key_provider.load_private_key(key).map_err(|_| IdentityError::Key)?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| IdentityError::KeyMismatch(which.clone()))?;
        Ok(Self {
            node: found_node,
            mesh: found_mesh,
            key: Arc::new(key),
            issuer: leaf.issuer(),
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            spki_sha256: leaf.id().spki_sha256().to_owned(),
            which,
        })
    }

    /// Reads `node.pem` and `node.key` in `dir` as the identity of `node` in `mesh`. A certificate that is not valid at
    /// `now` is loaded with a warning, since renewal starts from it.
    ///
    /// # Errors
    /// [`LoadError`]: what, where, why, and with [`LoadError::hint`] what to do.
    pub fn load(
        dir: &Path,
        node: &NodeName,
        mesh: &MeshName,
        now: OffsetDateTime,
    ) -> Result<(Self, Vec<LoadWarning>), LoadError> {
        let certificate_path = dir.join(CERTIFICATE_FILE);
        let key_path = dir.join(KEY_FILE);
        let chain = certificates(&certificate_path)?;
        let (text, mode) = file::read(&key_path, Readers::OwnerAndGroup)?;
        let key = private_key(&key_path, &text)?;
        let identity = Self::new(chain, key, node, mesh).map_err(|error| {
            let path = match error {
                IdentityError::Key | IdentityError::KeyMismatch(_) => key_path.clone(),
                IdentityError::Profile(_) | IdentityError::Name { .. } => certificate_path.clone(),
            };
            LoadError::Identity { path, error: Box::new(error) }
        })?;
        let mut warnings = Vec::new();
        if mode & 0o070 != 0 {
            warnings.push(LoadWarning::GroupReadableKey { path: key_path, mode });
        }
        if let Err(rejection) = identity.valid_at(now) {
            warnings.push(LoadWarning::NotValidNow { path: certificate_path, rejection });
        }
        Ok((identity, warnings))
    }

    /// Whether the certificate is valid at `now`.
    ///
    /// # Errors
    /// [`Rejection::Expired`] or [`Rejection::NotYetValid`], as peers will say.
    pub fn valid_at(&self, now: OffsetDateTime) -> Result<(), Rejection> {
        super::chain::check_dates(&self.which, self.not_before, self.not_after, now)
    }

    /// Whether peers with this trust bundle would accept the chain, in both roles.
    ///
    /// # Errors
    /// The [`Rejection`] that they would come to.
    pub fn check_against(&self, trust: &Trust, now: OffsetDateTime) -> Result<(), Rejection> {
        for purpose in [profile::Purpose::Server, profile::Purpose::Client] {
            super::chain::verify_chain(&self.key.cert, trust, purpose, now, super::chain::Limits::PEER)?;
        }
        Ok(())
    }

    /// This host's node name.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// This host's mesh.
    pub fn mesh(&self) -> &MeshName {
        &self.mesh
    }

    /// The certificate's serial in lower-case hexadecimal.
    pub fn serial(&self) -> &str {
        &self.which.serial
    }

    /// The name of its issuer, for people.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where its validity begins.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Where its validity ends.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// SHA-256 of the public key (DER SubjectPublicKeyInfo).
    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }

    /// The same in lower-case hexadecimal, for people.
    pub fn fingerprint(&self) -> String {
        hex(&self.spki_sha256)
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl Trust {
    /// Reads `trust.pem` in `dir`. Roots that cannot be used, or not now, are warned about.
    ///
    /// # Errors
    /// [`LoadError`], also if no root can be used at any time.
    pub fn load(dir: &Path, now: OffsetDateTime) -> Result<(Self, Vec<LoadWarning>), LoadError> {
        let path = dir.join(TRUST_FILE);
        let trust = Self::new(certificates(&path)?);
        let flaws = trust.flaws();
        if trust.usable().next().is_none()
            && let Some(error) = flaws.into_iter().next()
        {
            return Err(LoadError::NoRoot { path, error });
        }
        let unusable = trust.flaws().into_iter().map(|error| LoadWarning::UnusableRoot { path: path.clone(), error });
        let dated = trust.usable().filter_map(|root| {
            let rejection = super::chain::check_dates(&root.which, root.not_before, root.not_after, now).err()?;
            Some(LoadWarning::RootNotValidNow { path: path.clone(), rejection })
        });
        let warnings = unusable.chain(dated).collect();
        Ok((trust, warnings))
    }
}

const TRUNCATED: &str = "its PEM is cut off: a BEGIN line has no END line";

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let (text, _) = file::read(path, Readers::Anyone)?;
    let pem = |why, hint| LoadError::Pem { path: path.to_owned(), why, hint };
    let again = "put the PEM file there again, whole: \"-----BEGIN CERTIFICATE-----\", base64, the END line";
    if text.is_empty() {
        return Err(pem("the file is empty", again));
    }
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|e| match e {
        pem::Error::MissingSectionEnd { .. } => pem(TRUNCATED, again),
        _ => pem("its PEM is damaged", again),
    })?;
    if found.is_empty() { Err(pem("it holds no certificate", again)) } else { Ok(found) }
}

fn private_key(path: &Path, text: &Zeroizing<Vec<u8>>) -> Result<PrivateKeyDer<'static>, LoadError> {
    let pem = |why, hint| LoadError::Pem { path: path.to_owned(), why, hint };
    let again = "put the unencrypted PEM key there again, whole, or replace key and certificate: `adit ca issue`";
    if text.is_empty() {
        return Err(pem("the file is empty", again));
    }
    if contains(text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(pem(
            "the private key is encrypted, and an agent that starts by itself has nobody to ask for the passphrase",
            "decrypt it (openssl pkey -in OLD -out node.key) and protect it by file mode 0600",
        ));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|e| match e {
        pem::Error::MissingSectionEnd { .. } => pem(TRUNCATED, again),
        pem::Error::NoItemsFound => pem("it holds no private key", again),
        _ => pem("its PEM is damaged", again),
    })
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
