//! A connection that carries bytes: from its opening, with what is counted and told about it, to its end.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mesh_config::NodeName;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::table::{Connection, Entry};
use crate::host::Host;
use crate::logging::audit;
use crate::metrics::{OpenConnection, ServiceMeter};
use crate::peers::peer::Peer;
use crate::peers::stream::Stream;
use crate::reason::Reason;
use crate::splice::{self, Carrier, End};
use crate::transport::connect::in_order;
use crate::transport::message::TraceId;
use crate::vocabulary::{Path, Role};

/// What is held while a connection is open.
pub struct Live {
    started: Instant,
    meter: ServiceMeter,
    _open: OpenConnection,
}

impl Live {
    /// The connection carries bytes from now on.
    pub fn begin(host: &Host, entry: &Entry, role: Role) -> Self {
        entry.opened();
        let meter = host.metrics.service(&entry.service, role);
        let open = meter.open();
        with_audit(entry, audit::connection_open);
        Self { started: Instant::now(), meter, _open: open }
    }

    fn end(self, entry: &Entry, reason: Option<Reason>) {
        let (received, sent) = (entry.meter.to_app.load(Relaxed), entry.meter.to_link.load(Relaxed));
        let (more_received, more_sent) = entry.uncounted();
        self.meter.received(more_received);
        self.meter.sent(more_sent);
        let open: Duration = self.started.elapsed();
        with_audit(entry, |c| audit::connection_close(c, received, sent, open, reason));
    }
}

fn with_audit(entry: &Connection, tell: impl FnOnce(&audit::Connection<'_>)) {
    let unknown: Option<NodeName> = NodeName::new("unknown").ok();
    let Some(to) = entry.to.get().or(unknown.as_ref()) else { return };
    let path = match entry.path.get() {
        Some(&"lane") => Some(Path::Lane),
        Some(&"quic") => Some(Path::Quic),
        Some(&"relay") => Some(Path::Relay),
        _ => None,
    };
    let client: &dyn std::fmt::Display = &entry.client;
    tell(&audit::Connection {
        id: entry.id,
        trace: &TraceId(entry.trace),
        service: &entry.service,
        from: &entry.from,
        to,
        client: (!entry.client.is_empty()).then_some(client),
        path,
    });
}

/// Splices until the end of the connection.
pub async fn run<C: Carrier>(
    host: &Host,
    entry: &Entry,
    live: Live,
    app: &TcpStream,
    stream: &mut C,
    cut: impl Future<Output = Reason>,
) -> End {
    let limits = splice::Limits { idle: host.limits.idle, half_closed: host.limits.half_closed };
    let end = splice::splice(app, stream, limits, &entry.meter, false, cut).await;
    if matches!(end, End::Closed) {
        in_order(app);
    }
    live.end(entry, end.reason());
    end
}

/// Like [`run`], over a stream that may move: what its far side does not serve is said again on another stream to `peer`. Gives
/// back the stream that it ended on, unless it ended between two.
pub async fn run_moving(
    host: &Host,
    entry: &Entry,
    live: Live,
    app: &TcpStream,
    mut stream: Stream,
    mut told: Pin<&mut impl Future<Output = Reason>>,
    (peer, deadline): (&Peer, Instant),
) -> (End, Option<Stream>) {
    let limits = splice::Limits { idle: host.limits.idle, half_closed: host.limits.half_closed };
    let mut finished = false;
    let (end, stream) = loop {
        let ended = peer.run_ended(stream.incarnation());
        let cut = async {
            tokio::select! {
                reason = told.as_mut() => reason,
                () = ended => Reason::LinkLost,
            }
        };
        let end = splice::splice(app, &mut stream, limits, &entry.meter, finished, cut).await;
        let End::Moved = end else { break (end, Some(stream)) };
        let Some(replay) = stream.take_replay() else { break (end, None) };
        finished = replay.2;
        // What it ran over is let go first: a peer that stops waits for that.
        drop(stream);
        let reopened = tokio::select! {
            reopened = peer.reopen(replay, deadline) => reopened,
            error = splice::reset_of(app) => break (End::Application(error), None),
            reason = told.as_mut() => break (End::Cut(reason), None),
        };
        match reopened {
            Ok(next) => stream = next,
            Err(_) => break (end, None),
        }
    };
    if matches!(end, End::Closed) {
        in_order(app);
    }
    let reason = if matches!(end, End::Moved) { Some(Reason::Draining) } else { end.reason() };
    live.end(entry, reason);
    (end, stream)
}

/// Resolves when somebody cuts the connection.
pub async fn told(cut: oneshot::Receiver<Reason>) -> Reason {
    match cut.await {
        Ok(reason) => reason,
        // The table's entry holds the other end for as long as the connection lives.
        Err(_) => std::future::pending().await,
    }
}

/// Resolves when somebody cuts the connection, or when what it runs over has `ended`.
pub async fn cut(cut: oneshot::Receiver<Reason>, ended: impl Future<Output = ()>) -> Reason {
    tokio::select! {
        reason = told(cut) => reason,
        () = ended => Reason::LinkLost,
    }
}
