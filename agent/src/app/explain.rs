//! `adit explain`: why an application gets through to a service, or why not, step by step against the live mesh.

use std::time::Duration;

use mesh_config::{NodeName, Service, ServiceName};
use tokio::time::{Instant, timeout};

use super::backend::View;
use crate::admin::backend::Failure;
use crate::admin::view::{Explain, ServiceState, Step};
use crate::peers::peer::Peer;
use crate::reason::Reason;
use crate::refusals::{Entry, Layer};
use crate::services::authz;
use crate::services::bench;
use crate::services::ingress::new_trace;
use crate::splice::{Carrier, Received};
use crate::transport::message::{Open, Purpose, TraceId};
use crate::vocabulary::PeerState;

/// How long the far end may take beyond the connect limit, so that its own answer comes first.
const PATIENCE: Duration = Duration::from_secs(2);

struct Steps(Vec<Step>);

impl Steps {
    fn ok(&mut self, check: &str, detail: impl Into<String>) {
        self.0.push(Step { check: check.to_owned(), ok: true, detail: detail.into() });
    }

    fn fails(mut self, check: &str, detail: impl Into<String>, hint: Option<String>) -> Explain {
        let detail = detail.into();
        self.0.push(Step { check: check.to_owned(), ok: false, detail: detail.clone() });
        Explain { allowed: false, because: detail, steps: self.0, hint }
    }
}

/// Goes through every step from the listener on `from` to the target.
pub(super) async fn explain(view: &View, from: NodeName, service: ServiceName) -> Result<Explain, Failure> {
    let snapshot = view.host.snapshot.load_full();
    let me = snapshot.me().clone();
    let mesh = &snapshot.mesh;
    let mut steps = Steps(Vec::new());

    if mesh.node(from.as_str()).is_none() {
        return Err(Failure::unknown_node(&from));
    }
    let Some(found) = mesh.service(service.as_str()) else { return Err(Failure::unknown_service(&service)) };
    let on = list(found.on());
    steps.ok("mesh document", format!("version {}, {}", mesh.version(), view.provenance()));
    steps.ok("service", format!("`{service}` is offered by {on}"));

    if found.offered_by(&from) {
        let detail =
            format!("`{from}` offers `{service}` itself, so its applications use {} directly", found.target_at(&from));
        return Ok(steps.fails("permit", detail, None));
    }
    match found.on().first().map(|offerer| authz::decide(mesh, offerer, &from, &service)) {
        Some(Ok((_, rule))) => steps.ok("permit", format!("`allow` admits `{from}` by \"{rule}\"")),
        Some(Err(denied)) => {
            let mut detail = denied.to_string();
            if let Some(entry) = last_refusal(view, &from, Some(&service)) {
                detail.push_str(&format!("; it was refused {} times, last at {}", entry.count, entry.last_at));
            }
            let hint = matches!(denied, authz::Denied::NotAllowed { .. })
                .then(|| format!("add \"{from}\" to `allow` of [service.{service}] in the mesh file"));
            return Ok(steps.fails("permit", detail, hint));
        }
        None => return Ok(steps.fails("permit", "no node offers it", None)),
    }
    if from == me {
        from_here(view, found, steps).await
    } else if found.offered_by(&me) {
        offered_here(view, &from, found, steps).await
    } else {
        let detail =
            format!("`{from}` may reach `{service}` by the mesh file; the live path is between `{from}` and {on}");
        Ok(Explain {
            allowed: true,
            because: detail,
            steps: steps.0,
            hint: Some(format!("for the live path run `adit explain {from} {service}` on `{from}`")),
        })
    }
}

/// This node is where the application is: everything can be tried for real.
async fn from_here(view: &View, service: &Service, mut steps: Steps) -> Result<Explain, Failure> {
    let name = service.name();
    let services = view.services();
    let own = services.iter().find(|s| s.name == name.as_str());
    match own {
        Some(own) if own.state != ServiceState::Ready => {
            let detail = own.error.clone().unwrap_or_else(|| "it is not listened for".to_owned());
            return Ok(steps.fails("listener", detail, Some("mend that: the agent tries again by itself".to_owned())));
        }
        Some(own) => match &own.listen {
            Some(listen) => steps.ok("listener", format!("applications reach it at {listen}")),
            None => steps.ok("listener", "the mesh file gives it no `listen` here".to_owned()),
        },
        None => steps.ok("listener", "it is not listened for here".to_owned()),
    }
    let mut chosen = None;
    for offerer in service.on() {
        let peer = view.peer(offerer)?;
        if peer.is_up() || chosen.is_none() {
            let up = peer.is_up();
            chosen = Some(peer);
            if up {
                break;
            }
        }
    }
    let Some(peer) = chosen else { return Ok(steps.fails("link", "no node offers it", None)) };
    // The probe waits for the link as an application would.
    let open = Open {
        purpose: Purpose::Probe(name.clone()),
        relay: None,
        client: None,
        trace: TraceId(new_trace()),
        credit: 0,
    };
    let limit = view.host.limits().connect;
    let mut stream = match peer.open(open, Instant::now() + limit).await {
        Ok(stream) => stream,
        Err(no) => {
            let hint = link_hint(&peer);
            return Ok(steps.fails("link", no.detail, hint));
        }
    };
    link_step(&peer, &mut steps);
    let answered = timeout(limit + PATIENCE, async {
        loop {
            match bench::receive(&mut stream).await {
                Ok(Received::Data) => {
                    let len = stream.chunk().len();
                    stream.consume(len);
                }
                Ok(_) => return Ok(()),
                Err(broken) => return Err(broken),
            }
        }
    })
    .await;
    let explain = match (answered, stream.answer()) {
        (_, Some(Ok(opened))) => {
            steps.ok("permit at the offering node", format!("`{}` lets this node in", peer.name()));
            steps.ok("target", format!("`{}` reaches {}", peer.name(), opened.target));
            Explain {
                allowed: true,
                because: format!("every step to `{name}` on `{}` works", peer.name()),
                steps: steps.0,
                hint: None,
            }
        }
        (_, Some(Err(refused))) if refused.reason == Reason::NotPermitted => {
            let detail = format!("`{}` refuses: {}", peer.name(), refused.reason.text());
            let hint = format!(
                "the mesh file there may be another one: `adit status` shows its version; on `{}`, `adit explain` says more",
                peer.name()
            );
            steps.fails("permit at the offering node", detail, Some(hint))
        }
        (_, Some(Err(refused))) => {
            steps.ok("permit at the offering node", format!("`{}` lets this node in", peer.name()));
            let told = if refused.detail.as_str().is_empty() { refused.reason.text() } else { refused.detail.as_str() };
            let detail = format!("`{}`: {told}", peer.name());
            let hint = format!("is the application on `{}` running, and does it listen there?", peer.name());
            steps.fails("target", detail, Some(hint))
        }
        (Ok(Err(broken)), None) => steps.fails("stream", broken.to_string(), link_hint(&peer)),
        (_, None) => steps.fails("stream", format!("`{}` did not answer in time", peer.name()), link_hint(&peer)),
    };
    if explain.allowed {
        stream.finish();
    } else {
        stream.reset(Reason::Application);
    }
    timeout(PATIENCE, stream.give_back()).await.ok();
    Ok(explain)
}

/// This node offers it: what it knows of the peer, and its own target.
async fn offered_here(view: &View, from: &NodeName, service: &Service, mut steps: Steps) -> Result<Explain, Failure> {
    let peer = view.peer(from)?;
    if peer.is_up() {
        link_step(&peer, &mut steps);
    } else {
        let refusal = last_refusal(view, from, None);
        let detail = match refusal {
            Some(entry) => format!("there is no link to `{from}`: {}: {}", entry.last.layer.name(), entry.last.detail),
            None => peer.status().error.unwrap_or_else(|| format!("`{from}` has not connected")),
        };
        return Ok(steps.fails("link", detail, link_hint(&peer)));
    }
    let me = view.host.me();
    let target = service.target_at(&me);
    match crate::services::egress::check_target(&view.host, target).await {
        Ok(()) => steps.ok("target", format!("this node reaches {target}")),
        Err(failure) => {
            let hint = "is the application running, and does it listen there?".to_owned();
            return Ok(steps.fails("target", format!("target {target}: {failure}"), Some(hint)));
        }
    }
    Ok(Explain {
        allowed: true,
        because: format!("this node lets `{from}` in and reaches the target"),
        steps: steps.0,
        hint: Some(format!("for the listener on `{from}`, run `adit explain {from} {}` there", service.name())),
    })
}

fn link_step(peer: &Peer, steps: &mut Steps) {
    let status = peer.status();
    let address = status.address.map(|a| a.to_string()).unwrap_or_default();
    let path = status.path.map_or("no path", crate::vocabulary::Path::name);
    steps.ok("link", format!("`{}` is proven and linked by {path} with {address}", peer.name()));
    if let Some(skew) = status.skew.filter(|s| s.abs() > time::Duration::minutes(1)) {
        steps.ok("clocks", format!("its clock differs by {:.0} s", skew.as_seconds_f64()));
    }
}

fn link_hint(peer: &Peer) -> Option<String> {
    let status = peer.status();
    (status.state != PeerState::Up)
        .then(|| format!("`adit status` on both nodes shows why `{}` is not linked", peer.name()))
}

/// The newest refusal about a peer: of a service, or of its link.
fn last_refusal(view: &View, peer: &NodeName, service: Option<&ServiceName>) -> Option<Entry> {
    let wanted = |layer: Layer| match service {
        Some(_) => layer == Layer::Permit,
        None => !matches!(layer, Layer::Permit | Layer::Target),
    };
    view.host.recent().newest_about(peer, |r| wanted(r.layer) && r.service.as_ref() == service).cloned()
}

fn list(names: &[NodeName]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}
