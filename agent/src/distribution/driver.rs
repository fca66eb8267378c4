//! The task that owns what is known of signed documents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::gossip::{Gossip, Message, Output, Pace, Verdict};
use mesh_config::published::{Arrival, MAX_HEADS, Rank};
use mesh_config::{Digest, NodeName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::handle::{Ask, Fork, Handle, InForce, Shown, Signed};
use super::store::{Had, Store, StoreError};
use super::transfer::{Fetch, Serving};
use crate::admin::backend::{Failure, FailureKind};
use crate::host::{Host, Phase};
use crate::identity::published::{Occasion, Published, Refused, Signer, verify};
use crate::logging::audit;
use crate::peers::control::Said;
use crate::peers::gossip::Line;
use crate::refusals::{Layer, Refusal};
use crate::vocabulary::Direction;

/// Requests to publish that wait for their turn.
const ASKS: usize = 4;
/// How often what may have passed is tried again: a disk that was full, a channel that was busy.
const AGAIN: Duration = Duration::from_secs(5);
/// After how many of these times a peer is asked anew whose document had a signer who was not yet valid: what it did wrong is
/// forgotten by that.
const LATER: u32 = 12;
/// Texts of documents whose digests are remembered.
const HAD: usize = 256;

type Answer = oneshot::Sender<Result<Arc<Published>, Failure>>;

/// Where a document came from.
enum Origin {
    Peer(NodeName, Digest),
    Here(Answer),
}

/// What the tasks beside the runtime bring.
enum Done {
    Verified(Origin, Arc<[u8]>, Box<Result<Published, Refused>>),
    Kept(Store, Arc<Published>, Result<(), ca::Error>),
    Remembered(Store, Result<(), StoreError>),
    LookedAgain(Box<Option<Refused>>),
}

/// A linked peer.
pub(super) struct Linked {
    pub(super) line: Line,
    /// What it said that it knows.
    pub(super) offers: Vec<Rank>,
    pub(super) fetch: Option<Fetch>,
    pub(super) serving: Option<Serving>,
}

/// Owns what is known of signed documents, and brings the greatest into force.
pub struct Distribution {
    pub(super) host: Arc<Host>,
    pub(super) gossip: Gossip,
    began: Instant,
    said: mpsc::Receiver<Said>,
    asks: mpsc::Receiver<Ask>,
    pub(super) linked: BTreeMap<NodeName, Linked>,
    /// What was said on connections that are not yet shown: the last summary of each peer.
    pub(super) early: BTreeMap<NodeName, (u64, Vec<Rank>)>,
    tasks: JoinSet<Done>,
    /// At home while nothing is being written.
    store: Option<Store>,
    signers: BTreeMap<Rank, Signer>,
    had: VecDeque<Digest>,
    /// To be kept, and then brought into force.
    next: Option<Arc<Published>>,
    /// Could not be kept: tried again later.
    unkept: Option<Arc<Published>>,
    /// To be put into the history.
    past: Vec<Arc<Published>>,
    /// Those who wait until their document is kept.
    waiting: Vec<(Arc<Published>, Answer)>,
    /// Peers whose documents may be taken at another time.
    again: BTreeSet<NodeName>,
    /// Peers whose channel was too busy for what was to be said.
    pub(super) busy: BTreeSet<NodeName>,
    /// Ticks since the former were tried.
    ticks: u32,
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
        let (never, closed) = mpsc::channel(1);
        drop(never);
        let trust_epoch = host.snapshot.load().epochs.trust;
        let mut this = Self {
            said: host.gossip.said().unwrap_or(closed),
            host,
            gossip: Gossip::new(Pace::default()),
            began: Instant::now(),
            asks,
            linked: BTreeMap::new(),
            early: BTreeMap::new(),
            tasks: JoinSet::new(),
            store: Some(store),
            signers: BTreeMap::new(),
            had: had.before.into_iter().collect(),
            next: None,
            unkept: None,
            past: Vec::new(),
            waiting: Vec::new(),
            again: BTreeSet::new(),
            busy: BTreeSet::new(),
            ticks: 0,
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
            self.relink();
            self.work();
            let timeout = self.gossip.next_timeout().map(|at| self.began + at);
            tokio::select! {
                () = &mut draining => return,
                Some(said) = self.said.recv() => self.hear(said),
                Some(ask) = self.asks.recv() => self.verify(Origin::Here(ask.answer), ask.document),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done),
                    // Whoever runs this has the agent stop: what would be done next is not known.
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                () = host.gossip.changed() => {}
                () = at(timeout) => {}
                _ = again.tick() => self.try_again(),
            }
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Does what the machine wants, and what is to be written.
    fn work(&mut self) {
        while let Some(output) = self.gossip.poll(self.now()) {
            match output {
                Output::Send { to, message } => self.send(&to, message),
                Output::Judge { from, id, document } => self.verify(Origin::Peer(from, id), document),
            }
        }
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
                let verdict = match &result {
                    Ok(document) => Verdict::Genuine(document.header().clone()),
                    Err(why) => {
                        self.refuse(Some(&peer), why);
                        if why.may_pass() {
                            self.again.insert(peer.clone());
                        }
                        Verdict::Refused
                    }
                };
                let now = self.now();
                self.gossip.judged(&peer, id, bytes, verdict, now);
                if let Ok(document) = result {
                    self.arrived(&document, Some(&peer));
                }
            }
            Done::Verified(Origin::Here(answer), _, result) => self.published(*result, answer),
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
                    answer.send(Err(failure)).ok();
                }
                if let ca::Error::BelowFloor { rank, floor } = error {
                    self.refuse(None, &Refused::Older { rank, floor });
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

    /// A publisher on this host has signed a document.
    fn published(&mut self, result: Result<Published, Refused>, answer: Answer) {
        let result = result.and_then(|document| {
            let rank = document.rank();
            match self.gossip.heads().winner().map(|winner| winner.rank()) {
                Some(winner) if winner == rank => Err(Refused::Replayed(rank)),
                Some(floor) if rank < floor => Err(Refused::Older { rank, floor }),
                _ => Ok(Arc::new(document)),
            }
        });
        match result {
            Ok(document) => {
                self.gossip.publish(document.header().clone(), document.bytes().clone());
                self.waiting.push((document.clone(), answer));
                self.arrived(&document, None);
            }
            Err(why) => {
                self.refuse(None, &why);
                let failure = Failure::new(FailureKind::Refused, why.name(), why.to_string()).with_hint(why.hint());
                answer.send(Err(failure)).ok();
            }
        }
    }

    /// A publisher's document is among those that are known, or was too old for that.
    fn arrived(&mut self, document: &Arc<Published>, peer: Option<&NodeName>) {
        let rank = document.rank();
        audit::mesh_document(peer, rank, &document.signer().name, &document.signer().serial);
        self.note(document);
        let heads = self.gossip.heads();
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
        if self.gossip.publish(document.header().clone(), document.bytes().clone()) != Arrival::TooOld {
            self.note(document);
        }
        self.remember_text(document.header().document());
    }

    fn remember_text(&mut self, digest: Digest) {
        if !self.had.contains(&digest) {
            self.had.truncate(HAD - 1);
            self.had.push_front(digest);
        }
    }

    fn note(&mut self, document: &Published) {
        self.remember_text(document.header().document());
        self.signers.insert(document.rank(), document.signer().clone());
        let heads = self.gossip.heads();
        self.signers.retain(|rank, _| heads.header(*rank).is_some());
    }

    /// Brings what is on the disk into force.
    fn bring(&self, document: Arc<Published>) {
        self.host.metrics.mesh_refresh_by(document.header().refresh_by());
        let removed = Arc::new(self.gossip.heads().tombstones().clone());
        let had = self.had.iter().copied().collect();
        self.in_force.send_replace(Some(Arc::new(InForce { document, had, removed })));
    }

    /// A document that does not come into force may say of more nodes that they were taken out, too.
    fn bury(&self) {
        let removed = self.gossip.heads().tombstones();
        self.in_force.send_if_modified(|in_force| {
            let Some(known) = in_force.as_mut().filter(|known| *known.removed != *removed) else { return false };
            *known = Arc::new(InForce { removed: Arc::new(removed.clone()), ..InForce::clone(known) });
            true
        });
    }

    fn show(&self) {
        let forks: Vec<_> = self.gossip.heads().forks().into_iter().map(|header| header.rank()).collect();
        self.host.metrics.mesh_forks(forks.len());
        let signer = |rank| self.signers.get(&rank).map(|signer| signer.name.clone());
        let forks = forks.into_iter().map(|rank| Fork { rank, signer: signer(rank) }).collect();
        let in_force = self.in_force.borrow().as_ref().map(|in_force| in_force.document.clone());
        self.shown.send_replace(Shown { in_force, forks, error: self.error.clone() });
    }

    /// Notes a refusal where operators look.
    pub(super) fn refuse(&self, peer: Option<&NodeName>, why: &Refused) {
        let detail = format!("a mesh document was not taken: {why}");
        let refusal = Refusal {
            direction: Direction::In,
            peer: peer.cloned(),
            address: None,
            service: None,
            layer: Layer::Document,
            reason: why.name(),
            detail,
        };
        audit::mesh_document_refused(peer, why.name(), &why.to_string());
        self.host.metrics.refusal(refusal.layer, refusal.reason);
        self.host.recent().record(refusal, self.host.clock.now());
    }

    /// Another try for what may have passed: other roots, a clock that has moved on, a channel that was busy.
    fn try_again(&mut self) {
        if let Some(document) = self.unkept.take() {
            self.next.get_or_insert(document);
        }
        let trust = self.host.snapshot.load().epochs.trust;
        if std::mem::replace(&mut self.trust_epoch, trust) != trust {
            // Who was a stranger may be one no more, and the other way round.
            self.again.extend(self.linked.keys().cloned());
            self.ticks = LATER;
            self.look_again();
        }
        self.ticks = self.ticks.saturating_add(1);
        let now = self.now();
        if self.ticks > LATER {
            self.ticks = 0;
            for peer in std::mem::take(&mut self.again) {
                self.gossip.forget(&peer);
                self.busy.insert(peer);
            }
        }
        for peer in std::mem::take(&mut self.busy) {
            if let Some(linked) = self.linked.get_mut(&peer) {
                linked.fetch = None;
                self.gossip.connected(&peer, now);
                self.gossip.received(&peer, Message::Summary(linked.offers.clone()), now);
            }
        }
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

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
