//! What is taken of a reading of the directory, and what is refused: pure.

use std::sync::Arc;

use mesh_config::document::{Document, Problems, Source};
use mesh_config::published::Tombstones;
use mesh_config::{Digest, Mesh, Problem, Severity, Succession, VersionRefused, version_follows};

use super::documents::{AGENT_FILE, Beside, Documents};
use crate::admin::backend::FailureKind;
use crate::agent_file::AgentFile;
use crate::identity::{Identity, Trust};
use crate::metrics::RefusedPart;
use crate::snapshot::{Epochs, Settings, Snapshot};

const OTHER_MESH: &str = "a mesh keeps its name: it is part of every certificate";
const NOT_A_MEMBER: &str = "to take this host out of the mesh, stop its agent";
const EDIT_REFUSED: &str =
    "publish it, `adit publish FILE`, or take the edit back: `adit mesh show` prints what is in force";

fn not_a_member(running: &Snapshot) -> String {
    format!("the mesh would have no node `{}`, which this host is", running.me())
}

fn edit_refused(mesh: &Mesh) -> String {
    format!("the mesh is signed, so an edit on one host is not taken: version {} stays in force", mesh.version())
}

/// A part of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The mesh document.
    Mesh,
    /// The agent file.
    Agent,
    /// Key and certificate.
    Identity,
    /// The accepted roots.
    Trust,
}

impl Part {
    /// Its name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Agent => "agent",
            Self::Identity => "identity",
            Self::Trust => "trust",
        }
    }
}

/// A part that does not take the place of what is in force.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refused {
    pub(super) part: Part,
    pub(super) kind: FailureKind,
    /// A stable name for machines.
    pub(super) code: &'static str,
    /// All that is wrong: one at least.
    pub(super) problems: Vec<Problem>,
    /// The mesh document's, if it is one.
    pub(super) mesh: Option<(u64, Digest)>,
}

impl Refused {
    /// As metrics show it: where its first problem stands.
    pub(super) fn shown(&self) -> Option<RefusedPart> {
        let first = self.problems.iter().find(|problem| problem.is_error())?;
        let Problem { file, line, column, .. } = first.clone();
        Some(RefusedPart { part: self.part.name(), code: self.code, file, line, column })
    }

    /// All that is wrong, a line each, with its place.
    pub(super) fn text(&self) -> String {
        let errors = self.problems.iter().filter(|p| p.is_error());
        let told: Vec<_> = errors
            .map(|p| match p.line {
                0 => format!("{}: {}", p.file, p.message),
                _ => format!("{}:{}:{}: {}", p.file, p.line, p.column, p.message),
            })
            .collect();
        told.join("\n")
    }
}

/// The parts that are to come into force, each if it is another.
pub(super) struct Next {
    pub(super) mesh: Option<Arc<Mesh>>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) trust: Option<Arc<Trust>>,
    pub(super) settings: Option<Settings>,
    /// The keys of nodes that were taken out of the mesh.
    pub(super) removed: Option<Arc<Tombstones>>,
    /// The agent file, as far as it can be in force.
    pub(super) agent: AgentFile,
    /// Keys of the agent file that come into force.
    pub(super) applied: Vec<&'static str>,
    /// Keys of the agent file that wait for a restart.
    pub(super) needs_restart: Vec<&'static str>,
    pub(super) refused: Vec<Refused>,
    pub(super) warnings: Vec<String>,
}

impl Next {
    /// What of `documents` takes the place of what is in force.
    pub(super) fn judge(documents: Documents, running: &Snapshot, agent: &AgentFile) -> Self {
        let mut next = Self {
            mesh: None,
            identity: None,
            trust: None,
            settings: None,
            removed: documents.removed.filter(|removed| *removed != running.removed),
            agent: agent.clone(),
            applied: Vec::new(),
            needs_restart: Vec::new(),
            refused: Vec::new(),
            warnings: documents.warnings,
        };
        match documents.mesh {
            Ok(mesh) if documents.beside.is_some() => next.judge_signed(mesh, &documents.file, running),
            Ok(mesh) => {
                let text = documents.text.as_deref().unwrap_or_default();
                next.judge_mesh(mesh, (text, &documents.file), documents.to_publish, running);
            }
            Err(problems) => next.refuse(Part::Mesh, "document", problems),
        }
        if let Some(Beside::Edited { file, text, problems }) = documents.beside {
            next.refuse_edit(&file, &text, problems, running);
        }
        match documents.agent {
            Ok(file) => next.judge_agent(file, running),
            Err(problems) => next.refuse(Part::Agent, "document", problems),
        }
        match documents.identity {
            Ok(identity) if is_same(&identity, running.tls.identity()) => {}
            Ok(identity) => next.identity = Some(identity),
            Err(problem) => next.refuse(Part::Identity, "identity", vec![problem]),
        }
        match documents.trust {
            Ok(trust) if trust.certificates() == running.tls.judge().trust.certificates() => {}
            Ok(trust) => next.trust = Some(trust),
            Err(problem) => next.refuse(Part::Trust, "trust", vec![problem]),
        }
        next
    }

    /// One `to_publish` only says what it would change: in a signed mesh, too.
    fn judge_mesh(&mut self, mesh: Arc<Mesh>, (text, file): (&str, &str), to_publish: bool, running: &Snapshot) {
        let refuse = |kind, code, key, message: String, hint: &str| Refused {
            part: Part::Mesh,
            kind,
            code,
            problems: vec![place_of(text, file, key, &message).hint(hint)],
            mesh: Some((mesh.version().number(), mesh.digest())),
        };
        let refused = match version_follows(&running.mesh, &mesh) {
            Ok(Succession::Same) => return,
            Err(why @ VersionRefused::Lower { .. }) => {
                let hint = "versions only ever grow: raise it, or restart the agent to go back on purpose";
                refuse(FailureKind::Refused, "version_refused", "version", why.to_string(), hint)
            }
            Err(why @ VersionRefused::OtherMesh { .. }) => {
                refuse(FailureKind::Refused, "other_mesh", "name", why.to_string(), OTHER_MESH)
            }
            Ok(_) if running.mesh.signed() && !to_publish => {
                let message = edit_refused(&running.mesh);
                refuse(FailureKind::Refused, "mesh_is_signed", "version", message, EDIT_REFUSED)
            }
            Ok(_) if mesh.node(running.me().as_str()).is_none() => {
                let (message, hint) = (not_a_member(running), NOT_A_MEMBER);
                refuse(FailureKind::Usage, "not_a_member", "name", message, hint)
            }
            Ok(succession) => {
                if succession == Succession::ChangedWithoutVersion {
                    let version = mesh.version();
                    self.warnings.push(format!(
                        "{file}: its content has changed and its version has not: on other hosts version {version} may say \
                         something else; raise it"
                    ));
                }
                self.mesh = Some(mesh);
                return;
            }
        };
        self.refused.push(refused);
    }

    /// A signed document takes the place of what runs whatever the versions: it is the greatest that is known.
    fn judge_signed(&mut self, mesh: Arc<Mesh>, file: &str, running: &Snapshot) {
        if mesh.digest() == running.mesh.digest() {
            return;
        }
        let place = Some((mesh.version().number(), mesh.digest()));
        let refused = if mesh.name() != running.mesh.name() {
            let (new, running) = (mesh.name().clone(), running.mesh.name().clone());
            Some(("other_mesh", VersionRefused::OtherMesh { running, new }.to_string(), OTHER_MESH))
        } else if mesh.node(running.me().as_str()).is_none() {
            Some(("not_a_member", not_a_member(running), NOT_A_MEMBER))
        } else {
            None
        };
        let Some((code, message, hint)) = refused else {
            self.mesh = Some(mesh);
            return;
        };
        let problems = vec![Problem::with_file(Severity::Error, file, message).hint(hint)];
        self.refused.push(Refused { part: Part::Mesh, kind: FailureKind::Refused, code, problems, mesh: place });
    }

    /// The mesh file was edited on this host, where only signed documents change the mesh.
    fn refuse_edit(&mut self, file: &str, text: &str, mut problems: Vec<Problem>, running: &Snapshot) {
        let mesh = self.mesh.as_ref().unwrap_or(&running.mesh);
        // What is wrong with it comes first: it has to be mended before it can be published.
        problems.retain(Problem::is_error);
        let (kind, code) = match problems.is_empty() {
            true => (FailureKind::Refused, "mesh_is_signed"),
            false => (FailureKind::Usage, "document"),
        };
        problems.push(place_of(text, file, "version", &edit_refused(mesh)).hint(EDIT_REFUSED));
        let place = Some((mesh.version().number(), Digest::of(text.as_bytes())));
        self.refused.push(Refused { part: Part::Mesh, kind, code, problems, mesh: place });
    }

    fn judge_agent(&mut self, file: AgentFile, running: &Snapshot) {
        let old = self.agent.clone();
        let keys = [
            ("node", file.node != old.node),
            ("admin_socket", file.admin_socket != old.admin_socket),
            ("metrics", file.metrics != old.metrics),
            ("threads", file.threads != old.threads),
            ("source", file.sources != old.sources),
            ("log.format", file.log.format != old.log.format),
            ("log.level", file.log.level != old.log.level),
            ("limits.pending_connections", file.limits.pending_connections != old.limits.pending_connections),
        ];
        self.needs_restart = keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        if !self.needs_restart.is_empty() {
            self.warnings.push(format!(
                "{AGENT_FILE}: restart the agent to bring into force: {}",
                self.needs_restart.join(", ")
            ));
        }
        let mut limits = file.limits;
        limits.pending_connections = old.limits.pending_connections;
        let (is, was) = (&limits, &old.limits);
        let keys = [
            ("listen", file.listen != old.listen),
            ("record_layer", file.record_layer != old.record_layer),
            ("congestion", file.congestion != old.congestion),
            ("limits.connect", is.connect != was.connect),
            ("limits.handshake", is.handshake != was.handshake),
            ("limits.idle", is.idle != was.idle),
            ("limits.half_closed", is.half_closed != was.half_closed),
            ("limits.keepalive", is.keepalive != was.keepalive),
            ("limits.drain", is.drain != was.drain),
            ("limits.connections", is.connections != was.connections),
            ("limits.handshakes_in_flight", is.handshakes_in_flight != was.handshakes_in_flight),
            (
                "limits.handshakes_in_flight_per_source",
                is.handshakes_in_flight_per_source != was.handshakes_in_flight_per_source,
            ),
            ("limits.lanes_per_peer", is.lanes_per_peer != was.lanes_per_peer),
            ("limits.lanes_warm", is.lanes_warm != was.lanes_warm),
        ];
        self.applied = keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        let AgentFile { listen, record_layer, congestion, .. } = file;
        self.agent = AgentFile { listen, limits, record_layer, congestion, ..old };
        let settings = Settings::from(&self.agent);
        self.settings = (settings != running.settings).then_some(settings);
    }

    fn refuse(&mut self, part: Part, code: &'static str, problems: Vec<Problem>) {
        self.refused.push(Refused { part, kind: FailureKind::Usage, code, problems, mesh: None });
    }

    /// Whether anything comes into force.
    pub(super) fn changes(&self) -> bool {
        self.mesh.is_some()
            || self.identity.is_some()
            || self.trust.is_some()
            || self.removed.is_some()
            || !self.applied.is_empty()
    }

    /// What is in force after it.
    pub(super) fn snapshot(&self, running: &Snapshot) -> Snapshot {
        let Epochs { mesh, identity, trust } = running.epochs;
        let epochs = Epochs {
            mesh: mesh + u64::from(self.mesh.is_some()),
            identity: identity + u64::from(self.identity.is_some()),
            trust: trust + u64::from(self.trust.is_some()),
        };
        Snapshot::new(
            self.mesh.clone().unwrap_or_else(|| running.mesh.clone()),
            self.identity.clone().unwrap_or_else(|| running.tls.identity().clone()),
            self.trust.clone().unwrap_or_else(|| running.tls.judge().trust.clone()),
            running.tls.clock(),
            epochs,
            self.settings.clone().unwrap_or_else(|| running.settings.clone()),
            self.removed.clone().unwrap_or_else(|| running.removed.clone()),
        )
    }
}

fn is_same(one: &Identity, other: &Identity) -> bool {
    one.spki_sha256() == other.spki_sha256() && one.certified_key().cert == other.certified_key().cert
}

/// A problem at the place of a key of `[mesh]`.
fn place_of(text: &str, file: &str, key: &'static str, message: &str) -> Problem {
    let source = Source::new(file, text);
    let mut ignored = Problems::new(&source);
    let document = Document::parse(&source, &mut ignored);
    let mut mesh = document.root().table("mesh", &mut ignored);
    let span = mesh.as_mut().and_then(|mesh| match key {
        "version" => mesh.integer(key, i64::MIN..=i64::MAX, &mut ignored).map(|found| found.span),
        _ => mesh.string(key, &mut ignored).map(|found| found.span),
    });
    match span {
        Some(span) => source.problem(Severity::Error, &span, message),
        None => Problem::with_file(Severity::Error, file, message),
    }
}

#[cfg(test)]
mod tests;
