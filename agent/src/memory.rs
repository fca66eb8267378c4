//! Memory that a burst of connections has left behind, given back to the system.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::host::{Host, Phase};
use crate::transport::wire;

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
    let mut falls = Falls::default();
    let draining = host.reached(Phase::Draining);
    tokio::pin!(draining);
    loop {
        tokio::select! {
            () = sleep(LOOK) => {}
            () = &mut draining => return,
        }
        if falls.look(host.table.take_peak(), host.table.len(), Instant::now()) {
            wire::let_go();
            trim();
        }
    }
}

/// Sees when a number has fallen and come to rest. Pure.
#[derive(Debug, Default)]
struct Falls {
    peak: usize,
    fallen: Option<Instant>,
}

impl Falls {
    /// The number is `count` now and was `peak` in the meantime. Whether it is [`REST`] since it has fallen last.
    fn look(&mut self, peak: usize, count: usize, now: Instant) -> bool {
        self.peak = self.peak.max(peak);
        if count + WORTHWHILE <= self.peak {
            (self.peak, self.fallen) = (count, Some(now));
        }
        self.fallen.take_if(|at| now.saturating_duration_since(*at) >= REST).is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// When memory is given back, in looks, if the number is so at each of them, and was so between it and the one before.
    fn given_back(looks: &[(usize, usize)]) -> Vec<usize> {
        let (mut falls, start) = (Falls::default(), Instant::now());
        let mut look = |at: usize, (peak, count)| falls.look(peak, count, start + LOOK * u32::try_from(at).unwrap());
        (0..looks.len() + 20).filter(|&at| look(at, looks.get(at).copied().unwrap_or_default())).collect()
    }

    #[test]
    fn a_burst_is_given_back_once_and_after_a_rest_even_if_nobody_looked_while_it_lasted() {
        assert_eq!(given_back(&[(1000, 1000), (1000, 0)]), [7]);
        assert_eq!(given_back(&[(0, 0), (1000, 0)]), [7], "between two looks");
        assert_eq!(given_back(&[(1000, 1000), (1000, 500), (500, 0)]), [8], "when it has come to rest");
        assert_eq!(given_back(&[(WORTHWHILE - 1, 0)]), [] as [usize; 0]);
        // A long run of small falls is one as well.
        let slow: Vec<_> = (0..100).rev().map(|count| (count + 1, count)).collect();
        assert_eq!(given_back(&slow).len(), 1);
    }
}
