//! A connection whose bytes are moved: what is counted and told about it, from its opening to its end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use tokio::time::Instant;

use super::answered::Answered;
use super::authz;
use crate::host::Host;
use crate::logging::{self, audit};
use crate::metrics::{OpenConnection, ServiceMeter};
use crate::peers::open;
use crate::peers::peer::Peer;
use crate::peers::stream::Stream;
use crate::reason::Reason;
use crate::splice::{self, Carrier, End};
use crate::table::{Connection, Entry, Told};
use crate::tcp::Tcp;
use crate::transport::connect::in_order;
use crate::transport::message::TraceId;
use crate::vocabulary::Role;

/// What is held of a connection while its bytes are moved.
pub struct Live<'a> {
    host: &'a Host,
    entry: &'a Entry,
    role: Role,
    meter: ServiceMeter,
    /// Since when it is being opened, or is open.
    since: Instant,
    open: Option<Open>,
}

/// A connection that the far side has answered.
struct Open {
    _counted: OpenConnection,
    /// Whether `connection.open` was written, so that `connection.close` is written too.
    told: bool,
}

impl<'a> Live<'a> {
    /// A connection that is being opened.
    pub fn begin(host: &'a Host, entry: &'a Entry, role: Role) -> Self {
        let meter = host.metrics.service(&entry.service, role);
        Self { host, entry, role, meter, since: Instant::now(), open: None }
    }

    /// The far side has let it in. Said again, it says nothing.
    pub fn opened(&mut self) {
        if self.open.is_some() {
            return;
        }
        self.entry.opened();
        if self.role == Role::Reach {
            self.host.metrics.connected(self.since.elapsed());
        }
        self.since = Instant::now();
        let peer = match self.role {
            Role::Offer => Some(self.entry.from.clone()),
            Role::Reach => self.entry.to.get(),
        };
        let told = peer.is_some_and(|peer| with_audit(self.entry, |c| audit::connection_open(c, &peer)));
        self.open = Some(Open { _counted: self.meter.open(), told });
    }

    /// It has ended, for `reason` if not in order.
    pub fn end(self, reason: Option<Reason>) {
        let (received, sent) = self.entry.uncounted();
        self.meter.received(received);
        self.meter.sent(sent);
        let Some(open) = self.open else { return };
        if !open.told {
            return logging::left_out();
        }
        let moved = (self.entry.meter.to_app.load(Relaxed), self.entry.meter.to_link.load(Relaxed));
        with_audit(self.entry, |c| audit::connection_close(c, moved.0, moved.1, self.since.elapsed(), reason));
    }

    /// Whether the mesh in force permits it.
    pub fn is_permitted(&self) -> bool {
        let (snapshot, entry) = (self.host.snapshot.load(), self.entry);
        authz::still(&snapshot.mesh, &entry.from, entry.to.get().as_ref(), &entry.service).is_ok()
    }

    fn limits(&self) -> splice::Limits<'a> {
        let (idle, half_closed) = (self.host.limits().idle, self.host.limits().half_closed);
        splice::Limits { places: Some(&self.host.places), idle, half_closed }
    }
}

/// Calls `tell` with a connection as its audit events name it.
pub fn with_audit<T>(entry: &Connection, tell: impl FnOnce(&audit::Connection<'_>) -> T) -> T {
    let to = entry.to.get();
    tell(&audit::Connection {
        id: entry.id,
        trace: &TraceId(entry.trace),
        service: &entry.service,
        from: &entry.from,
        to: to.as_ref(),
        client: entry.client.as_ref().map(|client| client as &dyn std::fmt::Display),
        path: entry.path.get().copied(),
    })
}

/// Splices until the end of a connection that this side has let in, after which its application is to be [let go of](let_go).
pub fn run<'a, C: Carrier>(
    live: &'a Live<'_>,
    app: &'a mut Tcp,
    stream: &'a mut C,
    cut: impl Future<Output = Reason> + Unpin,
) -> impl Future<Output = End> {
    splice::splice(app, stream, live.limits(), &live.entry.meter, false, cut)
}

/// Has an application that is let go of after `end` see what became of its connection.
pub fn let_go(app: &Tcp, end: &End) {
    if matches!(end, End::Closed) {
        in_order(app);
    }
}

/// The nodes that offer the service of a connection, and the one that it leads to.
pub struct Far {
    /// In the order of preference.
    pub offering: Box<[Arc<Peer>]>,
    /// Which of them.
    pub at: usize,
    /// Until when one that serves it may be looked for.
    pub deadline: Instant,
}

impl Far {
    /// The one that it leads to.
    pub fn peer(&self) -> &Peer {
        &self.offering[self.at]
    }
}

/// Splices until the end of a connection that the far side has yet to let in, over a stream that may move: what its far side
/// does not serve, because it stops or lets go of what the stream ran over, is said again on another stream, to whichever node
/// is ready. Gives back the stream that it ended on, unless it ended between two.
pub fn run_moving<'a>(
    live: &'a mut Live<'_>,
    app: &'a mut Tcp,
    mut stream: Stream,
    told: &'a mut Told,
    far: &'a mut Far,
) -> impl Future<Output = (End, Option<Stream>)> {
    async move {
        let entry = live.entry;
        let mut finished = false;
        let (end, stream) = loop {
            let mut ended = far.peer().run_ended(stream.incarnation());
            let cut = cut(told, &mut ended);
            let limits = live.limits();
            let mut watched = Answered::new(&mut stream, |opened| {
                if opened {
                    live.opened();
                }
            });
            let end = splice::splice(app, &mut watched, limits, &entry.meter, finished, cut).await;
            let End::Moved(reason) = end else { break (end, Some(stream)) };
            let Some(replay) = stream.take_replay() else { break (end, None) };
            finished = replay.2;
            // What it ran over is let go first: a peer that stops waits for that.
            drop(stream);
            // Rare, so its memory is not every connection's.
            let reopened = Box::pin(async {
                tokio::select! {
                    biased;
                    reopened = open::first(&far.offering, replay, far.deadline) => reopened.map_err(|_| End::Moved(reason)),
                    error = app.reset() => Err(End::Application(error)),
                    reason = &mut *told => Err(End::Cut(reason)),
                }
            });
            match reopened.await {
                Ok((at, next)) => {
                    far.at = at;
                    entry.to.set(far.peer().name().clone());
                    // Whoever looked for connections to cut knew another one.
                    if !live.is_permitted() {
                        break (End::Cut(Reason::PermitWithdrawn), None);
                    }
                    stream = next;
                }
                Err(end) => break (end, None),
            }
        };
        let_go(app, &end);
        (end, stream)
    }
}

/// Resolves when somebody cuts the connection, or when what it runs over has `ended`.
pub fn cut<E: Future<Output = ()> + Unpin>(told: &mut Told, mut ended: E) -> impl Future<Output = Reason> + Unpin {
    poll_fn(move |cx| match Pin::new(&mut *told).poll(cx) {
        Poll::Ready(reason) => Poll::Ready(reason),
        Poll::Pending => Pin::new(&mut ended).poll(cx).map(|()| Reason::LinkLost),
    })
}
