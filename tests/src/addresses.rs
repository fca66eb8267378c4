//! Loopback addresses that no other test uses, so that ports can be fixed and never collide.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

static NEXT: AtomicU8 = AtomicU8::new(1);

/// 254 loopback addresses: `127.x.y.1` to `127.x.y.254`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    second: u8,
    third: u8,
}

impl Block {
    /// A block for the caller alone: *x* is of this process, *y* counts. After 255 blocks the first comes again.
    pub fn next() -> Self {
        let process = u8::try_from(std::process::id() % 200).unwrap_or(0);
        Self { second: 20 + process, third: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// The address that ends in `host`.
    pub fn address(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, host)
    }
}
