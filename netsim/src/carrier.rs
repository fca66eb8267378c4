//! Interfaces that have lost their carrier, for as long as a value lives, all the time or in turns.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Error;
use crate::backend::carrier::Carrier;
use crate::wire::{Nanos, nanos};

/// What takes carriers away until it is dropped.
#[derive(Debug)]
pub(crate) enum NoCarrier {
    Lasting(Taken),
    InTurns(Turns),
}

impl NoCarrier {
    /// Takes them all.
    pub(crate) fn lasting(carriers: Vec<Carrier>) -> Result<Self, Error> {
        let mut taken = Taken { carriers, count: 0 };
        taken.take()?;
        Ok(Self::Lasting(taken))
    }

    /// Takes them for `down`, gives them back for `up`, and so on. Neither may be nothing.
    pub(crate) fn in_turns(carriers: Vec<Carrier>, down: Duration, up: Duration) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut taken = Taken { carriers, count: 0 };
        taken.take()?;
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new().name("netsim-carrier".to_owned());
        let thread = thread.spawn(move || take_turns(taken, begun, nanos(down), nanos(up), &stopped));
        let thread = thread.map_err(Error::kernel("start a thread for a carrier"))?;
        Ok(Self::InTurns(Turns { stop: Some(stop), thread: Some(thread) }))
    }

    /// Gives them back.
    pub(crate) fn end(self) -> Result<(), Error> {
        match self {
            Self::Lasting(mut taken) => taken.give_back(),
            Self::InTurns(mut turns) => turns.end(),
        }
    }
}

/// A thread that gives carriers back and takes them again, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turns {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Turns {
    fn end(&mut self) -> Result<(), Error> {
        self.stop = None;
        // One that has panicked has told so.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(Ok(()))
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        // A host that has ended has no carrier.
        let _ = self.end();
    }
}

/// Carriers, of which so many have been taken.
#[derive(Debug)]
pub(crate) struct Taken {
    carriers: Vec<Carrier>,
    count: usize,
}

impl Taken {
    fn take(&mut self) -> Result<(), Error> {
        while let Some(carrier) = self.carriers.get(self.count) {
            carrier.take()?;
            self.count += 1;
        }
        Ok(())
    }

    /// Gives all back, and tells what went wrong first.
    fn give_back(&mut self) -> Result<(), Error> {
        let count = std::mem::take(&mut self.count);
        self.carriers.iter().take(count).map(Carrier::give_back).fold(Ok(()), Result::and)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // A host that has ended has none.
        let _ = self.give_back();
    }
}

/// Which turn it is follows from the time since the beginning, as it does in the wire: one that the kernel was too slow for is
/// left out.
fn take_turns(mut taken: Taken, begun: Instant, down: Nanos, up: Nanos, stopped: &Receiver<()>) -> Result<(), Error> {
    let period = down.saturating_add(up);
    let into = || nanos(begun.elapsed()) % period;
    let mut told = Ok(());
    loop {
        let away = into() < down;
        if away && taken.count == 0 {
            // What was not to be had now may be in the next turn.
            let _ = taken.take();
        } else if !away {
            told = told.and(taken.give_back());
        }
        let now = into();
        let left = if now < down { down - now } else { period - now };
        // It may have become the other's turn meanwhile.
        let left = if (now < down) == away { Duration::from_nanos(left) } else { Duration::ZERO };
        if stopped.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
            return told.and(taken.give_back());
        }
    }
}
