//! `adit reload`: what changed, or would.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Epochs, Timestamp};

/// What a reload did, or with `dry_run` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
    /// Whether anything is, or would be, another.
    pub changed: bool,
    /// The mesh document.
    pub mesh: MeshChange,
    /// The listeners of this node's services.
    pub listeners: ListenerChanges,
    /// The links to other nodes.
    pub links: LinkChanges,
    /// Who may reach what, as far as this node has to do with it.
    pub permits: Vec<PermitChange>,
    /// The live connections of this node that are cut because the mesh no longer permits them.
    pub connections_cut: Vec<CutConnection>,
    /// This node's certificate, if it becomes another.
    pub certificate: Option<CertificateChange>,
    /// Whether the accepted roots become others.
    pub trust: bool,
    /// The agent file.
    pub agent: AgentChange,
    /// How often each part of the snapshot has changed, after this.
    pub epochs: Epochs,
    /// What an operator should know although it was applied.
    pub warnings: Vec<String>,
}

/// The mesh document before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshChange {
    /// Its version before.
    pub old_version: u64,
    /// Its version after.
    pub version: u64,
    /// Its digest before, in hex.
    pub old_digest: String,
    /// Its digest after, in hex.
    pub digest: String,
    /// What of it changes, a line each.
    pub changes: Vec<String>,
    /// Whether it changes by `adit publish` alone: the mesh is signed.
    #[serde(default)]
    pub signed: bool,
}

/// Listeners by service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListenerChanges {
    /// Opened.
    pub opened: Vec<Listener>,
    /// Closed.
    pub closed: Vec<Listener>,
    /// Could not be opened; tried again until they can.
    pub failed: Vec<FailedListener>,
}

/// Where a service is listened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The service.
    pub service: String,
    /// The address.
    pub listen: String,
}

/// A listener that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedListener {
    /// The service.
    pub service: String,
    /// The address.
    pub listen: String,
    /// Why.
    pub error: String,
}

/// Links by node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinkChanges {
    /// Nodes to link with from now on.
    pub added: Vec<String>,
    /// Nodes whose links end.
    pub removed: Vec<String>,
    /// Nodes with other addresses: their links stay until the new ones answer.
    pub moved: Vec<String>,
}

/// Who may reach a service from now on, and who no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitChange {
    /// The service.
    pub service: String,
    /// Nodes that may reach it now.
    pub gained: Vec<String>,
    /// Nodes that may not reach it any more.
    pub lost: Vec<String>,
}

/// A live connection that is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutConnection {
    /// Its number on this agent.
    pub id: u64,
    /// The same at both ends: 16 bytes in hex.
    pub trace: String,
    /// The service.
    pub service: String,
    /// The node whose application opened it.
    pub from: String,
    /// The node that offers the service; empty before one is chosen.
    pub to: String,
    /// The application's own address on `from`.
    pub client: Option<String>,
    /// The entry of `allow` that had let it in.
    pub rule: Option<String>,
    /// Why it is no longer permitted.
    pub because: String,
}

/// A certificate in place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateChange {
    /// The serial number before, in hex.
    pub old_serial: String,
    /// The serial number after, in hex.
    pub serial: String,
    /// When the new one expires.
    pub not_after: Timestamp,
}

/// Keys of the agent file that have other values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentChange {
    /// In force from now on.
    pub applied: Vec<String>,
    /// In force after a restart.
    pub needs_restart: Vec<String>,
}

/// What `POST /v1/reload` takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Another mesh file in place of the directory's: the whole path. Only together with `dry_run`.
    #[serde(default)]
    pub file: Option<PathBuf>,
}
