//! Who of those that wait for a lane is next. Pure.
//!
//! The services take turns: whoever waits for one is served after at most one more of every other that waits already, however
//! many wait for those. Those that wait for the same one are served in order of arrival.

use std::collections::{BTreeMap, VecDeque};

use super::policy::WaiterId;
use crate::transport::message::Purpose;

/// The applications that wait. How many may is not decided here.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    /// None is empty.
    lines: BTreeMap<Purpose, VecDeque<WaiterId>>,
    /// Each line once, the next one at the front.
    order: VecDeque<Purpose>,
    len: usize,
}

impl Turns {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more waits.
    pub fn push(&mut self, purpose: &Purpose, waiter: WaiterId) {
        self.len += 1;
        if let Some(line) = self.lines.get_mut(purpose) {
            line.push_back(waiter);
        } else {
            self.lines.insert(purpose.clone(), VecDeque::from([waiter]));
            self.order.push_back(purpose.clone());
        }
    }

    /// Whose turn it is.
    pub fn pop(&mut self) -> Option<WaiterId> {
        let purpose = self.order.pop_front()?;
        let line = self.lines.get_mut(&purpose)?;
        let waiter = line.pop_front()?;
        self.len -= 1;
        if line.is_empty() {
            self.lines.remove(&purpose);
        } else {
            self.order.push_back(purpose);
        }
        Some(waiter)
    }

    /// One waits no longer. Nothing happens if it has had its turn.
    pub fn remove(&mut self, purpose: &Purpose, waiter: WaiterId) {
        let Some(line) = self.lines.get_mut(purpose) else { return };
        let Some(at) = line.iter().position(|&other| other == waiter) else { return };
        line.remove(at);
        self.len -= 1;
        if line.is_empty() {
            self.lines.remove(purpose);
            self.order.retain(|other| other != purpose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::message::tests::to;

    fn all(turns: &mut Turns) -> Vec<u64> {
        std::iter::from_fn(|| turns.pop()).map(|WaiterId(waiter)| waiter).collect()
    }

    #[test]
    fn services_take_turns_and_each_is_served_in_order_of_arrival() {
        let mut turns = Turns::default();
        for (service, waiter) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("a", 5), ("c", 6), ("b", 7)] {
            turns.push(&to(service), WaiterId(waiter));
        }
        assert_eq!((turns.len(), all(&mut turns)), (7, vec![1, 4, 6, 2, 7, 3, 5]));
        assert!(turns.is_empty());
    }

    #[test]
    fn who_waits_for_another_service_is_served_after_one_more_of_the_busy_one() {
        let mut turns = Turns::default();
        for waiter in 0..100 {
            turns.push(&to("a"), WaiterId(waiter));
        }
        for round in 0..10 {
            turns.push(&to("b"), WaiterId(1_000 + round));
            assert_eq!([turns.pop(), turns.pop()], [Some(WaiterId(round)), Some(WaiterId(1_000 + round))]);
        }
    }

    #[test]
    fn a_line_that_all_have_left_has_no_turn() {
        let mut turns = Turns::default();
        for (service, waiter) in [("a", 1), ("b", 2), ("b", 3), ("c", 4)] {
            turns.push(&to(service), WaiterId(waiter));
        }
        turns.remove(&to("a"), WaiterId(1));
        turns.remove(&to("b"), WaiterId(2));
        turns.remove(&to("b"), WaiterId(9));
        turns.remove(&to("d"), WaiterId(4));
        turns.push(&to("a"), WaiterId(5));
        assert_eq!((turns.len(), all(&mut turns)), (3, vec![3, 4, 5]));
        assert!(turns.lines.is_empty() && turns.order.is_empty());
    }
}
