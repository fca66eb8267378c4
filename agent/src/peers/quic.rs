//! The QUIC connections of one peer that application streams run over: one is used for new streams, those that it replaced
//! end with their last stream.
//!
//! Either end retires a connection that it no longer uses. From then on it refuses what the other still opens there, so that
//! the opener says it again elsewhere, and closes the connection once no stream is left.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::back_off::BackOff;
use super::over_quic::{OverQuic, Replay};
use super::peer::Peer;
use crate::transport::message::Incarnation;
use crate::transport::quic::QuicLink;

/// The pause after a connection could not be dialled.
const BACK_OFF: BackOff = BackOff::new(Duration::from_millis(50), Duration::from_secs(1));
/// How many connections one peer may have: one that is used, and others that are on their way out.
const MAX_LINKS: usize = 8;
/// How long the end that has dialled the control channel is left to dial this one as well.
const PEER_FIRST: Duration = Duration::from_secs(1);
/// A connection that was missing again this soon counts as a failed dial, lest two agents that disagree dial without pause.
const STABLE: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Quic {
    pub(super) link: QuicLink,
    pub(super) incarnation: Incarnation,
    /// Streams of this side that run on it.
    streams: watch::Sender<usize>,
    retired: watch::Sender<bool>,
}

impl Quic {
    pub(super) fn new(link: QuicLink, incarnation: Incarnation) -> Arc<Self> {
        Arc::new(Self { link, incarnation, streams: watch::Sender::new(0), retired: watch::Sender::new(false) })
    }

    /// It is used for no new streams.
    pub(super) fn retire(&self) {
        self.retired.send_replace(true);
    }

    pub(super) fn is_retired(&self) -> bool {
        *self.retired.borrow()
    }

    /// Resolves when it is used for no new streams.
    pub(super) async fn retired(&self) {
        // The sender lives as long as `self`.
        self.retired.subscribe().wait_for(|retired| *retired).await.ok();
    }

    /// Resolves when no stream of this side runs on it.
    pub(super) async fn is_left(&self) {
        self.streams.subscribe().wait_for(|streams| *streams == 0).await.ok();
    }

    /// Opens a stream, with what was said on another that the peer did not serve. `None` if the connection has ended.
    pub(super) async fn open(self: Arc<Self>, said: Replay) -> Option<OverQuic> {
        let held = Held::new(self);
        let stream = held.0.link.open(said.0.clone()).await.ok()?;
        Some(OverQuic::new(stream, held, said))
    }
}

/// A stream's hold on its connection.
pub(super) struct Held(pub(super) Arc<Quic>);

impl Held {
    fn new(quic: Arc<Quic>) -> Self {
        quic.streams.send_modify(|streams| *streams += 1);
        Self(quic)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.streams.send_modify(|streams| *streams -= 1);
    }
}

/// The connections that live, and when to dial another. Owned by the peer's actor.
pub(super) struct Quics {
    links: Vec<Weak<Quic>>,
    dial: Dial,
}

impl Quics {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), dial: Dial::new() }
    }

    /// Uses a connection that is up for new streams; those before it retire. It comes back if the peer has too many.
    pub(super) fn take(
        &mut self,
        peer: &Peer,
        link: QuicLink,
        incarnation: Incarnation,
    ) -> Result<Arc<Quic>, QuicLink> {
        // One that is lost counts no longer, though an application may still be taking the last of what came on it.
        let lives = |quic: Arc<Quic>| quic.link.connection().close_reason().is_none();
        self.links.retain(|quic| quic.upgrade().is_some_and(lives));
        if self.links.len() >= MAX_LINKS {
            self.dial.back_off.failed(now());
            return Err(link);
        }
        self.links.iter().filter_map(Weak::upgrade).for_each(|quic| quic.retire());
        let quic = Quic::new(link, incarnation);
        self.links.push(Arc::downgrade(&quic));
        self.dial.took(now());
        peer.quic.send_replace(Some(quic.clone()));
        Ok(quic)
    }

    /// The link is down or runs another way: what streams still run on ends with them.
    pub(super) fn retire(&mut self, peer: &Peer) {
        peer.quic.send_replace(None);
        self.links.iter().filter_map(Weak::upgrade).for_each(|quic| quic.retire());
        self.dial = Dial { under_way: self.dial.under_way, ..Dial::new() };
    }

    /// When to dial a connection for new streams, unless one is there or being dialled. `first`: whether this side is the one
    /// to dial it; else it does so if the peer has not.
    pub(super) fn due(&mut self, peer: &Peer, first: bool) -> Option<Instant> {
        let is_there = peer.quic.borrow().as_ref().is_some_and(|quic| !quic.is_retired());
        self.dial.due(is_there, first, now())
    }

    /// A dial is under way.
    pub(super) fn dialling(&mut self) {
        self.dial.under_way = true;
    }

    /// The dial has ended.
    pub(super) fn dialled(&mut self, succeeded: bool) {
        self.dial.under_way = false;
        if !succeeded {
            self.dial.back_off.failed(now());
        }
    }
}

/// When to dial. Pure.
#[derive(Debug, Clone)]
struct Dial {
    under_way: bool,
    back_off: BackOff,
    /// Since when no connection is there.
    missing: Option<Instant>,
    /// Since when one is there.
    there: Option<Instant>,
}

impl Dial {
    fn new() -> Self {
        Self { under_way: false, back_off: BACK_OFF, missing: None, there: None }
    }

    fn took(&mut self, now: Instant) {
        (self.missing, self.there) = (None, Some(now));
    }

    fn due(&mut self, is_there: bool, first: bool, now: Instant) -> Option<Instant> {
        if is_there || self.under_way {
            return None;
        }
        if let Some(since) = self.there.take() {
            if now.saturating_duration_since(since) < STABLE {
                self.back_off.failed(now);
            } else {
                self.back_off.reset();
            }
        }
        let missing = *self.missing.get_or_insert(now);
        let soonest = if first { missing } else { missing + PEER_FIRST };
        Some(self.back_off.until().map_or(soonest, |until| until.max(soonest)))
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use crate::peers::room::Room;

    use super::*;
    use crate::reason::Reason;
    use crate::transport::quic::tests::links;

    #[test]
    fn the_end_that_dialled_the_control_channel_dials_and_the_other_helps_out() {
        let now = Instant::now();
        let (mut first, mut second) = (Dial::new(), Dial::new());
        assert_eq!(first.due(false, true, now), Some(now));
        assert_eq!(second.due(false, false, now), Some(now + PEER_FIRST));
        let later = now + PEER_FIRST / 2;
        assert_eq!(second.due(false, false, later), Some(now + PEER_FIRST), "it waits no longer for being asked twice");
        second.took(later);
        assert_eq!(second.due(true, false, later), None);
        first.under_way = true;
        assert_eq!(first.due(false, true, later), None);
    }

    #[test]
    fn connections_that_end_at_once_are_dialled_with_growing_pauses() {
        let mut now = Instant::now();
        let mut dial = Dial::new();
        for pause in [50, 100, 200, 400, 800, 1000, 1000] {
            dial.took(now);
            let due = dial.due(false, true, now).unwrap();
            assert_eq!(due - now, Duration::from_millis(pause));
            now = due;
        }
        dial.took(now);
        assert_eq!(dial.due(false, true, now + STABLE), Some(now + STABLE));
    }

    #[tokio::test]
    async fn connections_that_are_lost_leave_room_for_others_whoever_still_reads_from_them() {
        let (peer, _queue) = Peer::of_test("beta", &Arc::new(Room::new(1)));
        let mut quics = Quics::new();
        let mut held = Vec::new();
        for _ in 0..MAX_LINKS {
            let (pair, link, _far) = links().await;
            held.push((pair, quics.take(&peer, link, Incarnation(2)).unwrap()));
        }
        let (_pair, link, _far) = links().await;
        let link = quics.take(&peer, link, Incarnation(2)).err().unwrap();
        held[3].1.link.close(Reason::LinkLost);
        assert!(quics.take(&peer, link, Incarnation(2)).is_ok());
    }
}
