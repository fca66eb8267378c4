//! What waits to be written to a lane's connection, and what was read from it.

use crate::transport::frame::HEADER;
use crate::transport::lane::machine::MAX_QUEUED;

/// The payload that fills a record together with its header (RFC 8446 §5.1: a record holds 2^14 bytes).
pub(super) const CHUNK: usize = 16 * 1024 - HEADER;
/// Four records and what the machine may queue before them.
pub(super) const OUTBOUND: usize = 4 * (CHUNK + HEADER) + MAX_QUEUED;
/// One record.
pub(super) const INBOUND: usize = 16 * 1024;
/// A slot smaller than this is not worth a frame: what is queued is written first.
pub(super) const WORTHWHILE: usize = 1024;

/// Bytes to be written: frames behind one another.
#[derive(Default)]
pub(super) struct Outbound {
    pub(super) buffer: Vec<u8>,
    pub(super) head: usize,
    pub(super) tail: usize,
}

impl Outbound {
    pub(super) fn room(&self) -> usize {
        OUTBOUND - self.tail
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; OUTBOUND];
        }
        self.buffer[self.tail..self.tail + bytes.len()].copy_from_slice(bytes);
        self.tail += bytes.len();
    }

    /// Moves what is left to the front.
    pub(super) fn compact(&mut self) {
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.tail, 0);
            (self.head, self.tail) = (0, self.tail - self.head);
        }
    }
}

/// Received plaintext that has not been consumed yet.
#[derive(Default)]
pub(super) struct Inbound {
    pub(super) buffer: Vec<u8>,
    pub(super) start: usize,
    pub(super) end: usize,
    /// How many bytes from `start` are DATA for the application.
    pub(super) data: usize,
}
