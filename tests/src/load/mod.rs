//! Load: bytes that can be told from wrong ones, connections that end in every way.

pub mod content;
pub mod exchange;
pub mod many;
pub mod server;
pub mod stall;
pub mod stream;
#[cfg(test)]
mod tests;

pub use content::{Content, Digest, digest_of};
pub use exchange::{Received, blast, exchange};
pub use server::Server;
pub use stream::{Ending, abort, ending, read_some, round_trip};
