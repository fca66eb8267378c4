//! The other agents: one actor a peer holds its link, keeps lanes ready and hands out streams.
//!
//! ```text
//!   accept ──▶ Peers ──▶ actor ──▶ machine (pure: when to dial, which connection stays)
//!   services ──▶ Peer::open ──▶ pool ──▶ Stream
//! ```

pub mod accept;
mod actor;
pub mod back_off;
pub mod control;
pub mod dial;
mod judge;
pub mod machine;
pub mod path;
pub mod peer;
pub mod pool;
pub mod registry;
mod serve;
pub mod stream;
#[cfg(test)]
mod tests;
