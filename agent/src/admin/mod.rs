//! What an operator sees of a running agent, and how.
//!
//! ```text
//!   adit status ──▶ client ══ HTTP/1.1 over a Unix socket ══▶ server ──▶ Backend (the live agent)
//!   Prometheus  ──▶ ───────── HTTP/1.1 over TCP, /metrics alone ──▶ scrape ──▶ Metrics
//! ```
//!
//! The [`view`] types are the contract: what the server writes, the client reads and `--json` prints. The [`backend`]
//! trait is the seam behind which the live agent stands; nothing here knows of peers, links or services themselves.

pub mod backend;
pub mod client;
mod lines;
pub mod routes;
pub mod scrape;
pub mod server;
pub mod socket;
pub mod timestamp;
pub mod view;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
