//! When what is found by looking alone is at rest: pure.
//!
//! Where no watch tells who writes, one look cannot tell a file that is there from half of it. It is taken when two looks that are
//! [`APART`] have found the same; what is another each time, after [`MOST`] all the same.

use std::time::{Duration, Instant};

/// How long what was found must have been the same.
pub(super) const APART: Duration = Duration::from_secs(2);
/// After how long what was found is taken although it keeps on becoming another.
pub(super) const MOST: Duration = Duration::from_secs(10);

/// Looks at the files, `F` being what they were.
#[derive(Debug, Clone)]
pub(super) struct Looks<F> {
    /// When they were first found to be others.
    first: Option<Instant>,
    /// What was found last, and since when it is that.
    found: Option<(F, Instant)>,
}

impl<F: PartialEq> Looks<F> {
    /// Nothing was found.
    pub(super) fn new() -> Self {
        Self { first: None, found: None }
    }

    /// The files were found like this: others than those that were judged last. Whether they are to be taken now.
    pub(super) fn handle_found(&mut self, found: F, now: Instant) -> bool {
        let first = *self.first.get_or_insert(now);
        let since = match &self.found {
            Some((before, since)) if *before == found => *since,
            _ => now,
        };
        if now >= since + APART || now >= first + MOST {
            *self = Self::new();
            return true;
        }
        self.found = Some((found, since));
        false
    }

    /// The files are those that were judged last, or are heard of: nothing is left to be looked at.
    pub(super) fn handle_nothing(&mut self) {
        *self = Self::new();
    }

    /// When they are to be looked at again.
    pub(super) fn due(&self) -> Option<Instant> {
        let (_, since) = self.found.as_ref()?;
        Some((*since + APART).min(self.first? + MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_found_is_taken_when_a_second_look_finds_the_same_and_not_before() {
        let start = Instant::now();
        let mut looks = Looks::new();
        assert_eq!(looks.due(), None);
        assert!(!looks.handle_found(1, start));
        assert_eq!(looks.due(), Some(start + APART));
        assert!(!looks.handle_found(1, start + S), "a look in between says nothing");
        assert_eq!(looks.due(), Some(start + APART));
        assert!(!looks.handle_found(2, start + APART), "somebody is writing");
        assert_eq!(looks.due(), Some(start + 2 * APART));
        assert!(looks.handle_found(2, start + 2 * APART));
        assert_eq!(looks.due(), None);
        assert!(!looks.handle_found(2, start + 2 * APART), "and again from the start");
    }

    #[test]
    fn what_never_rests_is_taken_at_last() {
        let start = Instant::now();
        let mut looks = Looks::new();
        let mut taken = (0..).map(|n| (n, start + n * S)).find(|(n, at)| looks.handle_found(*n, *at));
        assert_eq!(taken.take().map(|(_, at)| at), Some(start + MOST));
    }

    #[test]
    fn what_has_been_judged_meanwhile_is_looked_at_no_more() {
        let start = Instant::now();
        let mut looks = Looks::new();
        assert!(!looks.handle_found(1, start));
        looks.handle_nothing();
        assert_eq!(looks.due(), None);
        assert!(!looks.handle_found(1, start + 2 * APART));
    }
}
