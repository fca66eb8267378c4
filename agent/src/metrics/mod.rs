//! Metrics: what is counted, and cheap handles to count with.
//!
//! A handle is looked up once (a peer, a service) and then costs an atomic addition, or an uncontended lock for a
//! histogram. Labels come from closed sets: `&'static str`, enums, names of the mesh in force, and places in the agent's
//! own files. Nothing that a stranger sends can become one.

mod labels;
mod process;
mod refused;
mod sources;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mesh_config::{NodeName, ServiceName};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use time::OffsetDateTime;

use crate::refusals::Layer;
use crate::vocabulary::{Direction, Path, PeerState, Role};
pub use refused::RefusedPart;

use labels::{HandshakeLabels, LinkLabels, PeerLabels, RefusalLabels, ReloadLabels, ServiceBytesLabels, ServiceLabels};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds, for a gauge that holds a fraction.
type SecondsGauge = Gauge<f64, AtomicU64>;

/// Every metric of the agent. Clones are handles to the same numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    links: Family<LinkLabels, Gauge>,
    link_rtt: Family<PeerLabels, SecondsGauge>,
    link_skew: Family<PeerLabels, SecondsGauge>,
    handshakes: Family<HandshakeLabels, Counter>,
    connections: Family<ServiceLabels, Gauge>,
    connections_opened: Family<ServiceLabels, Counter>,
    connection_bytes: Family<ServiceBytesLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    certificate_expiry: Gauge,
    mesh_version: Gauge,
    mesh_reloads: Family<ReloadLabels, Counter>,
    mesh_refused: Gauge,
    refused_parts: refused::RefusedParts,
    mesh_forks: Gauge,
    mesh_refresh_by: Gauge,
    ready: Gauge,
    draining: Gauge,
    mesh_sources: sources::Sources,
    connect_duration: Histogram,
    handshake_duration: Histogram,
    ping_rtt: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            links: Family::default(),
            link_rtt: Family::default(),
            link_skew: Family::default(),
            handshakes: Family::default(),
            connections: Family::default(),
            connections_opened: Family::default(),
            connection_bytes: Family::default(),
            refusals: Family::default(),
            certificate_expiry: Gauge::default(),
            mesh_version: Gauge::default(),
            mesh_reloads: Family::default(),
            mesh_refused: Gauge::default(),
            refused_parts: refused::RefusedParts::default(),
            mesh_forks: Gauge::default(),
            mesh_refresh_by: Gauge::default(),
            ready: Gauge::default(),
            draining: Gauge::default(),
            mesh_sources: sources::Sources::default(),
            connect_duration: Histogram::new(LATENCY),
            handshake_duration: Histogram::new(LATENCY),
            ping_rtt: Histogram::new(ROUND_TRIP),
        };
        metrics.registry = Arc::new(metrics.registry());
        metrics
    }

    fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("adit");
        let r = &mut all;
        r.register("build", "The agent's version", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        r.register("ready", "1 while the agent takes new connections: 0 while it starts or drains", self.ready.clone());
        r.register(
            "draining",
            "1 while the agent takes nothing new and waits for its connections to end",
            self.draining.clone(),
        );
        r.register("mesh_version", "Version of the mesh document in force", self.mesh_version.clone());
        r.register("mesh_reloads", "Mesh documents that were applied or refused", self.mesh_reloads.clone());
        r.register(
            "mesh_refused",
            "1 while the mesh document on disk is not in force because it was refused",
            self.mesh_refused.clone(),
        );
        self.refused_parts.register(r);
        r.register(
            "mesh_forks",
            "Signed mesh documents that the one in force does not stand on: published without knowing it, and not merged",
            self.mesh_forks.clone(),
        );
        r.register_with_unit(
            "mesh_refresh_by_timestamp",
            "When the signed mesh document in force should be followed by another one, in seconds since 1970; 0 without one",
            Unit::Seconds,
            self.mesh_refresh_by.clone(),
        );
        self.mesh_sources.register(r);
        r.register_with_unit(
            "certificate_expiry_timestamp",
            "When this node's certificate expires, in seconds since 1970",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        r.register("links", "Links to peers by path and state, one for each peer", self.links.clone());
        r.register_with_unit(
            "link_rtt",
            "Newest round-trip time of the control channel",
            Unit::Seconds,
            self.link_rtt.clone(),
        );
        r.register_with_unit(
            "link_clock_skew",
            "How far the peer's clock is ahead of this node's",
            Unit::Seconds,
            self.link_skew.clone(),
        );
        r.register("handshakes", "Handshakes with peers and strangers by result", self.handshakes.clone());
        r.register_with_unit(
            "handshake_duration",
            "From the first byte to the acceptor's HELLO, of handshakes that succeeded",
            Unit::Seconds,
            self.handshake_duration.clone(),
        );
        r.register("connections", "Application connections that are open now", self.connections.clone());
        r.register("connections_opened", "Application connections opened", self.connections_opened.clone());
        r.register_with_unit(
            "connection",
            "Application bytes carried: in came from the link, out went to it",
            Unit::Bytes,
            self.connection_bytes.clone(),
        );
        r.register_with_unit(
            "connect_duration",
            "From an application's connect to the offering agent's OPENED",
            Unit::Seconds,
            self.connect_duration.clone(),
        );
        r.register_with_unit(
            "ping_rtt",
            "Round-trip times of the control channels' pings",
            Unit::Seconds,
            self.ping_rtt.clone(),
        );
        r.register("refusals", "Refusals and failures by layer and reason", self.refusals.clone());
        r.register_collector(Box::new(process::Process));
        all
    }

    /// Everything in the OpenMetrics text format ([`CONTENT_TYPE`]).
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(8 * 1024);
        // Writing to a String does not fail; a collector's failure leaves what came before it.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    /// The meter of the link to `peer`, a node of the mesh in force. Its series end when it is dropped.
    pub fn link(&self, peer: &NodeName) -> LinkMeter {
        LinkMeter { metrics: self.clone(), peer: PeerLabels { peer: peer.clone() }, shown: None, ended: false }
    }

    /// The meter of one service of the mesh in force, on one side.
    pub fn service(&self, service: &ServiceName, role: Role) -> ServiceMeter {
        let labels = ServiceLabels { service: service.clone(), role };
        let bytes = |direction| {
            let labels = ServiceBytesLabels { service: service.clone(), direction };
            self.connection_bytes.get_or_create_owned(&labels)
        };
        ServiceMeter {
            open: self.connections.get_or_create_owned(&labels),
            opened: self.connections_opened.get_or_create_owned(&labels),
            bytes_in: bytes(Direction::In),
            bytes_out: bytes(Direction::Out),
        }
    }

    /// The mesh no longer has this service: its series end.
    pub fn forget_service(&self, service: &ServiceName) {
        for role in [Role::Offer, Role::Reach] {
            let labels = ServiceLabels { service: service.clone(), role };
            self.connections.remove(&labels);
            self.connections_opened.remove(&labels);
        }
        for direction in [Direction::In, Direction::Out] {
            self.connection_bytes.remove(&ServiceBytesLabels { service: service.clone(), direction });
        }
    }

    /// A handshake succeeded after `took`.
    pub fn handshake_ok(&self, direction: Direction, transport: &'static str, took: Duration) {
        let labels = HandshakeLabels { direction, transport, result: "ok", reason: "" };
        self.handshakes.get_or_create(&labels).inc();
        self.handshake_duration.observe(took.as_secs_f64());
    }

    /// A handshake failed. `reason` is the same name as in the refusal that goes with it.
    pub fn handshake_failed(&self, direction: Direction, transport: &'static str, reason: &'static str) {
        let labels = HandshakeLabels { direction, transport, result: "failed", reason };
        self.handshakes.get_or_create(&labels).inc();
    }

    /// Something was refused or failed.
    pub fn refusal(&self, layer: Layer, reason: &'static str) {
        self.refusals.get_or_create(&RefusalLabels { layer, reason }).inc();
    }

    /// How often `layer` has refused for `reason` since the start.
    pub fn refusals(&self, layer: Layer, reason: &'static str) -> u64 {
        self.refusals.get(&RefusalLabels { layer, reason }).map_or(0, |c| c.get())
    }

    /// An application's connection was answered by the offering agent after `took`.
    pub fn connected(&self, took: Duration) {
        self.connect_duration.observe(took.as_secs_f64());
    }

    /// The certificate in use expires at `not_after`.
    pub fn certificate_expires(&self, not_after: OffsetDateTime) {
        self.certificate_expiry.set(not_after.unix_timestamp());
    }

    /// A mesh document was applied, or refused and so is not in force.
    pub fn mesh_reload(&self, applied: bool) {
        let result = if applied { "applied" } else { "refused" };
        self.mesh_reloads.get_or_create(&ReloadLabels { result }).inc();
        self.mesh_refused.set(i64::from(!applied));
    }

    /// The mesh document on disk is the one in force.
    pub fn mesh_is_in_force(&self) {
        self.mesh_refused.set(0);
    }

    /// So many signed documents are forks.
    pub fn mesh_forks(&self, count: usize) {
        self.mesh_forks.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The signed document in force should be followed by another one then, in seconds since 1970.
    pub fn mesh_refresh_by(&self, seconds: u64) {
        self.mesh_refresh_by.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// The agent takes new connections, or does not and waits for the end of those that are open.
    pub fn life(&self, ready: bool, draining: bool) {
        self.ready.set(i64::from(ready));
        self.draining.set(i64::from(draining));
    }

    /// The mesh document in force has this version.
    pub fn mesh_version(&self, version: u64) {
        self.mesh_version.set(i64::try_from(version).unwrap_or(i64::MAX));
    }
}

/// Bounds in seconds for durations that include a handshake or a connect.
const LATENCY: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Bounds in seconds for round trips.
const ROUND_TRIP: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// What is measured of the link to one peer.
#[derive(Debug)]
pub struct LinkMeter {
    metrics: Metrics,
    peer: PeerLabels,
    shown: Option<LinkLabels>,
    ended: bool,
}

impl LinkMeter {
    /// The link stands so now.
    pub fn state(&mut self, path: Option<Path>, state: PeerState) {
        let labels =
            LinkLabels { peer: self.peer.peer.clone(), path: path.map_or("", Path::name), state: state.name() };
        if self.ended || self.shown.as_ref() == Some(&labels) {
            return;
        }
        if let Some(old) = self.shown.take() {
            self.metrics.links.remove(&old);
        }
        self.metrics.links.get_or_create(&labels).set(1);
        self.shown = Some(labels);
        if state != PeerState::Up {
            self.metrics.link_rtt.remove(&self.peer);
            self.metrics.link_skew.remove(&self.peer);
        }
    }

    /// The link is given up: another one to the same peer may be measured from now on.
    pub fn end(&mut self) {
        self.take_away();
        self.ended = true;
    }

    fn take_away(&mut self) {
        if self.ended {
            return;
        }
        if let Some(old) = self.shown.take() {
            self.metrics.links.remove(&old);
        }
        self.metrics.link_rtt.remove(&self.peer);
        self.metrics.link_skew.remove(&self.peer);
    }

    /// A ping was answered after `rtt`.
    pub fn ping(&self, rtt: Duration) {
        if self.ended {
            return;
        }
        self.metrics.ping_rtt.observe(rtt.as_secs_f64());
        self.metrics.link_rtt.get_or_create(&self.peer).set(rtt.as_secs_f64());
    }

    /// The peer's clock is ahead of ours by so many seconds.
    pub fn skew(&self, seconds: f64) {
        if !self.ended {
            self.metrics.link_skew.get_or_create(&self.peer).set(seconds);
        }
    }
}

impl Drop for LinkMeter {
    fn drop(&mut self) {
        self.take_away();
    }
}

/// What is measured of one service. Clones count on the same numbers.
#[derive(Debug, Clone)]
pub struct ServiceMeter {
    open: Gauge,
    opened: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl ServiceMeter {
    /// A connection has opened. It counts as open until the guard is dropped.
    #[must_use = "the connection counts as open for as long as this lives"]
    pub fn open(&self) -> OpenConnection {
        self.open.inc();
        self.opened.inc();
        OpenConnection { open: self.open.clone() }
    }

    /// Application bytes came from the link.
    pub fn received(&self, bytes: u64) {
        self.bytes_in.inc_by(bytes);
    }

    /// Application bytes went to the link.
    pub fn sent(&self, bytes: u64) {
        self.bytes_out.inc_by(bytes);
    }

    /// Connections that are open now.
    pub fn open_now(&self) -> u64 {
        u64::try_from(self.open.get()).unwrap_or(0)
    }

    /// Bytes that came from the link and went to it, since the start.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.get(), self.bytes_out.get())
    }
}

/// Counts a connection as open while it lives.
#[derive(Debug)]
pub struct OpenConnection {
    open: Gauge,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[cfg(test)]
mod tests;
