//! Signed mesh documents on this host: kept on disk, brought into force, handed on.
//!
//! ```text
//!   peers ◀──▶ Switchboard ◀──▶ Distribution ──▶ verify (beside the runtime) ──▶ keep ──▶ the reload path
//!   adit publish ──▶ Handle ──────▶ │  ▲
//!                                   ▼  │
//!                                 Gossip*  (what to ask of whom, what to tell whom)      transfer*  (in pieces)
//! ```
//!
//! `*` is pure. Nothing comes into force before it is on the disk together with its rank, so whatever ends the agent, it starts
//! with the old document or the new one, and never with an older one than it had.

mod driver;
mod exchange;
mod handle;
pub mod store;
mod transfer;

pub use driver::Distribution;
pub use handle::{Fork, Handle, InForce, Shown, Signed};
