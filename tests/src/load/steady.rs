//! Connections that come all the time, one after the other, as a busy client makes them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::content::Content;
use crate::place::Place;
use crate::wait::{eventually, pass};

/// How long one may take.
const BOUND: Duration = Duration::from_secs(20);
/// Between two of a worker, lest the ports run out.
const PAUSE: Duration = Duration::from_millis(2);
/// Failures of which the reason is kept.
const TOLD: usize = 5;

/// What has come of them so far.
#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    longest: AtomicU64,
    over: AtomicBool,
    failures: Mutex<Vec<String>>,
}

/// Workers that open a connection to an echo service, say something, hear it back, end in order, and begin again, until this is
/// [stopped](Steady::stop).
#[derive(Debug)]
pub struct Steady {
    tally: Arc<Tally>,
    workers: Vec<JoinHandle<()>>,
}

impl Steady {
    /// Begins.
    pub fn start(place: &Place, address: SocketAddr, workers: u64) -> Self {
        let tally = Arc::new(Tally::default());
        let work = |number: u64| {
            let (place, tally) = (place.clone(), tally.clone());
            thread::spawn(move || {
                for round in 0_u64.. {
                    if tally.over.load(Relaxed) {
                        return;
                    }
                    let start = Instant::now();
                    let outcome = one(&place, address, number << 32 | round);
                    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                    tally.longest.fetch_max(micros, Relaxed);
                    match outcome {
                        Ok(()) => _ = tally.done.fetch_add(1, Relaxed),
                        Err(error) => {
                            tally.failed.fetch_add(1, Relaxed);
                            let mut failures = tally.failures.lock().unwrap_or_else(PoisonError::into_inner);
                            if failures.len() < TOLD {
                                failures.push(format!("after {} ms: {error:#}", micros / 1_000));
                            }
                        }
                    }
                    pass(PAUSE);
                }
            })
        };
        let workers = (0..workers).map(work).collect();
        Self { tally, workers }
    }

    /// Waits until `more` of them have come to their end in order, from now on.
    pub fn wait_for(&self, more: u64, bound: Duration) -> Result<()> {
        let before = self.tally.done.load(Relaxed);
        eventually("connections go through", bound, || {
            let done = self.tally.done.load(Relaxed) - before;
            ensure!(done >= more, "{done} of {more}");
            Ok(())
        })
    }

    /// Ends when those that run have ended; how many there were, and the longest time that one took.
    ///
    /// # Errors
    /// If one has failed.
    pub fn stop(mut self) -> Result<(u64, Duration)> {
        self.tally.over.store(true, Relaxed);
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| anyhow!("a client panicked"))?;
        }
        let (done, failed) = (self.tally.done.load(Relaxed), self.tally.failed.load(Relaxed));
        let failures = self.tally.failures.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(failed == 0, "{failed} connections failed beside {done}: {}", failures.join("; "));
        Ok((done, Duration::from_micros(self.tally.longest.load(Relaxed))))
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.tally.over.store(true, Relaxed);
    }
}

fn one(place: &Place, address: SocketAddr, seed: u64) -> Result<()> {
    let mut stream = place.connect(address, BOUND)?;
    stream.set_read_timeout(Some(BOUND))?;
    let length = 1 + seed % 3_000;
    let mut buffer = vec![0; 3_000];
    let said = Content::new(seed, length).next(&mut buffer).to_vec();
    stream.write_all(&said)?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    ensure!(heard == said, "{} of {} bytes came back", heard.len(), said.len());
    Ok(())
}
