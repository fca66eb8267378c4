//! How a fault goes on in time, once it has begun.

use std::sync::Arc;

use super::Nanos;
use super::conditions::Conditions;
use crate::Answer;

/// What a fault does at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    /// Nothing.
    Fine,
    /// Nothing passes.
    Cut(Answer),
    /// Other conditions than those of the link.
    Other(Arc<Conditions>),
}

/// The phases of a fault, one after the other. The last lasts, unless they begin again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Course {
    began: Nanos,
    phases: Vec<(Nanos, Phase)>,
    last: Phase,
    repeats: bool,
}

impl Course {
    /// One phase for as long as the fault lasts.
    pub(crate) fn constant(phase: Phase) -> Self {
        Self { began: 0, phases: Vec::new(), last: phase, repeats: false }
    }

    /// First one phase for so long, then the other for good.
    pub(crate) fn then(first: Phase, lasts: Nanos, last: Phase) -> Self {
        Self { began: 0, phases: vec![(lasts, first)], last, repeats: false }
    }

    /// Two phases in turn.
    pub(crate) fn alternating(first: (Nanos, Phase), second: (Nanos, Phase)) -> Self {
        Self { began: 0, phases: vec![first, second], last: Phase::Fine, repeats: true }
    }

    /// The same, beginning at `now`.
    pub(crate) fn beginning(self, now: Nanos) -> Self {
        Self { began: now, ..self }
    }

    pub(crate) fn at(&self, now: Nanos) -> &Phase {
        let mut since = now.saturating_sub(self.began);
        let whole: Nanos = self.phases.iter().map(|(lasts, _)| lasts).sum();
        if self.repeats && whole > 0 {
            since %= whole;
        }
        for (lasts, phase) in &self.phases {
            if since < *lasts {
                return phase;
            }
            since -= lasts;
        }
        &self.last
    }

    /// Whether packets have to be judged one by one at any time of the fault.
    pub(crate) fn single_packets(&self) -> bool {
        let all = self.phases.iter().map(|(_, phase)| phase).chain([&self.last]);
        all.into_iter().any(|phase| matches!(phase, Phase::Other(conditions) if conditions.single_packets()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_one_another() {
        let cut = || Phase::Cut(Answer::Silence);
        let slow = || Phase::Other(Arc::new(Conditions::clean().loss(0.5)));
        let flaps = Course::alternating((10, cut()), (5, Phase::Fine)).beginning(100);
        for (now, phase) in [(100, cut()), (109, cut()), (110, Phase::Fine), (114, Phase::Fine), (115, cut())] {
            assert_eq!(*flaps.at(now), phase, "{now}");
        }
        let dies = Course::then(slow(), 10, cut()).beginning(100);
        for (now, phase) in [(100, slow()), (109, slow()), (110, cut()), (9999, cut())] {
            assert_eq!(*dies.at(now), phase, "{now}");
        }
        assert!(dies.single_packets() && !flaps.single_packets());
        assert_eq!(*Course::constant(cut()).at(7), cut());
    }
}
