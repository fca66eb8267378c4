//! The task that applies one change after the other.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::{NodeName, ServiceName};
use time::OffsetDateTime;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use super::answer;
use super::documents::{Beside, Documents, Fingerprints, From, MESH_FILE, config_error, signed_file};
use super::files::Files;
use super::listeners::Listeners;
use super::plan::{Cut, LiveConnection, Plan, Running, cuts, cuts_of_removed, links};
use super::ports::Ports;
use super::reload::{Next, Part, Refused};
use super::state::State;
use crate::admin::backend::{Failure, FailureKind};
use crate::admin::view::{Reload, ReloadRequest, ServiceState};
use crate::agent_file::AgentFile;
use crate::distribution::Signed;
use crate::host::{Host, Phase};
use crate::logging::audit;
use crate::peers::registry::Peers;
use crate::reason::Reason;
use crate::services::live::with_audit;
use crate::snapshot::Snapshot;
use crate::source::{Heard, MeshSource as _};

/// How often the files are read again because they changed meanwhile, and the pause before that.
const READINGS: usize = 50;
const AGAIN: Duration = Duration::from_millis(50);
/// Requests that wait for their turn.
const ASKS: usize = 16;

/// What the agent starts with.
pub struct Start {
    /// The directory.
    pub dir: PathBuf,
    /// The agent file in force.
    pub file: AgentFile,
    /// What the files were before they were read.
    pub seen: Fingerprints,
    /// When that was.
    pub applied_at: OffsetDateTime,
    /// What an operator should know although the agent starts.
    pub warnings: Vec<String>,
    /// The agent's own ports.
    pub ports: Ports,
    /// The signed document that is to be in force, if there is one.
    pub signed: Signed,
}

/// Asks the [`Reloader`].
#[derive(Debug, Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    state: watch::Receiver<State>,
}

/// A request for a reload.
#[derive(Debug)]
struct Ask {
    request: ReloadRequest,
    answer: oneshot::Sender<Result<Reload, Failure>>,
}

impl Handle {
    /// How what runs stands to what the directory says.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Has the directory read and what changed applied; with `dry_run` only says what would be done.
    ///
    /// # Errors
    /// What does not hold, or that the agent is stopping.
    pub async fn reload(&self, request: ReloadRequest) -> Result<Reload, Failure> {
        let (answer, told) = oneshot::channel();
        let stopping = |_| Failure::new(FailureKind::Unavailable, "draining", "the agent is stopping");
        self.asks.send(Ask { request, answer }).await.map_err(|_| stopping(()))?;
        told.await.map_err(|_| stopping(()))?
    }
}

/// Owns the listeners, and brings into force what the directory says.
pub struct Reloader {
    dir: PathBuf,
    host: Arc<Host>,
    peers: Arc<Peers>,
    listeners: Listeners,
    /// The agent file as far as it is in force.
    agent: AgentFile,
    ports: Ports,
    state: watch::Sender<State>,
    asks: mpsc::Receiver<Ask>,
    files: Files,
    signed: Signed,
}

/// What came of a reading of the directory.
struct Outcome {
    next: Next,
    plan: Plan,
    before: Arc<Snapshot>,
    after: Arc<Snapshot>,
}

impl Reloader {
    /// Opens the listeners of all services that this node reaches.
    pub async fn start(start: Start, host: Arc<Host>, peers: Arc<Peers>) -> (Self, Handle) {
        let snapshot = host.snapshot.load_full();
        let mut listeners = Listeners::new(host.clone(), peers.clone());
        let plan = Plan::between(&snapshot.mesh, &snapshot.mesh, snapshot.me(), &Running::default());
        let bound = listeners.bind(&plan);
        listeners.apply(&plan, bound).await;
        let services = listeners.describe(&snapshot);
        for service in services.iter().filter(|service| service.state == ServiceState::Unsupported) {
            tell_unsupported(&service.name, service.error.as_deref());
        }
        let Start { dir, file, seen, applied_at, warnings, ports, signed } = start;
        let state = State { applied_at, refused: None, services, warnings };
        let (state, shown) = watch::channel(state);
        let (sender, asks) = mpsc::channel(ASKS);
        let files = Files::new(dir.clone(), seen);
        let this = Self { dir, host, peers, listeners, agent: file, ports, state, asks, files, signed };
        (this, Handle { asks: sender, state: shown })
    }

    /// Runs until the agent drains; then gives the listeners, whose connections may end in their own time, and the ports, which
    /// end with the agent.
    pub async fn run(mut self, mut hangup: Signal) -> (JoinSet<()>, Ports) {
        let host = self.host.clone();
        let draining = host.reached(Phase::Draining);
        tokio::pin!(draining);
        tokio::select! {
            () = &mut draining => {}
            () = self.serve(&mut hangup) => {}
        }
        (self.listeners.into_tasks(), self.ports)
    }

    async fn serve(&mut self, hangup: &mut Signal) {
        if self.signed.borrow().is_some() {
            // The mesh file may have been edited, or be behind, while no agent ran.
            self.reload(&ReloadRequest::default()).await.ok();
        }
        loop {
            let (retry, port_retry) = (self.listeners.next_retry(), self.ports.next_retry());
            tokio::select! {
                biased;
                // First, so that whoever asks finds out who is writing.
                Ok(Heard::Document(())) = self.files.next() => {
                    // What came of it has been told where operators look.
                    self.reload(&ReloadRequest::default()).await.ok();
                }
                Some(Ask { request, answer }) = self.asks.recv() => {
                    let told = if self.files.is_writing() { Err(unsettled(&self.dir)) } else { self.reload(&request).await };
                    // Whoever asked may have gone.
                    answer.send(told).ok();
                }
                Some(()) = hangup.recv() => {
                    tracing::info!("SIGHUP: reading the files again");
                    // Half a file is not taken: what is being written is read when its writer is done.
                    if !self.files.is_writing() {
                        self.reload(&ReloadRequest::default()).await.ok();
                    }
                }
                // The sender lives as long as the agent does not drain.
                Ok(()) = self.signed.changed() => {
                    self.reload(&ReloadRequest::default()).await.ok();
                }
                () = at(retry) => {
                    if self.listeners.retry() {
                        self.publish_services();
                    }
                }
                () = at(port_retry) => self.ports.reconcile(self.agent.listen.as_deref()),
                () = self.listeners.ended() => {}
                () = self.ports.ended() => {}
            }
        }
    }

    /// A reading of the files during which they did not change.
    async fn read(&self, mesh: Option<&Path>) -> Option<Documents> {
        let another = mesh.is_some();
        for _ in 0..READINGS {
            let (dir, snapshot, now) = (self.dir.clone(), self.host.snapshot.load_full(), self.host.clock.now());
            let mesh = mesh.map_or_else(|| dir.join(MESH_FILE), Path::to_owned);
            let signed = self.signed.borrow().clone().filter(|_| !another);
            let read = move || {
                let from = match &signed {
                    Some(signed) => From::Signed(signed, snapshot.mesh.digest()),
                    None => From::File(&mesh),
                };
                Documents::read(&dir, from, snapshot.me(), snapshot.mesh.name(), now)
            };
            if let Some(documents) = spawn_blocking(read).await.ok().flatten() {
                return Some(documents);
            }
            sleep(AGAIN).await;
        }
        None
    }

    async fn reload(&mut self, request: &ReloadRequest) -> Result<Reload, Failure> {
        let dry_run = request.dry_run;
        let Some(mut documents) = self.read(request.file.as_deref()).await else {
            return Err(unsettled(&self.dir));
        };
        let before = self.host.snapshot.load_full();
        if dry_run && request.file.is_some() && before.mesh.signed() {
            documents = documents.into_published(&before.mesh);
        }
        let seen = documents.seen.clone();
        let behind = documents.beside == Some(Beside::Behind);
        let next = Next::judge(documents, &before, &self.agent);
        let after = Arc::new(next.snapshot(&before));
        let running = Running { listeners: self.listeners.running(), connections: self.connections() };
        let plan = Plan::between(&before.mesh, &after.mesh, before.me(), &running);
        let mut outcome = Outcome { next, plan, before, after };
        if !dry_run {
            self.files.judged_as(seen);
            self.apply(&mut outcome).await;
            // What somebody is writing there is his.
            if behind && !self.files.is_writing() {
                self.follow().await;
            }
        }
        let Outcome { next, plan, before, after } = &outcome;
        if next.refused.is_empty() {
            let failed = if dry_run { Vec::new() } else { answer::failed(self.listeners.failed()) };
            Ok(answer::reload(dry_run, next, plan, (before, after), failed, &self.host.table.all()))
        } else {
            Err(answer::refused(next))
        }
    }

    /// Has the mesh file, which nobody has edited, say what the signed document says: for people, and for a start without it.
    async fn follow(&self) {
        let Some(signed) = self.signed.borrow().clone() else { return };
        let path = self.dir.join(MESH_FILE);
        let writing = spawn_blocking(move || {
            // A link is somebody's arrangement: what it leads to is not ours.
            let mode = match path.symlink_metadata() {
                Ok(found) if !found.is_file() => return Ok(()),
                Ok(found) => found.permissions().mode() & 0o777,
                Err(_) => ca::atomic::PUBLIC,
            };
            ca::atomic::write(&path, signed.document.text().as_bytes(), mode)
        });
        if let Ok(Err(error)) = writing.await {
            tracing::warn!("mesh.toml does not say what is in force: {error}");
        }
    }

    /// Brings into force what changed: new listeners are bound first, then all else follows the snapshot.
    async fn apply(&mut self, outcome: &mut Outcome) {
        let Outcome { next, plan, before, after } = outcome;
        if next.changes() {
            let bound = self.listeners.bind(plan);
            self.host.snapshot.store(after.clone());
            self.host.table.limit(after.settings.limits.connections);
            self.ports.limit(&after.settings.limits);
            let connections = self.connections();
            let removed = self.removed(after);
            plan.cut = cuts(&before.mesh, &after.mesh, &connections);
            plan.cut.extend(cuts_of_removed(&removed, &connections, &plan.cut));
            self.cut(&plan.cut, after);
            self.listeners.apply(plan, bound).await;
            // Who goes by a key that is good for nothing leaves, and may come again with another.
            plan.unlink.extend(removed.iter().cloned());
            let back = links(&after.mesh, after.me());
            plan.link.extend(removed.into_iter().filter(|node| back.contains(node)));
            self.peers.reconcile(&plan.link, &plan.unlink).await;
            let is_gone = |service: &&ServiceName| !after.mesh.services().contains_key(*service);
            before.mesh.services().keys().filter(is_gone).for_each(|service| self.host.metrics.forget_service(service));
            self.agent = next.agent.clone();
            self.ports.reconcile(self.agent.listen.as_deref());
        }
        self.tell(outcome);
        self.publish(outcome);
    }

    /// The connections that are live now.
    fn connections(&self) -> Vec<LiveConnection> {
        let all = self.host.table.all();
        let live = all.iter().map(|c| LiveConnection {
            id: c.id,
            service: c.service.clone(),
            from: c.from.clone(),
            to: c.to.get(),
        });
        live.collect()
    }

    /// The peers whose links were made with keys of nodes that have been taken out of the mesh.
    fn removed(&self, after: &Snapshot) -> BTreeSet<NodeName> {
        let all = self.peers.all().into_iter();
        let by_key = all.filter(|peer| peer.status().key.is_some_and(|key| after.is_removed(&key)));
        by_key.map(|peer| peer.name().clone()).collect()
    }

    fn cut(&self, cuts: &[Cut], after: &Snapshot) {
        let all = self.host.table.all();
        for cut in cuts {
            let Some(connection) = all.iter().find(|c| c.id == cut.connection.id) else { continue };
            let version = after.mesh.version().number();
            with_audit(connection, |c| audit::connection_cut(c, cut.rule.as_deref(), &cut.because, version));
            connection.cut(Reason::PermitWithdrawn);
        }
    }

    /// Tells log, audit and metrics what came of it.
    fn tell(&self, outcome: &Outcome) {
        let Outcome { next, plan, before, after } = outcome;
        let source = match self.signed.borrow().is_some() {
            true => signed_file(&self.dir),
            false => self.dir.join(MESH_FILE).display().to_string(),
        };
        let old = before.mesh.version().number();
        if next.mesh.is_some() {
            let version = after.mesh.version().number();
            self.host.metrics.mesh_version(version);
            self.host.metrics.mesh_reload(true);
            audit::mesh_reload(&source, Some(old), Some(version), None);
            tracing::info!(
                opened = plan.open.len(),
                closed = plan.close.len(),
                linked = plan.link.len(),
                unlinked = plan.unlink.len(),
                cut = plan.cut.len(),
                "mesh version {old} → {version} is in force"
            );
        }
        if next.identity.is_some() {
            let identity = after.tls.identity();
            self.host.metrics.certificate_expires(identity.not_after());
            let old = before.tls.identity().serial();
            audit::cert_renew(after.me(), &identity.serial(), &old, &identity.not_after());
            tracing::info!(serial = identity.serial(), "another certificate is in force for new handshakes");
        }
        if next.removed.is_some() {
            let nodes: BTreeSet<_> =
                after.removed.sorted().iter().map(|tombstone| tombstone.node.to_string()).collect();
            let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
            tracing::info!(keys = after.removed.len(), "the keys of nodes that were taken out are refused: {nodes}");
        }
        if next.trust.is_some() {
            tracing::info!("other accepted roots are in force for new handshakes");
        }
        if !next.applied.is_empty() {
            tracing::info!(keys = next.applied.join(", "), "the agent file is in force");
        }
        self.host.metrics.config_refused(next.refused.iter().filter_map(Refused::shown).collect());
        for refused in &next.refused {
            let text = refused.text();
            tracing::error!("not applied, and what was in force stays: {text}");
            if refused.part == Part::Mesh {
                self.host.metrics.mesh_reload(false);
                audit::mesh_reload(&source, Some(old), refused.mesh.map(|(version, _)| version), Some(&text));
            }
        }
        if next.mesh.is_none() && !next.refused.iter().any(|refused| refused.part == Part::Mesh) {
            self.host.metrics.mesh_is_in_force();
        }
        for warning in &next.warnings {
            if !self.state.borrow().warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
    }

    /// Tells `status` what came of it.
    fn publish(&self, Outcome { next, after, .. }: &Outcome) {
        let services = self.listeners.describe(after);
        let refused_mesh = |refused: &&Refused| refused.part == Part::Mesh;
        let refused = next
            .refused
            .iter()
            .find(refused_mesh)
            .and_then(|refused| Some((refused.mesh?.1, config_error(refused.problems.first()?))));
        let mut warnings = next.warnings.clone();
        warnings.extend(self.ports.error().map(|error| format!("{error}; the ports of before stay open")));
        let others = next.refused.iter().filter(|refused| !refused_mesh(refused));
        warnings.extend(others.map(|refused| format!("not applied, what was in force stays: {}", refused.text())));
        let now = self.host.clock.now();
        self.state.send_modify(|state| {
            for service in services.iter().filter(|service| service.state == ServiceState::Unsupported) {
                if !state.services.contains(service) {
                    tell_unsupported(&service.name, service.error.as_deref());
                }
            }
            if next.mesh.is_some() {
                state.applied_at = now;
            }
            (state.services, state.refused, state.warnings) = (services, refused, warnings);
        });
    }

    fn publish_services(&self) {
        let services = self.listeners.describe(&self.host.snapshot.load());
        self.state.send_modify(|state| state.services = services);
    }
}

fn unsettled(dir: &Path) -> Failure {
    let text = format!("somebody is writing into the files in {}", dir.display());
    Failure::new(FailureKind::Unavailable, "unsettled", text).with_hint("try again when they rest")
}

fn tell_unsupported(service: &str, why: Option<&str>) {
    tracing::error!(service, "service `{service}`: {}", why.unwrap_or_default());
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
