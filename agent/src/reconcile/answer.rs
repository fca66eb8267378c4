//! A reload as `adit reload` tells it.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_config::{Diff, NodeName, ServiceName};

use super::plan::{Cut, Plan};
use super::reload::Next;
use crate::admin::backend::{Failure, FailureKind};
use crate::admin::timestamp::Timestamp;
use crate::admin::view::{
    AgentChange, CertificateChange, CutConnection, Epochs, FailedListener, LinkChanges, Listener, ListenerChanges,
    MeshChange, PermitChange, Reload,
};
use crate::snapshot::Snapshot;
use crate::table::Connection;
use crate::transport::message::TraceId;

/// What was done, or with `dry_run` would be. `connections` are those that were live.
pub(super) fn reload(
    dry_run: bool,
    next: &Next,
    plan: &Plan,
    (before, after): (&Snapshot, &Snapshot),
    failed: Vec<FailedListener>,
    connections: &[Arc<Connection>],
) -> Reload {
    let (old, new) = (&before.mesh, &after.mesh);
    let listener = |(service, address): (&ServiceName, &SocketAddr)| Listener {
        service: service.to_string(),
        listen: address.to_string(),
    };
    let names = |nodes: &mut dyn Iterator<Item = &NodeName>| nodes.map(ToString::to_string).collect::<Vec<_>>();
    let diff = Diff::between(old, new);
    let changes = if next.mesh.is_some() { diff.to_string().lines().map(str::to_owned).collect() } else { Vec::new() };
    let opened = plan.open.iter().map(listener);
    Reload {
        dry_run,
        changed: next.changes(),
        mesh: MeshChange {
            old_version: old.version().number(),
            version: new.version().number(),
            old_digest: old.digest().to_string(),
            digest: new.digest().to_string(),
            changes,
            signed: old.signed(),
        },
        listeners: ListenerChanges {
            opened: opened.filter(|opened| !failed.iter().any(|f| f.service == opened.service)).collect(),
            closed: plan.close.iter().map(listener).collect(),
            failed,
        },
        links: LinkChanges {
            added: names(&mut plan.link.iter()),
            removed: names(&mut plan.unlink.iter()),
            moved: names(&mut plan.moved.iter()),
        },
        permits: plan
            .permits
            .iter()
            .map(|(service, permits)| PermitChange {
                service: service.to_string(),
                gained: names(&mut permits.gained.iter()),
                lost: names(&mut permits.lost.iter()),
            })
            .collect(),
        connections_cut: plan.cut.iter().map(|cut| cut_view(cut, connections)).collect(),
        certificate: next.identity.as_ref().map(|identity| CertificateChange {
            old_serial: before.tls.identity().serial().to_owned(),
            serial: identity.serial().to_owned(),
            not_after: Timestamp::from(identity.not_after()),
        }),
        trust: next.trust.is_some(),
        agent: AgentChange {
            applied: next.applied.iter().map(ToString::to_string).collect(),
            needs_restart: next.needs_restart.iter().map(ToString::to_string).collect(),
        },
        epochs: Epochs { mesh: after.epochs.mesh, identity: after.epochs.identity, trust: after.epochs.trust },
        warnings: next.warnings.clone(),
    }
}

fn cut_view(cut: &Cut, connections: &[Arc<Connection>]) -> CutConnection {
    let connection = &cut.connection;
    let live = connections.iter().find(|c| c.id == connection.id);
    CutConnection {
        id: connection.id,
        trace: live.map(|c| TraceId(c.trace).to_string()).unwrap_or_default(),
        service: connection.service.to_string(),
        from: connection.from.to_string(),
        to: connection.to.as_ref().map(ToString::to_string).unwrap_or_default(),
        client: live.and_then(|c| c.client).map(|client| client.to_string()),
        rule: cut.rule.clone(),
        because: cut.because.clone(),
    }
}

/// Listeners that could not be opened.
pub(super) fn failed<'a>(failed: impl Iterator<Item = (&'a ServiceName, SocketAddr, &'a str)>) -> Vec<FailedListener> {
    let view = |(service, address, error): (&ServiceName, SocketAddr, &str)| FailedListener {
        service: service.to_string(),
        listen: address.to_string(),
        error: error.to_owned(),
    };
    failed.map(view).collect()
}

/// Why something in the directory was not taken.
pub(super) fn refused(next: &Next) -> Failure {
    let first = next.refused.first();
    let texts: Vec<_> = next.refused.iter().map(|refused| refused.text()).collect();
    let mut message = texts.join("\n");
    if next.changes() {
        message.push_str("\nwhat else has changed in the directory holds, and is in force or would be");
    }
    let kind = first.map_or(FailureKind::Internal, |refused| refused.kind);
    let failure = Failure::new(kind, first.map_or("internal", |refused| refused.code), message);
    let hints = || next.refused.iter().flat_map(|refused| &refused.problems).filter(|p| p.is_error());
    match (hints().next().and_then(|problem| problem.hint.clone()), hints().count()) {
        (Some(hint), 1) => failure.with_hint(hint),
        _ => failure.with_hint("correct it: what was in force stays until then"),
    }
}
