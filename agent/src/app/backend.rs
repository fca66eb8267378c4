//! The live agent as the admin API sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mesh_config::{NodeName, ServiceName};
use time::OffsetDateTime;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::drain::{Drain, Times};
use super::on_disk::{OnDisk, Reader};
use super::{explain, measure, sources};
use crate::admin::backend::{Backend, Failure, FailureKind};
use crate::admin::timestamp::Timestamp;
use crate::admin::view::{
    AgentState, Bench, BenchOptions, Certificate, Config, Connection as ConnectionView, ConnectionState, DrainRequest,
    DrainState, Draining, Epochs, Explain, Fork as ForkView, Lanes, Peer as PeerView, Probe, Publication,
    Published as PublishedView, Refusal as RefusalView, Reload, ReloadRequest, Service as ServiceView, Status,
};
use crate::distribution::{Came, Fork, Handle as Documents, Shown};
use crate::host::{Host, Phase};
use crate::identity::published::Published;
use crate::peers::peer::Peer;
use crate::peers::registry::Peers;
use crate::reason::Reason;
use crate::reconcile::documents::signed_file;
use crate::reconcile::{Handle, State as Reconciled};
use crate::refusals::Entry;
use crate::snapshot::Snapshot;
use crate::sources::Shown as SourceShown;
use crate::table::{Connection, Event, State};
use crate::transport::message::TraceId;
use crate::vocabulary::PeerState;

/// How long one probe of `adit ping` waits.
const PING: Duration = Duration::from_secs(5);
/// How often whoever drains the agent is told how many connections are left, if that has changed.
const DRAIN_LOOK: Duration = Duration::from_millis(200);
/// The pause between two.
const PING_PAUSE: Duration = Duration::from_secs(1);

/// What the admin API asks.
pub struct View {
    pub(super) host: Arc<Host>,
    pub(super) peers: Arc<Peers>,
    reload: Handle,
    pub(super) on_disk: Reader,
    pub(super) documents: Documents,
    pub(super) sources: Vec<watch::Receiver<SourceShown>>,
    drain: Arc<Drain>,
    started: Instant,
}

impl View {
    pub(super) fn new(
        host: Arc<Host>,
        peers: Arc<Peers>,
        reload: Handle,
        (on_disk, documents, sources): (Reader, Documents, Vec<watch::Receiver<SourceShown>>),
        drain: Arc<Drain>,
    ) -> Self {
        Self { host, peers, reload, on_disk, documents, sources, drain, started: Instant::now() }
    }

    /// The services of this node as they stand.
    pub fn services(&self) -> Vec<ServiceView> {
        self.reload.state().services
    }

    /// A peer by name.
    pub(super) fn peer(&self, node: &NodeName) -> Result<Arc<Peer>, Failure> {
        let snapshot = self.host.snapshot.load();
        if node == snapshot.me() {
            return Err(Failure::new(FailureKind::Usage, "own_node", format!("`{node}` is this node itself"))
                .with_hint("name another node: `adit status` lists the peers"));
        }
        if snapshot.mesh.node(node.as_str()).is_none() {
            return Err(Failure::unknown_node(node));
        }
        self.peers.peer(node).ok_or_else(|| Failure::new(FailureKind::Unavailable, "draining", "the agent is stopping"))
    }

    /// The document in force against the one on disk.
    async fn config(&self) -> Config {
        let OnDisk { digest, error } = self.on_disk.ask().await;
        let Reconciled { applied_at, refused, .. } = self.reload.state();
        // One that checks may have been refused all the same.
        let refused = refused.filter(|(refused, _)| Some(refused.to_string()) == digest).map(|(_, why)| why);
        let path = self.on_disk.path();
        let signed = self.documents.shown().in_force.is_some();
        // Beside a signed document there need be no mesh file.
        let error = error.filter(|_| !signed || path.symlink_metadata().is_ok());
        let source = match path.parent() {
            Some(dir) if signed => signed_file(dir),
            _ => path.display().to_string(),
        };
        Config {
            source,
            loaded_digest: self.host.snapshot.load().mesh.digest().to_string(),
            on_disk_digest: digest,
            applied_at: Timestamp::from(applied_at),
            error: error.or(refused),
        }
    }
}

impl Backend for View {
    async fn status(&self) -> Result<Status, Failure> {
        let config = self.config().await;
        let snapshot = self.host.snapshot.load_full();
        let identity = snapshot.tls.identity();
        self.host.count_bytes();
        let connections = self.host.table.all();
        let Reconciled { mut services, mut warnings, .. } = self.reload.state();
        for service in &mut services {
            service.connections = connections.iter().filter(|c| c.service.as_str() == service.name).count() as u64;
            if let Ok(name) = service.name.parse() {
                (service.bytes_in, service.bytes_out) = self.host.metrics.service(&name, service.role).bytes();
            }
        }
        let documents = self.documents.shown();
        warnings.extend(document_warnings(&documents, self.host.clock.now()));
        if snapshot.is_removed(identity.spki_sha256()) {
            warnings.push(
                "this node's key is one with which a node was taken out of the mesh, so every peer refuses it: give it a new \
                 key and certificate, `adit ca issue NAME --out DIRECTORY` on the host with the CA, with a directory that is empty, and bring \
                 them here"
                    .to_owned(),
            );
        }
        let sources = self.sources.iter().map(|source| source.borrow().clone());
        warnings.extend(sources.filter_map(|source| sources::warning(&source, &documents)));
        if let Err(rejection) = identity.valid_at(self.host.clock.now()) {
            warnings.push(format!("this node's certificate is not valid now, so no new link comes up: {rejection}"));
        }
        let peers = self.peers.all();
        Ok(Status {
            node: snapshot.me().to_string(),
            mesh: snapshot.mesh.name().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs_f64(),
            state: match *self.host.phase.borrow() {
                Phase::Starting => AgentState::Starting,
                Phase::Ready => AgentState::Ready,
                Phase::Draining | Phase::Cut | Phase::Over => AgentState::Draining,
            },
            mesh_version: snapshot.mesh.version().number(),
            mesh_digest: snapshot.mesh.digest().to_string(),
            epochs: Epochs {
                mesh: snapshot.epochs.mesh,
                identity: snapshot.epochs.identity,
                trust: snapshot.epochs.trust,
            },
            config,
            sources: self.sources.iter().map(|source| sources::view(&source.borrow())).collect(),
            published: documents.in_force.as_ref().map(|document| published_view(document, &documents)),
            certificate: Some(Certificate {
                not_after: Timestamp::from(identity.not_after()),
                serial: identity.serial().to_owned(),
                issuer: identity.issuer().to_owned(),
            }),
            peers: peers.iter().filter(|peer| is_shown(peer, &snapshot)).map(|peer| peer_view(peer)).collect(),
            services,
            connections: connections.len() as u64,
            refusals: self.host.refusals().into_iter().map(refusal_view).collect(),
            warnings,
        })
    }

    async fn connections(&self) -> Result<Vec<ConnectionView>, Failure> {
        Ok(self.host.table.all().iter().map(|c| connection_view(c)).collect())
    }

    async fn follow(&self, out: mpsc::Sender<ConnectionView>) -> Result<(), Failure> {
        let mut events = self.host.table.follow();
        for connection in self.host.table.all() {
            if out.send(connection_view(&connection)).await.is_err() {
                return Ok(());
            }
        }
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = out.closed() => return Ok(()),
            };
            let connection = match event {
                Ok(Event::Opened(connection) | Event::Closed(connection)) => connection,
                Err(RecvError::Lagged(_)) => return Err(Failure::lagged()),
                Err(RecvError::Closed) => return Ok(()),
            };
            if out.send(connection_view(&connection)).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn explain(&self, from: NodeName, service: ServiceName) -> Result<Explain, Failure> {
        explain::explain(self, from, service).await
    }

    async fn ping(&self, node: NodeName, count: u32, out: mpsc::Sender<Probe>) -> Result<(), Failure> {
        let peer = self.peer(&node)?;
        for seq in 1..=count {
            if seq > 1 {
                tokio::time::sleep(PING_PAUSE).await;
            }
            let answer = peer.ping(PING).await;
            let path = peer.status().path;
            let probe = match answer {
                Ok(rtt) => Probe { seq, ok: true, rtt: Some(rtt.as_secs_f64()), path, error: None },
                Err(why) => Probe { seq, ok: false, rtt: None, path, error: Some(why) },
            };
            if out.send(probe).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn bench(&self, node: NodeName, options: BenchOptions) -> Result<Bench, Failure> {
        measure::bench(self, &node, options).await
    }

    async fn reload(&self, request: ReloadRequest) -> Result<Reload, Failure> {
        self.reload.reload(request).await
    }

    async fn drain(&self, request: DrainRequest, out: mpsc::Sender<Draining>) -> Result<(), Failure> {
        // First, so that its end is not missed.
        let mut outcome = self.drain.outcome();
        let limit = request.timeout.map(Duration::from_secs_f64);
        let asked = self.drain.ask(limit, self.host.limits().drain, Instant::now());
        let mut look = tokio::time::interval(DRAIN_LOOK);
        let mut told = None;
        loop {
            let Times { since, until } = self.drain.times().unwrap_or(asked);
            let over = outcome.borrow_and_update().clone();
            let connections = self.host.table.len() as u64;
            if let Some(over) = over {
                let cut = over.cut.iter().map(|c| ConnectionView {
                    state: ConnectionState::Reset,
                    reason: Some(Reason::Draining.name().to_owned()),
                    ..connection_view(c)
                });
                let seconds = since.elapsed().as_secs_f64();
                let last = Draining { state: DrainState::Drained, connections, seconds, left: 0.0, cut: cut.collect() };
                // Whoever asked may have gone.
                out.send(last).await.ok();
                return Ok(());
            }
            if told.replace((connections, until)) != Some((connections, until)) {
                let (seconds, left) = (since.elapsed().as_secs_f64(), until.saturating_duration_since(Instant::now()));
                let left = left.as_secs_f64();
                let now = Draining { state: DrainState::Draining, connections, seconds, left, cut: Vec::new() };
                if out.send(now).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                _ = look.tick() => {}
                // The sender lives as long as the agent.
                Ok(()) = outcome.changed() => {}
            }
        }
    }

    async fn publish(&self, document: Vec<u8>) -> Result<Publication, Failure> {
        let document = self.documents.publish(document.into()).await?;
        // It comes into force by itself; whoever asked wants to know that it has.
        let reloaded = self.reload.reload(ReloadRequest::default()).await;
        let rank = document.rank();
        let applied = self.host.snapshot.load().mesh.digest() == document.header().document();
        let newer = || self.documents.shown().in_force.is_some_and(|in_force| in_force.rank() > rank);
        if !applied && !newer() {
            let why =
                reloaded.err().map_or_else(|| "its files are being written".to_owned(), |failure| failure.message);
            let text = format!("version {} is published, and not in force on this host: {why}", rank.version);
            return Err(Failure::new(FailureKind::Unavailable, "not_in_force", text)
                .with_hint("`adit status` says how it stands; the other nodes get it all the same"));
        }
        Ok(Publication {
            generation: rank.generation.number(),
            version: rank.version.number(),
            id: rank.id.to_string(),
            digest: document.header().document().to_string(),
        })
    }

    fn metrics(&self) -> String {
        self.host.count_bytes();
        self.host.metrics.text()
    }
}

fn published_view(document: &Published, shown: &Shown) -> PublishedView {
    let (rank, header) = (document.rank(), document.header());
    PublishedView {
        generation: rank.generation.number(),
        version: rank.version.number(),
        id: rank.id.to_string(),
        published_at: timestamp(header.published_at()),
        refresh_by: timestamp(header.refresh_by()),
        publisher: document.signer().name.to_string(),
        certificate: document.signer().serial.clone(),
        came: shown.came.as_ref().map(|came| came.name().to_owned()),
        came_from: shown.came.as_ref().and_then(Came::peer).map(ToString::to_string),
        forks: shown
            .forks
            .iter()
            .map(|fork| ForkView {
                generation: fork.rank.generation.number(),
                version: fork.rank.version.number(),
                id: fork.rank.id.to_string(),
                publisher: fork.signer.as_ref().map(ToString::to_string),
            })
            .collect(),
    }
}

fn timestamp(seconds: u64) -> Timestamp {
    let at = i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    Timestamp::from(at.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// What an operator should know of signed documents.
fn document_warnings(shown: &Shown, now: OffsetDateTime) -> Vec<String> {
    let mut warnings: Vec<String> = shown.error.iter().cloned().collect();
    for Fork { rank, signer } in &shown.forks {
        let by = signer.as_ref().map(|name| format!(" by {name}")).unwrap_or_default();
        warnings.push(format!(
            "fork: version {}{by} was published without knowing the one in force, which is as if it had not been: publish \
             again with what was meant by it; `adit mesh log` shows both",
            rank.version
        ));
    }
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    if let Some(document) = shown.in_force.as_ref().filter(|document| document.header().is_overdue(seconds)) {
        let due = timestamp(document.header().refresh_by());
        warnings
            .push(format!("the mesh document should have been published anew by {due}: newer ones may be withheld"));
    }
    warnings
}

/// Whether this node has, or should have, a link with a peer. One that had not yet heard of a change may have dialled in vain.
fn is_shown(peer: &Peer, snapshot: &Snapshot) -> bool {
    peer.status().state != PeerState::Idle || snapshot.links_with(peer.name())
}

fn peer_view(peer: &Peer) -> PeerView {
    let status = peer.status();
    let lanes = peer.lanes();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    PeerView {
        node: peer.name().to_string(),
        state: status.state,
        path: status.path,
        via: None,
        rtt: status.rtt.map(|d| d.as_secs_f64()),
        skew: status.skew.map(|d| d.as_seconds_f64()),
        address: status.address.map(|a| a.to_string()),
        lanes: Lanes { idle: count(lanes.idle), busy: count(lanes.busy) },
        mesh_version: status.mesh_version,
        certificate: status.certificate,
        congestion: peer.congestion(),
        error: status.error,
    }
}

fn connection_view(c: &Connection) -> ConnectionView {
    ConnectionView {
        id: c.id,
        trace: TraceId(c.trace).to_string(),
        service: c.service.to_string(),
        from: c.from.to_string(),
        to: c.to.get().map(|to| to.to_string()).unwrap_or_default(),
        client: c.client.map(|client| client.to_string()),
        path: c.path.get().copied(),
        opened: Timestamp::from(c.opened),
        bytes_in: c.meter.to_app.load(Relaxed),
        bytes_out: c.meter.to_link.load(Relaxed),
        state: match c.state() {
            State::Opening => ConnectionState::Opening,
            State::Open => ConnectionState::Open,
            State::Closed => ConnectionState::Closed,
        },
        reason: None,
    }
}

fn refusal_view(entry: Entry) -> RefusalView {
    RefusalView {
        at: Timestamp::from(entry.last_at),
        first: Timestamp::from(entry.first_at),
        direction: entry.last.direction,
        peer: entry.last.peer.map(|p| p.to_string()),
        address: entry.last.address.map(|a| a.to_string()),
        service: entry.last.service.map(|s| s.to_string()),
        layer: entry.last.layer,
        reason: entry.last.reason.to_owned(),
        detail: entry.last.detail,
        count: entry.count,
    }
}
