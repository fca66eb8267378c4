//! The process' one rate limiter, as the log itself is one a process.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use mesh_config::NodeName;

use super::ratelimit::{Limits, RateLimiter, Verdict};
use crate::refusals::source;

/// Who causes a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// A node of the mesh.
    Peer(NodeName),
    /// A stranger, by [`source`].
    Source(IpAddr),
    /// This node itself.
    Here,
}

impl From<&NodeName> for Who {
    fn from(peer: &NodeName) -> Self {
        Self::Peer(peer.clone())
    }
}

impl From<SocketAddr> for Who {
    fn from(address: SocketAddr) -> Self {
        Self::Source(source(address))
    }
}

/// A line may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    suppressed: u64,
}

impl Passed {
    /// How many like it were left out since the last one; nothing if none was.
    pub fn suppressed(self) -> Option<u64> {
        (self.suppressed > 0).then_some(self.suppressed)
    }
}

static LIMITER: LazyLock<Mutex<RateLimiter<(Who, &'static str)>>> =
    LazyLock::new(|| Mutex::new(RateLimiter::new(Limits::default())));
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Whether a line that `who` causes for `cause` may be written now.
pub fn permit(who: impl Into<Who>, cause: &'static str) -> Option<Passed> {
    let verdict = LIMITER.lock().unwrap_or_else(PoisonError::into_inner).handle((who.into(), cause), Instant::now());
    match verdict {
        Verdict::Log { suppressed } => Some(Passed { suppressed }),
        Verdict::Suppress => {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// Lines left out since the process started.
pub fn suppressed_lines() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// Writes a line that a peer can cause at will, unless too many of its kind came: `log_limited!(warn, who, "cause",
/// peer = %name, "message")`. `who` becomes a [`Who`], the cause is a literal. The line carries `suppressed` if others
/// were left out before it.
#[macro_export]
macro_rules! log_limited {
    ($level:ident, $who:expr, $cause:expr, $($rest:tt)+) => {
        if let Some(passed) = $crate::logging::permit($who, $cause) {
            ::tracing::$level!(suppressed = passed.suppressed(), $($rest)+);
        }
    };
}
