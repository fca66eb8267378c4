//! What all parts of the load share: whether to go on, whether failures are excused, and what has happened.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

/// How an ending begins that a kernel makes for an agent that is killed.
pub(crate) const DIED: &str = "ended with its agent";
/// What failed, at most so many.
const TOLD: usize = 20;

/// Shared by all threads.
#[derive(Default)]
pub(crate) struct State {
    stopped: AtomicBool,
    quiet: Mutex<bool>,
    /// Told when it is no longer quiet, or over.
    goes_on: Condvar,
    trouble: AtomicBool,
    /// How often there was trouble.
    troubles: AtomicU64,
    /// An agent is killed, or was and has not recovered.
    death: AtomicBool,
    deaths: AtomicU64,
    counts: Mutex<BTreeMap<String, Count>>,
    failures: Mutex<Vec<String>>,
}

/// How often something was done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) well: u64,
    /// It failed while there was trouble.
    pub(crate) excused: u64,
}

impl State {
    /// Whether the soak goes on.
    pub(crate) fn runs(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    /// Waits while it shall be quiet; whether the soak goes on.
    pub(crate) fn may_go_on(&self) -> bool {
        let waits = |quiet: &mut bool| *quiet && self.runs();
        drop(self.goes_on.wait_while(self.quiet(), waits).unwrap_or_else(PoisonError::into_inner));
        self.runs()
    }

    pub(crate) fn stop(&self) {
        // Held, so that nobody is between looking and waiting.
        let _quiet = self.quiet();
        self.stopped.store(true, Ordering::Relaxed);
        self.goes_on.notify_all();
    }

    /// Nothing new is begun for now.
    pub(crate) fn set_quiet(&self, quiet: bool) {
        *self.quiet() = quiet;
        self.goes_on.notify_all();
    }

    fn quiet(&self) -> MutexGuard<'_, bool> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, or no longer, connections may fail. Wrong bytes may never come.
    pub(crate) fn set_trouble(&self, trouble: bool) {
        if trouble {
            self.troubles.fetch_add(1, Ordering::SeqCst);
        }
        self.trouble.store(trouble, Ordering::SeqCst);
    }

    /// From now on, or no longer, what the killed agent carried may end as a kernel ends it.
    pub(crate) fn set_death(&self, death: bool) {
        if death {
            self.deaths.fetch_add(1, Ordering::SeqCst);
        }
        self.death.store(death, Ordering::SeqCst);
    }

    /// How often there was trouble so far.
    pub(crate) fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::SeqCst)
    }

    /// Tries something once and counts how it went.
    pub(crate) fn attempt<T>(&self, name: &str, act: impl FnOnce() -> Result<T>) -> Option<T> {
        self.attempt_since(self.troubles(), name, act)
    }

    /// The same with what was well when there had been trouble `before` times.
    pub(crate) fn attempt_since<T>(&self, before: u64, name: &str, act: impl FnOnce() -> Result<T>) -> Option<T> {
        let troubled = self.trouble.load(Ordering::SeqCst);
        let (death, deaths) = (self.death.load(Ordering::SeqCst), self.deaths.load(Ordering::SeqCst));
        let outcome = act();
        let troubled = troubled || self.troubles() != before;
        let death = death || self.deaths.load(Ordering::SeqCst) != deaths;
        match outcome {
            Ok(value) => {
                self.count(name, |c| c.well += 1);
                Some(value)
            }
            Err(error) => {
                let error = format!("{error:#}");
                let excused = if error.contains(DIED) { death } else { !error.contains("WRONG") };
                if troubled && excused {
                    self.count(name, |c| c.excused += 1);
                } else if self.runs() {
                    self.fail(format!("{name}: {error}"));
                }
                None
            }
        }
    }

    /// Something that must not be.
    pub(crate) fn fail(&self, what: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < TOLD {
            failures.push(what);
        }
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, Count> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, name: &str, change: impl FnOnce(&mut Count)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(counts.entry(name.to_owned()).or_default());
    }
}
