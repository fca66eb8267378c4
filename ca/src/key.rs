//! Private keys: making, reading, signing.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use crate::atomic;
use crate::csr::PublicKey;
use crate::error::Error;

/// The largest private key file that is read, in bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Something that signs as a CA: a key in a file, or one that never leaves a token.
///
/// A back-end implements rcgen's [`SigningKey`] (and [`PublicKeyData`], whose algorithm has to be
/// [`PKCS_ECDSA_P256_SHA256`]) and is a `Signer` by that.
pub trait Signer: SigningKey + Send + Sync {}

impl<T: SigningKey + Send + Sync> Signer for T {}

/// An ECDSA P-256 private key in this process' memory. Its `Debug` shows the public half alone; the memory is wiped
/// when it is dropped.
pub struct PrivateKey {
    pair: EcdsaKeyPair,
}

/// A node's private key.
pub type NodeKey = PrivateKey;

impl PrivateKey {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Crypto`] if the system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| Error::Crypto("a key could not be generated"))?;
        Ok(Self { pair })
    }

    /// Takes the first `PRIVATE KEY` (PKCS#8, RFC 5958) of a PEM text; nothing if there is none or it is no sound
    /// P-256 key.
    pub fn from_pem(text: &str) -> Option<Self> {
        let der = crate::pem::decode("PRIVATE KEY", text)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).ok()?;
        Some(Self { pair })
    }

    /// The key as PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`Error::Crypto`] if it cannot be encoded.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        // The document wipes itself.
        let der = self.pair.to_pkcs8v1().map_err(|_| Error::Crypto("a key could not be encoded"))?;
        Ok(crate::pem::encode("PRIVATE KEY", der.as_ref()))
    }

    /// Reads it from a file, with the checks of [`read_secret`].
    ///
    /// # Errors
    /// Those of [`read_secret`], and [`Error::BadKey`].
    pub fn load(path: &Path) -> Result<(Self, Option<Warning>), Error> {
        let (text, warning) = read_secret(path)?;
        let key = Self::from_pem(&text).ok_or_else(|| Error::BadKey(path.to_owned()))?;
        Ok((key, warning))
    }

    /// Writes it to `path`, mode 0600, whole or not at all.
    ///
    /// # Errors
    /// Those of [`atomic::write()`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        atomic::write(path, self.to_pem()?.as_bytes(), atomic::SECRET)
    }

    /// An ECDSA signature with SHA-256 over `message`, as ASN.1 (RFC 3279 §2.2.3).
    ///
    /// # Errors
    /// [`Error::Crypto`] if the system gives no randomness.
    pub fn signature(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed = self.pair.sign(&SystemRandom::new(), message);
        signed.map(|s| s.as_ref().to_vec()).map_err(|_| Error::Crypto("a signature could not be made"))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_pair(&self.pair)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public_key()).finish_non_exhaustive()
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signature(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Something that a person should know, but that stops nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A private key that a group may access, as mounted secrets often are.
    GroupAccess {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The index' head was lost or damaged; the index itself held and the head was taken from it.
    HeadRebuilt(PathBuf),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GroupAccess { path, mode } => {
                write!(f, "{} is a private key that its group can access (mode {mode:04o})", path.display())
            }
            Self::HeadRebuilt(path) => write!(f, "{} was missing or damaged and has been made anew", path.display()),
        }
    }
}

/// Reads a file of secrets: refused if every user of the host can access it, warned about if a group can.
///
/// # Errors
/// [`Error::Exposed`], [`Error::Io`], and [`Error::BadKey`] for what is no text or larger than a key can be.
pub fn read_secret(path: &Path) -> Result<(Zeroizing<String>, Option<Warning>), Error> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() || metadata.len() > MAX_KEY_FILE {
        return Err(Error::BadKey(path.to_owned()));
    }
    if mode & 0o007 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    // One buffer of the whole size: growing it would leave copies behind. One byte more tells a file that grew.
    let room = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(vec![0; room]);
    let mut length = 0;
    while length < room {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
    let text = std::str::from_utf8(&bytes[..length]).map_err(|_| Error::BadKey(path.to_owned()))?;
    let warning = (mode & 0o070 != 0).then(|| Warning::GroupAccess { path: path.to_owned(), mode });
    Ok((Zeroizing::new(text.to_owned()), warning))
}
