//! Network namespaces and the links between them, for running any program on a network of its own.
//!
//! Linux only, and no helper programs: everything is done by system calls and netlink. Root is not needed where the
//! kernel lets an ordinary user make namespaces; [`enter()`] finds out and says why not.
//!
//! ```text
//!   enter()            the process gets a network, a mount table and, if it is not root, a user table of its own
//!     │
//!     ├─ Namespace::new()            one host of the simulated network, its loopback is up
//!     ├─ Namespace::new()
//!     │       ╎
//!     │     veth(left, right)        a cable between two hosts        Switch::new().plug(...)   a cable for more
//!     │       ╎
//!     ├─ Namespace::command("prog")  any program, on that host
//!     ├─ Namespace::run(|| ...)      a closure, on that host
//!     └─ Namespace::block(&[...])    what the host's firewall drops or rejects; can be changed at any time
//! ```
//!
//! Nothing has to be cleaned up. A namespace and its links vanish with the last descriptor and process in it, and every
//! program started through [`Namespace::command`] is killed when the thread that started it ends.

mod backend;
mod cut;
mod doctor;
mod enter;
mod faults;
mod filter;
mod host;
mod link;
mod mounts;
mod namespace;
mod netlink;
mod network;
mod plan;
mod program;
mod pump;
mod starter;
mod topology;
mod wire;

pub use backend::Backend;
pub use cut::Cut;
pub use doctor::{Diagnosis, doctor};
pub use enter::{Entered, Unavailable, enter};
pub use faults::{Fault, Held, Readdressed};
pub use filter::{Answer, Block, Traffic};
pub use host::Host;
pub use link::{End, Port, Switch, veth};
pub use namespace::{Namespace, end_with_this_thread};
pub use network::{Network, Settings};
pub use program::{Ended, Launch, Paused, Program};
pub use topology::{Cable, HostId, LinkId, Plug, Router, RouterId, SwitchId, Topology};
pub use wire::conditions::{Conditions, Jitter, Loss, Rate, Reorder};
pub use wire::direction::Counters;
pub use wire::firewall::Firewall;
pub use wire::lateness::{Report, Tolerance, Verdict};
pub use wire::nat::{Depends, Nat};

/// What went wrong while a part of the network was made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a step.
    #[error("{what}")]
    Kernel {
        /// The step.
        what: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// An interface address is not written as `ADDRESS/BITS`.
    #[error("not an address with a prefix length: {0}")]
    Address(String),
    /// An interface name is empty or longer than the 15 bytes that the kernel takes.
    #[error("not an interface name: {0:?}")]
    Interface(String),
    /// The wire has ended, by a fault of its own.
    #[error("the wire of the simulated network has ended")]
    Wire,
    /// A topology that cannot be made.
    #[error("{0}")]
    Topology(String),
}

impl Error {
    fn kernel(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Kernel { what, source }
    }
}
