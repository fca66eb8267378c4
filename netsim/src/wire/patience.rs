//! How long the wire looks for what comes before it sleeps.
//!
//! A core that sleeps takes some 10 µs to wake up, in a virtual machine more, and each packet of a conversation would wait
//! for that once. So the wire looks again and again for a moment after it had something to do, as long as waits have been
//! short and nobody else wants the core. It does not offer the core meanwhile: the program that a packet has just woken
//! would be put there.

use super::Nanos;

/// The longest time to look. Much more than an answer takes on one machine; nothing beside what a link far away takes.
const MOST: Nanos = 50_000;
/// After a wait of so long, it would not have been much longer to look.
const SHORT: Nanos = 2 * MOST;
/// Less than this is not worth a look.
const LEAST: Nanos = 2_000;
/// Somebody else has had the core if it was gone for so long between two looks.
const GONE: Nanos = 30_000;
/// How long the core is then left to others.
const REST: Nanos = 2_000_000;

/// Decides between looking and sleeping.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    looks: Nanos,
    rests_until: Nanos,
}

impl Patience {
    /// How long to look at the most, before a sleep that begins at `now`.
    pub(crate) fn looks(&self, now: Nanos) -> Nanos {
        if now < self.rests_until { 0 } else { self.looks }
    }

    /// Something came, or was due, after so long a wait.
    pub(crate) fn waited(&mut self, waited: Nanos) {
        self.looks = match self.looks / 2 {
            _ if waited <= SHORT => MOST,
            half @ LEAST.. => half,
            _ => 0,
        };
    }

    /// So long lay between two looks, the second of them at `now`.
    pub(crate) fn looked(&mut self, between: Nanos, now: Nanos) {
        if between >= GONE {
            self.rests_until = now + REST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_waits_make_it_look_and_long_ones_make_it_sleep() {
        let mut patience = Patience::default();
        assert_eq!(patience.looks(0), 0);
        patience.waited(20_000);
        assert_eq!(patience.looks(0), MOST);
        // One long wait is no reason to fall asleep for ever.
        let looks: Vec<Nanos> = (0..6)
            .map(|_| {
                patience.waited(1_000_000);
                patience.looks(0)
            })
            .collect();
        assert_eq!(looks, [25_000, 12_500, 6_250, 3_125, 0, 0]);
        patience.waited(SHORT);
        assert_eq!(patience.looks(0), MOST);
    }

    #[test]
    fn it_leaves_the_core_to_whoever_takes_it() {
        let mut patience = Patience::default();
        patience.waited(0);
        patience.looked(GONE - 1, 100);
        assert_eq!(patience.looks(100), MOST);
        patience.looked(GONE, 100);
        patience.waited(0);
        assert_eq!((patience.looks(99 + REST), patience.looks(100 + REST)), (0, MOST));
    }
}
