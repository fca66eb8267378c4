//! Who may send how much: one budget a peer, one window a stream. Pure.

use std::time::{Duration, Instant};

/// What every stream may always have on the way or unread, without asking: also what an opener may send before OPENED.
pub const EARLY_CREDIT: u64 = 4 << 10;
/// The size that a stream's window begins with, as far as the budget goes.
pub const INITIAL_CREDIT: u64 = 16 << 10;
/// The most that a window grows to.
pub const MOST_CREDIT: u64 = 4 << 20;
/// A grant that follows the last within this, or within two round trips, finds a reader that drains quickly.
const QUICK: Duration = Duration::from_millis(10);
/// A grant that follows the last after more than this finds a stream that has slept, and its window shrinks.
const SLEPT: Duration = Duration::from_secs(1);
/// Grants smaller than this wait until there is more to grant, unless the sender has nothing left.
const SMALLEST: u64 = 1 << 10;

/// The peer has sent more than it may, or given back more than it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than its credit")]
pub struct Overrun;

/// What the windows of one peer's streams may take up, all in all.
///
/// Three quarters may go to streams that want more than [`EARLY_CREDIT`]; the rest is for new streams' early credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    total: u64,
    used: u64,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self { total, used: 0 }
    }

    /// Bytes taken up.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Takes a new stream's early credit: whether there was as much.
    fn take_early(&mut self) -> bool {
        let fits = self.used + EARLY_CREDIT <= self.total;
        self.used += if fits { EARLY_CREDIT } else { 0 };
        fits
    }

    /// Takes up to `want` bytes and gives how many.
    fn take(&mut self, want: u64) -> u64 {
        let got = (self.total / 4 * 3).saturating_sub(self.used).min(want);
        self.used += got;
        got
    }

    fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}

/// The receiver's view of one stream's credit.
///
/// What is granted and not yet received, and what is received and not yet taken by the application, takes up the budget.
#[derive(Debug, PartialEq, Eq)]
pub struct Window {
    /// How much is granted and has not come.
    granted: u64,
    /// How much has come and is not taken.
    unread: u64,
    /// How much should be granted or unread.
    size: u64,
    /// How much is taken from the budget beyond the early credit.
    extra: u64,
    last_grant: Option<Instant>,
    closed: bool,
}

impl Window {
    /// A stream's window, with [`EARLY_CREDIT`] granted. `None` if the budget is used up.
    pub fn open(budget: &mut Budget) -> Option<Self> {
        budget.take_early().then_some(Self {
            granted: EARLY_CREDIT,
            unread: 0,
            size: INITIAL_CREDIT,
            extra: 0,
            last_grant: None,
            closed: false,
        })
    }

    /// `bytes` of DATA have come.
    ///
    /// # Errors
    /// [`Overrun`] if they were not granted.
    pub fn handle_received(&mut self, bytes: u64) -> Result<(), Overrun> {
        self.granted = self.granted.checked_sub(bytes).ok_or(Overrun)?;
        self.unread += bytes;
        Ok(())
    }

    /// The application has taken `bytes`.
    pub fn handle_consumed(&mut self, bytes: u64, budget: &mut Budget) {
        self.unread = self.unread.saturating_sub(bytes);
        self.release(budget);
    }

    /// The sender gives back `bytes` of its credit.
    ///
    /// # Errors
    /// [`Overrun`] if it has less.
    pub fn handle_returned(&mut self, bytes: u64, budget: &mut Budget) -> Result<(), Overrun> {
        self.granted = self.granted.checked_sub(bytes).ok_or(Overrun)?;
        self.size = INITIAL_CREDIT;
        self.release(budget);
        Ok(())
    }

    /// How many bytes to grant now, if any: nothing while the sender has half of the window left.
    pub fn poll_grant(&mut self, now: Instant, round_trip: Duration, budget: &mut Budget) -> Option<u64> {
        if self.closed || self.granted > self.size / 2 {
            return None;
        }
        let since = self.last_grant.map(|last| now.saturating_duration_since(last));
        let size = match since {
            Some(since) if since <= QUICK.max(2 * round_trip) && self.unread < self.size / 2 => self.size * 2,
            Some(since) if since > SLEPT + 8 * round_trip => self.size / 2,
            _ => self.size,
        };
        let size = size.clamp(INITIAL_CREDIT, MOST_CREDIT);
        let held = self.granted + self.unread;
        let early = EARLY_CREDIT.saturating_sub(held);
        let beyond = size.saturating_sub(held.max(EARLY_CREDIT));
        if early + beyond == 0 || (early + beyond < SMALLEST && self.granted > 0) {
            return None;
        }
        let taken = budget.take(beyond);
        if early + taken == 0 || (early + taken < SMALLEST && self.granted > 0) {
            budget.give_back(taken);
            return None;
        }
        self.extra += taken;
        self.granted += early + taken;
        self.size = size.min((self.granted + self.unread).max(INITIAL_CREDIT));
        self.last_grant = Some(now);
        Some(early + taken)
    }

    /// The stream is over: everything goes back to the budget.
    pub fn close(&mut self, budget: &mut Budget) {
        if !std::mem::replace(&mut self.closed, true) {
            budget.give_back(self.extra + EARLY_CREDIT);
            self.extra = 0;
        }
    }

    fn release(&mut self, budget: &mut Budget) {
        if !self.closed {
            let needed = (self.granted + self.unread).saturating_sub(EARLY_CREDIT);
            budget.give_back(self.extra.saturating_sub(needed));
            self.extra = self.extra.min(needed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RTT: Duration = Duration::from_millis(1);

    /// Sends all that is granted, takes it at once, and gives the next grant.
    fn round(window: &mut Window, budget: &mut Budget, now: Instant) -> Option<u64> {
        let bytes = window.granted;
        window.handle_received(bytes).unwrap();
        window.handle_consumed(bytes, budget);
        window.poll_grant(now, RTT, budget)
    }

    #[test]
    fn a_stream_begins_with_sixteen_kib_and_grows_while_it_is_drained_quickly() {
        let (mut now, mut budget) = (Instant::now(), Budget::new(24 << 20));
        let mut window = Window::open(&mut budget).unwrap();
        assert_eq!(window.poll_grant(now, RTT, &mut budget), Some(INITIAL_CREDIT - EARLY_CREDIT));
        assert_eq!(window.poll_grant(now, RTT, &mut budget), None, "unused credit is not renewed");
        let mut sizes = Vec::new();
        for _ in 0..10 {
            now += QUICK;
            sizes.push(round(&mut window, &mut budget, now).unwrap() >> 10);
        }
        assert_eq!(sizes, [32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096]);
        assert_eq!(budget.used(), MOST_CREDIT);
        now += 2 * SLEPT;
        assert_eq!(round(&mut window, &mut budget, now), Some(MOST_CREDIT / 2), "it has slept");
    }

    #[test]
    fn a_reader_that_does_not_take_gets_no_more() {
        let (now, mut budget) = (Instant::now(), Budget::new(1 << 20));
        let mut window = Window::open(&mut budget).unwrap();
        window.poll_grant(now, RTT, &mut budget);
        window.handle_received(INITIAL_CREDIT).unwrap();
        assert_eq!(window.poll_grant(now, RTT, &mut budget), None);
        assert_eq!(window.handle_received(1), Err(Overrun));
        window.handle_consumed(2000, &mut budget);
        assert_eq!(window.poll_grant(now, RTT, &mut budget), Some(2000));
    }

    #[test]
    fn given_back_credit_is_another_stream_s() {
        let (now, mut budget) = (Instant::now(), Budget::new(32 << 10));
        let mut first = Window::open(&mut budget).unwrap();
        let mut second = Window::open(&mut budget).unwrap();
        assert_eq!(first.poll_grant(now, RTT, &mut budget), Some(12 << 10));
        assert_eq!(second.poll_grant(now, RTT, &mut budget), Some(4 << 10), "three quarters of the budget");
        assert_eq!(first.handle_returned(17 << 10, &mut budget), Err(Overrun));
        first.handle_returned(8 << 10, &mut budget).unwrap();
        assert_eq!(second.poll_grant(now, RTT, &mut budget), Some(8 << 10));
    }

    #[test]
    fn a_stream_always_has_its_early_credit_and_none_opens_beyond_the_budget() {
        let (now, mut budget) = (Instant::now(), Budget::new(4 * EARLY_CREDIT));
        let mut windows: Vec<_> = std::iter::from_fn(|| Window::open(&mut budget)).collect();
        assert_eq!(windows.len(), 4);
        for window in &mut windows {
            assert_eq!(window.poll_grant(now, RTT, &mut budget), None);
            assert_eq!(round(window, &mut budget, now), Some(EARLY_CREDIT));
        }
        windows[0].close(&mut budget);
        windows[0].close(&mut budget);
        assert_eq!(budget.used(), 3 * EARLY_CREDIT);
        assert!(Window::open(&mut budget).is_some() && Window::open(&mut budget).is_none());
    }

    proptest! {
        #[test]
        fn windows_never_take_up_more_than_the_budget_and_nobody_starves(
            acts in proptest::collection::vec((0usize..8, 0u8..5, any::<u16>()), 1..400),
        ) {
            let total = 128 << 10;
            let (mut now, mut budget) = (Instant::now(), Budget::new(total));
            let mut windows: Vec<_> = (0..8).map(|_| Window::open(&mut budget).unwrap()).collect();
            for (which, what, much) in acts {
                let window = &mut windows[which];
                let much = u64::from(much);
                match what {
                    0 => { let _maybe = window.handle_received(much.min(window.granted)); }
                    1 => { let _no = window.handle_received(window.granted + 1).unwrap_err(); }
                    2 => window.handle_consumed(much.min(window.unread), &mut budget),
                    3 => window.handle_returned(much.min(window.granted), &mut budget).unwrap(),
                    _ => now += Duration::from_millis(much % 30),
                }
                let granted = window.poll_grant(now, RTT, &mut budget);
                prop_assert!(granted != Some(0));
                prop_assert!(window.granted > 0 || window.unread > 0, "starves");
                let held: u64 = windows.iter().map(|w| (w.granted + w.unread).max(EARLY_CREDIT)).sum();
                prop_assert_eq!(held, budget.used());
                prop_assert!(budget.used() <= total);
            }
            windows.iter_mut().for_each(|window| window.close(&mut budget));
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
