//! Audit events: who did what through this agent. `target = "audit"`, a stable `event`, the same fields everywhere.
//!
//! See `docs/logging.md` for the list. Events that others can cause at will are limited a peer and a cause: those of strangers
//! and refusals narrowly, those of what a proven member may do with a [budget](super::Limits::MEMBER) that only a loop exceeds.
//! All others are complete.

use std::fmt::Display;
use std::time::Duration;

use mesh_config::published::Rank;
use mesh_config::{NodeName, ServiceName};

use super::{Who, permit, permit_member};
use crate::refusals::Refusal;
use crate::vocabulary::{Direction, Path, SourceKind};

/// The target of audit events.
pub const TARGET: &str = "audit";

/// An application connection, as its events name it.
#[derive(Clone, Copy)]
pub struct Connection<'a> {
    /// Its number on this agent.
    pub id: u64,
    /// The same at both ends, in hex.
    pub trace: &'a dyn Display,
    /// The service.
    pub service: &'a ServiceName,
    /// The node whose application opened it.
    pub from: &'a NodeName,
    /// The node that offers the service, once it is chosen.
    pub to: Option<&'a NodeName>,
    /// The application's own address.
    pub client: Option<&'a dyn Display>,
    /// How it runs.
    pub path: Option<Path>,
}

/// `connection.open`: the offering agent let the connection in and its target answered. Limited by `peer`, the node at the
/// other end. Whether it was written: only then is [`connection_close`] to be written as well, so that the log has both or
/// neither.
pub fn connection_open(c: &Connection<'_>, peer: &NodeName) -> bool {
    let Some(passed) = permit_member(peer, "connection.open") else { return false };
    tracing::info!(
        target: TARGET,
        event = "connection.open",
        id = c.id,
        trace = %c.trace,
        service = c.service.as_str(),
        from = c.from.as_str(),
        to = c.to.map(NodeName::as_str),
        client = c.client.map(tracing::field::display),
        path = c.path.map(Path::name),
        suppressed = passed.suppressed(),
    );
    true
}

/// `connection.close`: a connection that was open has ended, for `reason` if it was cut.
pub fn connection_close(
    c: &Connection<'_>,
    bytes_in: u64,
    bytes_out: u64,
    open: Duration,
    reason: Option<crate::reason::Reason>,
) {
    tracing::info!(
        target: TARGET,
        event = "connection.close",
        id = c.id,
        trace = %c.trace,
        service = c.service.as_str(),
        from = c.from.as_str(),
        to = c.to.map(NodeName::as_str),
        client = c.client.map(tracing::field::display),
        path = c.path.map(Path::name),
        bytes_in,
        bytes_out,
        seconds = open.as_secs_f64(),
        reason = reason.map(crate::reason::Reason::name),
    );
}

/// `connection.refused`: a link or a connection was refused or failed, at whichever layer. Limited.
pub fn connection_refused(refusal: &Refusal) {
    let who = match (&refusal.peer, refusal.address) {
        (Some(peer), _) => Who::from(peer),
        (None, Some(address)) => Who::from(address),
        (None, None) => Who::Here,
    };
    let Some(passed) = permit(who, refusal.reason) else { return };
    tracing::warn!(
        target: TARGET,
        event = "connection.refused",
        direction = refusal.direction.name(),
        peer = refusal.peer.as_ref().map(NodeName::as_str),
        address = refusal.address.map(tracing::field::display),
        service = refusal.service.as_ref().map(ServiceName::as_str),
        layer = refusal.layer.name(),
        reason = refusal.reason,
        detail = refusal.detail,
        suppressed = passed.suppressed(),
    );
}

/// `link.up`: both sides have proven who they are and said HELLO. `certificate` is the peer's serial in hex. Limited, since a
/// peer can flap.
pub fn link_up(peer: &NodeName, direction: Direction, path: Path, address: &dyn Display, certificate: &dyn Display) {
    let Some(passed) = permit_member(peer, "link.up") else { return };
    tracing::info!(
        target: TARGET,
        event = "link.up",
        peer = peer.as_str(),
        direction = direction.name(),
        path = path.name(),
        address = %address,
        certificate = %certificate,
        suppressed = passed.suppressed(),
    );
}

/// `link.down`: a link that was up has ended. Limited as [`link_up`] is.
pub fn link_down(peer: &NodeName, path: Path, reason: &'static str, detail: &str) {
    let Some(passed) = permit_member(peer, "link.down") else { return };
    tracing::info!(
        target: TARGET,
        event = "link.down",
        peer = peer.as_str(),
        path = path.name(),
        reason,
        detail,
        suppressed = passed.suppressed(),
    );
}

/// `log.suppressed`: lines of `who` for a cause were left out, and no line of their kind has followed to say so; of nobody: of
/// many who are forgotten. What a [`sweep`](super::RateLimiter::sweep) finds.
pub fn log_suppressed((who, suppressed): &(Option<(Who, &'static str)>, u64)) {
    let (peer, source) = match who {
        Some((Who::Peer(peer), _)) => (Some(peer.as_str()), None),
        Some((Who::Source(source), _)) => (None, Some(tracing::field::display(source))),
        Some((Who::Here, _)) | None => (None, None),
    };
    let cause = who.as_ref().map(|(_, cause)| *cause);
    tracing::info!(target: TARGET, event = "log.suppressed", peer, source, cause, suppressed);
}

/// `mesh.reload`: a mesh document was taken (`refused` is nothing) or not taken (`refused` says why).
pub fn mesh_reload(source: &str, old_version: Option<u64>, version: Option<u64>, refused: Option<&str>) {
    tracing::info!(
        target: TARGET,
        event = "mesh.reload",
        result = if refused.is_none() { "applied" } else { "refused" },
        source,
        old_version,
        version,
        detail = refused,
    );
}

/// `mesh.document`: a signed mesh document was taken from a peer, or from this host where there is none. Limited by the peer;
/// whether it came into force says `mesh.reload`.
pub fn mesh_document(
    (peer, source): (Option<&NodeName>, Option<SourceKind>),
    rank: Rank,
    publisher: &NodeName,
    certificate: &str,
) {
    let Some(passed) = permit(peer.map_or(Who::Here, Who::from), "mesh.document") else { return };
    tracing::info!(
        target: TARGET,
        event = "mesh.document",
        result = "taken",
        peer = peer.map(NodeName::as_str),
        source = source.map(SourceKind::name),
        generation = rank.generation.number(),
        version = rank.version.number(),
        id = %rank.id,
        publisher = publisher.as_str(),
        certificate,
        suppressed = passed.suppressed(),
    );
}

/// `mesh.document`: a signed mesh document was refused.
pub fn mesh_document_refused(
    (peer, source): (Option<&NodeName>, Option<SourceKind>),
    reason: &'static str,
    detail: &str,
) {
    let Some(passed) = permit(peer.map_or(Who::Here, Who::from), reason) else { return };
    tracing::warn!(
        target: TARGET,
        event = "mesh.document",
        result = "refused",
        peer = peer.map(NodeName::as_str),
        source = source.map(SourceKind::name),
        reason,
        detail,
        suppressed = passed.suppressed(),
    );
}

/// `connection.cut`: a change of the mesh ended a connection: `rule` is the entry of `allow` that had let it in, and `detail`
/// says what became of it. Complete: as many as there were connections, at an operator's change.
pub fn connection_cut(c: &Connection<'_>, rule: Option<&str>, detail: &str, mesh_version: u64) {
    tracing::warn!(
        target: TARGET,
        event = "connection.cut",
        id = c.id,
        trace = %c.trace,
        service = c.service.as_str(),
        from = c.from.as_str(),
        to = c.to.map(NodeName::as_str),
        client = c.client.map(tracing::field::display),
        path = c.path.map(Path::name),
        reason = crate::reason::Reason::PermitWithdrawn.name(),
        rule,
        detail,
        mesh_version,
    );
}

/// `cert.renew`: this node has taken another certificate into use.
pub fn cert_renew(node: &NodeName, serial: &dyn Display, old_serial: &dyn Display, not_after: &dyn Display) {
    tracing::info!(
        target: TARGET,
        event = "cert.renew",
        node = node.as_str(),
        serial = %serial,
        old_serial = %old_serial,
        not_after = %not_after,
    );
}

/// `cert.issue`: a certificate for `node` was issued here.
pub fn cert_issue(node: &NodeName, serial: &dyn Display, not_after: &dyn Display) {
    tracing::info!(
        target: TARGET,
        event = "cert.issue",
        node = node.as_str(),
        serial = %serial,
        not_after = %not_after,
    );
}

/// `admin.call`: a local user called the admin API. Calls that only look are at level debug: a monitor makes one a second.
pub fn admin_call(method: &str, path: &str, status: u16, uid: u32, pid: Option<i32>) {
    if method == "GET" {
        return tracing::debug!(target: TARGET, event = "admin.call", method, path, status, uid, client_pid = pid);
    }
    tracing::info!(target: TARGET, event = "admin.call", method, path, status, uid, client_pid = pid);
}
