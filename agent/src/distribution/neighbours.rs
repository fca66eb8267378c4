//! The peers as a source of signed documents: what to ask of whom, what to tell whom, and what they hand over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::gossip::{Gossip, Message, Output, Pace, Verdict};
use mesh_config::published::{Arrival, Heads, Rank};
use mesh_config::{Digest, NodeName};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::refuse;
use super::transfer::{Fetch, Serving};
use crate::host::Host;
use crate::identity::published::{Published, Refused};
use crate::peers::control::Said;
use crate::peers::gossip::Line;
use crate::source::{Heard, MeshSource, SourceError};
use crate::vocabulary::SourceKind;

/// After how many tries of what may have passed a peer is asked anew whose document had a signer who was not yet valid: what it
/// did wrong is forgotten by that.
const LATER: u32 = 12;

/// A linked peer.
pub(super) struct Linked {
    pub(super) line: Line,
    /// What it said that it knows.
    pub(super) offers: Vec<Rank>,
    pub(super) fetch: Option<Fetch>,
    pub(super) serving: Option<Serving>,
}

/// The peers that are linked, and what is known of documents by them and by all else.
pub(super) struct Neighbours {
    pub(super) host: Arc<Host>,
    pub(super) gossip: Gossip,
    began: Instant,
    said: mpsc::Receiver<Said>,
    pub(super) linked: BTreeMap<NodeName, Linked>,
    /// What was said on connections that are not yet shown: the last summary of each peer.
    pub(super) early: BTreeMap<NodeName, (u64, Vec<Rank>)>,
    /// Peers whose documents may be taken at another time.
    again: BTreeSet<NodeName>,
    /// Peers whose channel was too busy for what was to be said.
    pub(super) busy: BTreeSet<NodeName>,
    /// Tries since the former were.
    tries: u32,
}

impl Neighbours {
    /// Nobody is linked, and nothing is known.
    pub(super) fn new(host: Arc<Host>) -> Self {
        let (never, closed) = mpsc::channel(1);
        drop(never);
        Self {
            said: host.gossip.said().unwrap_or(closed),
            host,
            gossip: Gossip::new(Pace::default()),
            began: Instant::now(),
            linked: BTreeMap::new(),
            early: BTreeMap::new(),
            again: BTreeSet::new(),
            busy: BTreeSet::new(),
            tries: 0,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The documents that are known.
    pub(super) fn heads(&self) -> &Heads {
        self.gossip.heads()
    }

    /// Takes in a document that has come in another way, to be handed on.
    pub(super) fn publish(&mut self, document: &Published) -> Arrival {
        self.gossip.publish(document.header().clone(), document.bytes().clone())
    }

    /// What a peer has handed over was verified.
    pub(super) fn verified(
        &mut self,
        peer: &NodeName,
        id: Digest,
        bytes: Arc<[u8]>,
        result: Result<&Published, &Refused>,
    ) {
        let verdict = match result {
            Ok(document) => Verdict::Genuine(document.header().clone()),
            Err(why) => {
                refuse(&self.host, Some(peer), None, why);
                if why.may_pass() {
                    self.again.insert(peer.clone());
                }
                Verdict::Refused
            }
        };
        let now = self.now();
        self.gossip.judged(peer, id, bytes, verdict, now);
    }

    /// Another try for what may have passed: a clock that has moved on, a channel that was busy, `other_roots`.
    pub(super) fn try_again(&mut self, other_roots: bool) {
        if other_roots {
            // Who was a stranger may be one no more, and the other way round.
            self.again.extend(self.linked.keys().cloned());
            self.tries = LATER;
        }
        self.tries = self.tries.saturating_add(1);
        let now = self.now();
        if self.tries > LATER {
            self.tries = 0;
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
}

impl MeshSource for Neighbours {
    /// Who hands it over, what its identity has to be, and the signed document.
    type Document = (NodeName, Digest, Arc<[u8]>);

    fn kind(&self) -> SourceKind {
        SourceKind::Gossip
    }

    fn place(&self) -> String {
        "the peers".to_owned()
    }

    /// Goes on with the exchange until a document is whole. Dropping it loses nothing.
    async fn next(&mut self) -> Result<Heard<Self::Document>, SourceError> {
        let host = self.host.clone();
        loop {
            self.relink();
            while let Some(output) = self.gossip.poll(self.now()) {
                match output {
                    Output::Send { to, message } => self.send(&to, message),
                    Output::Judge { from, id, document } => return Ok(Heard::Document((from, id, document))),
                }
            }
            let timeout = self.gossip.next_timeout().map(|at| self.began + at);
            tokio::select! {
                Some(said) = self.said.recv() => self.hear(said),
                () = host.gossip.changed() => {}
                () = at(timeout) => {}
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
