//! Interfaces that have lost their carrier, for as long as a value lives, all the time or in turns.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Error;
use crate::backend::carrier::Carrier;

/// No turn is shorter: the kernel looks at a carrier in a worker of its own.
const SHORTEST: Duration = Duration::from_millis(1);

/// What takes carriers away until it is dropped.
#[derive(Debug)]
pub(crate) enum NoCarrier {
    Lasting(#[expect(dead_code, reason = "held for its end")] Taken),
    InTurns(#[expect(dead_code, reason = "held for its end")] Turns),
}

impl NoCarrier {
    /// Takes them all.
    pub(crate) fn lasting(carriers: Vec<Carrier>) -> Result<Self, Error> {
        let mut taken = Taken { carriers, count: 0 };
        taken.take()?;
        Ok(Self::Lasting(taken))
    }

    /// Takes them for `down`, gives them back for `up`, and so on.
    pub(crate) fn in_turns(carriers: Vec<Carrier>, down: Duration, up: Duration) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut taken = Taken { carriers, count: 0 };
        taken.take()?;
        let (stop, stopped) = sync_channel(0);
        let lengths = [down.max(SHORTEST), up.max(SHORTEST)];
        let thread = std::thread::Builder::new().name("netsim-carrier".to_owned());
        let thread = thread.spawn(move || take_turns(taken, begun, lengths, &stopped));
        let thread = thread.map_err(Error::kernel("start a thread for a carrier"))?;
        Ok(Self::InTurns(Turns { stop: Some(stop), thread: Some(thread) }))
    }
}

/// A thread that gives carriers back and takes them again, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turns {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // One that has panicked has told so.
            let _ = thread.join();
        }
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

    fn give_back(&mut self) {
        let count = std::mem::take(&mut self.count);
        for carrier in self.carriers.iter().take(count) {
            // A host that has ended has none.
            let _ = carrier.give_back();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Turns are counted from the beginning, so that what the kernel takes for one does not add up.
fn take_turns(mut taken: Taken, begun: Instant, lengths: [Duration; 2], stopped: &Receiver<()>) {
    let mut until = begun;
    for length in lengths.into_iter().cycle() {
        until += length;
        if stopped.recv_timeout(until.saturating_duration_since(Instant::now())) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if taken.count > 0 {
            taken.give_back();
        } else if taken.take().is_err() {
            // A host that has ended has none.
            return;
        }
    }
}
