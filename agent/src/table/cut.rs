//! How a connection hears that it is to end.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Connection;
use crate::awaited::Which;
use crate::reason::Reason;

/// Whether a connection is to end, and who is to hear of it.
#[derive(Debug, Default)]
pub(super) struct Cut {
    asked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reason: Option<Reason>,
    waker: Option<Waker>,
}

impl Cut {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the end. The first reason counts.
    pub(super) fn ask(&self, reason: Reason) {
        let mut state = self.lock();
        state.reason.get_or_insert(reason);
        self.asked.store(true, Release);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Resolves when somebody asks for the end of a connection; each time it is asked, from then on.
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
        let now = Which::from(cx.waker());
        if *waker == now && !connection.cut.asked.load(Acquire) {
            return Poll::Pending;
        }
        let mut state = connection.cut.lock();
        if let Some(reason) = state.reason {
            return Poll::Ready(reason);
        }
        (state.waker, *waker) = (Some(cx.waker().clone()), now);
        Poll::Pending
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // Whoever still looks at the connection would keep the memory of its task.
        self.connection.cut.lock().waker = None;
    }
}
