//! What a link carried over time, within bounds.

use std::time::Duration;

use crate::Counters;

/// Samples that are kept of each curve.
const MOST_SAMPLES: usize = 2048;

/// The counters of one direction of a link at a moment. All count from the beginning of the run, so that the rate
/// between any two samples is their difference, and none of them is needed for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// Bytes that came to the link.
    pub bytes: u64,
    /// Packets that came to the link.
    pub packets: u64,
    /// Packets of those that were dropped on it, or at once behind it.
    pub lost: u64,
}

/// One direction of a link over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// The link's name.
    pub link: String,
    /// What it leads from, in this direction.
    pub from: String,
    /// What it leads to, in this direction.
    pub to: String,
    samples: Vec<Sample>,
    /// Each how-manieth sample is kept.
    every: u32,
    /// How many were not kept since the last that was.
    since: u32,
}

impl Sample {
    /// What a link's counters say at a moment.
    #[must_use]
    pub fn new(at: Duration, counters: &Counters) -> Self {
        Self { at, bytes: counters.bytes, packets: counters.offered, lost: counters.dropped() }
    }
}

impl Curve {
    /// A curve without samples.
    pub fn new(link: impl Into<String>, from: impl Into<String>, to: impl Into<String>) -> Self {
        let (link, from, to) = (link.into(), from.into(), to.into());
        Self { link, from, to, samples: Vec::new(), every: 1, since: 0 }
    }

    /// Adds a sample. When 2048 are there every second one goes, and from then on only every second one is taken.
    pub fn push(&mut self, sample: Sample) {
        self.since += 1;
        if self.since < self.every && !self.samples.is_empty() {
            return;
        }
        self.since = 0;
        self.samples.push(sample);
        if self.samples.len() >= MOST_SAMPLES {
            let mut number = 0;
            self.samples.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            // The last one went.
            self.since = self.every;
            self.every = self.every.saturating_mul(2);
        }
    }

    /// What was kept, in the order in which it was added.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}
