//! How long to wait before another try, and between two looks: pure.

use std::time::Duration;

/// After the first failure.
pub(super) const FIRST: Duration = Duration::from_millis(500);
/// After many.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// Pauses after failures: each twice as long as the one before, up to [`LONGEST`], and each less some of it by chance, so that a
/// fleet that has lost its source does not come back to it all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pauses {
    failures: u32,
}

impl Pauses {
    /// The pause after another failure. `chance` is any number.
    pub(super) fn failed(&mut self, chance: u64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        jitter(whole, chance)
    }

    /// It works.
    pub(super) fn worked(&mut self) {
        self.failures = 0;
    }

    /// How many tries have failed since it last worked.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

/// Between half and all of a time. `chance` is any number.
pub(super) fn jitter(whole: Duration, chance: u64) -> Duration {
    let half = whole / 2;
    let part = u32::try_from(chance % 1024).unwrap_or_default();
    half + half * part / 1024
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again_after_a_success() {
        let mut pauses = Pauses::default();
        let whole: Vec<_> = (0..8).map(|_| pauses.failed(1023).as_secs_f64().ceil()).collect();
        assert_eq!(whole, [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(pauses.failures(), 8);
        pauses.worked();
        assert!(pauses.failed(1023) <= FIRST && pauses.failures() == 1);
    }

    proptest! {
        #[test]
        fn a_pause_is_never_beyond_the_longest_nor_below_half_of_the_first(chances in prop::collection::vec(any::<u64>(), 1..200)) {
            let mut pauses = Pauses::default();
            for chance in chances {
                let pause = pauses.failed(chance);
                prop_assert!(pause >= FIRST / 2 && pause <= LONGEST, "{pause:?}");
            }
        }
    }
}
