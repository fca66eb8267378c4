//! Where the control channels and whoever hands on mesh documents meet.
//!
//! A peer's actor shows the connection that holds its link; what is said there about mesh documents goes into one queue for all
//! peers, which holds them up while it is full.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_config::NodeName;
use tokio::sync::{Notify, mpsc};

use super::control::{Listener, Order, Said};

/// Messages that wait to be looked at. Each takes a fraction of a millisecond, and holds 4 KiB at most.
const WAITING: usize = 256;

/// A connection to answer a peer on.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its number.
    pub channel: u64,
    /// Its orders.
    pub orders: mpsc::Sender<Order>,
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.channel == other.channel && self.orders.same_channel(&other.orders)
    }
}

/// The lines to all peers that are linked, and the queue of what they say.
#[derive(Debug)]
pub struct Switchboard {
    lines: Mutex<BTreeMap<NodeName, Line>>,
    changed: Notify,
    queue: mpsc::Sender<Said>,
    said: Mutex<Option<mpsc::Receiver<Said>>>,
}

impl Default for Switchboard {
    fn default() -> Self {
        let (queue, said) = mpsc::channel(WAITING);
        Self { lines: Mutex::default(), changed: Notify::new(), queue, said: Mutex::new(Some(said)) }
    }
}

impl Switchboard {
    /// The one end where what peers say comes out; nothing the second time.
    pub fn said(&self) -> Option<mpsc::Receiver<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The end for a channel of a peer.
    pub(super) fn listener(&self, peer: &NodeName) -> Listener {
        Listener { peer: peer.clone(), queue: self.queue.clone() }
    }

    /// The line to a peer is another than `was`, or there is none.
    pub(super) fn show(&self, peer: &NodeName, was: Option<&Line>, is: Option<Line>) {
        {
            let mut lines = self.lines();
            match is {
                Some(line) => drop(lines.insert(peer.clone(), line)),
                // Another actor of the same peer may have shown its own.
                None if lines.get(peer) == was => drop(lines.remove(peer)),
                None => return,
            }
        }
        self.changed.notify_one();
    }

    /// All lines as they are now.
    pub fn all(&self) -> BTreeMap<NodeName, Line> {
        self.lines().clone()
    }

    /// Resolves when a line has changed since this was called last. One task may wait.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<NodeName, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
