//! The room of the applications that wait for a link or a lane, of all peers together.
//!
//! A service may fill it as long as no other wants in. When it is full, who comes for a service for which fewer wait takes the
//! place of the newest of those for which the most do. So an equal share is safe: with places for `most` and *n* services
//! that wait, one for which fewer than `most / n` do is always let in, and loses nobody.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::transport::message::Purpose;

/// No place is left, or none for this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("no more connections may wait for a link (`pending_connections`)")]
pub struct Full;

#[derive(Default)]
struct Inner {
    taken: usize,
    /// The last number that was given to a place.
    last: u64,
    /// The places, the newest last. Dropping one tells who has it. No line is empty.
    lines: BTreeMap<Purpose, BTreeMap<u64, oneshot::Sender<()>>>,
}

/// The room.
pub struct Room {
    most: usize,
    inner: Mutex<Inner>,
}

impl Room {
    /// An empty room with places for so many.
    pub fn new(most: usize) -> Self {
        Self { most, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place until it is dropped.
    ///
    /// # Errors
    /// [`Full`] if all are taken and no other service has at least two more than this one.
    pub fn enter(&self, purpose: &Purpose) -> Result<Place<'_>, Full> {
        let mut inner = self.inner();
        if inner.taken >= self.most {
            inner.make_room(purpose)?;
        }
        inner.taken += 1;
        inner.last += 1;
        let (number, (sender, lost)) = (inner.last, oneshot::channel());
        inner.lines.entry(purpose.clone()).or_default().insert(number, sender);
        Ok(Place { room: self, purpose: purpose.clone(), number, lost })
    }
}

impl Inner {
    fn make_room(&mut self, purpose: &Purpose) -> Result<(), Full> {
        let own = self.lines.get(purpose).map_or(0, BTreeMap::len);
        let most = self.lines.values_mut().max_by_key(|line| line.len()).ok_or(Full)?;
        // With one more only, the two would take each other's place in turn. One that has two more keeps one.
        if most.len() < own + 2 {
            return Err(Full);
        }
        most.pop_last();
        self.taken -= 1;
        Ok(())
    }
}

/// A place in the room.
pub struct Place<'a> {
    room: &'a Room,
    purpose: Purpose,
    number: u64,
    lost: oneshot::Receiver<()>,
}

impl Place<'_> {
    /// Resolves when another service has taken the place.
    pub async fn lost(&mut self) -> Full {
        // Nothing is ever sent.
        let _dropped = (&mut self.lost).await;
        Full
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.room.inner();
        let Some(line) = inner.lines.get_mut(&self.purpose) else { return };
        if line.remove(&self.number).is_none() {
            return;
        }
        if line.is_empty() {
            inner.lines.remove(&self.purpose);
        }
        inner.taken -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::message::tests::to;

    impl Place<'_> {
        fn is_lost(&mut self) -> bool {
            self.lost.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        }
    }

    impl Room {
        /// How many wait.
        pub(in crate::peers) fn len(&self) -> usize {
            self.inner().taken
        }
    }

    #[test]
    fn a_service_alone_fills_the_room_and_another_takes_the_places_of_its_newest_up_to_an_equal_share() {
        let room = Room::new(4);
        let mut busy: Vec<_> = (0..4).map(|_| room.enter(&to("a")).unwrap()).collect();
        assert_eq!(room.enter(&to("a")).err(), Some(Full));
        let mut lost = || busy.iter_mut().map(Place::is_lost).collect::<Vec<_>>();
        let _first = room.enter(&to("b")).unwrap();
        assert_eq!(lost(), [false, false, false, true]);
        let second = room.enter(&to("b")).unwrap();
        assert_eq!(lost(), [false, false, true, true]);
        for service in ["a", "b"] {
            assert_eq!(room.enter(&to(service)).err(), Some(Full), "{service}");
        }
        let _third = room.enter(&to("c")).unwrap();
        assert_eq!(room.len(), 4);
        drop(second);
        drop(busy);
        assert_eq!(room.len(), 2, "a place that was lost is not given back again");
    }

    proptest! {
        #[test]
        fn places_are_bounded_and_an_equal_share_is_safe(
            most in 1usize..12,
            acts in proptest::collection::vec((0usize..5, any::<bool>(), any::<u8>()), 1..300),
        ) {
            let room = Room::new(most);
            let mut lines: Vec<Vec<Place>> = (0..5).map(|_| Vec::new()).collect();
            for (which, enters, much) in acts {
                let service = to(["a", "b", "c", "d", "e"][which]);
                if enters {
                    let before: Vec<_> = lines.iter().map(Vec::len).collect();
                    let waiting = (0..5).filter(|&other| other == which || before[other] > 0).count();
                    match room.enter(&service) {
                        Ok(place) => lines[which].push(place),
                        Err(Full) => prop_assert!(
                            before.iter().sum::<usize>() == most && before[which] >= most / waiting
                        ),
                    }
                    for (other, line) in lines.iter_mut().enumerate() {
                        let lost: Vec<_> = line.iter_mut().map(Place::is_lost).collect();
                        if let Some(at) = lost.iter().position(|&lost| lost) {
                            prop_assert!(at + 1 == line.len() && other != which, "the newest of another");
                            prop_assert!(before[other] > most / waiting && before.iter().sum::<usize>() == most);
                            line.pop();
                        }
                    }
                } else if !lines[which].is_empty() {
                    let at = usize::from(much) % lines[which].len();
                    lines[which].remove(at);
                }
                let taken: usize = lines.iter().map(Vec::len).sum();
                prop_assert!(room.len() == taken && taken <= most);
                let kept = room.inner().lines.values().map(BTreeMap::len).collect::<Vec<_>>();
                prop_assert!(kept.iter().sum::<usize>() == taken && !kept.contains(&0));
            }
        }
    }
}
