//! Shorter schedules that still fail: delta debugging (Zeller, Hildebrandt 2002, "Simplifying and isolating
//! failure-inducing input"), without a network or a clock.

/// What [`minimise`] has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk<T> {
    /// What is left: it fails, and without any one part of it, it does not (or the attempts were used up).
    pub left: Vec<T>,
    /// How many candidates were tried.
    pub tried: usize,
    /// Whether nothing more can be left out.
    pub minimal: bool,
}

/// Leaves out parts of `all`, which fails, as long as what is left still fails. `fails` is asked at most `attempts`
/// times, never for the same candidate twice in a row; `all` itself is not tried. The order of the parts stays.
///
/// ```
/// use netsim::scenario::minimise;
///
/// let all: Vec<u32> = (0..40).collect();
/// let shrunk = minimise(&all, 1_000, |part| part.contains(&7) && part.contains(&31));
/// assert_eq!(shrunk.left, [7, 31]);
/// ```
pub fn minimise<T: Clone>(all: &[T], attempts: usize, mut fails: impl FnMut(&[T]) -> bool) -> Shrunk<T> {
    let mut left = all.to_vec();
    let mut tried = 0;
    let mut parts = 2;
    while left.len() > 1 {
        let size = left.len().div_ceil(parts);
        let mut smaller = None;
        // First each part alone, then all without it; of two halves both are the same.
        let alone = (0..left.len()).step_by(size).map(|from| (from, true));
        let without = (0..left.len()).step_by(size).map(|from| (from, false)).filter(|_| parts > 2);
        for (from, keep) in alone.chain(without) {
            let range = from..(from + size).min(left.len());
            let candidate: Vec<T> = match keep {
                true => left[range].to_vec(),
                false => [&left[..range.start], &left[range.end..]].concat(),
            };
            if tried == attempts {
                return Shrunk { left, tried, minimal: false };
            }
            tried += 1;
            if fails(&candidate) {
                smaller = Some((candidate, keep));
                break;
            }
        }
        parts = match smaller {
            Some((candidate, keep)) => {
                left = candidate;
                if keep { 2 } else { (parts - 1).max(2) }
            }
            None if size == 1 => break,
            None => (parts * 2).min(left.len()),
        };
    }
    Shrunk { left, tried, minimal: true }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_planted_failure_of_forty_events_is_reduced_to_its_causes() {
        let all: Vec<u32> = (0..40).collect();
        for causes in [vec![17], vec![3, 38], vec![0, 20, 39], vec![11, 12, 13]] {
            let shrunk = minimise(&all, 1_000, |part| causes.iter().all(|cause| part.contains(cause)));
            assert_eq!(shrunk.left, causes);
            assert!(shrunk.minimal && shrunk.tried < 150, "{} for {causes:?}", shrunk.tried);
        }
    }

    #[test]
    fn without_attempts_everything_stays() {
        let shrunk = minimise(&[1, 2, 3], 0, |_| true);
        assert_eq!((shrunk.left, shrunk.minimal), (vec![1, 2, 3], false));
    }

    proptest! {
        #[test]
        fn what_is_left_are_the_causes_whatever_they_are(
            count in 1_usize..60,
            causes in btree_set(0_usize..60, 1..6),
        ) {
            let causes: Vec<usize> = causes.into_iter().map(|cause| cause % count).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            let all: Vec<usize> = (0..count).collect();
            let shrunk = minimise(&all, 100_000, |part| causes.iter().all(|cause| part.contains(cause)));
            prop_assert_eq!(shrunk.left, causes);
            prop_assert!(shrunk.minimal);
        }
    }
}
