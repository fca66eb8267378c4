//! What the rest of the agent sees of the [`Distribution`](super::Distribution).

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_config::published::{Rank, Tombstones};
use mesh_config::{Digest, NodeName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::backend::{Failure, FailureKind};
use crate::identity::published::{Published, Refused};
use crate::vocabulary::SourceKind;

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

/// How a document came to this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It lay on the disk when the agent started.
    Disk,
    /// By `adit publish` on this host.
    Publish,
    /// From a peer.
    Peer(NodeName),
    /// From another source.
    Source(SourceKind),
}

impl Came {
    /// A stable name, for JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Publish => "publish",
            Self::Peer(_) => "peer",
            Self::Source(kind) => kind.name(),
        }
    }

    /// The peer that it came from.
    pub fn peer(&self) -> Option<&NodeName> {
        match self {
            Self::Peer(peer) => Some(peer),
            _ => None,
        }
    }

    pub(super) fn source(&self) -> Option<SourceKind> {
        match self {
            Self::Source(kind) => Some(*kind),
            _ => None,
        }
    }
}

/// Who hands a document over on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// `adit publish`.
    Publisher,
    /// A source.
    Source(SourceKind),
}

impl By {
    pub(super) fn source(self) -> Option<SourceKind> {
        match self {
            Self::Publisher => None,
            Self::Source(kind) => Some(kind),
        }
    }
}

impl From<By> for Came {
    fn from(by: By) -> Self {
        match by {
            By::Publisher => Self::Publish,
            By::Source(kind) => Self::Source(kind),
        }
    }
}

/// Why a document is not in force that was handed over.
#[derive(Debug)]
pub enum NotTaken {
    /// It is refused.
    Refused(Refused),
    /// It could not be kept, or the agent is stopping.
    Failed(Failure),
}

/// How it stands, for `status`.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The document in force, if the mesh is signed.
    pub in_force: Option<Arc<Published>>,
    /// How it came.
    pub came: Option<Came>,
    /// What nobody has merged.
    pub forks: Vec<Fork>,
    /// Why a newer document is not in force.
    pub error: Option<String>,
}

pub(super) type Answer = oneshot::Sender<Result<Arc<Published>, NotTaken>>;

/// A document that is handed over, by whom, and who waits for the answer.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) document: Arc<[u8]>,
    pub(super) by: By,
    pub(super) answer: Answer,
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
        self.ask(document, By::Publisher).await.map_err(|why| match why {
            NotTaken::Refused(why) => {
                Failure::new(FailureKind::Refused, why.name(), why.to_string()).with_hint(why.hint())
            }
            NotTaken::Failed(failure) => failure,
        })
    }

    /// Takes in what a source has. When this returns it is on the disk if it is the greatest; one that was known is no failure.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn offer(&self, document: Arc<[u8]>, source: SourceKind) -> Result<Arc<Published>, NotTaken> {
        self.ask(document, By::Source(source)).await
    }

    async fn ask(&self, document: Arc<[u8]>, by: By) -> Result<Arc<Published>, NotTaken> {
        let (answer, told) = oneshot::channel();
        let stopping = || NotTaken::Failed(Failure::new(FailureKind::Unavailable, "draining", "the agent is stopping"));
        self.asks.send(Ask { document, by, answer }).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }
}

#[cfg(test)]
impl Handle {
    /// One behind which this judges, for as long as what is returned beside it runs.
    pub(crate) fn judged_by(
        judge: impl Fn(Arc<[u8]>) -> Result<Arc<Published>, NotTaken>,
    ) -> (Self, impl Future<Output = ()>) {
        let (asks, mut asked) = mpsc::channel::<Ask>(1);
        let shown = watch::channel(Shown::default()).1;
        let judges = async move {
            while let Some(ask) = asked.recv().await {
                // Who asked may have gone.
                ask.answer.send(judge(ask.document)).ok();
            }
        };
        (Self { asks, shown }, judges)
    }
}
