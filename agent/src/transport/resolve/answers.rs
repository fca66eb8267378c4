//! What is known of a name from the answers of both families: pure.

use std::net::IpAddr;

use tokio::time::Instant;

/// What the look-up of one family came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Addresses, at least one, and until when they hold.
    Addresses(Vec<IpAddr>, Instant),
    /// There is none: so says a server.
    Nothing(String),
    /// No server answered.
    Failed(String),
    /// It was not waited for.
    Late,
}

/// The addresses of a name: IPv4, IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answers {
    families: [Vec<IpAddr>; 2],
    until: Option<Instant>,
    kept: bool,
}

impl Answers {
    /// Takes in what both came to, and tells why not both have addresses. A family that does not answer keeps what it had. One
    /// that has none any more loses it, but not together with the other: a name that has gone altogether is rather a mistake.
    pub(super) fn hear(&mut self, heard: [Heard; 2]) -> Option<String> {
        let is_there = heard.iter().any(|heard| matches!(heard, Heard::Addresses(..)));
        (self.until, self.kept) = (None, false);
        let mut failed = None;
        for (addresses, heard) in self.families.iter_mut().zip(heard) {
            match heard {
                Heard::Addresses(found, until) => {
                    *addresses = found;
                    self.until = self.until.into_iter().chain([until]).min();
                }
                Heard::Late => {}
                Heard::Nothing(_) if is_there => addresses.clear(),
                Heard::Nothing(why) | Heard::Failed(why) => {
                    self.kept |= !addresses.is_empty();
                    failed = failed.or(Some(why));
                }
            }
        }
        failed
    }

    /// All of them, the families by turns, so that one that leads nowhere holds the other up once (RFC 8305 §4).
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let [v4, v6] = &self.families;
        let turns = v4.len().max(v6.len());
        (0..turns).flat_map(|turn| [v4.get(turn), v6.get(turn)]).flatten().copied().collect()
    }

    /// Whether some of them are of an earlier answer, for want of a newer one.
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// When to ask again: at `retry` if some are kept, or nothing says when.
    pub(super) fn until(&self, retry: Instant) -> Instant {
        self.until.filter(|_| !self.kept).unwrap_or(retry)
    }
}
