//! The other agents: one actor a peer holds its link, keeps lanes ready and hands out streams.
//!
//! ```text
//!   accept ──▶ Peers ──▶ actor ──▶ machine (pure: when to dial, which connection stays)
//!   services ──▶ open::first, Peer::open ──▶ lane of the pool, QUIC connection ──▶ Stream
//!   stream of a peer ──▶ serve ──▶ Serve, which the services are
//!   control channels ──▶ gossip ──▶ who hands on mesh documents
//! ```

pub mod accept;
mod actor;
pub mod back_off;
pub mod control;
pub mod dial;
pub mod gossip;
mod judge;
pub mod machine;
pub mod open;
pub mod over_quic;
pub mod path;
pub mod peer;
pub mod pool;
mod quic;
pub mod registry;
pub mod room;
pub mod serve;
pub mod stream;
#[cfg(test)]
mod tests;
