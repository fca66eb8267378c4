//! The exchange itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Digest;
use crate::name::NodeName;
use crate::published::{Arrival, Header, Heads, Rank};

use super::message::{MAX_DOCUMENT, Message};
use super::peer::{Pace, Peer};

/// The most documents that are under way at a time: asked for, or handed over and not yet judged.
pub const MAX_FETCHES: usize = 4;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeName,
        /// What.
        message: Message,
    },
    /// Verify a document, and say with [`Gossip::judged`] what came of it.
    Judge {
        /// Who handed it over.
        from: NodeName,
        /// What its identity has to be.
        id: Digest,
        /// The signed document.
        document: Arc<[u8]>,
    },
}

/// What came of verifying a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is what a publisher of this mesh signed.
    Genuine(Arc<Header>),
    /// It is not.
    Refused,
}

/// How often something was not as it should be, since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages of peers that are not connected, that nobody asked for, or that break a limit.
    pub improper: u64,
    /// Messages above a peer's allowance.
    pub excessive: u64,
    /// Documents that were refused.
    pub refused: u64,
    /// Questions that were not answered in time, or with nothing.
    pub unanswered: u64,
}

/// A node's side of the exchange. Times are measured from any fixed moment on, by a clock that does not step.
#[derive(Debug, Default)]
pub struct Gossip {
    pace: Pace,
    heads: Heads,
    documents: BTreeMap<Rank, Arc<[u8]>>,
    summary: Vec<Rank>,
    peers: BTreeMap<NodeName, Peer>,
    /// Handed over, and not yet given out for judgement.
    arrived: Vec<(NodeName, Digest, Arc<[u8]>)>,
    /// Given out for judgement.
    judging: Vec<(NodeName, Rank)>,
    counts: Counts,
}

impl Gossip {
    /// One that knows nothing.
    pub fn new(pace: Pace) -> Self {
        Self { pace, ..Self::default() }
    }

    /// Takes in a document that was verified here: read from the disk, or just published.
    pub fn publish(&mut self, header: Arc<Header>, document: Arc<[u8]>) -> Arrival {
        let rank = header.rank();
        let arrival = self.heads.insert(header);
        if matches!(arrival, Arrival::Wins | Arrival::Kept) {
            self.documents.insert(rank, document);
            self.documents.retain(|rank, _| self.heads.header(*rank).is_some());
            self.summary = self.heads.known().map(|header| header.rank()).collect();
        }
        arrival
    }

    /// A link to a peer came up, or was replaced by another one.
    pub fn connected(&mut self, peer: &NodeName, now: Duration) {
        let pace = self.pace;
        self.peers.entry(peer.clone()).or_insert_with(|| Peer::new(&pace, now)).reset(true);
    }

    /// The link to a peer is gone.
    pub fn disconnected(&mut self, peer: &NodeName) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.reset(false);
        }
    }

    /// A peer is no more a neighbour or no more a member: nothing of it is remembered.
    pub fn forget(&mut self, peer: &NodeName) {
        self.peers.remove(peer);
    }

    /// Whether a document of `length` bytes may be read from a peer now. To be asked before memory is taken for it.
    pub fn expects(&self, peer: &NodeName, id: Digest, length: usize) -> bool {
        let asked = self.peers.get(peer).and_then(|peer| peer.asked.as_ref());
        length <= MAX_DOCUMENT && asked.is_some_and(|(rank, _)| rank.id == id)
    }

    /// A message came.
    pub fn received(&mut self, from: &NodeName, message: Message, now: Duration) {
        let Some(peer) = self.peers.get_mut(from).filter(|peer| peer.connected) else {
            self.counts.improper += 1;
            return;
        };
        if let Message::Hand { id, document } = message {
            // What was asked for is welcome whatever the allowance says.
            return self.handed(from, id, document, now);
        }
        if !peer.spend(&self.pace, now) {
            self.counts.excessive += 1;
        } else if !message.keeps_limits() {
            self.counts.improper += 1;
        } else {
            match message {
                Message::Summary(ranks) => peer.offers = ranks,
                // One at a time: who asks again before the answer gets the latter alone.
                Message::Ask(id) => {
                    self.counts.excessive += u64::from(peer.hand_due(id, &self.pace) > now);
                    peer.owed = Some(id);
                }
                Message::Hand { .. } => {}
            }
        }
    }

    fn handed(&mut self, from: &NodeName, id: Digest, document: Option<Arc<[u8]>>, now: Duration) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        let Some((rank, _)) = peer.asked.filter(|(rank, _)| rank.id == id) else {
            self.counts.improper += 1;
            return;
        };
        peer.asked = None;
        match document {
            Some(bytes) if bytes.len() <= MAX_DOCUMENT => {
                self.judging.push((from.clone(), rank));
                self.arrived.push((from.clone(), id, bytes));
            }
            Some(_) => self.refuse(from, rank, now),
            None => {
                self.counts.unanswered += 1;
                peer.offers.retain(|offer| *offer != rank);
            }
        }
    }

    /// What came of an [`Output::Judge`]. `document` is the one that came with it.
    pub fn judged(&mut self, from: &NodeName, id: Digest, document: Arc<[u8]>, verdict: Verdict, now: Duration) {
        let Some(at) = self.judging.iter().position(|(peer, rank)| peer == from && rank.id == id) else { return };
        let (_, rank) = self.judging.swap_remove(at);
        match verdict {
            Verdict::Genuine(header) if header.rank() == rank => {
                self.publish(header, document);
                if let Some(peer) = self.peers.get_mut(from) {
                    peer.forgive();
                }
            }
            // A genuine one that is not what was offered is no better: the offer was a lie.
            Verdict::Genuine(_) | Verdict::Refused => self.refuse(from, rank, now),
        }
    }

    fn refuse(&mut self, from: &NodeName, rank: Rank, now: Duration) {
        self.counts.refused += 1;
        if let Some(peer) = self.peers.get_mut(from) {
            peer.refuse(rank.id);
            peer.strike(&self.pace, now);
        }
    }

    /// The next thing to do at `now`; nothing until something happens or [`Gossip::next_timeout`] is reached.
    pub fn poll(&mut self, now: Duration) -> Option<Output> {
        if let Some((from, id, document)) = self.arrived.pop() {
            return Some(Output::Judge { from, id, document });
        }
        self.expire(now);
        self.answer(now).or_else(|| self.tell(now)).or_else(|| self.ask(now))
    }

    fn expire(&mut self, now: Duration) {
        for peer in self.peers.values_mut() {
            if let Some((rank, until)) = peer.asked
                && until <= now
            {
                peer.asked = None;
                peer.offers.retain(|offer| *offer != rank);
                peer.strike(&self.pace, now);
                self.counts.unanswered += 1;
            }
        }
    }

    fn answer(&mut self, now: Duration) -> Option<Output> {
        for (name, peer) in &mut self.peers {
            // What was handed to it lately may have been lost with its run, or with a link: it gets it again, only later.
            let Some(id) = peer.owed.filter(|id| peer.hand_due(*id, &self.pace) <= now) else { continue };
            peer.owed = None;
            peer.handed(id, &self.pace, now);
            let document = self.documents.iter().find(|(rank, _)| rank.id == id).map(|(_, bytes)| bytes.clone());
            return Some(Output::Send { to: name.clone(), message: Message::Hand { id, document } });
        }
        None
    }

    fn tell(&mut self, now: Duration) -> Option<Output> {
        let due = |peer: &Peer| peer.summary_due(&self.summary, &self.pace).is_some_and(|at| at <= now);
        let (name, peer) = self.peers.iter_mut().find(|(_, peer)| due(peer))?;
        peer.told = Some((self.summary.clone(), now));
        Some(Output::Send { to: name.clone(), message: Message::Summary(self.summary.clone()) })
    }

    /// The greatest document that anybody offers and nobody is fetching, of the first peer that may be asked for it.
    fn ask(&mut self, now: Duration) -> Option<Output> {
        let (rank, name) = self.wanted().filter(|(_, _, quiet)| *quiet <= now).map(|(r, n, _)| (r, n)).max()?;
        let (name, until) = (name.clone(), now + self.pace.patience);
        self.peers.get_mut(&name)?.asked = Some((rank, until));
        Some(Output::Send { to: name, message: Message::Ask(rank.id) })
    }

    /// For each peer the document that is wanted of it, and until when it is asked for nothing.
    fn wanted(&self) -> impl Iterator<Item = (Rank, &NodeName, Duration)> {
        let under_way: Vec<Rank> = self.under_way().collect();
        let free = under_way.len() < MAX_FETCHES;
        self.peers.iter().filter(move |_| free).filter_map(move |(name, peer)| {
            let rank = peer.wanted(&self.heads, |rank| under_way.contains(&rank))?;
            Some((rank, name, peer.quiet_until()))
        })
    }

    fn under_way(&self) -> impl Iterator<Item = Rank> {
        let asked = self.peers.values().filter_map(|peer| peer.asked.map(|(rank, _)| rank));
        asked.chain(self.judging.iter().map(|(_, rank)| *rank))
    }

    /// When to poll next if nothing happens until then; poll first.
    pub fn next_timeout(&self) -> Option<Duration> {
        let told = self.peers.values().filter_map(|peer| peer.summary_due(&self.summary, &self.pace));
        let asked = self.peers.values().filter_map(|peer| peer.asked.map(|(_, until)| until));
        let owed = self.peers.values().filter_map(|peer| peer.owed.map(|id| peer.hand_due(id, &self.pace)));
        told.chain(asked).chain(owed).chain(self.wanted().map(|(_, _, quiet)| quiet)).min()
    }

    /// What is known.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// A document that is known, as it was signed.
    pub fn document(&self, rank: Rank) -> Option<&Arc<[u8]>> {
        self.documents.get(&rank)
    }

    /// What was not as it should be.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
