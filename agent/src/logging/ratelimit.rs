//! How often a line may be written: pure, bounded.
//!
//! Each key has a small burst and then a slow drip. All keys together share a larger budget, so that somebody with a
//! million source addresses is limited as well.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The numbers of a limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lines that a key may write at once, at least 1.
    pub burst: u32,
    /// Time after which a key may write one more.
    pub every: Duration,
    /// Lines that all keys together may write at once, at least 1.
    pub total_burst: u32,
    /// Time after which all keys together may write one more.
    pub total_every: Duration,
    /// Keys remembered at most, at least 1. The least recently used one is forgotten.
    pub keys: usize,
}

impl Limits {
    /// For what a proven member may do: 500 lines, then 20 a second, for a key; 2,000 lines, then 100 a second, for all. An
    /// operator wants every one of these lines, so the budget is there for loops alone: a member that opens connections as fast as
    /// it can writes about 50 MB an hour, with the line that each close adds.
    pub const MEMBER: Self = Self {
        burst: 500,
        every: Duration::from_millis(50),
        total_burst: 2_000,
        total_every: Duration::from_millis(10),
        keys: 4_096,
    };
}

impl Default for Limits {
    /// Three lines, then two a minute, for a key; 100 lines, then five a second, for all: at 300 bytes a line, at most
    /// 5.4 MB an hour whatever peers do.
    fn default() -> Self {
        Self {
            burst: 3,
            every: Duration::from_secs(30),
            total_burst: 100,
            total_every: Duration::from_millis(200),
            keys: 1024,
        }
    }
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write it.
    Log {
        /// Lines of this key that were left out since the last one written.
        suppressed: u64,
    },
    /// Leave it out.
    Suppress,
}

/// Decides which lines are written.
#[derive(Debug)]
pub struct RateLimiter<K> {
    limits: Limits,
    total: Bucket,
    keys: HashMap<K, Entry>,
    /// Keys by when they were last used.
    order: BTreeMap<u64, K>,
    used: u64,
    forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    bucket: Bucket,
    suppressed: u64,
    used: u64,
}

impl<K: Hash + Eq + Clone> RateLimiter<K> {
    /// A limiter that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: Bucket { used: 0, since: None },
            keys: HashMap::new(),
            order: BTreeMap::new(),
            used: 0,
            forgotten: 0,
        }
    }

    /// A line of `key` wants to be written at `now`.
    pub fn handle(&mut self, key: K, now: Instant) -> Verdict {
        let Limits { burst, every, total_burst, total_every, .. } = self.limits;
        self.used += 1;
        let used = self.used;
        if !self.keys.contains_key(&key) {
            self.make_room();
        }
        let entry = self.keys.entry(key.clone()).or_insert(Entry {
            bucket: Bucket { used: 0, since: None },
            suppressed: 0,
            used,
        });
        self.order.remove(&entry.used);
        entry.used = used;
        self.order.insert(used, key);
        let open = entry.bucket.has_room(burst, every, now) && self.total.has_room(total_burst, total_every, now);
        if !open {
            entry.suppressed += 1;
            return Verdict::Suppress;
        }
        entry.bucket.take(now);
        self.total.take(now);
        Verdict::Log { suppressed: std::mem::take(&mut entry.suppressed) }
    }

    /// What was left out and is not to be told of by a further line of its key, as none has come although it might have been
    /// written: the keys, `None` for all those that were forgotten, and how many lines of each. Each counts as a line.
    pub fn sweep(&mut self, now: Instant) -> Vec<(Option<K>, u64)> {
        let Limits { burst, every, total_burst, total_every, .. } = self.limits;
        let mut told = Vec::new();
        for (key, entry) in self.keys.iter_mut().filter(|(_, entry)| entry.suppressed > 0) {
            if !self.total.has_room(total_burst, total_every, now) {
                return told;
            }
            if entry.bucket.has_room(burst, every, now) {
                entry.bucket.take(now);
                self.total.take(now);
                told.push((Some(key.clone()), std::mem::take(&mut entry.suppressed)));
            }
        }
        if self.forgotten > 0 && self.total.has_room(total_burst, total_every, now) {
            self.total.take(now);
            told.push((None, std::mem::take(&mut self.forgotten)));
        }
        told
    }

    /// Lines that were left out and not told of yet, those of forgotten keys included.
    pub fn untold(&self) -> u64 {
        self.keys.values().map(|e| e.suppressed).sum::<u64>() + self.forgotten
    }

    /// Keys remembered now.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn make_room(&mut self) {
        while self.keys.len() >= self.limits.keys.max(1) {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.forgotten += self.keys.remove(&oldest).map_or(0, |e| e.suppressed);
        }
    }
}

/// A bucket that empties by one in a given time.
#[derive(Debug)]
struct Bucket {
    used: u32,
    /// When it was last brought up to date; a whole number of drips.
    since: Option<Instant>,
}

impl Bucket {
    fn has_room(&mut self, burst: u32, every: Duration, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_nanos() / every.as_nanos().max(1);
        let drips = u32::try_from(passed).unwrap_or(u32::MAX);
        if drips >= self.used {
            self.used = 0;
            self.since = Some(now);
        } else {
            self.used -= drips;
            self.since = Some(since + every * drips);
        }
        self.used < burst.max(1)
    }

    fn take(&mut self, now: Instant) {
        self.used += 1;
        self.since.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_has_a_burst_then_a_drip_and_tells_what_was_left_out() {
        let mut limiter = RateLimiter::new(Limits::default());
        let start = Instant::now();
        let verdicts: Vec<_> = (0..5).map(|_| limiter.handle("beta", start)).collect();
        assert_eq!(verdicts[..3], [Verdict::Log { suppressed: 0 }; 3]);
        assert_eq!(verdicts[3..], [Verdict::Suppress; 2]);
        assert_eq!(limiter.handle("gamma", start), Verdict::Log { suppressed: 0 });
        let later = start + Duration::from_secs(31);
        assert_eq!(limiter.handle("beta", later), Verdict::Log { suppressed: 2 });
        assert_eq!(limiter.handle("beta", later), Verdict::Suppress);
    }

    #[test]
    fn what_was_left_out_last_is_told_as_soon_as_a_line_might_be_written_and_none_comes() {
        let mut limiter = RateLimiter::new(Limits { keys: 2, ..Limits::default() });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..5 {
            limiter.handle("beta", start);
        }
        limiter.handle("gamma", start);
        assert_eq!(limiter.sweep(at(29)), []);
        assert_eq!(limiter.sweep(at(30)), [(Some("beta"), 2)]);
        assert_eq!(limiter.sweep(at(30)), []);
        // That was its line for now.
        assert_eq!(limiter.handle("beta", at(31)), Verdict::Suppress);
        limiter.handle("delta", at(32));
        limiter.handle("epsilon", at(33));
        assert_eq!((limiter.sweep(at(33)), limiter.untold()), (vec![(None, 1)], 0), "of a key that was forgotten");
    }

    #[test]
    fn an_hour_of_a_million_sources_stays_under_six_megabytes_of_lines() {
        let mut limiter = RateLimiter::new(Limits::default());
        let start = Instant::now();
        let lines = (0..1_000_000u32)
            .filter(|n| {
                let now = start + Duration::from_micros(u64::from(*n) * 3600);
                matches!(limiter.handle(*n, now), Verdict::Log { .. })
            })
            .count();
        assert!(lines * 300 < 6_000_000, "{lines}");
        assert!(lines > 10_000, "{lines}: the budget is used");
        assert_eq!(limiter.len(), Limits::default().keys);
    }

    #[test]
    fn a_member_at_work_is_told_in_full_and_a_loop_is_bounded_and_counted() {
        let start = Instant::now();
        // Lines a second for so many seconds; how many of them are written at least and at most.
        for (rate, seconds, least, most) in [
            (1, 3_600, 3_600, 3_600),
            (20, 600, 12_000, 12_000),
            (100, 6, 600, 600),
            (500, 1, 500, 510),
            (2_000, 60, 1_690, 1_700),
            (1_000, 3_600, 72_490, 72_500),
        ] {
            let mut limiter = RateLimiter::new(Limits::MEMBER);
            let (mut written, mut told) = (0u64, 0);
            for n in 0..rate * seconds {
                let now = start + Duration::from_secs(1) * n / rate;
                if let Verdict::Log { suppressed } = limiter.handle("beta", now) {
                    (written, told) = (written + 1, told + suppressed);
                }
            }
            assert!((least..=most).contains(&written), "{rate} a second for {seconds} s: {written}");
            assert_eq!(written + told + limiter.untold(), u64::from(rate * seconds));
        }
    }

    #[test]
    fn a_member_in_a_loop_does_not_silence_the_others() {
        let mut limiter = RateLimiter::new(Limits::MEMBER);
        let start = Instant::now();
        for n in 0..60_000u32 {
            let now = start + Duration::from_millis(u64::from(n));
            limiter.handle("beta", now);
            if n % 100 == 0 {
                assert_eq!(limiter.handle("gamma", now), Verdict::Log { suppressed: 0 }, "after {n}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_line_is_written_or_told_of_or_counted_and_no_budget_is_exceeded(
            steps in proptest::collection::vec((0u8..14, 0u64..3000), 1..400),
            burst in 1u32..5, total_burst in 1u32..8, keys in 1usize..10,
        ) {
            let limits = Limits {
                burst, total_burst, keys,
                every: Duration::from_secs(2),
                total_every: Duration::from_millis(700),
            };
            let mut limiter = RateLimiter::new(limits);
            let start = Instant::now();
            let mut now = start;
            let (mut lines, mut written, mut told) = (0u64, 0u64, 0u64);
            let mut times: Vec<(u8, Instant)> = Vec::new();
            for &(key, wait) in &steps {
                now += Duration::from_millis(wait);
                if key >= 12 {
                    for (key, count) in limiter.sweep(now) {
                        prop_assert!(count > 0);
                        told += count;
                        times.push((key.unwrap_or(u8::MAX), now));
                    }
                    continue;
                }
                lines += 1;
                if let Verdict::Log { suppressed } = limiter.handle(key, now) {
                    written += 1;
                    told += suppressed;
                    times.push((key, now));
                }
                prop_assert!(limiter.len() <= keys);
                prop_assert_eq!(limiter.keys.len(), limiter.order.len());
            }
            prop_assert_eq!(lines, written + told + limiter.untold());
            // In any window no more than the burst and what dripped into it.
            for (i, &(_, from)) in times.iter().enumerate() {
                for (n, &(_, to)) in times[i..].iter().enumerate() {
                    let drips = (to - from).as_millis() / limits.total_every.as_millis();
                    prop_assert!(n as u128 <= u128::from(total_burst) + drips);
                }
            }
        }
    }
}
