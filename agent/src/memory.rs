//! Memory that a burst of connections has left behind, given back to the system.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::host::{Host, Phase};

/// How often the number of connections is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long after a fall the memory is given back: lanes that nobody needs are closed by then.
const REST: Duration = Duration::from_secs(12);
/// A smaller fall is not worth it.
const WORTHWHILE: usize = 64;

/// Gives memory back whenever many connections have ended, until the agent drains.
///
/// The C library keeps what is freed below the top of its heaps, so that an agent would for ever look as large as in its
/// busiest minute.
pub async fn give_back(host: Arc<Host>) {
    let mut peak = 0;
    let mut fallen: Option<Instant> = None;
    let draining = host.reached(Phase::Draining);
    tokio::pin!(draining);
    loop {
        tokio::select! {
            () = sleep(LOOK) => {}
            () = &mut draining => return,
        }
        let now = host.table.len();
        // A burst may have come and gone since the last look.
        peak = peak.max(host.table.most());
        if now + WORTHWHILE <= peak {
            fallen = Some(Instant::now());
            peak = now;
        }
        if fallen.is_some_and(|at| at.elapsed() >= REST) {
            fallen = None;
            trim();
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library's own call for this has no safe wrapper")]
fn trim() {
    // SAFETY: malloc_trim takes no pointer and may be called at any time from any thread (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
