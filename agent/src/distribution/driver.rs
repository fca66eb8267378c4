//! The task that owns what is known of signed documents: has each judged, kept, and brought into force.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::published::{Arrival, MAX_HEADS, Rank};
use mesh_config::{Digest, NodeName};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::handle::{Answer, Ask, By, Came, Fork, Handle, InForce, NotTaken, Shown, Signed};
use super::neighbours::Neighbours;
use super::refuse;
use super::store::{Had, Store, StoreError};
use crate::admin::backend::{Failure, FailureKind};
use crate::host::{Host, Phase};
use crate::identity::published::{Occasion, Published, Refused, Signer, verify};
use crate::logging::audit;
use crate::source::{Heard, MeshSource as _};

/// Requests to publish that wait for their turn.
const ASKS: usize = 4;
/// How often what may have passed is tried again: a disk that was full, a channel that was busy.
const AGAIN: Duration = Duration::from_secs(5);
/// Texts of documents whose digests are remembered.
const HAD: usize = 256;

/// Where a document came from.
enum Origin {
    Peer(NodeName, Digest),
    Asked(By, Answer),
}

/// What the tasks beside the runtime bring.
enum Done {
    Verified(Origin, Arc<[u8]>, Box<Result<Published, Refused>>),
    Kept(Store, Arc<Published>, Result<(), ca::Error>),
    Remembered(Store, Result<(), StoreError>),
    LookedAgain(Box<Option<Refused>>),
}

/// Owns what is known of signed documents, and brings the greatest into force.
pub struct Distribution {
    host: Arc<Host>,
    peers: Neighbours,
    asks: mpsc::Receiver<Ask>,
    tasks: JoinSet<Done>,
    /// At home while nothing is being written.
    store: Option<Store>,
    /// Who signed the documents that are known, and how they came.
    known: BTreeMap<Rank, (Signer, Came)>,
    had: VecDeque<Digest>,
    /// To be kept, and then brought into force.
    next: Option<Arc<Published>>,
    /// Could not be kept: tried again later.
    unkept: Option<Arc<Published>>,
    /// To be put into the history.
    past: Vec<Arc<Published>>,
    /// Those who wait until their document is kept.
    waiting: Vec<(Arc<Published>, Answer)>,
    trust_epoch: u64,
    /// What an operator should know.
    error: Option<String>,
    in_force: watch::Sender<Option<Arc<InForce>>>,
    shown: watch::Sender<Shown>,
}

impl Distribution {
    /// Begins with what the host has `had`, in the directory `dir`, whose lock this process holds.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn start(dir: &Path, host: Arc<Host>, had: Had) -> Result<(Self, Handle, Signed), ca::Error> {
        let store = Store::open(dir)?;
        let (sender, asks) = mpsc::channel(ASKS);
        let trust_epoch = host.snapshot.load().epochs.trust;
        let mut this = Self {
            peers: Neighbours::new(host.clone()),
            host,
            asks,
            tasks: JoinSet::new(),
            store: Some(store),
            known: BTreeMap::new(),
            had: had.before.into_iter().collect(),
            next: None,
            unkept: None,
            past: Vec::new(),
            waiting: Vec::new(),
            trust_epoch,
            error: None,
            in_force: watch::Sender::new(None),
            shown: watch::Sender::new(Shown::default()),
        };
        for why in had.unusable {
            tracing::warn!("a document of the history is left aside: {why}");
        }
        for document in &had.all {
            this.take_in(document);
        }
        if let Some(document) = had.in_force {
            this.past.push(document.clone());
            this.bring(document);
        }
        this.show();
        let handle = Handle { asks: sender, shown: this.shown.subscribe() };
        let in_force = this.in_force.subscribe();
        Ok((this, handle, in_force))
    }

    /// Runs until the agent drains.
    pub async fn run(mut self) {
        let host = self.host.clone();
        let draining = host.reached(Phase::Draining);
        tokio::pin!(draining);
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.work();
            tokio::select! {
                () = &mut draining => return,
                // What fails with a peer is that peer's business, and is told there.
                Ok(Heard::Document((peer, id, document))) = self.peers.next() => {
                    self.verify(Origin::Peer(peer, id), document);
                }
                Some(ask) = self.asks.recv() => self.verify(Origin::Asked(ask.by, ask.answer), ask.document),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done),
                    // Whoever runs this has the agent stop: what would be done next is not known.
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                _ = again.tick() => self.try_again(),
            }
        }
    }

    /// Writes what is to be written.
    fn work(&mut self) {
        let Some(mut store) = self.store.take() else { return };
        if let Some(document) = self.next.take() {
            let running = self.host.snapshot.load().mesh.digest();
            if self.in_force.borrow().is_none() {
                self.remember_text(running);
            }
            self.tasks.spawn(async move {
                let writing = spawn_blocking(move || {
                    let kept = store.keep(&document, Some(running));
                    Done::Kept(store, document, kept)
                });
                joined(writing).await
            });
        } else if let Some(document) = self.past.pop() {
            self.tasks.spawn(async move {
                let writing = spawn_blocking(move || {
                    let remembered = store.remember(&document);
                    Done::Remembered(store, remembered)
                });
                joined(writing).await
            });
        } else {
            self.store = Some(store);
        }
    }

    /// Has a document judged, before anything else is done with it. The machine and the queue of requests bound how many.
    fn verify(&mut self, from: Origin, document: Arc<[u8]>) {
        let (snapshot, now) = (self.host.snapshot.load_full(), self.host.clock.now());
        let bytes = document.clone();
        self.tasks.spawn(async move {
            let judging = spawn_blocking(move || {
                let trust = &snapshot.tls.judge().trust;
                verify(document, trust, Some(snapshot.mesh.name()), now, Occasion::Arrival)
            });
            Done::Verified(from, bytes, Box::new(joined(judging).await))
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Verified(Origin::Peer(peer, id), bytes, result) => {
                let result = result.and_then(|document| match document.rank().id == id {
                    true => Ok(Arc::new(document)),
                    false => Err(Refused::Replayed(document.rank())),
                });
                self.peers.verified(&peer, id, bytes, result.as_deref());
                if let Ok(document) = result {
                    self.arrived(&document, Came::Peer(peer));
                }
            }
            Done::Verified(Origin::Asked(by, answer), _, result) => self.handed_over(*result, by, answer),
            Done::Kept(store, document, Ok(())) => {
                self.store = Some(store);
                self.put_aside(document.clone());
                let rank = document.rank();
                self.error = None;
                self.bring(document);
                self.show();
                // One that a greater one has overtaken is kept by that as well.
                for (published, answer) in self.waiting.extract_if(.., |(published, _)| published.rank() <= rank) {
                    // Whoever asked may have gone.
                    answer.send(Ok(published)).ok();
                }
            }
            Done::Kept(store, document, Err(error)) => {
                self.store = Some(store);
                let text = format!("version {} is not in force: {error}", document.rank().version);
                tracing::error!("{text}");
                for (_, answer) in self.waiting.drain(..) {
                    let failure = Failure::new(FailureKind::Internal, error.code(), text.clone());
                    answer.send(Err(NotTaken::Failed(failure))).ok();
                }
                if let ca::Error::BelowFloor { rank, floor } = error {
                    refuse(&self.host, None, None, &Refused::Older { rank, floor });
                } else {
                    self.unkept = Some(document);
                }
                self.error = Some(text);
                self.show();
            }
            Done::Remembered(store, result) => {
                self.store = Some(store);
                if let Err(error) = result {
                    tracing::warn!("the history of the mesh could not be written: {error}");
                }
            }
            Done::LookedAgain(why) => {
                let text = why.map(|why| {
                    format!(
                        "the mesh document in force would not be taken at the next start, since other roots are accepted now: \
                         {why}; publish again with a publisher of theirs"
                    )
                });
                if let Some(text) = &text {
                    tracing::warn!("{text}");
                }
                self.error = text;
                self.show();
            }
        }
    }

    /// A publisher on this host has signed a document, or a source has one.
    fn handed_over(&mut self, result: Result<Published, Refused>, by: By, answer: Answer) {
        let document = match result.and_then(|document| self.place(document, by)) {
            Ok(document) => document,
            Err(why) => {
                refuse(&self.host, None, by.source(), &why);
                // Whoever asked may have gone.
                answer.send(Err(NotTaken::Refused(why))).ok();
                return;
            }
        };
        let arrival = self.peers.publish(&document);
        if arrival != Arrival::Known {
            self.arrived(&document, Came::from(by));
        }
        let (rank, kept) = (document.rank(), self.in_force.borrow().as_ref().map(|in_force| in_force.document.rank()));
        let wins = self.peers.heads().winner().is_some_and(|winner| winner.rank() == rank);
        if wins && kept != Some(rank) {
            self.waiting.push((document, answer));
        } else {
            answer.send(Ok(document)).ok();
        }
    }

    /// Whether a genuine document has a place among those that are known. A publisher's is the greatest, or has come already in
    /// another way. A source may have one as well that was published without knowing the one in force.
    fn place(&self, document: Published, by: By) -> Result<Arc<Published>, Refused> {
        let rank = document.rank();
        let Some(winner) = self.peers.heads().winner() else { return Ok(Arc::new(document)) };
        let floor = winner.rank();
        match by {
            By::Publisher if rank < floor => Err(Refused::Older { rank, floor }),
            By::Source(_) if rank < floor && winner.stands_on(rank) => Err(Refused::Older { rank, floor }),
            _ => Ok(Arc::new(document)),
        }
    }

    /// A publisher's document is among those that are known, or was too old for that.
    fn arrived(&mut self, document: &Arc<Published>, came: Came) {
        let rank = document.rank();
        let (peer, source) = (came.peer(), came.source());
        audit::mesh_document((peer, source), rank, &document.signer().name, &document.signer().serial);
        self.note(document, came);
        let heads = self.peers.heads();
        if heads.winner().is_some_and(|winner| winner.rank() == rank) {
            (self.next, self.unkept) = (Some(document.clone()), None);
        } else if heads.header(rank).is_some() {
            self.put_aside(document.clone());
        }
        self.bury();
        self.show();
    }

    /// Has a document put into the history: the latest, if they come faster than they can be written.
    fn put_aside(&mut self, document: Arc<Published>) {
        if self.past.len() >= MAX_HEADS {
            self.past.remove(0);
        }
        self.past.push(document);
    }

    /// Takes in what lay on the disk.
    fn take_in(&mut self, document: &Arc<Published>) {
        if self.peers.publish(document) != Arrival::TooOld {
            self.note(document, Came::Disk);
        }
        self.remember_text(document.header().document());
    }

    fn remember_text(&mut self, digest: Digest) {
        if !self.had.contains(&digest) {
            self.had.truncate(HAD - 1);
            self.had.push_front(digest);
        }
    }

    fn note(&mut self, document: &Published, came: Came) {
        self.remember_text(document.header().document());
        self.known.entry(document.rank()).or_insert_with(|| (document.signer().clone(), came));
        let heads = self.peers.heads();
        self.known.retain(|rank, _| heads.header(*rank).is_some());
    }

    /// Brings what is on the disk into force.
    fn bring(&self, document: Arc<Published>) {
        self.host.metrics.mesh_refresh_by(document.header().refresh_by());
        let removed = Arc::new(self.peers.heads().tombstones().clone());
        let had = self.had.iter().copied().collect();
        self.in_force.send_replace(Some(Arc::new(InForce { document, had, removed })));
    }

    /// A document that does not come into force may say of more nodes that they were taken out, too.
    fn bury(&self) {
        let removed = self.peers.heads().tombstones();
        self.in_force.send_if_modified(|in_force| {
            let Some(known) = in_force.as_mut().filter(|known| *known.removed != *removed) else { return false };
            *known = Arc::new(InForce { removed: Arc::new(removed.clone()), ..InForce::clone(known) });
            true
        });
    }

    fn show(&self) {
        let forks: Vec<_> = self.peers.heads().forks().into_iter().map(|header| header.rank()).collect();
        self.host.metrics.mesh_forks(forks.len());
        let signer = |rank| self.known.get(&rank).map(|(signer, _)| signer.name.clone());
        let forks = forks.into_iter().map(|rank| Fork { rank, signer: signer(rank) }).collect();
        let in_force = self.in_force.borrow().as_ref().map(|in_force| in_force.document.clone());
        let came =
            in_force.as_ref().and_then(|document| self.known.get(&document.rank())).map(|(_, came)| came.clone());
        self.shown.send_replace(Shown { in_force, came, forks, error: self.error.clone() });
    }

    /// Another try for what may have passed: other roots, a clock that has moved on, a channel that was busy.
    fn try_again(&mut self) {
        if let Some(document) = self.unkept.take() {
            self.next.get_or_insert(document);
        }
        let trust = self.host.snapshot.load().epochs.trust;
        let other_roots = std::mem::replace(&mut self.trust_epoch, trust) != trust;
        if other_roots {
            self.look_again();
        }
        self.peers.try_again(other_roots);
    }

    /// Other roots are in force: whether the document in force would still be taken at the next start.
    fn look_again(&mut self) {
        let Some(in_force) = self.in_force.borrow().clone() else { return };
        let (snapshot, now) = (self.host.snapshot.load_full(), self.host.clock.now());
        self.tasks.spawn(async move {
            let judging = spawn_blocking(move || {
                let (trust, mesh) = (&snapshot.tls.judge().trust, Some(snapshot.mesh.name()));
                verify(in_force.document.bytes().clone(), trust, mesh, now, Occasion::Kept).err()
            });
            Done::LookedAgain(Box::new(joined(judging).await))
        });
    }
}

/// What a task beside the runtime gave. Nothing of ours panics there; if it did, the agent would have to stop.
async fn joined<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled with the runtime: nobody waits any more.
            Err(_) => std::future::pending().await,
        },
    }
}
