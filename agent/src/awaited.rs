//! A value that very many tasks wait for something of, each at little memory.
//!
//! tokio's watch channel does the same, but takes some 200 bytes for each that waits. Every connection waits for such values for as
//! long as it lives, so here it is 48 bytes and what is looked for.

use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// Of more places than this for those who wait, none is kept when nobody waits any more. Until then, or the next change, there are as
/// many as waited at once at the most, of 16 bytes.
const KEPT: usize = 64;

/// A value that is changed in one place and waited for in many.
#[derive(Debug)]
pub struct Awaited<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    /// How often it has been changed. Only changed with the lock held.
    changes: AtomicU64,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    /// Those who have waited since the last change.
    waiting: Slab<Waker>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + PartialEq> Awaited<T> {
    /// The value to begin with.
    pub fn new(value: T) -> Self {
        let state = Mutex::new(State { value, waiting: Slab::new() });
        Self(Arc::new(Shared { changes: AtomicU64::new(0), state }))
    }

    /// What `look` makes of it now. It may not look or change again from there.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.lock().value)
    }

    /// Changes it, and has all who wait look again if it is another then. Gives what `change` gave, which may not look or change
    /// again.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut state = self.0.lock();
        let before = state.value.clone();
        let given = change(&mut state.value);
        if state.value != before {
            self.0.changes.fetch_add(1, Release);
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            for (_, waker) in waiting {
                waker.wake();
            }
        }
        given
    }

    /// Resolves when it is as `wanted` says. Whoever waits when nobody can change it any more waits for ever.
    pub fn until<F: FnMut(&T) -> bool>(&self, wanted: F) -> Until<T, F> {
        Until { shared: Arc::clone(&self.0), wanted, waits: None }
    }
}

/// Waits for an [`Awaited`] to be as it should.
pub struct Until<T, F> {
    shared: Arc<Shared<T>>,
    wanted: F,
    waits: Option<Waits>,
}

/// Which waker it is. Made of a waker that is kept, no other that wakes somebody else is the same for as long as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Which(usize, usize);

impl From<&Waker> for Which {
    fn from(waker: &Waker) -> Self {
        Self(waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
    }
}

/// What is known of a waker that was left there.
struct Waits {
    /// Which it is, so that nobody has to look.
    waker: Which,
    /// When: it is there until the next change.
    since: u64,
    place: usize,
}

impl<T, F: FnMut(&T) -> bool + Unpin> Future for Until<T, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { shared, wanted, waits } = self.get_mut();
        let waker = Which::from(cx.waker());
        // The usual case by far, without the lock: a change from here on wakes the waker that is there.
        if waits.as_ref().is_some_and(|w| w.waker == waker && w.since == shared.changes.load(Acquire)) {
            return Poll::Pending;
        }
        let mut state = shared.lock();
        let since = shared.changes.load(Relaxed);
        let before = waits.take().filter(|w| w.since == since).map(|w| w.place);
        if wanted(&state.value) {
            state.leave(before);
            return Poll::Ready(());
        }
        let place = match before {
            Some(place) => {
                state.waiting[place].clone_from(cx.waker());
                place
            }
            None => state.waiting.insert(cx.waker().clone()),
        };
        *waits = Some(Waits { waker: Which::from(&state.waiting[place]), since, place });
        Poll::Pending
    }
}

impl<T> State<T> {
    fn leave(&mut self, place: Option<usize>) {
        if let Some(place) = place {
            self.waiting.remove(place);
            if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
                self.waiting = Slab::new();
            }
        }
    }
}

impl<T, F> Drop for Until<T, F> {
    fn drop(&mut self) {
        if let Some(waits) = self.waits.take() {
            let mut state = self.shared.lock();
            if waits.since == self.shared.changes.load(Relaxed) {
                state.leave(Some(waits.place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn waker() -> (Arc<Counted>, Waker) {
        let counted = Arc::<Counted>::default();
        (counted.clone(), Waker::from(counted))
    }

    fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> bool {
        Pin::new(future).poll(&mut Context::from_waker(waker)).is_ready()
    }

    #[test]
    fn whoever_waits_is_woken_by_each_change_once_and_goes_on_when_it_is_as_wanted() {
        let number = Awaited::new(0);
        let (woken, waker) = waker();
        let mut seven = number.until(|n| *n == 7);
        assert!(!poll(&mut seven, &waker) && !poll(&mut seven, &waker));
        number.change(|n| *n = 6);
        assert_eq!(woken.0.load(Relaxed), 1);
        number.change(|n| *n = 5);
        assert_eq!(woken.0.load(Relaxed), 1, "nobody has waited since");
        assert!(!poll(&mut seven, &waker));
        number.change(|n| *n = 7);
        assert_eq!((woken.0.load(Relaxed), number.look(|n| *n)), (2, 7));
        assert!(poll(&mut seven, &waker));
        assert!(poll(&mut number.until(|n| *n == 7), &waker), "what is so already is not waited for");
    }

    #[test]
    fn only_whoever_polled_last_is_woken_and_nobody_who_has_left() {
        let number = Awaited::new(0);
        let ((first, by_first), (second, by_second)) = (waker(), waker());
        let mut moves = number.until(|n| *n > 0);
        let mut leaves = number.until(|n| *n > 0);
        assert!(!poll(&mut moves, &by_first) && !poll(&mut moves, &by_second) && !poll(&mut leaves, &by_first));
        drop(leaves);
        number.change(|_| ());
        assert_eq!(second.0.load(Relaxed), 0, "nothing has changed");
        number.change(|n| *n -= 1);
        assert_eq!([&first, &second].map(|woken| woken.0.load(Relaxed)), [0, 1]);
        drop(moves);
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 2), "no waker stays behind");
    }

    /// Places are used again after a change and after somebody has left: none may be taken for another's.
    #[test]
    fn places_of_those_who_wait_are_never_mistaken_for_others() {
        let mut random = 7_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % below
        };
        let number = Awaited::new(0_u64);
        let mut waiting: Vec<(Until<u64, _>, Arc<Counted>, Waker, bool)> = Vec::new();
        for step in 0..20_000_u64 {
            match next(if step % 1_000 < 300 { 3 } else { 6 }) {
                0 | 1 => {
                    let (woken, waker) = waker();
                    let mut until = number.until(move |n| *n > step + 5);
                    assert!(!poll(&mut until, &waker));
                    waiting.push((until, woken, waker, true));
                }
                2 if !waiting.is_empty() => drop(waiting.swap_remove(next(waiting.len()))),
                3 => {
                    number.change(|n| *n = step.max(*n));
                    for (_, woken, _, registered) in &mut waiting {
                        assert_eq!(woken.0.swap(0, Relaxed), usize::from(std::mem::take(registered)));
                    }
                }
                _ if !waiting.is_empty() => {
                    let at = next(waiting.len());
                    let (until, _, waker, registered) = &mut waiting[at];
                    if poll(until, waker) {
                        waiting.swap_remove(at);
                    } else {
                        *registered = true;
                    }
                }
                _ => {}
            }
            let registered = waiting.iter().filter(|w| w.3).count();
            assert_eq!(number.0.lock().waiting.len(), registered, "step {step}");
        }
    }

    /// Those who wait look all the time, while they are left alone and while it changes.
    #[test]
    fn whoever_waits_while_it_changes_is_woken_by_it() {
        const STEPS: u64 = 500;
        const WAITERS: u64 = 3;
        let (number, waiting) = (Awaited::new(0_u64), AtomicU64::new(0));
        let bound = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let pass = || {
            assert!(std::time::Instant::now() < bound, "somebody has been forgotten");
            std::thread::yield_now();
        };
        std::thread::scope(|scope| {
            for _ in 0..WAITERS {
                scope.spawn(|| {
                    for wanted in 1..=STEPS {
                        let (woken, waker) = waker();
                        let mut until = number.until(move |n| *n >= wanted);
                        assert!(!poll(&mut until, &waker));
                        waiting.fetch_add(1, Release);
                        while !poll(&mut until, &waker) {
                            pass();
                        }
                        while woken.0.load(Relaxed) == 0 {
                            pass();
                        }
                        assert_eq!(woken.0.load(Relaxed), 1, "by one change");
                    }
                });
            }
            for step in 1..=STEPS {
                while waiting.load(Acquire) < step * WAITERS {
                    pass();
                }
                number.change(|n| *n += 1);
            }
        });
    }

    #[test]
    fn one_that_waits_takes_little() {
        let stage = Awaited::new(0_u64);
        let wanted = 7_u64;
        assert_eq!(size_of_val(&stage.until(move |n| *n >= wanted)), 56);
    }
}
