//! The listeners of the services that this node reaches.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::{Protocol, Service, ServiceName};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::plan::{Plan, listeners};
use crate::admin::view::{Service as ServiceView, ServiceState};
use crate::host::Host;
use crate::peers::back_off::BackOff;
use crate::peers::registry::Peers;
use crate::refusals::{Layer, Refusal};
use crate::services::ingress;
use crate::services::unsupported::Unsupported;
use crate::snapshot::Snapshot;
use crate::tcp::Listener;
use crate::transport::listen::listen;
use crate::vocabulary::{Direction, Role};

/// The pause before a listener that could not be opened is tried again: the first, doubled up to the second.
const RETRY: BackOff = BackOff::new(Duration::from_millis(250), Duration::from_secs(5));
/// How long a listener may take to hear that it is to stop.
const STOPS: Duration = Duration::from_secs(1);

/// One that accepts.
struct Open {
    address: SocketAddr,
    listener: Arc<Listener>,
    stop: oneshot::Sender<oneshot::Sender<()>>,
}

/// One that could not be opened.
struct Failed {
    address: SocketAddr,
    error: String,
    retry: BackOff,
}

/// All of them.
pub(super) struct Listeners {
    host: Arc<Host>,
    peers: Arc<Peers>,
    open: BTreeMap<ServiceName, Open>,
    failed: BTreeMap<ServiceName, Failed>,
    /// Those that accept, and those that let their last connections end.
    tasks: JoinSet<()>,
}

/// Listeners that are bound and do not accept yet.
pub(super) struct Bound(BTreeMap<ServiceName, (SocketAddr, Result<Arc<Listener>, String>)>);

impl Listeners {
    pub(super) fn new(host: Arc<Host>, peers: Arc<Peers>) -> Self {
        Self { host, peers, open: BTreeMap::new(), failed: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Where applications are accepted.
    pub(super) fn running(&self) -> BTreeMap<ServiceName, SocketAddr> {
        self.open.iter().map(|(name, open)| (name.clone(), open.address)).collect()
    }

    /// Those that could not be opened, and why.
    pub(super) fn failed(&self) -> impl Iterator<Item = (&ServiceName, SocketAddr, &str)> {
        self.failed.iter().map(|(name, failed)| (name, failed.address, failed.error.as_str()))
    }

    /// Binds what is to be opened: a socket that one service gives up for another is handed over, so that it is never closed.
    pub(super) fn bind(&self, plan: &Plan) -> Bound {
        let bound = plan.open.iter().map(|(name, &address)| {
            let given_up = plan.close.iter().find(|(_, closed)| **closed == address);
            let listener = match given_up.and_then(|(from, _)| self.open.get(from)) {
                Some(open) => Ok(open.listener.clone()),
                None => listen(address).map(Arc::new).map_err(|error| error.to_string()),
            };
            (name.clone(), (address, listener))
        });
        Bound(bound.collect())
    }

    /// Closes what is to be closed and accepts on what was bound. What could not be bound is tried once more, since its address
    /// may have become free, and again from time to time.
    pub(super) async fn apply(&mut self, plan: &Plan, bound: Bound) {
        let mut stopping = Vec::new();
        for name in plan.close.keys() {
            if let Some(Open { listener, stop, .. }) = self.open.remove(name) {
                drop(listener);
                let (stopped, heard) = oneshot::channel();
                if stop.send(stopped).is_ok() {
                    stopping.push(heard);
                }
            }
        }
        let all_stopped = async {
            for heard in stopping {
                heard.await.ok();
            }
        };
        // What accepts on a socket that is handed over is the new service alone.
        timeout(STOPS, all_stopped).await.ok();
        let wanted = listeners(&self.host.snapshot.load().mesh, &self.host.me());
        self.failed.retain(|name, failed| wanted.get(name) == Some(&failed.address) && !bound.0.contains_key(name));
        for (name, (address, listener)) in bound.0 {
            match listener.or_else(|_| listen(address).map(Arc::new)) {
                Ok(listener) => self.accept(name, address, listener),
                Err(error) => self.fails(name, address, error.to_string()),
            }
        }
    }

    /// When to [try again](Self::retry) what could not be opened.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.failed.values().filter_map(|failed| failed.retry.until()).min().map(Instant::from_std)
    }

    /// Tries what could not be opened and is due. Whether something has changed.
    pub(super) fn retry(&mut self) -> bool {
        let now = Instant::now().into_std();
        let due: Vec<_> = self
            .failed
            .iter()
            .filter(|(_, failed)| failed.retry.is_over(now))
            .map(|(name, failed)| (name.clone(), failed.address))
            .collect();
        let mut changed = false;
        for (name, address) in due {
            match listen(address) {
                Ok(listener) => {
                    self.failed.remove(&name);
                    tracing::info!("{name} is reached at {address}, which could be opened at last");
                    self.accept(name, address, Arc::new(listener));
                    changed = true;
                }
                Err(error) => {
                    let error = error.to_string();
                    changed |= self.failed.get(&name).is_some_and(|failed| failed.error != error);
                    self.fails(name, address, error);
                }
            }
        }
        changed
    }

    /// Forgets those that have let their last connection end.
    pub(super) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Err(error)) if error.is_panic() => tracing::error!(%error, "a listener has failed"),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }

    /// What is left to wait for when the agent drains.
    pub(super) fn into_tasks(self) -> JoinSet<()> {
        self.tasks
    }

    fn accept(&mut self, name: ServiceName, address: SocketAddr, listener: Arc<Listener>) {
        let (stop, stopped) = oneshot::channel();
        self.tasks.spawn(ingress::listen(
            self.host.clone(),
            self.peers.clone(),
            name.clone(),
            listener.clone(),
            stopped,
        ));
        self.open.insert(name, Open { address, listener, stop });
    }

    /// Fails its service alone, loudly, and once for the same reason.
    fn fails(&mut self, name: ServiceName, address: SocketAddr, error: String) {
        let failed = self.failed.entry(name.clone()).or_insert(Failed { address, error: String::new(), retry: RETRY });
        failed.retry.failed(Instant::now().into_std());
        if std::mem::replace(&mut failed.error, error.clone()) == error {
            return;
        }
        let why = format!("cannot listen on {address}: {error}");
        tracing::error!(service = %name, "service `{name}`: {why}; it is tried again until it can be opened");
        self.host.refuse(Refusal {
            direction: Direction::Out,
            peer: None,
            address: Some(address),
            service: Some(name),
            layer: Layer::Limit,
            reason: "listener_failed",
            detail: why,
        });
    }

    /// How every service stands that this node offers or reaches.
    pub(super) fn describe(&self, snapshot: &Snapshot) -> Vec<ServiceView> {
        let me = snapshot.me();
        let here = |service: &&Service| service.offered_by(me) || service.permits(me).is_some();
        snapshot.mesh.services().values().filter(here).map(|service| self.view(snapshot, service)).collect()
    }

    fn view(&self, snapshot: &Snapshot, service: &Service) -> ServiceView {
        let me = snapshot.me();
        let offers = service.offered_by(me);
        let (state, error) = match (Unsupported::of(service, me), self.failed.get(service.name())) {
            (Some(what), _) => (ServiceState::Unsupported, Some(format!("{}: {}", what.text(), what.hint()))),
            (None, Some(failed)) => {
                (ServiceState::Failed, Some(format!("cannot listen on {}: {}", failed.address, failed.error)))
            }
            (None, None) => (ServiceState::Ready, None),
        };
        ServiceView {
            name: service.name().to_string(),
            role: if offers { Role::Offer } else { Role::Reach },
            protocol: match service.protocol() {
                Protocol::Tcp => "tcp".to_owned(),
                Protocol::Udp => "udp".to_owned(),
            },
            listen: service.listen_at(me).map(|l| l.to_string()),
            target: offers.then(|| service.target_at(me).to_string()),
            state,
            connections: 0,
            bytes_in: 0,
            bytes_out: 0,
            on: service.on().iter().map(ToString::to_string).collect(),
            error,
        }
    }
}
