//! From what the directory says to what runs: listeners, links, permits, without touching what stays as it is.
//!
//! ```text
//!   file watch ──▶ settle* ──┐
//!   SIGHUP ──────────────────┼──▶ documents: read, check ──▶ plan* ──▶ bind new listeners ──▶ swap the snapshot (epoch + 1)
//!   admin API ───────────────┘         │                      │            ──▶ close old listeners, links ──▶ cut connections
//!   slow poll ──▶ looks* ────┘         └─ what does not hold: told everywhere, nothing changes
//! ```
//!
//! `*` is pure. One task, the [`Reloader`], owns the listeners and applies one change after the other. Whatever the history,
//! what runs afterwards is what a fresh start with the same files would run.

mod answer;
pub mod documents;
mod files;
mod listeners;
mod looks;
pub mod plan;
mod ports;
mod reload;
mod reloader;
mod settle;
mod state;
mod watch;

pub use ports::{PortError, Ports};
pub use reloader::{Handle, Reloader, Start};
pub use state::State;
