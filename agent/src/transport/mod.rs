//! Links between agents: how a peer is dialled, what is said on the wire, and the streams that applications run over.

pub mod connect;
pub mod failure;
pub mod resolve;
