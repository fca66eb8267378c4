//! Random numbers of a seed: the same on every run, or others in each.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Names the seed of what is left to chance.
const SEED: &str = "ADIT_TEST_SEED";

/// Does what is left to chance with the seed that `ADIT_TEST_SEED` names, or else with another one in each run. A failure says which.
pub fn by_chance<T>(work: impl FnOnce(&mut Dice) -> Result<T>) -> Result<T> {
    let seed = match env::var(SEED) {
        Ok(text) => text
            .parse::<u64>()
            .ok()
            .filter(|seed| *seed != 0)
            .with_context(|| format!("{SEED} is {text:?}: no seed"))?,
        Err(_) => RandomState::new().build_hasher().finish().max(1),
    };
    work(&mut Dice::new(seed)).with_context(|| format!("to have the same chances again: {SEED}={seed}"))
}

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

    /// A moment below `most`, in whole microseconds.
    pub fn moment(&mut self, most: Duration) -> Duration {
        let sides = usize::try_from(most.as_micros()).unwrap_or(usize::MAX);
        Duration::from_micros(self.roll(sides) as u64)
    }

    /// Turns over one bit.
    pub fn flip(&mut self, bytes: &mut [u8]) {
        let at = self.roll(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << self.roll(8);
        }
    }
}
