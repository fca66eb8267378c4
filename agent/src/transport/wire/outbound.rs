//! What waits to be written to a connection.
//!
//! ```text
//!   │ written │ sealed records, to be written │ 5 │ frame │ frame header │ slot │ 1 + 16 │ 5 │ frame header │ slot │ …
//!             head                            sealed                      └── application bytes are read in here
//! ```
//!
//! Frames are gathered in the record that is open, application bytes are read where they stay, and a record is sealed in place
//! when it is full or when everything is written. Without records of our own (rustls makes them) the layout has no gaps.

use std::io::{self, IoSliceMut};
use std::task::Poll;

use super::buffer::{Buffer, Size};
use super::{CONTENT, Layout, RECORD};
use crate::transport::frame::HEADER;

/// The most records that one read fills.
pub(super) const MOST_SLOTS: usize = 4;
/// The longest record that is made elsewhere and put in.
const MOST_RECORD: usize = 64;
/// A slot smaller than this is not worth a frame: what is queued is sealed first.
const WORTHWHILE: usize = 1024;

#[derive(Debug)]
pub(super) struct Outbound {
    buffer: Option<Buffer>,
    head: usize,
    sealed: usize,
    open: usize,
    slots: usize,
}

impl Default for Outbound {
    fn default() -> Self {
        Self { buffer: None, head: 0, sealed: 0, open: 0, slots: 1 }
    }
}

impl Outbound {
    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.head == self.sealed && self.open == 0
    }

    /// Something waits, or more than a conversation was read lately.
    pub(super) fn is_busy(&self) -> bool {
        self.slots > 1 || !self.is_empty()
    }

    /// Sealed and not written.
    pub(super) fn sealed(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[self.head..self.sealed])
    }

    /// `len` bytes of it were written. An empty buffer goes back to the pool.
    pub(super) fn written(&mut self, len: usize) {
        self.head += len;
        self.release();
    }

    /// Whether `len` more bytes of frames, or a record of that size, fit now.
    pub(super) fn has_room(&self, layout: Layout, len: usize) -> bool {
        let Some(buffer) = &self.buffer else { return true };
        // The open record may have to be closed for them.
        self.sealed + 2 * layout.overhead() + self.open + len <= buffer.len()
    }

    /// Whether they fit into the largest buffer.
    pub(super) fn takes(&self, layout: Layout, len: usize) -> bool {
        self.sealed + 2 * layout.overhead() + self.open + len <= Size::Large.bytes()
    }

    /// Puts frames into the open record, and all that waits into a larger buffer if need be.
    ///
    /// # Panics
    /// If it does not [take](Self::takes) them.
    pub(super) fn push<E>(
        &mut self,
        layout: Layout,
        frames: &[u8],
        seal: impl FnMut(&mut [u8], usize) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.open + frames.len() > CONTENT {
            self.seal(layout, seal)?;
        }
        let at = self.sealed + layout.before + self.open;
        let size = if at + frames.len() + layout.after > Size::Small.bytes() { Size::Large } else { Size::Small };
        self.buffer(size)[at..at + frames.len()].copy_from_slice(frames);
        self.open += frames.len();
        Ok(())
    }

    /// Puts a whole record of `most` bytes at most behind what is sealed and before what is open: `make` writes it and gives its
    /// length. There must be [room](Self::has_room).
    pub(super) fn push_record<E>(
        &mut self,
        layout: Layout,
        most: usize,
        make: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let (sealed, open) = (self.sealed, self.open);
        let mut record = [0; MOST_RECORD];
        let len = make(&mut record[..most])?;
        let buffer = self.buffer(Size::Small);
        let content = sealed + layout.before;
        buffer.copy_within(content..content + open, content + len);
        buffer[sealed..sealed + len].copy_from_slice(&record[..len]);
        self.sealed += len;
        Ok(())
    }

    /// Closes the open record.
    pub(super) fn seal<E>(
        &mut self,
        layout: Layout,
        mut seal: impl FnMut(&mut [u8], usize) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.open > 0
            && let Some(buffer) = &mut self.buffer
        {
            let end = self.sealed + layout.overhead() + self.open;
            seal(&mut buffer[self.sealed..end], self.open)?;
            (self.sealed, self.open) = (end, 0);
        }
        Ok(())
    }

    /// Drops the open record.
    pub(super) fn forget_open(&mut self) {
        self.open = 0;
        self.release();
    }

    /// Whether the open record has so little room that it should be written before application bytes are read.
    pub(super) fn is_full(&self, allowed: usize) -> bool {
        self.sealed > 0 || CONTENT.saturating_sub(self.open + HEADER) < WORTHWHILE.min(allowed)
    }

    /// Has `read` read application bytes, `allowed` at most, into slots for as many records as the connection deserves. `header`
    /// gives each slot's frame header, by what is in it. Nothing must be sealed. Gives what `read` gave.
    pub(super) fn fill<E>(
        &mut self,
        layout: Layout,
        allowed: usize,
        most: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
        mut header: impl FnMut(&[u8]) -> Result<[u8; HEADER], E>,
        mut seal: impl FnMut(&mut [u8], usize) -> Result<(), E>,
    ) -> Result<Poll<io::Result<usize>>, E> {
        let slots = self.slots.min(most).min(MOST_SLOTS);
        let open = self.open;
        let buffer = self.buffer(if slots > 1 { Size::Large } else { Size::Small });
        let mut room = allowed;
        let mut places = [(0, 0); MOST_SLOTS];
        let mut iov: [IoSliceMut<'_>; MOST_SLOTS] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let (mut rest, mut at) = (&mut buffer[..], 0);
        for (slot, place) in places.iter_mut().enumerate().take(slots) {
            let before = if slot == 0 { layout.before + open } else { layout.overhead() } + HEADER;
            let len = (CONTENT - HEADER - if slot == 0 { open } else { 0 }).min(room);
            if len == 0 {
                break;
            }
            let (_, behind) = rest.split_at_mut(before);
            let (mine, behind) = behind.split_at_mut(len);
            *place = (at + before, len);
            iov[slot] = IoSliceMut::new(mine);
            (rest, at, room) = (behind, at + before + len, room - len);
        }
        let used = places.iter().filter(|place| place.1 > 0).count();
        let wanted: usize = places.iter().map(|place| place.1).sum();
        let len = match read(&mut iov[..used]) {
            Poll::Ready(Ok(len)) => len,
            nothing => {
                self.slots = (self.slots / 2).max(1);
                self.release();
                return Ok(nothing);
            }
        };
        let mut left = len;
        for (at, room) in places {
            let mine = left.min(room);
            if mine == 0 {
                break;
            }
            let buffer = self.buffer(Size::Small);
            let header = header(&buffer[at..at + mine])?;
            buffer[at - HEADER..at].copy_from_slice(&header);
            self.open += HEADER + mine;
            left -= mine;
            if left > 0 {
                self.seal(layout, &mut seal)?;
            }
        }
        if len == wanted {
            self.slots = (self.slots * 2).min(most);
        } else if len < wanted / 2 {
            self.slots = (self.slots / 2).max(1);
        }
        if len == 0 {
            self.release();
        }
        Ok(Poll::Ready(Ok(len)))
    }

    /// Lets an empty buffer go.
    fn release(&mut self) {
        if self.is_empty() {
            self.buffer = None;
            (self.head, self.sealed) = (0, 0);
        }
    }

    /// The buffer, of at least `size`.
    fn buffer(&mut self, size: Size) -> &mut Buffer {
        let (from, to) = (self.head, self.sealed + RECORD);
        let small = |buffer: &Buffer| size == Size::Large && buffer.size() == Size::Small;
        if self.buffer.as_ref().is_some_and(small)
            && let Some(old) = self.buffer.take()
        {
            let mut new = Buffer::new(size);
            let to = to.min(old.len());
            new[from..to].copy_from_slice(&old[from..to]);
            self.buffer = Some(new);
        }
        self.buffer.get_or_insert_with(|| Buffer::new(size))
    }

    /// Whether it holds no buffer.
    #[cfg(test)]
    pub(super) fn is_released(&self) -> bool {
        self.buffer.is_none()
    }
}
