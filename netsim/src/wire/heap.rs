//! What arrives later, in the order in which it is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Nanos;
use super::frame::Frame;

/// What may be under way at once. Twenty milliseconds at 10 Gbit/s are a tenth of it.
const MOST_BYTES: usize = 256 << 20;

/// A frame that comes to a device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) device: usize,
    pub(crate) interface: usize,
    pub(crate) frame: Frame,
}

/// Arrivals by the time at which they are due, and of the same time in the order in which they were put in.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    put: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    due: Nanos,
    order: u64,
    arrival: Arrival,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl Heap {
    /// Puts an arrival in; gives it back if too much is under way.
    pub(crate) fn put(&mut self, due: Nanos, arrival: Arrival) -> Option<Arrival> {
        if self.bytes + arrival.frame.bytes.len() > MOST_BYTES {
            return Some(arrival);
        }
        self.bytes += arrival.frame.bytes.len();
        self.entries.push(Reverse(Entry { due, order: self.put, arrival }));
        self.put += 1;
        None
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.entries.peek().map(|Reverse(entry)| entry.due)
    }

    /// The first of what is due by `now`.
    pub(crate) fn take(&mut self, now: Nanos) -> Option<(Nanos, Arrival)> {
        self.next().filter(|&due| due <= now)?;
        let Reverse(entry) = self.entries.pop()?;
        self.bytes -= entry.arrival.frame.bytes.len();
        Some((entry.due, entry.arrival))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arrival(number: usize) -> Arrival {
        Arrival { device: number, interface: 0, frame: Frame::complete(vec![0; 60]) }
    }

    #[test]
    fn too_much_under_way_is_refused_and_room_comes_back() {
        let mut heap = Heap::default();
        let big = || Arrival { frame: Frame::complete(vec![0; MOST_BYTES]), ..arrival(0) };
        assert_eq!(heap.put(1, big()), None);
        assert_eq!(heap.put(1, arrival(1)), Some(arrival(1)));
        assert!(heap.take(1).is_some() && heap.put(1, arrival(1)).is_none());
    }

    proptest! {
        #[test]
        fn it_gives_what_a_sorted_list_gives(steps in prop::collection::vec((any::<bool>(), 0_u64..50), 0..200)) {
            let (mut heap, mut list) = (Heap::default(), Vec::new());
            for (number, (put, time)) in steps.into_iter().enumerate() {
                if put {
                    heap.put(time, arrival(number));
                    list.push((time, number));
                    list.sort_unstable();
                } else {
                    let expected = list.first().copied().filter(|&(due, _)| due <= time);
                    list.drain(..usize::from(expected.is_some()));
                    prop_assert_eq!(heap.take(time).map(|(due, arrival)| (due, arrival.device)), expected);
                }
                prop_assert_eq!(heap.next(), list.first().map(|&(due, _)| due));
            }
        }
    }
}
