//! What the rest of the agent sees of the [`Distribution`](super::Distribution).

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_config::published::{Rank, Tombstones};
use mesh_config::{Digest, NodeName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::backend::{Failure, FailureKind};
use crate::identity::published::Published;

/// The document that is to be in force.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The document.
    pub document: Arc<Published>,
    /// The digests of the texts of all signed documents that this host knows: a mesh file that says one of them is nobody's edit.
    pub had: BTreeSet<Digest>,
    /// The keys of nodes that were taken out of the mesh, by this document or any other that this host knows.
    pub removed: Arc<Tombstones>,
}

/// Follows the document that is to be in force; nothing in a mesh that is not signed.
pub type Signed = watch::Receiver<Option<Arc<InForce>>>;

/// A document that the one in force does not stand on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// Its place.
    pub rank: Rank,
    /// Who signed it.
    pub signer: Option<NodeName>,
}

/// How it stands, for `status`.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The document in force, if the mesh is signed.
    pub in_force: Option<Arc<Published>>,
    /// What nobody has merged.
    pub forks: Vec<Fork>,
    /// Why a newer document is not in force.
    pub error: Option<String>,
}

/// A document to be published, and who waits for the answer.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) document: Arc<[u8]>,
    pub(super) answer: oneshot::Sender<Result<Arc<Published>, Failure>>,
}

/// Asks the [`Distribution`](super::Distribution).
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) shown: watch::Receiver<Shown>,
}

impl Handle {
    /// How it stands.
    pub fn shown(&self) -> Shown {
        self.shown.borrow().clone()
    }

    /// Takes in a document that was signed just now. When this returns it is on the disk, and is handed on.
    ///
    /// # Errors
    /// Why it is refused, or that the agent is stopping.
    pub async fn publish(&self, document: Arc<[u8]>) -> Result<Arc<Published>, Failure> {
        let (answer, told) = oneshot::channel();
        let stopping = || Failure::new(FailureKind::Unavailable, "draining", "the agent is stopping");
        self.asks.send(Ask { document, answer }).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }
}
