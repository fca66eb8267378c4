//! Random bytes that both ends can make from a seed, fast enough not to be what is measured.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// A SHA-256.
pub type Digest = [u8; SHA256_OUTPUT_LEN];

/// How much is made or moved at once, in bytes.
pub const PIECE: usize = 128 * 1024;

/// What the state of SplitMix64 grows by for each word.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bytes of one seed, in order: SplitMix64, whose words depend on the seed and their place alone.
#[derive(Debug, Clone)]
pub struct Content {
    state: u64,
    left: u64,
}

impl Content {
    /// `length` bytes of `seed`.
    pub fn new(seed: u64, length: u64) -> Self {
        // Seeds that follow each other must not give sequences shifted by a few words.
        Self { state: mix(seed ^ 0x5851_f42d_4c95_7f2d), left: length }
    }

    /// The same bytes without the first `bytes`, which must be a multiple of 8.
    pub fn skip(mut self, bytes: u64) -> Self {
        debug_assert!(bytes.is_multiple_of(8));
        self.state = self.state.wrapping_add(STEP.wrapping_mul(bytes / 8));
        self.left = self.left.saturating_sub(bytes);
        self
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Fills the front of `buffer` with the next bytes and returns them. Fewer than the whole buffer at the end only, so
    /// the buffer's length must be a multiple of 8.
    pub fn next<'b>(&mut self, buffer: &'b mut [u8]) -> &'b [u8] {
        debug_assert!(buffer.len().is_multiple_of(8));
        for word in buffer.chunks_exact_mut(8) {
            self.state = self.state.wrapping_add(STEP);
            word.copy_from_slice(&mix(self.state).to_le_bytes());
        }
        let length = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.left -= length as u64;
        &buffer[..length]
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the bytes of a seed hash to. Long ones are hashed once a process.
pub fn digest_of(seed: u64, length: u64) -> Digest {
    static KNOWN: Mutex<Option<HashMap<(u64, u64), Digest>>> = Mutex::new(None);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(&digest) = known().as_ref().and_then(|all| all.get(&(seed, length))) {
        return digest;
    }
    let (mut content, mut hash, mut buffer) = (Content::new(seed, length), Context::new(&SHA256), vec![0; PIECE]);
    while content.left() > 0 {
        hash.update(content.next(&mut buffer));
    }
    let digest = finish(hash);
    if length > 1 << 20 {
        known().get_or_insert_default().insert((seed, length), digest);
    }
    digest
}

/// The end of a hash.
pub fn finish(hash: Context) -> Digest {
    let mut digest = [0; SHA256_OUTPUT_LEN];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}
