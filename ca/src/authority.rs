//! The authority itself: made, opened, asked to issue.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_config::{MeshName, NodeName};
use rcgen::{Certificate, CertificateParams, Issuer};
use time::OffsetDateTime;

use crate::atomic;
use crate::certificate::CaCertificate;
use crate::csr::PublicKey;
use crate::disk;
use crate::error::Error;
use crate::index::Index;
use crate::key::{PrivateKey, Signer, Warning};
use crate::lock::Lock;
use crate::profile::{self, Window};
use crate::record::{Event, Record, State};
use crate::serial::Serial;
use crate::staging::Staging;

const ROOT_KEY: &str = "root.key";
const ROOT: &str = "root.pem";
const INTERMEDIATE_KEY: &str = "intermediate.key";
const INTERMEDIATE: &str = "intermediate.pem";

/// A mesh's certificate authority, kept in a directory of its own.
///
/// Several processes may have the same one open: who issues holds a lock while doing so, and sees what others issued.
pub struct Authority {
    dir: PathBuf,
    root: CaCertificate,
    intermediate: CaCertificate,
    signer: Option<Box<dyn Signer>>,
    index: Index,
    warnings: Vec<Warning>,
}

/// A certificate as it was just issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The node's certificate and the intermediate's, in PEM, leaf first.
    pub chain_pem: String,
    /// Its serial number.
    pub serial: Serial,
    /// The first second of its life.
    pub not_before: OffsetDateTime,
    /// The last second of its life.
    pub not_after: OffsetDateTime,
    /// The subject of the intermediate that signed it.
    pub issuer: String,
}

impl Authority {
    /// Makes a root, an intermediate and an empty index in `dir`, which must not be there yet or be empty. The
    /// directory appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] if something is in `dir`, [`Error::Io`], [`Error::Crypto`].
    pub fn create(dir: &Path, mesh: &MeshName, now: OffsetDateTime) -> Result<Self, Error> {
        let above = atomic::parent(dir);
        Staging::recover(above)?;
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                return Err(Error::Exists(dir.to_owned()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(Error::io("replace", dir))?,
        }
        let staging = Staging::begin(above)?;
        let name = dir.file_name().and_then(|n| n.to_str()).ok_or_else(|| Error::Exists(dir.to_owned()))?;
        let prepared = staging.path().join(name);
        prepare(&prepared, mesh, now)?;
        staging.commit(name)?;
        Self::open(dir)
    }

    /// Opens the authority in `dir`, checks all its files, and removes what an interrupted change left there.
    ///
    /// The root's and the intermediate's keys may be absent; without the latter nothing can be issued.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Exposed`], [`Error::Damaged`], [`Error::BadKey`], [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Staging::recover(atomic::parent(dir))?;
        if !dir.join(ROOT).exists() && !dir.join(INTERMEDIATE).exists() {
            return Err(Error::Absent(dir.to_owned()));
        }
        let root = CaCertificate::load(&dir.join(ROOT))?;
        if !root.signed_by(&root) {
            return Err(Error::damaged(&dir.join(ROOT), "its signature does not hold"));
        }
        let intermediate = CaCertificate::load(&dir.join(INTERMEDIATE))?;
        if !intermediate.signed_by(&root) || intermediate.mesh != root.mesh {
            return Err(Error::damaged(&dir.join(INTERMEDIATE), "the root did not sign it"));
        }
        let mut warnings = Vec::new();
        // The root's key is only looked at, and forgotten again.
        load_key(&dir.join(ROOT_KEY), &root, &mut warnings)?;
        let signer = load_key(&dir.join(INTERMEDIATE_KEY), &intermediate, &mut warnings)?;
        let mut index = Index::open(dir)?;
        if let Some(_lock) = writable(dir)? {
            atomic::sweep(dir)?;
            index.refresh()?;
            if index.lacks_head() {
                index.write_head()?;
                warnings.push(Warning::HeadRebuilt(index.head_path().to_owned()));
            }
        }
        let signer = signer.map(|key| Box::new(key) as Box<dyn Signer>);
        Ok(Self { dir: dir.to_owned(), root, intermediate, signer, index, warnings })
    }

    /// Signs with `signer` from now on, for an intermediate's key that is not in a file.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it is not the key of this authority's intermediate.
    pub fn with_signer(mut self, signer: Box<dyn Signer>) -> Result<Self, Error> {
        if PublicKey::from_spki(&signer.subject_public_key_info()).ok().as_ref() != Some(&self.intermediate.key) {
            return Err(Error::BadKey(self.dir.join(INTERMEDIATE_KEY)));
        }
        self.signer = Some(signer);
        Ok(self)
    }

    /// Certifies that `key` belongs to `node`, for `validity` ([`profile::LEAF_LIFE`] if not given) from `now`, but
    /// never longer than the intermediate lives. It is recorded, on the disk, before it is given out.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::IssuerExpired`], [`Error::ClockBehind`], [`Error::NoValidity`], [`Error::Locked`],
    /// [`Error::Damaged`], [`Error::Io`], [`Error::Crypto`].
    pub fn issue(
        &mut self,
        node: &NodeName,
        key: &PublicKey,
        validity: Option<Duration>,
        now: OffsetDateTime,
    ) -> Result<Issued, Error> {
        self.certify(
            Source::Intermediate,
            node,
            key,
            validity.map_or(profile::LEAF_LIFE, life),
            now,
            |mesh, serial, window| profile::leaf(mesh, node, serial, window),
        )
    }

    /// Signs what `params` says, and records it on the disk before it is given out.
    pub(crate) fn certify(
        &mut self,
        source: Source<'_>,
        name: &NodeName,
        key: &PublicKey,
        life: time::Duration,
        now: OffsetDateTime,
        params: impl FnOnce(&MeshName, Serial, Window) -> Result<CertificateParams, Error>,
    ) -> Result<Issued, Error> {
        let (by, signer): (&CaCertificate, &dyn Signer) = match source {
            Source::Root(key) => (&self.root, key),
            Source::Intermediate => {
                let absent = || Error::NoKey(self.dir.join(INTERMEDIATE_KEY));
                (&self.intermediate, self.signer.as_deref().ok_or_else(absent)?)
            }
        };
        let window = window(by, life, now)?;
        let _lock = Lock::acquire(&self.dir)?;
        atomic::sweep(&self.dir)?;
        self.index.refresh()?;
        let serial = loop {
            let serial = Serial::random()?;
            if !self.index.contains(serial) {
                break serial;
            }
        };
        let issuer = Issuer::from_ca_cert_der(&by.der, signer).map_err(Error::Encode)?;
        let params = params(&self.root.mesh, serial, window)?;
        let publisher = !params.custom_extensions.is_empty();
        let certificate = params.signed_by(key, &issuer).map_err(Error::Encode)?;
        self.index.append(Event::Issued(Record {
            serial,
            node: name.clone(),
            publisher,
            not_before: window.not_before,
            not_after: window.not_after,
            issuer: by.subject.clone(),
            revoked: None,
            der: certificate.der().to_vec(),
        }))?;
        let above = if let Source::Root(_) = source { "" } else { &by.pem };
        Ok(Issued {
            chain_pem: certificate.pem() + above,
            serial,
            not_before: window.not_before,
            not_after: window.not_after,
            issuer: by.subject.clone(),
        })
    }

    /// The root's key, read for one signature; nothing if it is not on this host.
    pub(crate) fn root_key(&self) -> Result<Option<PrivateKey>, Error> {
        load_key(&self.root_key_path(), &self.root, &mut Vec::new())
    }

    pub(crate) fn root_key_path(&self) -> PathBuf {
        self.dir.join(ROOT_KEY)
    }

    /// All certificates issued, oldest first, as of the last reading: [`Authority::open`] or [`Authority::issue`].
    pub fn records(&self) -> &[Record] {
        self.index.records()
    }

    /// The same, each with its state at `now`.
    pub fn list(&self, now: OffsetDateTime) -> Vec<(&Record, State)> {
        self.records().iter().map(|record| (record, record.state(now))).collect()
    }

    /// What others have to trust: the root's certificate, in PEM.
    pub fn trust_pem(&self) -> &str {
        &self.root.pem
    }

    /// The certificate that signs those of nodes, in PEM.
    pub fn intermediate_pem(&self) -> &str {
        &self.intermediate.pem
    }

    /// The mesh that it certifies for.
    pub fn mesh(&self) -> &MeshName {
        &self.root.mesh
    }

    /// Where it is kept.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the root's key is on this host.
    pub fn holds_root_key(&self) -> bool {
        self.dir.join(ROOT_KEY).exists()
    }

    /// The last second of the intermediate's life.
    pub fn not_after(&self) -> OffsetDateTime {
        self.intermediate.window.not_after
    }

    /// What was found on opening that a person should know.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("dir", &self.dir).field("mesh", &self.root.mesh).finish_non_exhaustive()
    }
}

/// Which certificate signs.
#[derive(Clone, Copy)]
pub(crate) enum Source<'k> {
    Root(&'k PrivateKey),
    Intermediate,
}

/// A length of time as certificates reckon it.
pub(crate) fn life(validity: Duration) -> time::Duration {
    time::Duration::try_from(validity).unwrap_or(time::Duration::MAX)
}

fn window(by: &CaCertificate, life: time::Duration, now: OffsetDateTime) -> Result<Window, Error> {
    let issuer = by.window;
    if now < issuer.not_before {
        return Err(Error::ClockBehind { now, begins: issuer.not_before });
    }
    if now > issuer.not_after {
        return Err(Error::IssuerExpired(issuer.not_after));
    }
    if life < time::Duration::SECOND {
        return Err(Error::NoValidity);
    }
    Ok(Window::new(now, life).within(issuer))
}

/// The lock, if nobody has it and the directory can be written; reading needs neither.
fn writable(dir: &Path) -> Result<Option<Lock>, Error> {
    match Lock::attempt(dir) {
        Err(Error::Io { source, .. })
            if matches!(
                source.kind(),
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(None)
        }
        attempt => attempt,
    }
}

/// Reads a CA's key if it is there.
fn load_key(path: &Path, of: &CaCertificate, warnings: &mut Vec<Warning>) -> Result<Option<PrivateKey>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let (key, warning) = PrivateKey::load(path)?;
    if key.public_key() != of.key {
        return Err(Error::damaged(path, "it is not the key of the certificate beside it"));
    }
    warnings.extend(warning);
    Ok(Some(key))
}

/// Writes a whole authority into a directory that nobody reads yet.
fn prepare(dir: &Path, mesh: &MeshName, now: OffsetDateTime) -> Result<(), Error> {
    disk::make_dir(dir, atomic::DIRECTORY).map_err(Error::io("create", dir))?;
    let (root_key, key) = (PrivateKey::generate()?, PrivateKey::generate()?);
    let window = Window::new(now, profile::ROOT_LIFE);
    let params = profile::root(mesh, &root_key, Serial::random()?, window);
    let root = params.self_signed(&root_key).map_err(Error::Encode)?;
    let issuer = Issuer::from_params(&params, &root_key);
    let window = Window::new(now, profile::INTERMEDIATE_LIFE).within(window);
    let params = profile::intermediate(mesh, &key, Serial::random()?, window);
    let intermediate = params.signed_by(&key, &issuer).map_err(Error::Encode)?;

    let certificate = |name, c: &Certificate| atomic::write_new(&dir.join(name), c.pem().as_bytes(), atomic::PUBLIC);
    let secret = |name, key: &PrivateKey| atomic::write_new(&dir.join(name), key.to_pem()?.as_bytes(), atomic::SECRET);
    secret(ROOT_KEY, &root_key)?;
    secret(INTERMEDIATE_KEY, &key)?;
    certificate(ROOT, &root)?;
    certificate(INTERMEDIATE, &intermediate)?;
    Index::create(dir)?;
    disk::sync_dir(dir).map_err(Error::io("write", dir))
}
