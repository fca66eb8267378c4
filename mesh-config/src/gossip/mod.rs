//! How members of a mesh tell each other of published documents.
//!
//! A pure machine: it is told what happened and when, and polled for what to do. It has no clock, no network and no
//! cryptography; whether a document is genuine it asks of whoever drives it.
//!
//! ```text
//!   connected, Message ──▶ ┌────────┐ ──▶ Send    Summary: the ranks of all documents known
//!                          │ Gossip │ ──▶ Send    Ask: for the greatest that is not known, one at a time
//!   judged(document) ────▶ │        │ ──▶ Send    Hand: the document asked for
//!   now ─────────────────▶ └────────┘ ──▶ Judge   a document that was handed over
//! ```
//!
//! What keeps it small, whatever others do:
//!
//! - A summary is sent when what is known has changed, at most every [`Pace::gap`] to a peer, and again every
//!   [`Pace::again`] in case one was lost. What is known only grows, so nothing can go round in circles.
//! - A message causes at most one message back to its sender. A document that nobody asked for is dropped unread.
//! - One document is asked for at a time of a peer, [`MAX_FETCHES`] at a time in all; each from one peer.
//! - A document that was refused is not asked for again from that peer, and each refusal or silence lengthens the time
//!   until that peer is asked for anything, up to [`Pace::longest_grudge`].
//! - Messages beyond an allowance are dropped. Lists and documents have limits that are checked before anything is
//!   allocated: [`Gossip::expects`].
//!
//! Who talks to whom is [`ring_neighbours`]: about log₂ n links a node, over which news reach all in about log₂ n steps.

mod machine;
mod message;
mod peer;
mod ring;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use machine::{Counts, Gossip, MAX_FETCHES, Output, Verdict};
pub use message::{MAX_DOCUMENT, Message};
pub use peer::Pace;
pub use ring::ring_neighbours;
