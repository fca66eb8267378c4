//! From a directory to what an agent starts with: every file read and checked before anything listens.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_config::Problem;
use time::OffsetDateTime;

use crate::admin::socket::BindError;
use crate::agent_file::AgentFile;
use crate::clock::{Clock, ClockError};
use crate::distribution::store::{Had, StoreError};
use crate::identity::{Identity, LoadError, Trust};
use crate::reconcile::PortError;
use crate::reconcile::documents::{
    AGENT_FILE, Fingerprints, MESH_FILE, refused_by_peers, signed_file, told, told_of_load,
};
use crate::snapshot::{Epochs, Settings, Snapshot};
use crate::transport::message::Incarnation;
use crate::transport::sealing::Sealing;

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such directory.
    #[error("{} is not a directory", .0.display())]
    NoDirectory(PathBuf),
    /// A document does not check. All problems at once.
    #[error("the documents do not check")]
    Documents(Vec<Problem>),
    /// Key, certificate or trust bundle cannot be used.
    #[error(transparent)]
    Identity(#[from] LoadError),
    /// The mesh does not have this node.
    #[error("{}: the mesh `{mesh}` has no node `{node}`, which {} says this host is", .mesh_file.display(), .agent_file.display())]
    NotAMember {
        /// This host.
        node: String,
        /// The mesh.
        mesh: String,
        /// The mesh file.
        mesh_file: PathBuf,
        /// The agent file.
        agent_file: PathBuf,
    },
    /// The port for peers cannot be listened on.
    #[error(transparent)]
    Port(#[from] PortError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {what}: {source}")]
    Bind {
        /// What for.
        what: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A socket of this agent is not what it was.
    #[error("cannot use a socket of this agent: {0}")]
    Socket(#[source] io::Error),
    /// The admin socket cannot be opened.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// Another agent runs with this directory.
    #[error("another agent{} runs with {}", .pid.map(|p| format!(" (pid {p})")).unwrap_or_default(), .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other agent.
        pid: Option<u32>,
    },
    /// The state folder cannot be used.
    #[error("cannot use {}: {source}", .path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The signed mesh document of this host cannot be used.
    #[error(transparent)]
    Signed(#[from] StoreError),
    /// What is kept of signed documents cannot be written.
    #[error(transparent)]
    Kept(ca::Error),
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// What shifts the clock cannot be used.
    #[error(transparent)]
    Clock(#[from] ClockError),
}

/// What an agent starts with.
pub struct Plan {
    /// The agent file.
    pub file: AgentFile,
    /// Mesh, identity, trust.
    pub snapshot: Snapshot,
    /// Wall time.
    pub clock: Clock,
    /// What an operator should know although the agent starts.
    pub warnings: Vec<String>,
    /// What the files were before they were read.
    pub seen: Fingerprints,
    /// When they were read.
    pub read_at: OffsetDateTime,
    /// The signed documents of this host.
    pub had: Had,
}

/// Reads everything in `dir`.
///
/// # Errors
/// What does not hold, all problems of the documents at once.
pub fn plan(dir: &Path) -> Result<Plan, StartError> {
    if !dir.is_dir() {
        return Err(StartError::NoDirectory(dir.to_owned()));
    }
    let clock = Clock::from_environment()?;
    let now = clock.now();
    // Before they are read: what changes meanwhile is found to be other.
    let seen = Fingerprints::of(dir);
    let (agent_path, mesh_path) = (dir.join(AGENT_FILE), dir.join(MESH_FILE));
    let had = had(dir, clock)?;
    let loaded = match &had.in_force {
        // The mesh file is looked at once the agent runs: it does not decide.
        Some(signed) => Ok((signed.mesh().clone(), Vec::new())),
        None => mesh_config::load(&mesh_path).map(|checked| (Arc::new(checked.mesh), checked.warnings)),
    };
    let (file, (mesh, mesh_problems)) = match (AgentFile::load(&agent_path), loaded) {
        (Ok(file), Ok(mesh)) => (file, mesh),
        (file, mesh) => {
            let problems = file.err().into_iter().chain(mesh.err()).flatten().collect();
            return Err(StartError::Documents(problems));
        }
    };
    let (file, agent_problems) = file;
    let mut warnings: Vec<_> = agent_problems.iter().chain(&mesh_problems).map(told).collect();
    if had.in_force.is_none() && (mesh.signed() || had.floor.is_some()) {
        warnings.push(format!(
            "{}: the mesh is signed, and no signed document is here yet: this file serves until one comes",
            mesh_path.display()
        ));
    }
    warnings.extend(file.congestion.missing());
    warnings.extend(Sealing::choose(file.record_layer).1);
    if mesh.node(file.node.as_str()).is_none() {
        return Err(StartError::NotAMember {
            node: file.node.to_string(),
            mesh: mesh.name().to_string(),
            mesh_file: if had.in_force.is_some() { signed_file(dir).into() } else { mesh_path },
            agent_file: agent_path,
        });
    }
    let (trust, trust_warnings) = Trust::load(dir, now)?;
    let (identity, identity_warnings) = Identity::load(dir, &file.node, mesh.name(), now)?;
    warnings.extend(trust_warnings.iter().map(told_of_load));
    warnings.extend(identity_warnings.iter().map(told_of_load));
    warnings.extend(refused_by_peers(dir, &identity, &trust, now));
    let (identity, trust) = (Arc::new(identity), Arc::new(trust));
    let removed = Arc::new(had.heads().tombstones().clone());
    let snapshot = Snapshot::new(mesh, identity, trust, clock, Epochs::FIRST, Settings::from(&file), removed);
    Ok(Plan { file, snapshot, clock, warnings, seen, read_at: now, had })
}

/// What this host has had of signed documents: nothing where there never was one, whatever else is there.
fn had(dir: &Path, clock: Clock) -> Result<Had, StartError> {
    if !Had::is_there(dir) {
        return Ok(Had::default());
    }
    let now = clock.now();
    let (trust, _) = Trust::load(dir, now)?;
    Ok(Had::read(dir, &trust, None, now)?)
}

/// A number for this run of the agent.
pub(super) fn incarnation() -> Incarnation {
    let mut bytes = [0; 8];
    // Without randomness the time still tells runs apart.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        let ticks = Clock::default().now().unix_timestamp_nanos().unsigned_abs();
        bytes.copy_from_slice(&ticks.to_be_bytes()[8..]);
    }
    Incarnation(u64::from_be_bytes(bytes))
}
