//! What became of a packet, for whoever watches a link.

use std::fmt;
use std::time::Duration;

use super::Nanos;
use crate::Traffic;

/// What a link, or what lies behind it, did with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on as it came.
    Passed,
    /// It goes on a second time.
    Duplicated,
    /// It goes on with a bit turned over, so many bits behind the Ethernet header.
    Corrupted(u64),
    /// It goes on so much later than others.
    HeldBack(Duration),
    /// It was lost by chance.
    Lost,
    /// It found the queue of the bottleneck full.
    QueueFull,
    /// The link was down.
    Down,
    /// Nothing of its kind passes.
    Blocked(Traffic),
    /// It was longer than what passes, in bytes.
    TooLong(u16),
    /// More was under way than the wire holds.
    Overflowed,
    /// It crossed the link, and a cut lies between its sender and the host behind.
    Cut,
    /// It crossed the link, and the router behind let it pass no further and told nobody.
    Filtered,
}

impl Fate {
    /// Whether it was decided behind the link.
    pub(crate) fn behind(self) -> bool {
        matches!(self, Self::Cut | Self::Filtered)
    }
}

/// As a comment on the packet; empty for one to which nothing happened.
impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => Ok(()),
            Self::Duplicated => f.write_str("sent a second time by the link"),
            Self::Corrupted(bit) => write!(f, "corrupted: bit {bit} behind the Ethernet header was turned over"),
            Self::HeldBack(by) => write!(f, "held back by {by:?} to be overtaken"),
            Self::Lost => f.write_str("dropped: lost by chance"),
            Self::QueueFull => f.write_str("dropped: the queue before the bottleneck was full"),
            Self::Down => f.write_str("dropped: the link was down"),
            Self::Blocked(Traffic::All) => f.write_str("dropped: everything is blocked on the link"),
            Self::Blocked(Traffic::Tcp) => f.write_str("dropped: TCP is blocked on the link"),
            Self::Blocked(Traffic::Udp) => f.write_str("dropped: UDP is blocked on the link"),
            Self::TooLong(most) => write!(f, "dropped: longer than the {most} bytes that pass (black hole)"),
            Self::Overflowed => f.write_str("dropped: more was under way than the simulator holds"),
            Self::Cut => f.write_str("dropped behind the link: its sender is cut off from this host"),
            Self::Filtered => f.write_str("dropped behind the link: NAT or firewall of the router let it not pass"),
        }
    }
}

/// Whoever watches one direction of a link.
pub(crate) trait Watch: fmt::Debug + Send {
    /// A frame came to the link, or to what lies behind it, at `now`.
    fn see(&mut self, frame: &[u8], now: Nanos, fate: Fate);
}
