//! How many handshakes may be under way at once, in all and from one source.
//!
//! A stranger may open connections and say nothing. Each costs memory until the handshake limit cuts it, so there is a cap
//! on all of them, and a lower one for each source address so that one stranger cannot keep the others out. Where many
//! sources fill the whole, the oldest handshake makes room: a peer needs milliseconds, so the oldest is the one that stalls.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::refusals::source;

/// The caps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Handshakes under way in all.
    pub total: usize,
    /// Handshakes under way from one source: an IPv4 address or an IPv6 /64.
    pub per_source: usize,
}

#[derive(Debug)]
struct Counts {
    limits: Limits,
    next: u64,
    /// Oldest first; those that are done are taken out by their drop.
    under_way: VecDeque<(u64, oneshot::Sender<()>)>,
    by_source: HashMap<IpAddr, usize>,
}

/// Counts handshakes. Clones count together.
#[derive(Debug, Clone)]
pub struct Caps {
    counts: Arc<Mutex<Counts>>,
}

/// Too many handshakes are under way from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} handshakes are under way from this source, the limit")]
pub struct Full(pub usize);

impl Caps {
    /// No handshake under way yet.
    pub fn new(limits: Limits) -> Self {
        let counts = Counts { limits, next: 0, under_way: VecDeque::new(), by_source: HashMap::new() };
        Self { counts: Arc::new(Mutex::new(counts)) }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these are the caps.
    pub fn limit(&self, limits: Limits) {
        self.counts().limits = limits;
    }

    /// Room for one handshake with `address`, held until the [`Slot`] is dropped. Resolving, the receiver says that the
    /// handshake has to make room for a younger one.
    ///
    /// # Errors
    /// [`Full`] if the source has as many as it may.
    pub fn take(&self, address: SocketAddr) -> Result<(Slot, oneshot::Receiver<()>), Full> {
        let source = source(address);
        let mut counts = self.counts();
        let limits = counts.limits;
        if counts.by_source.get(&source).copied().unwrap_or(0) >= limits.per_source {
            return Err(Full(limits.per_source));
        }
        while counts.under_way.len() >= limits.total.max(1) {
            if let Some((_, evict)) = counts.under_way.pop_front() {
                // It may have ended in this moment.
                evict.send(()).ok();
            }
        }
        let id = counts.next;
        counts.next += 1;
        let (evict, evicted) = oneshot::channel();
        counts.under_way.push_back((id, evict));
        *counts.by_source.entry(source).or_default() += 1;
        Ok((Slot { caps: self.clone(), source, id }, evicted))
    }
}

/// One handshake's place.
#[derive(Debug)]
pub struct Slot {
    caps: Caps,
    source: IpAddr,
    id: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.caps.counts();
        // In the order of their ids; one that was evicted is no longer there.
        if let Ok(at) = counts.under_way.binary_search_by_key(&self.id, |(id, _)| *id) {
            counts.under_way.remove(at);
        }
        if let Some(count) = counts.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 1)
    }

    #[test]
    fn a_source_has_its_cap_and_the_oldest_makes_room_for_another_source() {
        let caps = Caps::new(Limits { total: 3, per_source: 2 });
        let (a1, mut a1_evicted) = caps.take(address("10.0.0.1")).unwrap();
        let (_a2, mut a2_evicted) = caps.take(address("::ffff:10.0.0.1")).unwrap();
        assert_eq!(caps.take(address("10.0.0.1")).unwrap_err(), Full(2));
        let (_b, _) = caps.take(address("2001:db8::1")).unwrap();
        assert!(a1_evicted.try_recv().is_err());
        let (_c, _) = caps.take(address("10.0.0.2")).unwrap();
        assert_eq!(a1_evicted.try_recv(), Ok(()));
        assert!(a2_evicted.try_recv().is_err());
        assert_eq!(caps.take(address("10.0.0.1")).unwrap_err(), Full(2), "until it has really ended");
        drop(a1);
        let (_a3, _) = caps.take(address("10.0.0.1")).unwrap();
        assert_eq!(a2_evicted.try_recv(), Ok(()));
        let (_b2, _) = caps.take(address("2001:db8::2")).unwrap();
        assert_eq!(caps.take(address("2001:db8::3")).unwrap_err(), Full(2), "one /64 is one source");
        assert_eq!(caps.counts().under_way.len(), 3);
    }

    #[test]
    fn nothing_is_kept_of_handshakes_that_are_over() {
        let caps = Caps::new(Limits { total: 10, per_source: 10 });
        let mut kept = VecDeque::new();
        for i in 0..=255 {
            kept.push_back(caps.take(SocketAddr::from(([10, 0, 0, i], 1))).unwrap());
            if kept.len() > 20 {
                kept.pop_front();
            }
        }
        kept.clear();
        let counts = caps.counts();
        assert!(counts.by_source.is_empty() && counts.under_way.is_empty());
    }
}
