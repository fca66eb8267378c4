//! An agent that lives in memory: what the tests of the API and of the commands ask.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_config::{NodeName, ServiceName};
use time::macros::datetime;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::backend::{Backend, Failure, FailureKind};
use super::client::Client;
use super::server::{Limits, serve};
use super::socket::AdminSocket;
use super::view::*;
use crate::refusals::Layer;

/// A directory that goes away with the test.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("adit-{name}-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers from fixed values.
pub(crate) struct FakeAgent {
    pub(crate) status: Status,
    /// Whether the mesh file on disk is refused.
    pub(crate) refuses: bool,
    /// Calls of `follow`, `ping` and `bench` that run now.
    pub(crate) running: Arc<AtomicUsize>,
    /// `follow` sends a connection for each permit that is added.
    pub(crate) events: Arc<Semaphore>,
}

impl Default for FakeAgent {
    fn default() -> Self {
        Self { status: status(), refuses: false, running: Arc::default(), events: Arc::new(Semaphore::new(0)) }
    }
}

/// Counts a call as running while it lives.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn start(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend for FakeAgent {
    async fn status(&self) -> Result<Status, Failure> {
        Ok(self.status.clone())
    }

    async fn connections(&self) -> Result<Vec<Connection>, Failure> {
        Ok(vec![connection(1), Connection { state: ConnectionState::HalfClosed, client: None, ..connection(2) }])
    }

    async fn follow(&self, out: mpsc::Sender<Connection>) -> Result<(), Failure> {
        let _running = Running::start(&self.running);
        for id in 1.. {
            let Ok(permit) = self.events.acquire().await else { return Err(Failure::lagged()) };
            permit.forget();
            if out.send(connection(id)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn explain(&self, from: NodeName, service: ServiceName) -> Result<Explain, Failure> {
        if service.as_str() != "postgres" {
            return Err(Failure::unknown_service(&service));
        }
        let step = |check: &str, ok, detail: &str| Step { check: check.into(), ok, detail: detail.into() };
        let mut steps = vec![
            step("service", true, "postgres is offered by alpha"),
            step("listener", true, "127.0.0.1:15432 on beta"),
        ];
        if from.as_str() == "beta" {
            steps.push(step("permit", true, "allow = [\"@clients\"] lets beta in"));
            return Ok(Explain { allowed: true, because: "@clients includes beta".into(), steps, hint: None });
        }
        steps.push(step("permit", false, "no entry of `allow` names gamma\n\u{1b}[31m"));
        Ok(Explain {
            allowed: false,
            because: "no `allow` of the service names this node".into(),
            steps,
            hint: Some("adit service allow postgres gamma".into()),
        })
    }

    async fn reload(&self, request: ReloadRequest) -> Result<Reload, Failure> {
        if self.refuses {
            let text = "mesh.toml:2:8: the version is lower";
            return Err(Failure::new(FailureKind::Refused, "version_refused", text).with_hint("raise it"));
        }
        Ok(Reload { dry_run: request.dry_run, ..reload() })
    }

    async fn ping(&self, node: NodeName, count: u32, out: mpsc::Sender<Probe>) -> Result<(), Failure> {
        let _running = Running::start(&self.running);
        if node.as_str() == "nobody" {
            return Err(Failure::unknown_node(&node));
        }
        for seq in 1..=count {
            let ok = node.as_str() == "beta" && seq != 2;
            let probe = Probe {
                seq,
                ok,
                rtt: ok.then(|| f64::from(seq) / 1000.0),
                path: ok.then_some(Path::Lane),
                error: (!ok).then(|| "silent: no answer within 1 s".into()),
            };
            if out.send(probe).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn bench(&self, node: NodeName, options: BenchOptions) -> Result<Bench, Failure> {
        let _running = Running::start(&self.running);
        match node.as_str() {
            "beta" => Ok(Bench {
                gbit_per_s: 9.5,
                bytes: 11_875_000_000,
                seconds: options.seconds,
                path: Path::Lane,
                connections_per_s: 23_300.0,
                rtt: Percentiles { p50: Some(0.000_2), p99: Some(0.001_5) },
            }),
            "slow" => std::future::pending().await,
            _ => Err(Failure::new(FailureKind::Unavailable, "no_link", format!("no link to {node}: refused"))),
        }
    }

    async fn drain(&self, request: DrainRequest, out: mpsc::Sender<Draining>) -> Result<(), Failure> {
        let left = request.timeout.unwrap_or(30.0);
        let state = |connections, seconds| Draining {
            state: DrainState::Draining,
            connections,
            seconds,
            left: left - seconds,
            cut: Vec::new(),
        };
        let (state_of_last, cut) = match request.timeout {
            Some(0.0) => (DrainState::Drained, vec![connection(7)]),
            // It goes away before the end.
            Some(1.0) => (DrainState::Draining, Vec::new()),
            _ => (DrainState::Drained, Vec::new()),
        };
        let last = Draining { state: state_of_last, left: 0.0, cut, ..state(0, 2.25) };
        for state in [state(2, 0.0), state(1, 1.5), last] {
            out.send(state).await.ok();
        }
        Ok(())
    }

    async fn publish(&self, document: Vec<u8>) -> Result<Publication, Failure> {
        if document.is_empty() {
            return Err(Failure::new(FailureKind::Refused, "forged", "its signature is not its signer's"));
        }
        Ok(Publication { generation: 1, version: 13, id: "ab".repeat(32), digest: "cd".repeat(32) })
    }

    fn metrics(&self) -> String {
        crate::metrics::Metrics::new().text()
    }
}

pub(crate) fn connection(id: u64) -> Connection {
    Connection {
        id,
        trace: format!("{id:032x}"),
        service: "postgres".into(),
        from: "beta".into(),
        to: "alpha".into(),
        client: Some("127.0.0.1:40000".into()),
        path: Some(Path::Lane),
        opened: datetime!(2026-01-31 12:00 UTC).into(),
        bytes_in: 1_500_000,
        bytes_out: 900,
        state: ConnectionState::Open,
        reason: None,
    }
}

pub(crate) fn status() -> Status {
    let peer = |node: &str, state, error: Option<&str>| Peer {
        node: node.into(),
        state,
        path: (state == PeerState::Up).then_some(Path::Lane),
        via: None,
        rtt: (state == PeerState::Up).then_some(0.000_24),
        skew: (state == PeerState::Up).then_some(-0.012),
        address: Some("10.0.0.1:7443".into()),
        lanes: if state == PeerState::Up { Lanes { idle: 3, busy: 1 } } else { Lanes::default() },
        certificate: Some("0f".repeat(16)),
        mesh_version: (state == PeerState::Up).then_some(12),
        congestion: (state == PeerState::Up).then(|| "cubic".into()),
        error: error.map(Into::into),
    };
    Status {
        node: "beta".into(),
        mesh: "lab".into(),
        version: "0.1.0".into(),
        pid: 4711,
        uptime: 93_784.5,
        state: AgentState::Ready,
        mesh_version: 12,
        mesh_digest: "ab".repeat(32),
        epochs: Epochs { mesh: 2, identity: 1, trust: 1 },
        config: Config {
            source: "/etc/adit/mesh.toml".into(),
            loaded_digest: "ab".repeat(32),
            on_disk_digest: Some("cd".repeat(32)),
            applied_at: datetime!(2026-01-30 09:00 UTC).into(),
            error: Some(ConfigError {
                file: "/etc/adit/mesh.toml".into(),
                line: Some(7),
                column: Some(3),
                message: "unknown key `adress`".into(),
            }),
        },
        sources: vec![Source {
            kind: "etcd".into(),
            place: "https://etcd-1:2379 below /adit/lab/".into(),
            state: "failing".into(),
            since: datetime!(2026-01-30 21:00 UTC).into(),
            answered_at: Some(datetime!(2026-01-30 20:59 UTC).into()),
            mesh_version: Some(12),
            failures: 7,
            error: Some(SourceError {
                reason: "unreachable".into(),
                message: "https://etcd-1:2379 cannot be reached: Connection refused (os error 111)".into(),
                hint: "it is tried again by itself; see whether the server runs, and what is between".into(),
            }),
        }],
        published: None,
        certificate: Some(Certificate {
            not_after: datetime!(2026-02-03 12:00 UTC).into(),
            serial: "0a1b2c".into(),
            issuer: "lab CA alpha".into(),
        }),
        peers: vec![
            peer("alpha", PeerState::Up, None),
            peer("gamma", PeerState::Down, Some("tls: its certificate expired on 2026-01-29\u{1b}[2J")),
        ],
        services: vec![
            Service {
                name: "postgres".into(),
                role: Role::Reach,
                protocol: "tcp".into(),
                listen: Some("127.0.0.1:15432".into()),
                target: None,
                state: ServiceState::Ready,
                connections: 1,
                bytes_in: 0,
                bytes_out: 0,
                on: vec!["alpha".into()],
                error: None,
            },
            Service {
                name: "web".into(),
                role: Role::Offer,
                protocol: "tcp".into(),
                listen: None,
                target: Some("127.0.0.1:8080".into()),
                state: ServiceState::Ready,
                connections: 0,
                bytes_in: 0,
                bytes_out: 0,
                on: vec!["beta".into()],
                error: None,
            },
        ],
        connections: 1,
        refusals: vec![Refusal {
            at: datetime!(2026-01-31 11:59 UTC).into(),
            first: datetime!(2026-01-31 11:00 UTC).into(),
            direction: Direction::In,
            peer: Some("gamma".into()),
            address: Some("10.0.0.3:50000".into()),
            service: Some("web".into()),
            layer: Layer::Permit,
            reason: "not_permitted".into(),
            detail: "`allow` of web does not name gamma".into(),
            count: 42,
        }],
        warnings: vec!["node.key is readable by its group".into()],
    }
}

/// A server over a real socket, its agent, and a client. The server ends with it.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) client: Client,
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) events: Arc<Semaphore>,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Rig {
    pub(crate) fn start(agent: FakeAgent, limits: Limits) -> Self {
        let dir = TempDir::new("admin");
        let socket = AdminSocket::bind(&dir.0.join("adit.sock")).unwrap();
        let client = Client::new(socket.path());
        let (running, events) = (Arc::clone(&agent.running), Arc::clone(&agent.events));
        let (stop, stopped) = oneshot::channel::<()>();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(socket, Arc::new(agent), limits, async move {
            let _ = stopped.await;
        }));
        Self { dir, client, running, events, stop: Some(stop), tasks }
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(&mut self) {
        self.stop.take();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Waits until so many calls run.
    pub(crate) async fn running(&self, wanted: usize) {
        eventually(|| self.running.load(Ordering::SeqCst) == wanted).await;
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it never came to hold");
}

/// A reload that changes something of everything.
pub(crate) fn reload() -> Reload {
    let listener = |service: &str, port: u16| Listener { service: service.into(), listen: format!("127.0.0.1:{port}") };
    Reload {
        dry_run: false,
        changed: true,
        mesh: MeshChange {
            old_version: 12,
            version: 13,
            old_digest: "0a".repeat(32),
            digest: "0b".repeat(32),
            changes: vec!["version: 12 → 13".into(), "services added: mail".into()],
            signed: false,
        },
        listeners: ListenerChanges {
            opened: vec![listener("mail", 1025)],
            closed: vec![listener("web", 18080)],
            failed: Vec::new(),
        },
        links: LinkChanges { added: vec!["gamma".into()], removed: vec!["delta".into()], moved: vec!["alpha".into()] },
        permits: vec![PermitChange {
            service: "postgres".into(),
            gained: vec!["gamma".into()],
            lost: vec!["delta".into()],
        }],
        connections_cut: vec![CutConnection {
            id: 7,
            trace: "00".repeat(16),
            service: "web".into(),
            from: "beta".into(),
            to: "alpha".into(),
            client: Some("127.0.0.1:40000".into()),
            rule: Some("@clients".into()),
            because: "no `allow` of service `web` names `beta` any more; it was let in by \"@clients\"".into(),
        }],
        certificate: Some(CertificateChange {
            old_serial: "01".into(),
            serial: "02".into(),
            not_after: datetime!(2026-02-07 12:00 UTC).into(),
        }),
        trust: false,
        agent: AgentChange { applied: vec!["limits.idle".into()], needs_restart: vec!["listen".into()] },
        epochs: Epochs { mesh: 2, identity: 2, trust: 1 },
        warnings: vec!["agent.toml: restart the agent to bring into force: listen".into()],
    }
}
