//! Signed mesh documents on this host: kept on disk, brought into force, handed on.
//!
//! ```text
//!   peers ◀──▶ Switchboard ◀──▶ Neighbours ──┐  Gossip*  (what to ask of whom, what to tell whom)      transfer*  (in pieces)
//!   sources (etcd, https) ──▶ Handle ────────┼──▶ Distribution ──▶ verify (beside the runtime) ──▶ keep ──▶ the reload path
//!   adit publish ───────────▶ Handle ────────┘
//! ```
//!
//! `*` is pure. Nothing comes into force before it is on the disk together with its rank, so whatever ends the agent, it starts
//! with the old document or the new one, and never with an older one than it had.

mod driver;
mod exchange;
mod handle;
mod neighbours;
pub mod store;
mod transfer;

pub use driver::Distribution;
pub use handle::{Came, Fork, Handle, InForce, NotTaken, Shown, Signed};

use mesh_config::NodeName;

use crate::host::Host;
use crate::identity::published::Refused;
use crate::logging::audit;
use crate::refusals::{Layer, Refusal};
use crate::vocabulary::{Direction, SourceKind};

/// Notes where operators look that a document was not taken, and from whom.
pub(crate) fn refuse(host: &Host, peer: Option<&NodeName>, source: Option<SourceKind>, why: &Refused) {
    let from = source.map(|source| format!(" from {}", source.name())).unwrap_or_default();
    let detail = format!("a mesh document{from} was not taken: {why}");
    let refusal = Refusal {
        direction: Direction::In,
        peer: peer.cloned(),
        address: None,
        service: None,
        layer: Layer::Document,
        reason: why.name(),
        detail,
    };
    audit::mesh_document_refused((peer, source), why.name(), &why.to_string());
    host.metrics.refusal(refusal.layer, refusal.reason);
    host.recent().record(refusal, host.clock.now());
}
