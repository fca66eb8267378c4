//! Decisions that the same seed makes again: a keyed hash instead of a generator with a state, so that what happens to
//! one packet does not depend on how many others came before it.

/// What a decision is about, so that one packet's decisions do not depend on one another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About {
    Loss = 1,
    Burst,
    Duplicate,
    Corrupt,
    Place,
    Jitter,
    Second,
    Reorder,
}

/// Everything that a hash is made of, folded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The key of a part: of a link, a flow, a packet.
    pub(crate) fn with(self, part: u64) -> Self {
        Self(mix(self.0 ^ mix(part)))
    }

    pub(crate) fn bits(self, about: About) -> u64 {
        self.with(about as u64).0
    }

    /// From 0 up to but not including 1.
    pub(crate) fn fraction(self, about: About) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
        let whole = (self.bits(about) >> 11) as f64;
        whole / (1_u64 << 53) as f64
    }

    pub(crate) fn happens(self, about: About, probability: f64) -> bool {
        probability > 0.0 && self.fraction(about) < probability
    }

    /// Normally distributed about 0 with deviation 1 (Box and Muller).
    pub(crate) fn normal(self) -> f64 {
        let radius = (-2.0 * (1.0 - self.fraction(About::Jitter)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction(About::Second)).cos()
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input changes half of the output's.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_decide_the_same_and_others_do_not() {
        let key = |seed, link, n| Key::new(seed).with(link).with(n).bits(About::Loss);
        assert_eq!(key(1, 2, 3), key(1, 2, 3));
        assert!(key(1, 2, 3) != key(2, 2, 3) && key(1, 2, 3) != key(1, 3, 3) && key(1, 2, 3) != key(1, 2, 4));
    }

    #[test]
    fn decisions_keep_to_their_probability() {
        for probability in [0.01, 0.25, 0.9] {
            let key = Key::new(7);
            let count = (0..100_000).filter(|&n| key.with(n).happens(About::Loss, probability)).count();
            let asked = probability * 100_000.0;
            assert!((count as f64 - asked).abs() < 5.0 * (asked * (1.0 - probability)).sqrt(), "{count} of {asked}");
        }
    }

    #[test]
    fn normal_deviates_have_mean_0_and_deviation_1() {
        let all: Vec<f64> = (0..100_000).map(|n| Key::new(7).with(n).normal()).collect();
        let mean = all.iter().sum::<f64>() / 1e5;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
