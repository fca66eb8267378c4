//! What a link does to the packets that cross it in one direction.

use std::sync::Arc;
use std::time::Duration;

use crate::{Answer, Traffic};

/// The conditions of one direction of a link. The default is a clean link: everything arrives, in order, at once.
///
/// ```
/// # use std::time::Duration;
/// # use netsim::Conditions;
/// let far = Conditions::clean().delay(Duration::from_millis(20)).loss(0.01);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conditions {
    pub(crate) delay: Duration,
    pub(crate) jitter: Jitter,
    pub(crate) loss: Loss,
    pub(crate) reorder: Option<Reorder>,
    pub(crate) duplicate: f64,
    pub(crate) corrupt: f64,
    pub(crate) rate: Option<Rate>,
    pub(crate) black_hole: Option<u16>,
    pub(crate) blocked: Option<(Traffic, Answer)>,
}

/// What is added to or taken from the delay of each packet. Packets keep their order: what would overtake is held back.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Jitter {
    /// Nothing.
    #[default]
    None,
    /// Evenly from minus this to plus this.
    Uniform(Duration),
    /// Normally distributed with this deviation.
    Normal(Duration),
    /// What was measured elsewhere: delays in rising order, added to the link's own; each, and everything between two of
    /// them, is as likely as any other.
    Table(Arc<[Duration]>),
}

/// Which packets vanish.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with this probability, whatever happened to the one before.
    Independent(f64),
    /// In bursts (Gilbert 1960, Elliott 1963): each flow is in a good or a bad state, and moves between them with every
    /// packet.
    Bursts {
        /// The probability of turning bad, in the good state.
        enter: f64,
        /// The probability of turning good, in the bad state: one over the mean length of a burst.
        leave: f64,
        /// The probability that a packet is lost in the good state.
        good: f64,
        /// The probability that a packet is lost in the bad state.
        bad: f64,
    },
}

/// Which packets are overtaken by those behind them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reorder {
    /// Each with this probability.
    pub probability: f64,
    /// How much later they come.
    pub by: Duration,
}

/// A bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits a second, of whole Ethernet frames without preamble and check sequence.
    pub bits_per_second: u64,
    /// The bytes that may wait; a packet that finds more vanishes.
    pub queue: u64,
}

impl Conditions {
    /// A link that does nothing.
    #[must_use]
    pub fn clean() -> Self {
        Self::default()
    }

    /// Every packet takes this long.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The delay varies.
    #[must_use]
    pub fn jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    /// Packets vanish with this probability, independently of one another.
    #[must_use]
    pub fn loss(self, probability: f64) -> Self {
        self.lose(Loss::Independent(probability))
    }

    /// Packets vanish.
    #[must_use]
    pub fn lose(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    /// Packets with this probability come `by` later than they would, behind those that followed them.
    #[must_use]
    pub fn reorder(self, probability: f64, by: Duration) -> Self {
        Self { reorder: Some(Reorder { probability, by }), ..self }
    }

    /// Packets come twice with this probability.
    #[must_use]
    pub fn duplicate(self, probability: f64) -> Self {
        Self { duplicate: probability, ..self }
    }

    /// One bit behind the Ethernet header is turned over with this probability, after all checksums have been made, so
    /// that the receiver can notice.
    #[must_use]
    pub fn corrupt(self, probability: f64) -> Self {
        Self { corrupt: probability, ..self }
    }

    /// A bottleneck of so many bits a second, before which `queue` bytes may wait.
    #[must_use]
    pub fn rate(self, bits_per_second: u64, queue: u64) -> Self {
        Self { rate: Some(Rate { bits_per_second, queue }), ..self }
    }

    /// IP packets longer than this vanish, and nobody is told.
    #[must_use]
    pub fn black_hole(self, longer_than: u16) -> Self {
        Self { black_hole: Some(longer_than), ..self }
    }

    /// IP packets of this kind do not pass. How neighbours find one another's Ethernet address does.
    #[must_use]
    pub fn block(self, traffic: Traffic, answer: Answer) -> Self {
        Self { blocked: Some((traffic, answer)), ..self }
    }

    /// Whether these conditions judge packets one by one, so that a super-packet must be cut up first: with the loss of
    /// a whole super-packet a link would lose dozens at once.
    pub(crate) fn single_packets(&self) -> bool {
        self.loss != Loss::None
            || self.reorder.is_some()
            || self.duplicate > 0.0
            || self.corrupt > 0.0
            || self.rate.is_some()
            || self.jitter != Jitter::None
    }
}
