//! What the QUIC connections of one peer share, so that more connections pin no more memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::credit::Budget;
use super::{BUDGET, FIRST_WINDOW, WINDOWS};

/// One peer's budget of credit, and the receive windows of its connections. Clones share.
#[derive(Debug, Clone)]
pub struct PeerShare(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: Mutex<Budget>,
    /// What is left of the windows.
    windows: Mutex<u64>,
}

impl Default for PeerShare {
    fn default() -> Self {
        Self(Arc::new(Inner { budget: Mutex::new(Budget::new(BUDGET)), windows: Mutex::new(WINDOWS) }))
    }
}

impl PeerShare {
    /// How many bytes of the budget the streams take up.
    pub fn budget_used(&self) -> u64 {
        self.budget().used()
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.0.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn windows(&self) -> MutexGuard<'_, u64> {
        self.0.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's part of the windows. It goes back when the connection is over: what QUIC has granted cannot be taken
/// back before.
#[derive(Debug)]
pub(super) struct ConnectionWindow {
    peer: PeerShare,
    bytes: u64,
}

impl ConnectionWindow {
    pub(super) fn new(peer: PeerShare) -> Self {
        Self { peer, bytes: 0 }
    }

    /// Grows to three quarters of what no other connection has, so that one is wide and a newer one always finds room. Gives
    /// the new window if it has grown: at first, and after another connection has ended.
    pub(super) fn grow(&mut self) -> Option<u32> {
        let mut left = self.peer.windows();
        let target = (self.bytes + *left) / 4 * 3;
        let more = target.checked_sub(self.bytes).filter(|more| *more > 0)?;
        *left -= more;
        self.bytes = target;
        Some(u32::try_from(target).unwrap_or(u32::MAX).max(FIRST_WINDOW))
    }
}

impl Drop for ConnectionWindow {
    fn drop(&mut self) {
        *self.peer.windows() += self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_a_peer_never_add_up_to_more_than_their_sum() {
        let peer = PeerShare::default();
        let mut windows: Vec<_> = (0..4).map(|_| ConnectionWindow::new(peer.clone())).collect();
        let sizes: Vec<_> = windows.iter_mut().map(|window| window.grow().unwrap()).collect();
        assert_eq!(sizes, [6 << 20, 1536 << 10, 384 << 10, 96 << 10]);
        assert!(sizes.iter().copied().map(u64::from).sum::<u64>() <= WINDOWS);
        assert!(sizes.iter().all(|size| *size >= FIRST_WINDOW), "less than was granted already");
        assert!(windows.iter_mut().skip(1).all(|window| window.grow().is_none_or(|size| size < 2 << 20)));
        // The newest becomes as wide as the first was.
        let mut newest = windows.pop().unwrap();
        drop(windows);
        assert_eq!(newest.grow(), Some(6 << 20));
        assert_eq!(newest.grow(), None);
        drop(newest);
        assert_eq!(*peer.windows(), WINDOWS);
    }
}
