//! What was read from a connection and has not been taken yet.
//!
//! ```text
//!   │ plaintext of records that were opened in place: `plain` is what is left of the last │ ciphertext │ free
//!                                                                                         start        end
//! ```

use std::ops::Range;

use super::buffer::{Buffer, Size};

#[derive(Debug, Default)]
pub(super) struct Inbound {
    buffer: Option<Buffer>,
    /// Plaintext that nobody has looked at.
    pub(super) plain: Range<usize>,
    start: usize,
    end: usize,
    /// The last read filled all the room there was.
    bulk: bool,
}

impl Inbound {
    /// What came before the connection was ours: plaintext of records that were read too early.
    pub(super) fn preload_plain(&mut self, bytes: &[u8]) {
        self.preload(bytes);
        (self.plain, self.start) = (0..bytes.len(), bytes.len());
    }

    /// What came before the connection was ours: ciphertext that was read too early.
    pub(super) fn preload(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let size = if bytes.len() > Size::Small.bytes() { Size::Large } else { Size::Small };
            let mut buffer = Buffer::new(size);
            buffer[..bytes.len()].copy_from_slice(bytes);
            (self.buffer, self.end) = (Some(buffer), bytes.len());
        }
    }

    /// All bytes at `range`.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[range])
    }

    /// The ciphertext.
    pub(super) fn sealed(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            Some(buffer) => &mut buffer[self.start..self.end],
            None => &mut [],
        }
    }

    /// The first `record` bytes of the ciphertext are a record that was opened in place: `content` of it is plaintext.
    pub(super) fn opened(&mut self, record: usize, content: Range<usize>) {
        self.plain = self.start + content.start..self.start + content.end;
        self.start += record;
    }

    /// Room to read into, behind the ciphertext. All plaintext must have been taken: it is overwritten. No more than `most`
    /// bytes are wanted in all.
    pub(super) fn room(&mut self, most: usize) -> &mut [u8] {
        let size = if self.bulk { Size::Large } else { Size::Small };
        self.plain = 0..0;
        let (start, end) = (self.start, self.end);
        let buffer = match self.buffer.take() {
            Some(mut buffer) if buffer.size() == size || size == Size::Small => {
                if start > 0 {
                    buffer.copy_within(start..end, 0);
                }
                buffer
            }
            Some(old) => {
                let mut buffer = Buffer::new(size);
                buffer[..end - start].copy_from_slice(&old[start..end]);
                buffer
            }
            None => Buffer::new(size),
        };
        (self.start, self.end) = (0, end - start);
        let buffer = self.buffer.insert(buffer);
        let to = buffer.len().min(most.max(self.end + 1024));
        &mut buffer[self.end..to]
    }

    /// `len` bytes of ciphertext were read into the `room` that there was.
    pub(super) fn received(&mut self, len: usize, room: usize) {
        self.end += len;
        self.note(len, room);
    }

    /// `len` bytes of plaintext were read into the `room` that there was.
    pub(super) fn received_plain(&mut self, len: usize, room: usize) {
        self.plain = 0..len;
        (self.start, self.end) = (len, len);
        self.note(len, room);
    }

    fn note(&mut self, len: usize, room: usize) {
        self.bulk = len == room || (self.bulk && len > room / 4);
    }

    /// Lets the buffer go if nothing is in it.
    pub(super) fn release(&mut self) {
        if self.plain.is_empty() && self.start == self.end {
            self.buffer = None;
            (self.start, self.end) = (0, 0);
        }
    }

    /// Whether it holds no buffer.
    pub(super) fn is_released(&self) -> bool {
        self.buffer.is_none()
    }
}
