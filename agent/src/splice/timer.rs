//! When a connection that moves nothing is given up.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Limits;
use crate::reason::Reason;

/// The idle and half-closed limits of one connection. Without limits it holds nothing at all.
pub(super) struct Timer(Option<Box<Limited>>);

struct Limited {
    idle: Option<Duration>,
    half_closed: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
    moved: Instant,
}

impl Timer {
    pub(super) fn new(limits: &Limits<'_>) -> Self {
        let (idle, half_closed) = (limits.idle, limits.half_closed);
        let limited = || Box::new(Limited { idle, half_closed, sleep: None, moved: Instant::now() });
        Self((idle.is_some() || half_closed.is_some()).then(limited))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, moved: bool, half_closed: bool) -> Poll<Reason> {
        self.0.as_mut().map_or(Poll::Pending, |limited| limited.poll(cx, moved, half_closed))
    }
}

impl Limited {
    fn poll(&mut self, cx: &mut Context<'_>, moved: bool, half_closed: bool) -> Poll<Reason> {
        let half_limit = self.half_closed.filter(|_| half_closed);
        let (limit, reason) = match (self.idle, half_limit) {
            (None, None) => return Poll::Pending,
            (Some(idle), Some(half)) if idle < half => (idle, Reason::Idle),
            (_, Some(half)) => (half, Reason::HalfClosed),
            (Some(idle), None) => (idle, Reason::Idle),
        };
        if moved {
            self.moved = Instant::now();
        }
        let deadline = self.moved + limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        // A timer that was set for an earlier moment is moved only when it fires: that keeps busy connections cheap.
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(reason);
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
