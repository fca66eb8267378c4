//! What the files of the directory say now, each for itself.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_config::published::Tombstones;
use mesh_config::{Digest, Editor, Mesh, MeshName, MeshVersion, NodeName, Problem, Severity, read_text};
use time::OffsetDateTime;

use crate::admin::view::ConfigError;
use crate::agent_file::AgentFile;
use crate::distribution::InForce;
use crate::distribution::store::{IN_FORCE, STATE};
use crate::identity::{CERTIFICATE_FILE, Identity, KEY_FILE, LoadError, LoadWarning, TRUST_FILE, Trust};
use crate::transport::sealing::Sealing;

/// The mesh file in the directory.
pub const MESH_FILE: &str = "mesh.toml";
/// The agent file in the directory.
pub const AGENT_FILE: &str = "agent.toml";

/// One reading of the directory.
pub(super) struct Documents {
    /// What problems call the mesh file.
    pub(super) file: String,
    /// Its text, if it could be read.
    pub(super) text: Option<String>,
    /// The mesh document.
    pub(super) mesh: Result<Arc<Mesh>, Vec<Problem>>,
    /// It is asked about for what it would change once it is published, as a signed mesh changes.
    pub(super) to_publish: bool,
    /// What the mesh file in the directory says beside the signed document that is to be in force, if there is one.
    pub(super) beside: Option<Beside>,
    /// The agent file.
    pub(super) agent: Result<AgentFile, Vec<Problem>>,
    /// Key and certificate.
    pub(super) identity: Result<Arc<Identity>, Problem>,
    /// The accepted roots.
    pub(super) trust: Result<Arc<Trust>, Problem>,
    /// The keys of nodes that were taken out of the mesh, where signed documents say so.
    pub(super) removed: Option<Arc<Tombstones>>,
    /// What an operator should know although they hold.
    pub(super) warnings: Vec<String>,
    /// What the files were when they were read.
    pub(super) seen: Fingerprints,
}

/// Where the mesh document comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum From<'a> {
    /// A mesh file.
    File(&'a Path),
    /// A signed document. The digest is that of the mesh that runs.
    Signed(&'a InForce, Digest),
}

/// A mesh file beside a signed document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Beside {
    /// It says the same.
    Same,
    /// It is not there, or says what was in force before: it is to follow the signed document.
    Behind,
    /// Somebody has edited it.
    Edited {
        /// What problems call it.
        file: String,
        /// What it says.
        text: String,
        /// Why it does not check.
        problems: Vec<Problem>,
    },
}

impl Beside {
    fn of(path: &Path, signed: &InForce, running: Digest, warnings: &mut Vec<String>) -> Self {
        let text = match read_text(path) {
            Ok(text) => text,
            Err(_) if path.symlink_metadata().is_err() => return Self::Behind,
            Err(problem) => {
                warnings.push(told(&problem));
                return Self::Same;
            }
        };
        let digest = Digest::of(text.as_bytes());
        if digest == signed.document.header().document() {
            Self::Same
        } else if digest == running || signed.had.contains(&digest) {
            Self::Behind
        } else {
            let file = path.display().to_string();
            let problems = Mesh::check(&text, &file).err().unwrap_or_default();
            Self::Edited { file, text, problems }
        }
    }
}

impl Documents {
    /// Reads the directory of `node` in `mesh`, whose mesh document comes `from` there. Nothing if a file changes meanwhile.
    pub(super) fn read(
        dir: &Path,
        from: From<'_>,
        node: &NodeName,
        mesh: &MeshName,
        now: OffsetDateTime,
    ) -> Option<Self> {
        let seen = Fingerprints::of(dir);
        let mut warnings = Vec::new();
        let agent = AgentFile::load(&dir.join(AGENT_FILE)).map(|(file, problems)| {
            warnings.extend(problems.iter().map(told));
            warnings.extend(file.congestion.missing());
            warnings.extend(Sealing::choose(file.record_layer).1);
            file
        });
        let (file, text, document, beside) = match from {
            From::File(path) => {
                let file = path.display().to_string();
                let text = read_text(path).map_err(|problem| vec![*problem]);
                let document = text.as_ref().map_err(Clone::clone).and_then(|text| Mesh::check(text, &file));
                let document = document.map(|checked| {
                    warnings.extend(checked.warnings.iter().map(told));
                    Arc::new(checked.mesh)
                });
                (file, text, document, None)
            }
            From::Signed(signed, running) => {
                let beside = Beside::of(&dir.join(MESH_FILE), signed, running, &mut warnings);
                let (text, mesh) = (signed.document.text().to_owned(), signed.document.mesh().clone());
                (signed_file(dir), Ok(text), Ok(mesh), Some(beside))
            }
        };
        let trust = Trust::load(dir, now).map(|(trust, found)| {
            warnings.extend(found.iter().map(told_of_load));
            Arc::new(trust)
        });
        let identity = Identity::load(dir, node, mesh, now).map(|(identity, found)| {
            warnings.extend(found.iter().map(told_of_load));
            Arc::new(identity)
        });
        if let (Ok(identity), Ok(trust)) = (&identity, &trust) {
            warnings.extend(refused_by_peers(dir, identity, trust, now));
        }
        let problem = |error: LoadError| of_load(dir, &error);
        let removed = match from {
            From::File(_) => None,
            From::Signed(signed, _) => Some(signed.removed.clone()),
        };
        let read = Self {
            file,
            text: text.ok(),
            mesh: document,
            to_publish: false,
            beside,
            agent,
            identity: identity.map_err(problem),
            trust: trust.map_err(problem),
            removed,
            warnings,
            seen,
        };
        (Fingerprints::of(dir) == read.seen).then_some(read)
    }

    /// The same where the mesh document is one that `adit publish` would be given while `running` is in force: with the version
    /// that it would get, the next one at least, and signed.
    pub(super) fn into_published(mut self, running: &Mesh) -> Self {
        self.to_publish = true;
        let (Some(text), Ok(mesh)) = (&self.text, &self.mesh) else { return self };
        if mesh.digest() == running.digest() {
            return self;
        }
        let next = MeshVersion::new(running.version().number().saturating_add(1)).unwrap_or(running.version());
        let edited = Editor::new(text).and_then(|editor| editor.signed(next.max(mesh.version())));
        self.mesh = match edited {
            Ok(text) => Mesh::check(&text, &self.file).map(|checked| Arc::new(checked.mesh)),
            Err(fault) => Err(vec![Problem::with_file(Severity::Error, &self.file, fault.message)]),
        };
        self
    }
}

/// The file of the signed document that is in force.
pub fn signed_file(dir: &Path) -> String {
    dir.join(STATE).join(IN_FORCE).display().to_string()
}

/// A problem in one line.
pub fn told(problem: &Problem) -> String {
    format!("{}:{}: {}", problem.file, problem.line, problem.message)
}

/// A warning about key, certificate or roots, with what to do.
pub fn told_of_load(warning: &LoadWarning) -> String {
    format!("{warning}: {}", warning.hint())
}

/// Whether peers with this host's roots would refuse its certificate. While roots are exchanged this may be so for a time, and
/// the peers may know the new one already: no reason to stay away.
pub fn refused_by_peers(dir: &Path, identity: &Identity, trust: &Trust, now: OffsetDateTime) -> Option<String> {
    let rejection = identity.check_against(trust, now).err()?;
    identity.valid_at(now).ok()?;
    let path = dir.join(CERTIFICATE_FILE);
    Some(format!("{}: peers with this host's trust.pem would refuse this certificate: {rejection}", path.display()))
}

/// Why key, certificate or roots cannot be used, as a problem of the file that it is about.
fn of_load(dir: &Path, error: &LoadError) -> Problem {
    let text = error.to_string();
    let about = [CERTIFICATE_FILE, KEY_FILE, TRUST_FILE].iter().find_map(|file| {
        let file = dir.join(file).display().to_string();
        text.strip_prefix(&file)?.strip_prefix(": ").map(|rest| (file.clone(), rest))
    });
    let (file, message) = about.unwrap_or_else(|| (dir.display().to_string(), &text));
    Problem::with_file(Severity::Error, &file, message).hint(error.hint())
}

/// A problem as `status` tells it.
pub fn config_error(problem: &Problem) -> ConfigError {
    ConfigError {
        file: problem.file.clone(),
        line: u32::try_from(problem.line).ok().filter(|line| *line > 0),
        column: u32::try_from(problem.column).ok().filter(|column| *column > 0),
        message: problem.message.clone(),
    }
}

/// The files that are watched.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    [MESH_FILE, AGENT_FILE, CERTIFICATE_FILE, KEY_FILE, TRUST_FILE].iter().map(|name| dir.join(name)).collect()
}

/// By what a change of the files is seen without reading them: device, inode, length, and when contents and inode were changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprints(Vec<Option<Fingerprint>>);

type Fingerprint = (u64, u64, u64, [i64; 4]);

impl Fingerprints {
    /// As they are now.
    pub fn of(dir: &Path) -> Self {
        let of = |path: PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
            Some((found.dev(), found.ino(), found.len(), times))
        };
        Self(files(dir).into_iter().map(of).collect())
    }
}
