//! Mesh to application: what the offering agent does with a stream that a peer opens.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::{ServiceName, Target};
use socket2::Socket;
use tokio::time::{Instant, timeout, timeout_at};

use super::authz::{self, Permit};
use super::bench;
use super::live::{self, Live};
use crate::host::{Host, Phase, SIDE_STREAMS};
use crate::identity::VerifiedPeer;
use crate::peers::serve::{Answer, Ended, Serve, Serving};
use crate::reason::Reason;
use crate::refusals::{Layer, Refusal};
use crate::splice::Carrier;
use crate::table::{Entry, Opening, Told};
use crate::tcp::Tcp;
use crate::transport::connect::{self, reset_unless_in_order};
use crate::transport::failure::Failure;
use crate::transport::lane::link::Link;
use crate::transport::message::{Bench, Open, Purpose, TraceId};
use crate::transport::quic::QuicStream;
use crate::vocabulary::{Direction, Path, Role};

/// How long a refusal may take to leave.
const TOLD: Duration = Duration::from_secs(5);

/// Serves the streams that peers open, with what this node offers.
pub struct Egress(pub Arc<Host>);

impl Serve for Egress {
    fn lane<'a>(
        &'a self,
        peer: &'a VerifiedPeer,
        open: Box<Open>,
        stream: &'a mut Link,
        ended: Ended<'a>,
    ) -> Serving<'a> {
        Box::pin(serve(&self.0, peer, Path::Lane, open, stream, ended))
    }

    fn quic<'a>(
        &'a self,
        peer: &'a VerifiedPeer,
        open: Box<Open>,
        stream: &'a mut QuicStream,
        ended: Ended<'a>,
    ) -> Serving<'a> {
        Box::pin(serve(&self.0, peer, Path::Quic, open, stream, ended))
    }
}

fn serve<'a, S: Answer + Send>(
    host: &'a Host,
    peer: &'a VerifiedPeer,
    path: Path,
    open: Box<Open>,
    stream: &'a mut S,
    ended: Ended<'a>,
) -> impl Future<Output = ()> + Send {
    // Not an `async fn`, which would store twice what it is given. What is done with before bytes are moved is stored elsewhere.
    async move {
        // The application is let go of before its place in the table.
        let Some((entry, mut told, mut app)) = Box::pin(begin(host, peer, path, open, stream, &mut *ended)).await
        else {
            return;
        };
        let mut live = Live::begin(host, &entry, Role::Offer);
        live.opened();
        let end = live::run(&live, &mut app, stream, live::cut(&mut told, ended)).await;
        live::let_go(&app, &end);
        live.end(end.reason());
    }
}

/// What a stream is joined to that is served.
type Begun = (Entry, Told, Tcp);

/// Does what comes before bytes are moved. Gives nothing if that is all.
async fn begin<S: Answer>(
    host: &Host,
    peer: &VerifiedPeer,
    path: Path,
    open: Box<Open>,
    stream: &mut S,
    ended: Ended<'_>,
) -> Option<Begun> {
    let Open { purpose, client, trace, .. } = *open;
    let begun = match purpose {
        Purpose::Service(name) => service(host, peer, path, name, (client, trace), stream).await,
        // Rare, so their memory is not every stream's.
        Purpose::Probe(name) => Box::pin(aside(host, ended, probe(host, peer, &name, stream))).await.map(|()| None),
        Purpose::Bench(mode) => Box::pin(aside(host, ended, measure(host, peer, mode, stream))).await.map(|()| None),
    };
    let refused = match begun {
        Ok(begun) => return begun,
        Err(refused) => refused,
    };
    host.refuse(Refusal {
        direction: Direction::In,
        peer: Some(peer.node().clone()),
        address: client,
        service: refused.service,
        layer: refused.layer,
        reason: refused.reason.name(),
        detail: refused.detail,
    });
    // What the peer is told says no more than it may know.
    let told = if refused.layer == Layer::Permit { String::new() } else { refused.told };
    stream.refuse(refused.reason, &told).ok();
    // A peer that takes nothing is not waited for.
    timeout(TOLD, poll_fn(|cx| stream.poll_flush(cx))).await.ok();
    None
}

/// Runs what serves no application: bounded in number, and cut with the link or the agent.
async fn aside(
    host: &Host,
    ended: impl Future<Output = ()>,
    work: impl Future<Output = Result<(), Refused>>,
) -> Result<(), Refused> {
    let Ok(_place) = host.side_streams.try_acquire() else {
        return Err(Refused {
            service: None,
            layer: Layer::Limit,
            reason: Reason::Limit,
            detail: format!("{SIDE_STREAMS} probes and measurements are under way, the limit"),
            told: String::new(),
        });
    };
    tokio::select! {
        result = work => result,
        () = ended => Ok(()),
        () = host.reached(Phase::Cut) => Ok(()),
    }
}

struct Refused {
    service: Option<ServiceName>,
    layer: Layer,
    reason: Reason,
    detail: String,
    told: String,
}

fn permitted(host: &Host, peer: &VerifiedPeer, name: &ServiceName) -> Result<Permit, Refused> {
    let snapshot = host.snapshot.load();
    authz::permit(&snapshot.mesh, snapshot.me(), peer, name).map_err(|denied| Refused {
        service: denied.service().cloned(),
        layer: Layer::Permit,
        reason: Reason::NotPermitted,
        detail: denied.to_string(),
        told: String::new(),
    })
}

async fn service<S: Answer>(
    host: &Host,
    peer: &VerifiedPeer,
    path: Path,
    name: ServiceName,
    (client, trace): (Option<SocketAddr>, TraceId),
    stream: &mut S,
) -> Result<Option<Begun>, Refused> {
    let permit = permitted(host, peer, &name)?;
    let opening = Opening {
        service: permit.service().clone(),
        from: peer.node().clone(),
        to: Some(host.me()),
        client,
        trace: trace.0,
        at: host.clock.now(),
    };
    let (entry, mut told) = host.table.insert(opening).map_err(|full| Refused {
        service: Some(permit.service().clone()),
        layer: Layer::Limit,
        reason: Reason::Limit,
        detail: full.to_string(),
        told: String::new(),
    })?;
    // The mesh may have changed in between, and whoever looked for connections to cut has not seen this one.
    permitted(host, peer, permit.service())?;
    // Nobody has set it before.
    entry.path.set(path).ok();
    let app = tokio::select! {
        app = reach(host, &permit, stream) => app?,
        reason = &mut told => return Err(Refused {
            service: Some(permit.service().clone()),
            layer: if reason == Reason::PermitWithdrawn { Layer::Permit } else { Layer::Limit },
            reason,
            detail: reason.text().to_owned(),
            told: String::new(),
        }),
    };
    reset_unless_in_order(&app);
    // If it was cut in the meantime, so is the target's connection.
    Ok(stream.accept(&permit.target().to_string()).is_ok().then_some((entry, told, app)))
}

/// Connects to the target, unless the peer goes away before it answers.
async fn reach<S: Answer>(host: &Host, permit: &Permit, stream: &mut S) -> Result<Tcp, Refused> {
    let refused = |reason: Reason, detail: String| Refused {
        service: Some(permit.service().clone()),
        layer: Layer::Target,
        reason,
        told: detail.clone(),
        detail,
    };
    let deadline = Instant::now() + host.limits().connect;
    let gone = poll_fn(|cx| stream.poll_lost(cx));
    tokio::select! {
        connected = connect_target(host, permit.target(), deadline) => connected.map_err(|failure| {
            let reason = match failure.layer {
                Layer::Refused => Reason::TargetRefused,
                Layer::Silent => Reason::TargetTimeout,
                Layer::Limit => Reason::Limit,
                _ => Reason::TargetUnreachable,
            };
            refused(reason, format!("target {}: {failure}", permit.target()))
        }),
        broken = gone => Err(refused(Reason::LinkLost, broken.to_string())),
    }
}

/// Whether the target answers now.
///
/// # Errors
/// Why not.
pub async fn check_target(host: &Host, target: &Target) -> Result<(), Failure> {
    connect_target(host, target, Instant::now() + host.limits().connect).await.map(drop)
}

async fn connect_target(host: &Host, target: &Target, deadline: Instant) -> Result<Tcp, Failure> {
    let address = match target {
        Target::Address(address) => address,
        Target::Unix(_) => return Err(Failure::new(Layer::Target, "unix: targets are not supported yet")),
    };
    let addresses = match timeout_at(deadline, host.names.resolve(address)).await {
        Ok(found) => found?.addresses,
        Err(_) => return Err(Failure::new(Layer::Resolve, "no DNS server answered in time")),
    };
    let congestion = host.settings().congestion;
    let prepare = move |socket: &Socket, address| congestion.set_towards_application(socket, address);
    // Two small pieces of memory are found again by the next connection where one large piece would leave a hole behind.
    let (stream, _) = Box::pin(connect::connect(&addresses, deadline, host.limits().keepalive, prepare)).await?;
    Ok(stream)
}

/// Checks permit and target as [`service`] would, answers, and ends the stream.
async fn probe<S: Answer>(host: &Host, peer: &VerifiedPeer, name: &ServiceName, stream: &mut S) -> Result<(), Refused> {
    let permit = permitted(host, peer, name)?;
    drop(reach(host, &permit, stream).await?);
    if stream.accept(&format!("{} (allowed by `{}`)", permit.target(), permit.rule())).is_ok() {
        stream.finish();
        wind_up(stream).await;
    }
    Ok(())
}

/// Reads to the end of a stream on which this side has finished.
async fn wind_up<S: Carrier>(stream: &mut S) {
    use crate::splice::Received;
    loop {
        match bench::receive(stream).await {
            Ok(Received::Data) => {
                let len = stream.chunk().len();
                stream.consume(len);
            }
            Ok(Received::Fin | Received::Reset(_)) | Err(_) => return,
        }
    }
}

/// The measuring service: open to nodes with which this one shares a permitted service.
async fn measure<S: Answer>(host: &Host, peer: &VerifiedPeer, mode: Bench, stream: &mut S) -> Result<(), Refused> {
    let snapshot = host.snapshot.load_full();
    if !snapshot.shares_service_with(peer.node()) {
        return Err(Refused {
            service: None,
            layer: Layer::Permit,
            reason: Reason::NotPermitted,
            detail: format!("no service joins `{}` and this node, so it may not measure either", peer.node()),
            told: String::new(),
        });
    }
    if stream.accept("bench").is_ok() {
        // How it ends is the opener's to report.
        bench::serve(stream, mode).await.ok();
    }
    Ok(())
}
