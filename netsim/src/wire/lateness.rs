//! How late the wire was, and whether what it carried can be believed.

use std::time::Duration;

use super::Nanos;

/// Four buckets for each power of two nanoseconds: the last is over an hour.
const BUCKETS: usize = 4 * 42;

/// A histogram of how long after their time packets were sent on.
#[derive(Debug, Clone)]
pub(crate) struct Lateness {
    buckets: [u64; BUCKETS],
    most: Nanos,
    overflowed: u64,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], most: 0, overflowed: 0 }
    }
}

impl Lateness {
    pub(crate) fn record(&mut self, late: Nanos) {
        self.buckets[bucket(late)] += 1;
        self.most = self.most.max(late);
    }

    /// A packet was dropped because too much was under way.
    pub(crate) fn overflow(&mut self) {
        self.overflowed += 1;
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// So large a `share` of the packets was at most so late, rounded up by a quarter at the most.
    fn quantile(&self, share: f64) -> Nanos {
        #[expect(clippy::cast_precision_loss, reason = "a count of packets")]
        let wanted = self.count() as f64 * share;
        let mut below = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            below += count;
            #[expect(clippy::cast_precision_loss, reason = "a count of packets")]
            if below as f64 >= wanted {
                return upper(index).min(self.most);
            }
        }
        self.most
    }

    /// Judges the run so far. `drops`: what the kernel dropped between a host and the wire.
    pub(crate) fn report(&self, drops: u64, tolerance: Tolerance) -> Report {
        let p99 = Duration::from_nanos(self.quantile(0.99));
        let drops = drops + self.overflowed;
        let faithful = p99 <= tolerance.lateness && drops <= tolerance.drops;
        Report {
            verdict: if faithful { Verdict::Faithful } else { Verdict::Overloaded },
            timed: self.count(),
            late_p50: Duration::from_nanos(self.quantile(0.5)),
            late_p99: p99,
            late_most: Duration::from_nanos(self.most),
            drops,
        }
    }
}

/// The highest bit that is set, and the two below it.
fn bucket(late: Nanos) -> usize {
    let Some(octave) = late.checked_ilog2().filter(|octave| *octave >= 2) else {
        return usize::try_from(late).unwrap_or_default();
    };
    let part = usize::try_from(late >> (octave - 2) & 3).unwrap_or_default();
    ((octave as usize - 1) * 4 + part).min(BUCKETS - 1)
}

/// The largest that is counted in a bucket.
fn upper(bucket: usize) -> Nanos {
    let (octave, part) = (bucket / 4 + 1, bucket as Nanos % 4);
    if bucket < 4 { bucket as Nanos } else { ((part + 5) << (octave - 2)) - 1 }
}

/// Whether the network was the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Faithful,
    /// The machine could not keep up: packets came late or were dropped where no link was to drop them. What the
    /// programs did may be due to that.
    Overloaded,
}

/// What is still taken for faithful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// How late 99 of 100 delayed packets may be at most.
    pub lateness: Duration,
    /// Packets that the kernel may drop on their way to or from the wire.
    pub drops: u64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { lateness: Duration::from_millis(3), drops: 0 }
    }
}

/// How well the wire kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// In one word.
    pub verdict: Verdict,
    /// Packets that had a time to be sent on at: those of links with a delay.
    pub timed: u64,
    /// Half of them were at most so late. This and the next are rounded up by a quarter at the most.
    pub late_p50: Duration,
    /// 99 of 100 were at most so late.
    pub late_p99: Duration,
    /// None was later.
    pub late_most: Duration,
    /// Packets that no link dropped and that still were lost.
    pub drops: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_gives_quantiles_rounded_up() {
        let mut late = Lateness::default();
        (0..98).for_each(|_| late.record(1000));
        late.record(1_000_000);
        late.record(70_000_000);
        let report = late.report(0, Tolerance::default());
        assert_eq!(report.late_p50, Duration::from_nanos(1023));
        assert_eq!(report.late_p99, Duration::from_nanos((1 << 20) - 1));
        assert_eq!(report.late_most, Duration::from_millis(70));
        assert_eq!((report.timed, report.verdict), (100, Verdict::Faithful));
    }

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        for bucket_number in 1..BUCKETS - 1 {
            assert_eq!(bucket(upper(bucket_number)), bucket_number);
            assert_eq!(bucket(upper(bucket_number) + 1), bucket_number + 1);
        }
        assert_eq!((bucket(0), bucket(Nanos::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn lateness_drops_and_overflow_each_make_a_run_overloaded() {
        let fine = Lateness::default();
        let mut late = Lateness::default();
        (0..100).for_each(|_| late.record(9_000_000));
        let mut full = Lateness::default();
        full.overflow();
        for (lateness, drops, verdict) in [
            (&fine, 0, Verdict::Faithful),
            (&fine, 1, Verdict::Overloaded),
            (&late, 0, Verdict::Overloaded),
            (&full, 0, Verdict::Overloaded),
        ] {
            assert_eq!(lateness.report(drops, Tolerance::default()).verdict, verdict);
        }
        let lenient = Tolerance { lateness: Duration::from_secs(1), drops: 1 };
        assert_eq!(late.report(1, lenient).verdict, Verdict::Faithful);
    }
}
