//! The other nodes: one actor a peer holds its link and hands out streams.

pub mod control;
pub mod pool;
