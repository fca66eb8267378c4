//! Application to mesh: the listeners for services that this node reaches, and what becomes of each connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::ServiceName;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::live::{self, Far, Live};
use crate::host::{Host, Phase};
use crate::peers::open;
use crate::peers::peer::{NoStream, Peer};
use crate::peers::registry::Peers;
use crate::peers::stream::Stream;
use crate::reason::Reason;
use crate::refusals::{Layer, Refusal};
use crate::splice::End;
use crate::table::{Entry, Opening, Told};
use crate::tcp::{Listener, Tcp};
use crate::transport::connect::{is_exhausted, tune_listener};
use crate::transport::message::{Open, Purpose, Refused, TraceId};
use crate::vocabulary::{Direction, Role};

/// How long to wait when the process has run out of descriptors or memory.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How long the far end may take to answer a cut.
const WIND_UP: Duration = Duration::from_secs(2);

/// Asks a listener to accept no more, by somewhere to say that it has stopped.
pub type Stop = oneshot::Receiver<oneshot::Sender<()>>;

/// Accepts applications of one service until it is told to stop or the agent drains, then lets their connections end.
pub async fn listen(host: Arc<Host>, peers: Arc<Peers>, service: ServiceName, listener: Arc<Listener>, mut stop: Stop) {
    tune_listener(&listener, host.limits().keepalive);
    if let Ok(address) = listener.local_addr() {
        // What a connection is accepted with, it inherits.
        host.settings().congestion.set_towards_application(&*listener, address);
    }
    let mut sessions = JoinSet::new();
    let mut heard = None;
    {
        let draining = host.reached(Phase::Draining);
        tokio::pin!(draining);
        loop {
            tokio::select! {
                biased;
                asked = &mut stop => {
                    heard = asked.ok();
                    break;
                }
                () = &mut draining => break,
                accepted = listener.accept() => match accepted {
                    Ok((app, client)) => {
                        if let Some(session) = session(host.clone(), &peers, &service, app, client) {
                            sessions.spawn(session);
                        }
                    }
                    Err(error) if is_exhausted(&error) => {
                        note(&host, None, &service, None, Layer::Limit, "exhausted", error.to_string());
                        sleep(EXHAUSTED).await;
                    }
                    // The application has gone before it was accepted.
                    Err(_) => {}
                },
                Some(_) = sessions.join_next() => {}
            }
        }
    }
    drop(listener);
    if let Some(stopped) = heard {
        // Whoever asked may not wait for the answer.
        stopped.send(()).ok();
    }
    while sessions.join_next().await.is_some() {}
}

/// One application's connection, from accept to end; nothing if it cannot be served.
fn session(
    host: Arc<Host>,
    peers: &Peers,
    service: &ServiceName,
    app: Tcp,
    client: SocketAddr,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let trace = new_trace();
    let opening = Opening {
        service: service.clone(),
        from: host.me(),
        to: None,
        client: Some(client),
        trace,
        at: host.clock.now(),
    };
    let (entry, mut told) = match host.table.insert(opening) {
        Ok(inserted) => inserted,
        Err(full) => {
            drop(app);
            note(&host, None, service, Some(client), Layer::Limit, Reason::Limit.name(), full.to_string());
            return None;
        }
    };
    // Whatever goes wrong, the application is told at once and before anybody else: dropping its connection sends a RST.
    let failed = |host: &Host, entry: &Entry, failed: Failed| {
        let Failed { layer, reason, detail } = failed;
        note(host, entry.to.get(), &entry.service, entry.client, layer, reason.name(), detail);
    };
    let mut far = match offering(&host, peers, &entry.service) {
        Ok(offering) => Far { offering, at: 0, deadline: Instant::now() + host.limits().connect },
        Err(none) => {
            drop(app);
            failed(&host, &entry, none);
            return None;
        }
    };
    let mut app = Some(app);
    Some(async move {
        let carried = carry(&host, &mut far, &entry, &mut told, &mut app).await;
        drop(app.take());
        if let Err(why) = carried {
            failed(&host, &entry, why);
        }
    })
}

struct Failed {
    layer: Layer,
    reason: Reason,
    detail: String,
}

impl Failed {
    /// What became of a connection that ended without an answer from the far side; nothing if its application left.
    fn unanswered(end: &End) -> Option<Self> {
        let (layer, reason, detail) = match end {
            End::Lost(broken) => (Layer::NoRoute, Reason::LinkLost, broken.to_string()),
            End::Cut(reason @ Reason::LinkLost) => (Layer::NoRoute, *reason, reason.text().to_owned()),
            End::Cut(reason @ Reason::PermitWithdrawn) => (Layer::Permit, *reason, reason.text().to_owned()),
            End::Cut(reason) | End::Far(reason) => (Layer::Limit, *reason, reason.text().to_owned()),
            End::Closed | End::Application(_) | End::Moved(_) => return None,
        };
        Some(Self { layer, reason, detail })
    }
}

impl Failed {
    fn withdrawn(service: &ServiceName) -> Self {
        let detail = format!("the mesh no longer lets this node reach `{service}`");
        Self { layer: Layer::Permit, reason: Reason::PermitWithdrawn, detail }
    }
}

impl From<NoStream> for Failed {
    fn from(no: NoStream) -> Self {
        let layer = if no.reason == Reason::Limit { Layer::Limit } else { Layer::NoRoute };
        Self { layer, reason: no.reason, detail: no.detail }
    }
}

impl From<&Refused> for Failed {
    fn from(refused: &Refused) -> Self {
        let layer = match refused.reason {
            Reason::NotPermitted => Layer::Permit,
            Reason::Limit | Reason::Draining => Layer::Limit,
            _ => Layer::Target,
        };
        let detail = match refused.detail.as_str() {
            "" => refused.reason.text().to_owned(),
            told => told.to_owned(),
        };
        Self { layer, reason: refused.reason, detail }
    }
}

/// Carries it to its end. The application's connection is `taken` away as soon as it has all that it will get.
fn carry<'a>(
    host: &'a Host,
    far: &'a mut Far,
    entry: &'a Entry,
    told: &'a mut Told,
    taken: &'a mut Option<Tcp>,
) -> impl Future<Output = Result<(), Failed>> {
    async move {
        let Some(app) = taken else { return Ok(()) };
        let mut live = Live::begin(host, entry, Role::Reach);
        if let [only] = &far.offering[..] {
            entry.to.set(only.name().clone());
        }
        let request = Open {
            purpose: Purpose::Service(entry.service.clone()),
            relay: None,
            client: entry.client,
            trace: TraceId(entry.trace),
            credit: 0,
        };
        let (chosen, stream) = tokio::select! {
            biased;
            opened = open::first(&far.offering, (request, Vec::new(), false), far.deadline) => opened?,
            error = app.reset() => {
                tracing::debug!(%error, client = ?entry.client, "the application left before a stream was ready");
                return Ok(());
            }
            reason = &mut *told => {
                return Err(Failed::unanswered(&End::Cut(reason)).unwrap_or_else(|| Failed::withdrawn(&entry.service)));
            }
        };
        far.at = chosen;
        entry.to.set(far.peer().name().clone());
        if !live.is_permitted() {
            // Whoever looked for connections to cut did not know yet whom this one leads to.
            return Err(Failed::withdrawn(&entry.service));
        }
        entry.path.set(stream.path()).ok();
        let (end, stream) = live::run_moving(&mut live, app, stream, told, far).await;
        let peer = far.peer();
        live.end(end.reason());
        // The application has all that it will get; what is left is between the agents.
        drop(taken.take());
        let answered = stream.as_ref().and_then(Stream::answer);
        let failed = match (&answered, &end) {
            (Some(Err(refused)), End::Far(_)) => Some(Failed::from(refused)),
            (_, End::Moved(reason)) => {
                let detail = format!("`{}`: {}, and no other way to it was ready", peer.name(), reason.text());
                Some(Failed { layer: Layer::Limit, reason: *reason, detail })
            }
            (None, end) => Failed::unanswered(end),
            _ => None,
        };
        match (end, stream) {
            (End::Moved(_), _) | (_, None) => {}
            (End::Lost(broken), _) => {
                tracing::debug!(peer = %peer.name(), service = %entry.service, %broken, "a connection was lost with its lane");
            }
            // What it ran over is lost: nobody is there to be told.
            (End::Cut(Reason::LinkLost), _) => {}
            // Its memory is not that of every connection that moves bytes.
            (end, Some(stream)) => Box::pin(wind_up(peer, stream, told, matches!(end, End::Cut(_)))).await,
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Waits for the far end to be through with the stream as well, so that what it ran over can be used again. As long as that
/// takes, unless somebody cuts it or the peer is gone; of one that was cut, only for a while.
async fn wind_up(peer: &Peer, stream: Stream, told: &mut Told, was_cut: bool) {
    if was_cut {
        return drop(timeout(WIND_UP, stream.give_back()).await);
    }
    let ended = peer.run_ended(stream.incarnation());
    tokio::select! {
        biased;
        () = stream.give_back() => {}
        _ = told => {}
        () = ended => {}
    }
}

/// The nodes that offer a service, in the order of the mesh file: the first whose link is up serves an application.
fn offering(host: &Host, peers: &Peers, service: &ServiceName) -> Result<Box<[Arc<Peer>]>, Failed> {
    let snapshot = host.snapshot.load();
    // An application may come in between the change of the mesh and the end of its listener.
    let service_here = snapshot.mesh.service(service.as_str()).filter(|s| s.reachable_from(snapshot.me()));
    let offering = service_here.ok_or_else(|| Failed::withdrawn(service))?.on();
    let known: Vec<_> = offering.iter().filter_map(|name| peers.peer(name)).collect();
    if known.is_empty() {
        let detail = format!("no node of the mesh offers `{service}`");
        return Err(Failed { layer: Layer::NoRoute, reason: Reason::NoPath, detail });
    }
    // Kept for as long as the connection.
    Ok(known.into_boxed_slice())
}

fn note(
    host: &Host,
    peer: Option<mesh_config::NodeName>,
    service: &ServiceName,
    client: Option<SocketAddr>,
    layer: Layer,
    reason: &'static str,
    detail: String,
) {
    host.refuse(Refusal {
        direction: Direction::Out,
        peer,
        address: client,
        service: Some(service.clone()),
        layer,
        reason,
        detail,
    });
}

/// A name for a connection in the logs of both agents.
pub fn new_trace() -> [u8; 16] {
    let mut trace = [0; 16];
    // Without randomness the name is zero, which is only harder to look up.
    aws_lc_rs::rand::fill(&mut trace).ok();
    trace
}
