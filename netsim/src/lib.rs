//! Simulated networks for any program: hosts, links, switches, routers, NAT and faults, without root.
//!
//! Linux only, and no helper programs: everything is done by system calls and netlink. Root is not needed where the
//! kernel lets an ordinary user make namespaces; [`doctor()`] finds out by doing, and says what to allow. Programs run
//! unmodified, on the kernel's own network stack. Nothing of any program is known here.
//!
//! ```text
//!   Topology          hosts, switches, routers and links on paper
//!      │ Network::start
//!      ▼
//!   Host ── interface ─┐                    one thread, the wire                 ┌─ interface ── Host
//!   programs           ├▶ frames ▶ Fabric: links ▶ switches, routers ▶ links ▶ ──┤              programs
//!   Host ── interface ─┘           delay, loss, rate, NAT, firewalls, faults     └─ interface ── Host
//!                        Backend::Tap: TAP devices      Backend::Packet: veth and packet sockets
//! ```
//!
//! ```no_run
//! use std::time::Duration;
//! use netsim::{Conditions, Cut, Launch, Network, Settings, Tolerance, Topology};
//!
//! // First in `main`, while there is one thread.
//! netsim::enter()?;
//! let mut topology = Topology::new();
//! let (alpha, beta) = (topology.host("alpha"), topology.host("beta"));
//! let far = Conditions::clean().delay(Duration::from_millis(20)).loss(0.01);
//! topology.link(alpha.at("10.0.0.1/24"), beta.at("10.0.0.2/24"), far);
//! let network = Network::start(&topology, &Settings::default().seed(7))?;
//! let server = network.host(beta).start(Launch::new("my-server"))?;
//! let cut = network.cut(&Cut::pair(alpha, beta))?;
//! // Nothing passes between them, until:
//! drop(cut);
//! println!("{:?}", network.report(Tolerance::default())?.verdict);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - **The wire** carries every packet in user space, so that it behaves the same on every kernel. What it decides is in
//!   pure types, which are told `(packet, now)` and polled for what is due; only its thread and the backends do I/O.
//! - **Decisions** come from a keyed hash of the seed, the link, the flow class without its ephemeral port, and the number
//!   of the packet in that class: the same seed loses the same packets, over both backends. Whole runs are not
//!   deterministic: when a program sends what is its own and the kernels' affair.
//! - **Offload** is switched for each link as its conditions change: super-packets cross links that are clean or only
//!   delay, single packets are judged where they are lost, slowed or changed.
//! - **Faults** last as long as a value: [`Network::cut`], [`Network::unplug`], [`Network::degrade`] and others.
//! - **A [`Report`]** says whether the machine kept up: a run that was overloaded shows nothing.
//! - **What a run leaves** is a [`report::Record`]: files for programs and a page to look at. [`Network::capture`] writes
//!   packets to files with the reason of each drop, [`Network::counters`] counts them, and [`history`] tells what must not
//!   have happened to what clients sent.
//!
//! [`scenario`] puts all of this into one TOML file, with programs, faults with their times, and what must hold; and
//! [`report`] is what a run leaves.
//!
//! Below that are the parts, for those who want a kernel's own network without a wire: [`Namespace`] is a host,
//! [`veth()`] a cable between two, [`Switch`] one for more, [`Namespace::block`] a firewall of nf_tables.
//!
//! Nothing has to be cleaned up. A namespace and its links vanish with the last descriptor and process in it. Programs
//! that were started by [`Host::start`] end with the network, and with them all that they have started; those of
//! [`Namespace::command`] and [`Host::command`] with the thread that started them.

mod backend;
mod capture;
mod caretaker;
mod carrier;
mod clock;
mod cut;
mod doctor;
mod enter;
mod faults;
mod filter;
pub mod history;
mod host;
mod link;
mod mounts;
mod names;
mod namespace;
mod netlink;
mod network;
mod plan;
mod program;
mod pump;
pub mod report;
pub mod scenario;
mod starter;
mod topology;
mod wire;

pub use backend::Backend;
pub use capture::{Capture, CaptureLimits, Captured};
pub use clock::{Clock, Skew, Skewed};
pub use cut::Cut;
pub use doctor::{Diagnosis, doctor};
pub use enter::{Entered, Unavailable, enter};
pub use faults::{Fault, Held, Readdressed, Renamed};
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
