//! Buffers for bytes in flight. A connection that moves nothing holds none.
//!
//! Each thread keeps a few that were given back last, so that the same warm memory serves one connection after the other.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use super::RECORD;
use crate::transport::lane::machine::MAX_QUEUED;

/// How many buffers of a size a thread keeps.
const KEPT: usize = 16;

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

thread_local! {
    static POOL: RefCell<[Vec<Box<[u8]>>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
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
        let kept = POOL.with_borrow_mut(|pool| pool[size as usize].pop());
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
        // While the thread ends there is no pool: the buffer is freed.
        let _freed = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut()
                && pool[self.size as usize].len() < KEPT
            {
                pool[self.size as usize].push(bytes);
            }
        });
    }
}
