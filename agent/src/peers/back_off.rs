//! A pause after failures that grows from one to the next. Pure.

use std::time::{Duration, Instant};

/// How long to leave alone what has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    first: Duration,
    longest: Duration,
    failures: u32,
    until: Option<Instant>,
}

impl BackOff {
    /// A pause of `first` after the first failure, doubled by each further one up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, until: None }
    }

    /// What was tried has failed. What fails during a pause was begun before it, and does not make it longer.
    pub fn failed(&mut self, now: Instant) {
        if self.is_over(now) {
            self.until = Some(now + self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// It works.
    pub fn reset(&mut self) {
        (self.failures, self.until) = (0, None);
    }

    /// Whether it has failed since it last worked.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Whether it may be tried.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// When the newest pause ends or has ended.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_what_fails_together_counts_once() {
        let mut now = Instant::now();
        let mut back_off = BackOff::new(Duration::from_millis(50), Duration::from_secs(1));
        for expected in [50, 100, 200, 400, 800, 1000, 1000] {
            back_off.failed(now);
            back_off.failed(now);
            let until = back_off.until().unwrap();
            assert_eq!(until - now, Duration::from_millis(expected));
            assert!(!back_off.is_over(until - Duration::from_nanos(1)) && back_off.is_over(until));
            now = until;
        }
        back_off.reset();
        assert!(back_off.is_over(now) && !back_off.has_failed());
    }
}
