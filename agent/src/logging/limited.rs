//! The process' rate limiters, as the log itself is one a process.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use mesh_config::NodeName;
use tokio::time::{Instant, sleep};

use super::audit;
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

/// A limiter by who and cause.
pub(super) type Limiter = Mutex<RateLimiter<(Who, &'static str)>>;

static LIMITER: LazyLock<Limiter> = LazyLock::new(|| Mutex::new(RateLimiter::new(Limits::default())));
/// Of its own, so that no flood of strangers takes from what is kept for members.
static MEMBERS: LazyLock<Limiter> = LazyLock::new(|| Mutex::new(RateLimiter::new(Limits::MEMBER)));
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Whether a line that `who` causes for `cause` may be written now.
pub fn permit(who: impl Into<Who>, cause: &'static str) -> Option<Passed> {
    ask(&LIMITER, who.into(), cause)
}

/// Whether a line may be written now about something that the member `peer` may do.
pub fn permit_member(peer: &NodeName, cause: &'static str) -> Option<Passed> {
    ask(&MEMBERS, peer.into(), cause)
}

fn ask(limiter: &Limiter, who: Who, cause: &'static str) -> Option<Passed> {
    let verdict =
        limiter.lock().unwrap_or_else(PoisonError::into_inner).handle((who, cause), Instant::now().into_std());
    match verdict {
        Verdict::Log { suppressed } => Some(Passed { suppressed }),
        Verdict::Suppress => {
            left_out();
            None
        }
    }
}

/// How often it is looked for lines that were left out without another of their kind to tell of them.
const SWEEP: Duration = Duration::from_secs(10);

/// Tells of lines that were left out when nothing that follows them does, for as long as it is polled.
pub async fn tell_left_out() {
    tell([&*LIMITER, &*MEMBERS]).await;
}

pub(super) async fn tell<const N: usize>(limiters: [&Limiter; N]) {
    loop {
        sleep(SWEEP).await;
        for limiter in limiters {
            let told = limiter.lock().unwrap_or_else(PoisonError::into_inner).sweep(Instant::now().into_std());
            told.iter().for_each(audit::log_suppressed);
        }
    }
}

/// A line was left out because one that it belongs to was.
pub fn left_out() {
    SUPPRESSED.fetch_add(1, Ordering::Relaxed);
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
