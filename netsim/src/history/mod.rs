//! What clients did and what came of it, and whether that may be.
//!
//! Clients on the simulated hosts send things: requests, files, datagrams, each with a number of its own. They write down
//! what became of each [`Attempt`], and servers what they got as a [`Receipt`]; both read one clock, for all hosts are on
//! one machine. After the run a [`History`] tells every [`Violation`] of [`Rules`], whatever faults there were: networks
//! may lose, but nothing may arrive that nobody sent, arrive changed, twice, at another place, or after a refusal, and nothing
//! may end early as if it were whole.
//!
//! ```text
//!   clients ── Attempt ──┐
//!                        ├─▶ History ── check(&Rules) ──▶ Violations
//!   servers ── Receipt ──┘    no I/O, no clock
//! ```
//!
//! ```
//! use std::time::Duration;
//! use netsim::history::{Attempt, Digest, History, Outcome, Receipt, Rules, Violation};
//!
//! let at = Duration::from_millis;
//! let (from, to) = ("alpha".to_owned(), "beta".to_owned());
//! let mut history = History::new();
//! let digest = Digest::of(b"hello");
//! history.attempt(Attempt { id: 1, from, to: to.clone(), digest, begin: at(0), end: at(9), outcome: Outcome::Refused });
//! history.receipt(Receipt { id: 1, node: to, digest, at: at(5) });
//! let violations = history.check(&Rules::default());
//! assert_eq!(violations, [Violation::RefusedAndReceived { id: 1, at: at(5) }]);
//! assert_eq!(violations[0].to_string(), "1 was refused, and was received at 0.005 s");
//! ```

mod check;
mod violation;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use violation::Violation;

/// Attempts and receipts that a history holds, of each.
pub(crate) const MOST: usize = 1_000_000;

/// Something that a client wanted to have delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number: no other attempt of the run has it.
    pub id: u64,
    /// The host of the client.
    pub from: String,
    /// Where it was to arrive: what [`Receipt::node`] says there.
    pub to: String,
    /// Of the bytes: [`Digest`].
    pub digest: u64,
    /// When the client began.
    pub begin: Duration,
    /// When the client knew, or gave up.
    pub end: Duration,
    /// What the client learnt.
    pub outcome: Outcome,
}

/// What a client learns of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The far side has confirmed that it has everything.
    Delivered,
    /// It was told that nothing will be delivered.
    Refused,
    /// It was broken off, or nothing came back in time: it may have arrived or not.
    Reset,
}

/// Something that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The number of the attempt, as it was in what arrived.
    pub id: u64,
    /// Where it arrived.
    pub node: String,
    /// Of the bytes that arrived: [`Digest`].
    pub digest: u64,
    /// When it was complete.
    pub at: Duration,
}

/// Something of which only the first part arrived, and then an orderly end as if that were all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// The number of the attempt.
    pub id: u64,
    /// Where it arrived.
    pub node: String,
    /// When it ended.
    pub at: Duration,
}

/// What is allowed beyond what always is, and what is forbidden beyond that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Something may end early without an error, as what a kernel closes for a process that was killed does.
    pub early_ends: bool,
    /// Who must not reach whom.
    pub forbidden: Vec<Forbidden>,
    /// Who must reach whom again, and when.
    pub heals: Vec<Heal>,
}

/// A pair of which the first must not reach the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// As in [`Attempt::from`].
    pub from: String,
    /// As in [`Attempt::to`].
    pub to: String,
    /// From when on: attempts that began before may still arrive.
    pub since: Duration,
    /// Until when: attempts that begin then or later may arrive.
    pub until: Duration,
}

/// The end of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heal {
    /// When it ended.
    pub at: Duration,
    /// How long afterwards something has to be delivered again.
    pub within: Duration,
    /// From where to where, as in [`Attempt`].
    pub pairs: Vec<(String, String)>,
}

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    attempts: Vec<Attempt>,
    receipts: Vec<Receipt>,
    stubs: Vec<Stub>,
    left_out: u64,
}

impl History {
    /// Nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a client wrote down. More than a million are only counted, and make the history a
    /// [`Violation::Incomplete`] one.
    pub fn attempt(&mut self, attempt: Attempt) {
        if self.attempts.len() < MOST {
            self.attempts.push(attempt);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds what a server wrote down; bounded as attempts are.
    pub fn receipt(&mut self, receipt: Receipt) {
        if self.receipts.len() < MOST {
            self.receipts.push(receipt);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds something that ended early; bounded as attempts are.
    pub fn stub(&mut self, stub: Stub) {
        if self.stubs.len() < MOST {
            self.stubs.push(stub);
        } else {
            self.left_out += 1;
        }
    }

    /// What clients wrote down, in the order in which it was added.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// What servers wrote down, in the order in which it was added.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    /// What ended early, in the order in which it was added.
    #[must_use]
    pub fn stubs(&self) -> &[Stub] {
        &self.stubs
    }
}

/// A digest of bytes (FNV-1a, 64 bits): it finds what went wrong by accident, and not what somebody forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// That of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> u64 {
        let mut digest = Self::default();
        digest.update(bytes);
        digest.value()
    }

    /// Adds the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// That of all bytes so far.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}
