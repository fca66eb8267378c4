//! What is known of a peer, and how often it is talked to.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::Digest;
use crate::published::{Heads, Rank};

/// The most refused documents that are remembered of a peer.
const MAX_REFUSED: usize = 64;
/// The most documents that are remembered as handed to a peer lately.
const MAX_HANDED: usize = crate::published::MAX_HEADS;

/// How often things happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The least time between two summaries to a peer.
    pub gap: Duration,
    /// After how long a summary is sent again though nothing has changed.
    pub again: Duration,
    /// How long a peer may take to hand over a document.
    pub patience: Duration,
    /// How long a peer is asked for nothing after its first refused document or unanswered question. It doubles.
    pub grudge: Duration,
    /// The longest that becomes.
    pub longest_grudge: Duration,
    /// The least time between two times that a document is handed to the same peer.
    pub rehand: Duration,
    /// Messages that a peer may send at once, summaries and questions.
    pub burst: u32,
    /// In what time one of them is allowed anew.
    pub refill: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gap: Duration::from_millis(200),
            again: Duration::from_secs(60),
            patience: Duration::from_secs(30),
            grudge: Duration::from_secs(1),
            longest_grudge: Duration::from_secs(600),
            rehand: Duration::from_secs(5),
            burst: 64,
            refill: Duration::from_millis(50),
        }
    }
}

/// One peer, connected or not: what it did wrong is not forgotten with its connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connected: bool,
    /// Its last summary.
    pub(super) offers: Vec<Rank>,
    /// What it was asked for, and until when it may take.
    pub(super) asked: Option<(Rank, Duration)>,
    /// What it asked for and is owed.
    pub(super) owed: Option<Digest>,
    /// The summary that it was told last on this connection, and when.
    pub(super) told: Option<(Vec<Rank>, Duration)>,
    refused: VecDeque<Digest>,
    handed: VecDeque<(Digest, Duration)>,
    strikes: u32,
    quiet_until: Duration,
    tokens: u32,
    refilled: Duration,
}

impl Peer {
    pub(super) fn new(pace: &Pace, now: Duration) -> Self {
        Self {
            connected: false,
            offers: Vec::new(),
            asked: None,
            owed: None,
            told: None,
            refused: VecDeque::new(),
            handed: VecDeque::new(),
            strikes: 0,
            quiet_until: Duration::ZERO,
            tokens: pace.burst,
            refilled: now,
        }
    }

    /// A connection begins or ends: nothing is under way on it.
    pub(super) fn reset(&mut self, connected: bool) {
        self.connected = connected;
        self.offers.clear();
        self.asked = None;
        self.owed = None;
        self.told = None;
    }

    /// Whether one more message of it is within its allowance.
    pub(super) fn spend(&mut self, pace: &Pace, now: Duration) -> bool {
        let refill = pace.refill.max(Duration::from_nanos(1));
        let earned = now.saturating_sub(self.refilled).as_nanos() / refill.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(pace.burst);
            self.refilled = if self.tokens == pace.burst { now } else { self.refilled + refill * earned };
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    /// When it may next be told a summary, if it has to be told this one.
    pub(super) fn summary_due(&self, summary: &[Rank], pace: &Pace) -> Option<Duration> {
        match (&self.told, self.connected) {
            (_, false) => None,
            (None, true) => Some(Duration::ZERO),
            // Who just said the very same knows it already.
            (Some((told, at)), true) if *told == summary || self.offers == summary => Some(*at + pace.again),
            (Some((_, at)), true) => Some(*at + pace.gap),
        }
    }

    /// The greatest document that it offers and that is wanted of it.
    pub(super) fn wanted(&self, heads: &Heads, under_way: impl Fn(Rank) -> bool) -> Option<Rank> {
        let free = self.connected && self.asked.is_none();
        let wanted = |rank: &&Rank| {
            heads.would_keep(**rank)
                && heads.header(**rank).is_none()
                && !self.refused.contains(&rank.id)
                && !under_way(**rank)
        };
        self.offers.iter().filter(|_| free).filter(wanted).max().copied()
    }

    /// Until when it is asked for nothing.
    pub(super) fn quiet_until(&self) -> Duration {
        self.quiet_until
    }

    /// It handed over what it should not have, or nothing at all.
    pub(super) fn strike(&mut self, pace: &Pace, now: Duration) {
        let grudge = pace.grudge.saturating_mul(1 << self.strikes.min(20)).min(pace.longest_grudge);
        self.strikes = self.strikes.saturating_add(1);
        self.quiet_until = now + grudge;
    }

    pub(super) fn forgive(&mut self) {
        self.strikes = 0;
    }

    pub(super) fn refuse(&mut self, id: Digest) {
        if self.refused.len() == MAX_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(id);
    }

    /// When a document may be handed to it, again if it was before.
    pub(super) fn hand_due(&self, id: Digest, pace: &Pace) -> Duration {
        let last = self.handed.iter().filter(|(handed, _)| *handed == id).map(|(_, at)| *at).max();
        let full =
            self.handed.len().checked_sub(MAX_HANDED).and_then(|first| self.handed.get(first)).map(|(_, at)| *at);
        last.max(full).map_or(Duration::ZERO, |at| at + pace.rehand)
    }

    /// It is handed to it now.
    pub(super) fn handed(&mut self, id: Digest, pace: &Pace, now: Duration) {
        self.handed.retain(|(_, at)| *at + pace.rehand > now);
        self.handed.push_back((id, now));
    }
}
