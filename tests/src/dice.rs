//! Random numbers of a seed, the same on every run.

/// A generator (xorshift64: Marsaglia, *Xorshift RNGs*, 2003).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// One with this seed, which must not be 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`; 0 if that is 0.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % sides.max(1)
    }

    /// Turns over one bit.
    pub fn flip(&mut self, bytes: &mut [u8]) {
        let at = self.roll(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << self.roll(8);
        }
    }
}
