//! Buffers for bytes in flight. A connection that moves nothing holds none.
//!
//! Each thread keeps a few that were given back last, so that the same warm memory serves one connection after the other,
//! until somebody finds that [they are kept for nothing](let_go).

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::RECORD;
use crate::transport::lane::machine::MAX_QUEUED;

/// How many buffers of a size a thread keeps.
const MOST: usize = 16;

/// How much a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// One record, and what a lane has to say beside it: enough for a conversation.
    Small,
    /// Four records: for bulk.
    Large,
}

impl Size {
    /// In bytes.
    pub(super) const fn bytes(self) -> usize {
        let records = match self {
            Self::Small => 1,
            Self::Large => 4,
        };
        // A record of control frames alone, beside the others.
        records * RECORD + MAX_QUEUED + 64
    }
}

/// What a thread keeps, by size. Its lock is free but while somebody lets go.
#[derive(Default)]
struct Kept(Mutex<[Vec<Box<[u8]>>; 2]>);

impl Kept {
    /// A thread's, of which the others know.
    fn of_this_thread() -> Arc<Self> {
        let kept = Arc::<Self>::default();
        let mut all = lock(&ALL);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&kept));
        kept
    }
}

static ALL: Mutex<Vec<Weak<Kept>>> = Mutex::new(Vec::new());

thread_local! {
    static KEPT: Arc<Kept> = Kept::of_this_thread();
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frees what all threads keep.
pub(crate) fn let_go() {
    for kept in lock(&ALL).iter().filter_map(Weak::upgrade) {
        std::mem::take(&mut *lock(&kept.0));
    }
}

/// A buffer of the pool. Dropped, it goes back.
#[derive(Debug)]
pub(super) struct Buffer {
    size: Size,
    bytes: Box<[u8]>,
}

impl Buffer {
    /// A buffer with whatever was in it before.
    pub(super) fn new(size: Size) -> Self {
        let kept = KEPT.try_with(|kept| lock(&kept.0)[size as usize].pop()).ok().flatten();
        Self { size, bytes: kept.unwrap_or_else(|| vec![0; size.bytes()].into()) }
    }

    /// Its size.
    pub(super) fn size(&self) -> Size {
        self.size
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // While the thread ends it keeps nothing: the buffer is freed.
        let _freed = KEPT.try_with(|kept| {
            let kept = &mut lock(&kept.0)[self.size as usize];
            if kept.len() < MOST {
                kept.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_keeps_buffers_lets_go_of_them_for_another() {
        let (kept, go_on) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drop([Size::Small, Size::Large].map(Buffer::new));
                let number = || KEPT.with(|kept| lock(&kept.0).iter().map(Vec::len).sum::<usize>());
                assert_eq!(number(), 2);
                kept.wait();
                go_on.wait();
                assert_eq!(number(), 0);
            });
            kept.wait();
            let_go();
            go_on.wait();
        });
    }
}
