//! How a connection hears that it is to end.

use std::pin::Pin;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Connection;
use crate::awaited::Which;
use crate::reason::Reason;

/// Whether a connection is to end, and who is to hear of it.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// One more than the code of the reason; 0 if nobody has asked.
    asked: AtomicU16,
    waker: Mutex<Option<Waker>>,
}

impl Cut {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> Option<Reason> {
        let code = self.asked.load(Acquire).checked_sub(1)?;
        // Only codes of reasons are stored.
        u8::try_from(code).ok().map(Reason::from_code)
    }

    /// Asks for the end. The first reason counts.
    pub(super) fn ask(&self, reason: Reason) {
        let asked = u16::from(reason.code()) + 1;
        // Whoever asked before has woken or is about to.
        if self.asked.compare_exchange(0, asked, AcqRel, Acquire).is_ok()
            && let Some(waker) = self.waker().take()
        {
            waker.wake();
        }
    }
}

/// Resolves when somebody asks for the end of a connection. It can be waited for again, and is ready at once from then on.
#[derive(Debug)]
pub struct Told {
    connection: Arc<Connection>,
    /// Which waker is there, so that nobody has to look.
    waker: Which,
}

impl Told {
    /// For the one task that serves `connection`.
    pub(super) fn of(connection: Arc<Connection>) -> Self {
        Self { connection, waker: Which::default() }
    }
}

impl Future for Told {
    type Output = Reason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reason> {
        let Self { connection, waker } = self.get_mut();
        if *waker != Which::from(cx.waker()) {
            let kept = cx.waker().clone();
            *waker = Which::from(&kept);
            *connection.cut.waker() = Some(kept);
        }
        // Asked after this is woken by what is there now.
        connection.cut.asked().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // Whoever still looks at the connection would keep the memory of its task.
        *self.connection.cut.waker() = None;
    }
}
