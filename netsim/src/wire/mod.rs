//! The wire without its thread: what becomes of every packet, as pure types. They are told `(packet, now)` and polled for
//! what is due; they open nothing, read no clock and draw no random numbers of their own.
//!
//! ```text
//!   a host's kernel ─▶ Fabric::handle(port, frame, now)
//!                        Direction   what a link does: delay, loss, rate …
//!                        Switch      which way a frame goes
//!                        Router      which way a packet goes; Nat, Firewall
//!                        Heap        what is due later, in order
//!   a host's kernel ◀─ Fabric::poll() … Fabric::next_timeout()
//! ```

pub(crate) mod answer;
pub(crate) mod checksum;
pub(crate) mod class;
pub(crate) mod conditions;
pub(crate) mod course;
pub(crate) mod direction;
pub(crate) mod fabric;
pub(crate) mod fate;
pub(crate) mod firewall;
pub(crate) mod fragment;
pub(crate) mod frame;
pub(crate) mod heap;
pub(crate) mod lateness;
pub(crate) mod nat;
pub(crate) mod neighbour;
pub(crate) mod packet;
pub(crate) mod patience;
pub(crate) mod random;
pub(crate) mod router;
pub(crate) mod segment;
pub(crate) mod switch;
pub(crate) mod translate;

use std::time::Duration;

/// Nanoseconds since the wire was started.
pub(crate) type Nanos = u64;

pub(crate) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
