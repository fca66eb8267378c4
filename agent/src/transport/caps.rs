//! How many handshakes may be under way at once, in all and from one source.
//!
//! A stranger may open connections and say nothing. Each costs memory until the handshake limit cuts it, so there is a cap
//! on all of them, and a lower one for each source address so that one stranger cannot keep the others out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::refusals::source;

/// The caps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Handshakes under way in all.
    pub total: usize,
    /// Handshakes under way from one source: an IPv4 address or an IPv6 /64.
    pub per_source: usize,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Counts handshakes. Clones count together.
#[derive(Debug, Clone)]
pub struct Caps {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

/// Why a connection gets no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Too many in all.
    #[error("{0} handshakes are under way, the limit")]
    Total(usize),
    /// Too many from this source.
    #[error("{0} handshakes are under way from this source, the limit")]
    Source(usize),
}

impl Caps {
    /// No handshake under way yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Room for one handshake with `source`, held until the [`Slot`] is dropped.
    ///
    /// # Errors
    /// [`Full`] names the cap that is reached.
    pub fn take(&self, address: SocketAddr) -> Result<Slot, Full> {
        let source = source(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_source.get(&source).copied().unwrap_or(0) >= self.limits.per_source {
            return Err(Full::Source(self.limits.per_source));
        }
        if counts.total >= self.limits.total {
            return Err(Full::Total(self.limits.total));
        }
        counts.total += 1;
        *counts.by_source.entry(source).or_default() += 1;
        Ok(Slot { caps: self.clone(), source })
    }
}

/// One handshake's place.
#[derive(Debug)]
pub struct Slot {
    caps: Caps,
    source: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.caps.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
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

    #[test]
    fn caps_hold_in_all_and_a_source_and_give_back() {
        let caps = Caps::new(Limits { total: 3, per_source: 2 });
        let ip = |s: &str| SocketAddr::new(s.parse().unwrap(), 1);
        let a1 = caps.take(ip("10.0.0.1")).unwrap();
        let _a2 = caps.take(ip("::ffff:10.0.0.1")).unwrap();
        assert_eq!(caps.take(ip("10.0.0.1")).unwrap_err(), Full::Source(2));
        let _b = caps.take(ip("2001:db8::1")).unwrap();
        assert_eq!(caps.take(ip("10.0.0.2")).unwrap_err(), Full::Total(3));
        drop(a1);
        let _b2 = caps.take(ip("2001:db8::2")).unwrap();
        let counts = caps.counts.lock().unwrap();
        assert_eq!((counts.total, counts.by_source[&ip("2001:db8::").ip()]), (3, 2), "one /64 is one source");
    }

    #[test]
    fn nothing_is_kept_of_sources_that_are_gone() {
        let caps = Caps::new(Limits { total: 10, per_source: 10 });
        for i in 0..=255 {
            drop(caps.take(SocketAddr::from(([10, 0, 0, i], 1))));
        }
        assert!(caps.counts.lock().unwrap().by_source.is_empty());
    }
}
