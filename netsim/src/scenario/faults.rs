//! Faults of a scenario, and who they are about.

mod read;
mod write;

use std::net::IpAddr;
use std::time::Duration;

use crate::Skew;
use crate::wire::conditions::Conditions;
use crate::wire::firewall::Firewall;
use crate::wire::nat::Nat;

pub(crate) use read::read;
pub(crate) use write::write;

/// A fault with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// When it begins, from the time when all programs are ready.
    pub at: Duration,
    /// How long it lasts; to the end of the run if none. Of those that are over at once, none.
    pub lasts: Option<Duration>,
    /// What happens.
    pub fault: Fault,
}

/// What goes wrong. Names are those of the scenario.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Hosts do not reach one another.
    Cut {
        /// Which of them.
        shape: Shape,
        /// Senders are told.
        reject: bool,
        /// It comes and goes: cut for so long, then healed for so long.
        flaps: Option<(Duration, Duration)>,
    },
    /// Cables carry nothing.
    Unplug {
        /// Cables, or the devices or networks at which they end.
        on: Vec<String>,
    },
    /// Cables with a loose contact.
    Flap {
        /// Cables, or the devices or networks at which they end.
        on: Vec<String>,
        /// How long nothing passes.
        down: Duration,
        /// How long all passes then.
        up: Duration,
    },
    /// Cables are under other conditions.
    Degrade {
        /// Cables, or the devices or networks at which they end.
        on: Vec<String>,
        /// Only the ways that lead to this device.
        towards: Option<String>,
        /// The conditions.
        conditions: Conditions,
    },
    /// All cables of a host are slow, and dead then.
    SlowThenDead {
        /// The host.
        on: String,
        /// The conditions at first.
        conditions: Conditions,
        /// How long at first is.
        dead_after: Duration,
    },
    /// Programs are killed, and started again when it is over.
    Crash {
        /// Programs, or hosts with all of theirs.
        on: Vec<String>,
    },
    /// Programs are halted.
    Pause {
        /// Programs, or hosts with all of theirs.
        on: Vec<String>,
    },
    /// Programs are killed and started again at once.
    Restart {
        /// Programs, or hosts with all of theirs.
        on: Vec<String>,
    },
    /// An interface of a host has other addresses.
    Readdress {
        /// The host.
        on: String,
        /// Its interface.
        interface: String,
        /// Addresses with prefix length.
        addresses: Vec<String>,
    },
    /// A name stands for other addresses.
    Rename {
        /// The hosts that see it so.
        on: Vec<String>,
        /// The name.
        name: String,
        /// What it stands for.
        addresses: Vec<IpAddr>,
    },
    /// Wall clocks are wrong.
    Clock {
        /// The hosts.
        on: Vec<String>,
        /// How.
        skew: Skew,
    },
    /// NATs forget their mappings.
    Rebind {
        /// Routers.
        on: Vec<String>,
    },
    /// A router has another NAT.
    Nat {
        /// The router, which has one already.
        on: String,
        /// The other.
        nat: Nat,
    },
    /// A router has another firewall.
    Firewall {
        /// The router.
        on: String,
        /// The other.
        firewall: Firewall,
    },
    /// No packet moves anywhere.
    Hold,
}

/// Which hosts are cut off from which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Two.
    Pair(String, String),
    /// What the first sends to the second.
    OneWay(String, String),
    /// Groups from one another.
    Groups(Vec<Vec<String>>),
    /// One from all others.
    Isolate(String),
    /// Each sees a majority, and none the same one.
    MajoritiesRing(Vec<String>),
    /// Two groups, and a host that reaches both.
    Bridge(Vec<String>, String, Vec<String>),
}

/// The kinds of faults, as scenarios write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Pair,
    OneWay,
    Partition,
    Isolate,
    MajoritiesRing,
    Bridge,
    Unplug,
    Flap,
    Degrade,
    SlowThenDead,
    Crash,
    Pause,
    Restart,
    Readdress,
    Rename,
    Clock,
    Rebind,
    Nat,
    Firewall,
    Hold,
}

pub(crate) const KINDS: [(&str, Kind); 20] = [
    ("pair", Kind::Pair),
    ("one-way", Kind::OneWay),
    ("partition", Kind::Partition),
    ("isolate", Kind::Isolate),
    ("majorities-ring", Kind::MajoritiesRing),
    ("bridge", Kind::Bridge),
    ("unplug", Kind::Unplug),
    ("flap", Kind::Flap),
    ("degrade", Kind::Degrade),
    ("slow-then-dead", Kind::SlowThenDead),
    ("crash", Kind::Crash),
    ("pause", Kind::Pause),
    ("restart", Kind::Restart),
    ("readdress", Kind::Readdress),
    ("rename", Kind::Rename),
    ("clock", Kind::Clock),
    ("rebind", Kind::Rebind),
    ("nat", Kind::Nat),
    ("firewall", Kind::Firewall),
    ("hold", Kind::Hold),
];

impl Fault {
    pub(crate) fn is(&self) -> Kind {
        match self {
            Self::Cut { shape, .. } => match shape {
                Shape::Pair(..) => Kind::Pair,
                Shape::OneWay(..) => Kind::OneWay,
                Shape::Groups(_) => Kind::Partition,
                Shape::Isolate(_) => Kind::Isolate,
                Shape::MajoritiesRing(_) => Kind::MajoritiesRing,
                Shape::Bridge(..) => Kind::Bridge,
            },
            Self::Unplug { .. } => Kind::Unplug,
            Self::Flap { .. } => Kind::Flap,
            Self::Degrade { .. } => Kind::Degrade,
            Self::SlowThenDead { .. } => Kind::SlowThenDead,
            Self::Crash { .. } => Kind::Crash,
            Self::Pause { .. } => Kind::Pause,
            Self::Restart { .. } => Kind::Restart,
            Self::Readdress { .. } => Kind::Readdress,
            Self::Rename { .. } => Kind::Rename,
            Self::Clock { .. } => Kind::Clock,
            Self::Rebind { .. } => Kind::Rebind,
            Self::Nat { .. } => Kind::Nat,
            Self::Firewall { .. } => Kind::Firewall,
            Self::Hold => Kind::Hold,
        }
    }

    /// Its kind as scenarios write it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.is().name()
    }

    /// Whether it is over as soon as it has happened.
    #[must_use]
    pub fn is_instant(&self) -> bool {
        matches!(self, Self::Restart { .. } | Self::Rebind { .. })
    }

    /// What it is about: hosts, cables, programs, routers.
    #[must_use]
    pub fn on(&self) -> Vec<String> {
        match self {
            Self::Cut { shape, .. } => match shape {
                Shape::Pair(one, other) | Shape::OneWay(one, other) => vec![one.clone(), other.clone()],
                Shape::Groups(groups) => groups.concat(),
                Shape::Isolate(host) => vec![host.clone()],
                Shape::MajoritiesRing(hosts) => hosts.clone(),
                Shape::Bridge(left, bridge, right) => [left.as_slice(), std::slice::from_ref(bridge), right].concat(),
            },
            Self::Unplug { on }
            | Self::Flap { on, .. }
            | Self::Degrade { on, .. }
            | Self::Crash { on }
            | Self::Pause { on }
            | Self::Restart { on }
            | Self::Rename { on, .. }
            | Self::Clock { on, .. }
            | Self::Rebind { on } => on.clone(),
            Self::SlowThenDead { on, .. }
            | Self::Readdress { on, .. }
            | Self::Nat { on, .. }
            | Self::Firewall { on, .. } => {
                vec![on.clone()]
            }
            Self::Hold => Vec::new(),
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}
