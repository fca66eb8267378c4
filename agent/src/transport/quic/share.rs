//! What the QUIC connections of one peer share, so that more connections pin no more memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::credit::Budget;
use super::reorder::Kept;
use super::{BUDGET, FIRST_WINDOW, MOST_PIECES, WINDOWS};

/// What is kept behind gaps narrows its connection's window in steps of this many bytes.
const STEP: u64 = FIRST_WINDOW as u64;
/// Of a stream that was cut with gaps in it, QUIC keeps where they are until the peer ends it too: a fourth of what a piece
/// costs.
const LEFT: u64 = 4;

/// The peer left more gaps than all of its streams together may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MOST_PIECES} pieces behind gaps")]
pub(super) struct Scattered;

/// One peer's budget of credit, the receive windows of its connections, and what it has sent behind gaps. Clones share.
#[derive(Debug, Clone)]
pub struct PeerShare(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: Mutex<Budget>,
    /// What is left of the windows.
    windows: Mutex<u64>,
    /// Pieces behind gaps.
    pieces: AtomicU64,
}

impl Default for PeerShare {
    fn default() -> Self {
        Self(Arc::new(Inner {
            budget: Mutex::new(Budget::new(BUDGET)),
            windows: Mutex::new(WINDOWS),
            pieces: AtomicU64::new(0),
        }))
    }
}

impl PeerShare {
    /// How many bytes of the budget the streams take up.
    pub fn budget_used(&self) -> u64 {
        self.budget().used()
    }

    /// How many pieces behind gaps are counted.
    #[cfg(test)]
    pub(super) fn pieces(&self) -> u64 {
        self.0.pieces.load(Ordering::Relaxed)
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.0.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts pieces that came and that went.
    ///
    /// # Errors
    /// [`Scattered`] if there are more now, and too many. They are counted all the same.
    fn count(&self, came: u64, went: u64) -> Result<(), Scattered> {
        let pieces = &self.0.pieces;
        if came <= went {
            pieces.fetch_sub(went - came, Ordering::Relaxed);
            return Ok(());
        }
        let more = came - went;
        if pieces.fetch_add(more, Ordering::Relaxed) + more <= MOST_PIECES { Ok(()) } else { Err(Scattered) }
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
    /// The bytes that its streams keep behind gaps: QUIC takes them for read.
    kept: u64,
    /// By how much the window is narrower for them.
    narrowed: u64,
    /// What streams that were cut have left of gaps, in pieces.
    left: u64,
}

impl ConnectionWindow {
    pub(super) fn new(peer: PeerShare) -> Self {
        Self { peer, bytes: 0, kept: 0, narrowed: 0, left: 0 }
    }

    /// Grows to three quarters of what no other connection has, so that one is wide and a newer one always finds room. Gives
    /// the new window if it has grown: at first, and after another connection has ended.
    pub(super) fn grow(&mut self) -> Option<u32> {
        let mut left = self.peer.windows();
        let target = (self.bytes + *left) / 4 * 3;
        let more = target.checked_sub(self.bytes).filter(|more| *more > 0)?;
        *left -= more;
        self.bytes = target;
        Some(self.window())
    }

    /// A stream keeps `now` instead of `before`. Gives the window if it has changed: what waits behind gaps and what is under
    /// way share it.
    ///
    /// # Errors
    /// [`Scattered`]: the peer has left too many gaps.
    pub(super) fn keep(&mut self, before: Kept, now: Kept) -> Result<Option<u32>, Scattered> {
        let counted = self.peer.count(now.pieces, before.pieces);
        self.kept = (self.kept + now.bytes).saturating_sub(before.bytes);
        let emptied = self.kept == 0 && self.narrowed > 0;
        counted?;
        if self.kept.abs_diff(self.narrowed) < STEP && !emptied {
            return Ok(None);
        }
        self.narrowed = self.kept;
        Ok(Some(self.window()))
    }

    /// A stream that keeps `before` is cut, and the peer has yet to end it.
    pub(super) fn leave(&mut self, before: Kept) -> Option<u32> {
        let left = before.pieces / LEFT;
        self.left += left;
        // Fewer than before cannot be too many.
        self.keep(before, Kept { bytes: 0, pieces: left }).ok().flatten()
    }

    fn window(&self) -> u32 {
        let wide = self.bytes.max(FIRST_WINDOW.into());
        u32::try_from(wide.saturating_sub(self.narrowed)).unwrap_or(u32::MAX)
    }
}

impl Drop for ConnectionWindow {
    fn drop(&mut self) {
        *self.peer.windows() += self.bytes;
        // As above.
        let _fewer = self.peer.count(0, self.left);
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

    #[test]
    fn what_is_kept_behind_gaps_narrows_the_window_until_it_is_gone() {
        let kept = |bytes| Kept { bytes, pieces: bytes.min(1) };
        let mut window = ConnectionWindow::new(PeerShare::default());
        window.grow().unwrap();
        assert_eq!(window.keep(kept(0), kept(STEP - 1)), Ok(None));
        assert_eq!(window.keep(kept(STEP - 1), kept(3 << 20)), Ok(Some(3 << 20)));
        assert_eq!(window.keep(kept(0), kept(5 << 20)), Ok(Some(0)), "another stream");
        assert_eq!(window.keep(kept(5 << 20), kept(0)), Ok(Some(3 << 20)));
        assert_eq!(window.leave(kept(3 << 20)), Some(6 << 20));
        assert_eq!(window.keep(kept(0), kept(1)), Ok(None));
    }

    #[test]
    fn the_streams_of_all_connections_share_the_number_of_pieces_and_a_cut_stream_leaves_some_until_its_connection_ends()
     {
        let kept = |pieces| Kept { bytes: 0, pieces };
        let peer = PeerShare::default();
        let (mut one, mut other) = (ConnectionWindow::new(peer.clone()), ConnectionWindow::new(peer.clone()));
        one.keep(kept(0), kept(MOST_PIECES / 2)).unwrap();
        other.keep(kept(0), kept(MOST_PIECES / 2)).unwrap();
        assert_eq!(other.keep(kept(0), kept(1)), Err(Scattered));
        other.keep(kept(MOST_PIECES / 2 + 1), kept(0)).unwrap();
        one.leave(kept(MOST_PIECES / 2));
        let left = MOST_PIECES / 2 / LEFT;
        assert_eq!(other.keep(kept(0), kept(MOST_PIECES - left)), Ok(None));
        assert_eq!(other.keep(kept(0), kept(1)), Err(Scattered));
        drop(one);
        assert_eq!(other.keep(kept(0), kept(1)), Ok(None));
    }
}
