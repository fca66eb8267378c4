//! Which of the signed mesh documents that are known is in force, and what a publisher has to say of the others.
//!
//! A published document is a mesh file's text and a [`Header`]. Members pass them on, so every node meets them in an
//! order of its own and must still come to the same end. That end is a function of the *set* of what is known:
//!
//! ```text
//!   Header, Header, … ──▶ Heads { the 16 greatest, tombstones } ──▶ winner   what is in force
//!                              ▲            │                   └──▶ forks    what no publisher has merged yet
//!   other nodes' Heads ──merge─┘            └──next──▶ Header   what a publisher says on top of all of it
//! ```
//!
//! - The greatest [`Rank`] wins: generation, then version, then the lower identity.
//! - [`Heads::merge`] is commutative, associative and idempotent, and so are the tombstones of removed nodes, a bounded
//!   set that only grows.
//! - A *fork* is a view, computed anew whenever it is asked for. Nothing is ever deleted because of it.
//!
//! Nothing here knows a signature or a clock: who puts a header in has verified it, and times are numbers that are only
//! compared.

mod encoding;
mod header;
mod heads;
mod next;
mod rank;
#[cfg(test)]
mod tests;
mod tombstone;

pub use encoding::{HeaderError, MAX_HEADER};
pub use header::{Header, MAX_ANCESTORS, MAX_PARENTS};
pub use heads::{Arrival, Heads, MAX_HEADS};
pub use next::{NextError, Publication};
pub use rank::{Generation, Rank};
pub use tombstone::{MAX_TOMBSTONES, Tombstone, Tombstones};
