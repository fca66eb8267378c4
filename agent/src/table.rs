//! The application connections that are open now, for those who look at them and those who must cut them.

mod cut;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use self::cut::Told;

use dashmap::DashMap;
use mesh_config::{NodeName, ServiceName};
use time::OffsetDateTime;
use tokio::sync::broadcast;

use crate::reason::Reason;
use crate::splice::Meter;
use crate::vocabulary::Path;

/// How many opened and closed connections a slow follower may lag behind before it misses some.
const FOLLOW_BACKLOG: usize = 1024;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Waiting for a link, or for the target.
    Opening = 0,
    /// Carrying bytes.
    Open = 1,
    /// Gone.
    Closed = 2,
}

impl State {
    /// A stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// The node that a connection leads to: none before it is chosen, and another one after a stream that was not answered has moved.
#[derive(Debug, Default)]
pub struct Chosen(Mutex<Option<NodeName>>);

impl Chosen {
    /// The node.
    pub fn get(&self) -> Option<NodeName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is this one from now on.
    pub fn set(&self, node: NodeName) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
    }
}

impl From<Option<NodeName>> for Chosen {
    fn from(node: Option<NodeName>) -> Self {
        Self(Mutex::new(node))
    }
}

/// One application connection.
#[derive(Debug)]
pub struct Connection {
    /// A number that this agent gives once.
    pub id: u64,
    /// The same at both ends.
    pub trace: [u8; 16],
    /// The service.
    pub service: ServiceName,
    /// The node whose application connected.
    pub from: NodeName,
    /// The node that offers the service, once it is chosen.
    pub to: Chosen,
    /// The application's own address, as its agent sees it.
    pub client: Option<SocketAddr>,
    /// How it runs.
    pub path: OnceLock<Path>,
    /// When it was accepted.
    pub opened: OffsetDateTime,
    /// What it has moved.
    pub meter: Meter,
    /// What of it the metrics have.
    counted: Meter,
    state: AtomicU8,
    cut: cut::Cut,
}

impl Connection {
    /// What it is doing.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Opening,
            1 => State::Open,
            _ => State::Closed,
        }
    }

    /// Bytes from the link and to it since this was asked last.
    pub fn uncounted(&self) -> (u64, u64) {
        let more = |moved: &AtomicU64, counted: &AtomicU64| {
            let moved = moved.load(Relaxed);
            // Whoever asks at the same time may know of more by now.
            moved.saturating_sub(counted.fetch_max(moved, Relaxed))
        };
        let (moved, counted) = (&self.meter, &self.counted);
        (more(&moved.to_app, &counted.to_app), more(&moved.to_link, &counted.to_link))
    }

    /// It carries bytes now.
    pub fn opened(&self) {
        self.state.store(State::Open as u8, Relaxed);
    }

    /// Asks for its end. The first reason counts.
    pub fn cut(&self, reason: Reason) {
        self.cut.ask(reason);
    }
}

/// Something that a follower is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// A connection was accepted.
    Opened(Arc<Connection>),
    /// A connection is gone.
    Closed(Arc<Connection>),
}

/// The limit on connections is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} connections are open, the limit")]
pub struct Full(pub usize);

/// What is known of a connection when it begins.
#[derive(Debug)]
pub struct Opening {
    /// The service.
    pub service: ServiceName,
    /// The node whose application connected.
    pub from: NodeName,
    /// The node that offers it, if it is known yet.
    pub to: Option<NodeName>,
    /// The application's address.
    pub client: Option<SocketAddr>,
    /// The trace id.
    pub trace: [u8; 16],
    /// The time.
    pub at: OffsetDateTime,
}

/// All live connections.
#[derive(Debug)]
pub struct Table {
    next: AtomicU64,
    count: AtomicUsize,
    /// The most there were since it was asked last.
    peak: AtomicUsize,
    limit: AtomicUsize,
    live: DashMap<u64, Arc<Connection>>,
    events: broadcast::Sender<Event>,
}

impl Table {
    /// An empty table for at most `limit` connections.
    pub fn new(limit: usize) -> Arc<Self> {
        let (events, _) = broadcast::channel(FOLLOW_BACKLOG);
        Arc::new(Self {
            next: AtomicU64::new(1),
            count: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            live: DashMap::new(),
            events,
        })
    }

    /// Adds a connection. It stays in the table until the [`Entry`] is dropped.
    ///
    /// # Errors
    /// [`Full`] at the limit.
    pub fn insert(self: &Arc<Self>, opening: Opening) -> Result<(Entry, Told), Full> {
        let before = self.count.fetch_add(1, Relaxed);
        let limit = self.limit.load(Relaxed);
        if before >= limit {
            self.count.fetch_sub(1, Relaxed);
            return Err(Full(limit));
        }
        self.peak.fetch_max(before + 1, Relaxed);
        let connection = Arc::new(Connection {
            id: self.next.fetch_add(1, Relaxed),
            trace: opening.trace,
            service: opening.service,
            from: opening.from,
            to: Chosen::from(opening.to),
            client: opening.client,
            path: OnceLock::new(),
            opened: opening.at,
            meter: Meter::default(),
            counted: Meter::default(),
            state: AtomicU8::new(State::Opening as u8),
            cut: cut::Cut::default(),
        });
        self.live.insert(connection.id, Arc::clone(&connection));
        // No follower is no error.
        drop(self.events.send(Event::Opened(Arc::clone(&connection))));
        let told = Told::of(Arc::clone(&connection));
        Ok((Entry { table: Arc::clone(self), connection }, told))
    }

    /// From now on at most `limit` are let in; those that are there stay.
    pub fn limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// How many were open at once at the most since this was asked last.
    pub fn take_peak(&self) -> usize {
        self.peak.swap(self.len(), Relaxed).max(self.len())
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> = self.live.iter().map(|e| Arc::clone(e.value())).collect();
        all.sort_unstable_by_key(|c| c.id);
        all
    }

    /// Openings and closings from now on.
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

/// The place of one connection in the table.
#[derive(Debug)]
pub struct Entry {
    table: Arc<Table>,
    connection: Arc<Connection>,
}

impl std::ops::Deref for Entry {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connection.state.store(State::Closed as u8, Relaxed);
        self.table.live.remove(&self.connection.id);
        self.table.count.fetch_sub(1, Relaxed);
        drop(self.table.events.send(Event::Closed(Arc::clone(&self.connection))));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Context;

    use tokio::task::JoinSet;

    use super::*;

    fn opening() -> Opening {
        Opening {
            service: "web".parse().unwrap(),
            from: "a".parse().unwrap(),
            to: None,
            client: None,
            trace: [0; 16],
            at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    /// A waker, and something that is counted once for itself and once while the waker is kept.
    fn counted() -> (Arc<()>, std::task::Waker) {
        struct Rings(#[expect(dead_code, reason = "only counted")] Arc<()>);
        impl std::task::Wake for Rings {
            fn wake(self: Arc<Self>) {}
        }
        let counted = Arc::new(());
        (counted.clone(), std::task::Waker::from(Arc::new(Rings(counted))))
    }

    #[test]
    fn the_limit_holds_and_a_dropped_entry_makes_room() {
        let table = Table::new(2);
        let one = table.insert(opening()).unwrap();
        let two = table.insert(opening()).unwrap();
        assert_eq!(table.insert(opening()).unwrap_err(), Full(2));
        drop(one);
        let three = table.insert(opening()).unwrap();
        assert_eq!(table.all().iter().map(|c| c.id).collect::<Vec<_>>(), [two.0.id, three.0.id]);
        drop((two, three));
        assert!(table.is_empty());
        assert_eq!([table.take_peak(), table.take_peak()], [2, 0], "however short they lived");
    }

    #[tokio::test]
    async fn a_cut_is_heard_whoever_waits_for_it_last_and_again_and_keeps_nobody() {
        let table = Table::new(1);
        let (entry, mut told) = table.insert(opening()).unwrap();
        let (counted, other) = counted();
        assert!(Pin::new(&mut told).poll(&mut Context::from_waker(&other)).is_pending());
        drop(other);
        assert_eq!(Arc::strong_count(&counted), 2, "it is kept");
        let connection = Arc::clone(&entry.connection);
        let mut waits = JoinSet::new();
        waits.spawn(async move { [(&mut told).await, (&mut told).await] });
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&counted), 1, "the other one is dropped");
        connection.cut(Reason::Draining);
        assert_eq!(waits.join_next().await.unwrap().unwrap(), [Reason::Draining; 2]);
    }

    #[test]
    fn whoever_still_looks_at_a_connection_keeps_nothing_of_its_task() {
        let table = Table::new(1);
        let (entry, mut told) = table.insert(opening()).unwrap();
        let (counted, waker) = counted();
        assert!(Pin::new(&mut told).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert_eq!(Arc::strong_count(&counted), 2);
        drop(told);
        assert_eq!((Arc::strong_count(&counted), entry.state()), (1, State::Opening));
    }

    #[test]
    fn what_was_moved_is_counted_once_whoever_asks() {
        let table = Table::new(1);
        let (entry, _told) = table.insert(opening()).unwrap();
        let counted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        entry.meter.to_app.fetch_add(3, Relaxed);
                        let (more, none) = entry.uncounted();
                        counted.fetch_add(more, Relaxed);
                        assert_eq!(none, 0);
                    }
                });
            }
        });
        assert_eq!(counted.into_inner() + entry.uncounted().0, 90_000);
    }

    #[tokio::test]
    async fn a_cut_reaches_its_connection_once_and_followers_see_both_ends() {
        let table = Table::new(1);
        let mut follow = table.follow();
        let (entry, told) = table.insert(opening()).unwrap();
        let mut waits = JoinSet::new();
        waits.spawn(told);
        tokio::task::yield_now().await;
        entry.cut(Reason::PermitWithdrawn);
        entry.cut(Reason::Draining);
        assert_eq!(waits.join_next().await.unwrap().unwrap(), Reason::PermitWithdrawn);
        drop(entry);
        assert!(matches!(follow.try_recv(), Ok(Event::Opened(_))));
        assert!(matches!(follow.try_recv(), Ok(Event::Closed(c)) if c.state() == State::Closed));
    }
}
