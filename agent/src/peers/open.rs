//! Opening a stream to the first of several peers whose link is up, waiting for all of them while none is.

use std::borrow::Borrow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::over_quic::Replay;
use super::peer::{Command, NoStream, Peer, Status};
use super::pool::Lease;
use super::quic::Quic;
use super::stream::Stream;
use crate::reason::Reason;
use crate::vocabulary::Path;

/// Opens a stream to one of `peers`, which are in the order of preference, with what was said on another stream that its peer
/// did not serve. Also tells whose it is, by its place.
///
/// A peer whose link goes down in the meantime makes room for the next. If a lane is ready the stream is opened on it at this call:
/// whoever waits for something else as well looks at this first.
///
/// # Errors
/// [`NoStream`] says why there is none in time, or that too many wait already.
pub fn first<P: Borrow<Peer> + Sync>(
    peers: &[P],
    said: Replay,
    deadline: Instant,
) -> impl Future<Output = Result<(usize, Stream), NoStream>> + Send {
    let peer = |at: usize| -> &Peer { peers[at].borrow() };
    // A stream for which everything is ready waits for nothing, watches nothing, and needs no memory for that.
    let chosen = (0..peers.len()).find(|&at| peer(at).path().is_some());
    let ready = chosen.filter(|&at| peer(at).path() != Some(Path::Quic));
    let opened = match ready.and_then(|at| Some((at, from_pool(peer(at), &said)?))) {
        Some(opened) => Ok(opened),
        None => Err(Box::pin(wait(peers, said, deadline))),
    };
    async move {
        match opened {
            Ok(opened) => Ok(opened),
            Err(waits) => waits.await,
        }
    }
}

async fn wait<P: Borrow<Peer> + Sync>(
    peers: &[P],
    said: Replay,
    deadline: Instant,
) -> Result<(usize, Stream), NoStream> {
    let peer = |at: usize| -> &Peer { peers[at].borrow() };
    let mut place = match peers.first() {
        Some(first) => first.borrow().room.enter(&said.0.purpose)?,
        None => return Err(no_path(peers)),
    };
    let mut links: Vec<_> = peers.iter().map(|peer| peer.borrow().status.subscribe()).collect();
    let any = async {
        loop {
            let mut chosen = None;
            for (at, link) in links.iter_mut().enumerate() {
                let path = link.borrow_and_update().path;
                chosen = chosen.or(path.map(|path| (at, path)));
            }
            let Some((at, path)) = chosen else {
                for at in 0..peers.len() {
                    // A full queue has enough to do with this peer already.
                    peer(at).commands.try_send(Command::Demand).ok();
                }
                any_changed(&mut links).await;
                continue;
            };
            let stream = async {
                match path {
                    Path::Lane | Path::Relay => on_lane(peer(at), &said).await,
                    Path::Quic => over_quic(peer(at), &said).await,
                }
            };
            tokio::select! {
                stream = stream => return (at, stream),
                _ = links[at].wait_for(|status| status.path != Some(path)) => {}
            }
        }
    };
    tokio::select! {
        biased;
        opened = timeout_at(deadline, any) => opened.map_err(|_| no_path(peers)),
        full = place.lost() => Err(full.into()),
    }
}

/// A stream on a lane that is idle now.
fn from_pool(peer: &Peer, said: &Replay) -> Option<Stream> {
    loop {
        if let Some(stream) = begin(peer.pool.try_take()?, said) {
            return Some(stream);
        }
    }
}

/// A stream on the first lane that is idle.
async fn on_lane(peer: &Peer, said: &Replay) -> Stream {
    loop {
        if let Some(stream) = begin(peer.pool.take(&said.0.purpose).await, said) {
            return stream;
        }
    }
}

fn begin(mut lease: Lease, said: &Replay) -> Option<Stream> {
    // A lane that has just been retired is given up, and another is taken.
    lease.link.reopen(said.clone()).ok()?;
    Some(Stream::Lane(lease))
}

/// A stream on the QUIC connection, as soon as there is one.
async fn over_quic(peer: &Peer, said: &Replay) -> Stream {
    let mut current = peer.quic.subscribe();
    loop {
        let usable = |quic: &Option<Arc<Quic>>| quic.as_ref().is_some_and(|quic| !quic.is_retired());
        let Some(quic) = current.wait_for(usable).await.ok().and_then(|quic| quic.clone()) else {
            // The sender lives as long as the peer.
            return std::future::pending().await;
        };
        if let Some(over) = quic.clone().open(said.clone()).await {
            return Stream::Quic(Box::new(over));
        }
        // It has ended: whoever serves it takes it away, and the actor dials another.
        let gone = |now: &Option<Arc<Quic>>| !now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &quic));
        current.wait_for(gone).await.ok();
    }
}

/// Waits until something has changed at one of the links.
async fn any_changed(links: &mut [watch::Receiver<Status>]) {
    let mut changes: Vec<_> = links.iter_mut().map(|link| Box::pin(link.changed())).collect();
    poll_fn(|cx| {
        let changed = changes.iter_mut().any(|change| change.as_mut().poll(cx).is_ready());
        if changed { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn no_path<P: Borrow<Peer>>(peers: &[P]) -> NoStream {
    let detail: Vec<_> = peers.iter().map(|peer| peer.borrow().why_not()).collect();
    NoStream { reason: Reason::NoPath, detail: detail.join("; ") }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;
    use crate::peers::room::Room;
    use crate::transport::message::tests::to;
    use crate::transport::message::{Incarnation, Open};
    use crate::transport::quic::tests::{links, request};

    fn runs(peer: &Peer, path: Option<Path>) {
        peer.status.send_modify(|status| status.path = path);
    }

    fn said() -> Replay {
        (request(), Vec::new(), false)
    }

    #[tokio::test]
    async fn an_application_asks_for_every_peer_takes_one_place_and_leaves_a_peer_whose_link_goes_down() {
        let room = Arc::new(Room::new(1));
        let (alpha, mut alpha_queue) = Peer::of_test("alpha", &room);
        let (gamma, mut gamma_queue) = Peer::of_test("gamma", &room);
        let peers = [&alpha, &gamma];
        let mut waits = pin!(first(&peers, said(), Instant::now() + Duration::from_secs(20)));
        let mut look = || waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(look());
        assert!(matches!(alpha_queue.try_recv(), Ok(Command::Demand)));
        assert!(matches!(gamma_queue.try_recv(), Ok(Command::Demand)));
        assert_eq!(room.len(), 1);
        // It takes the one that is up, and gives it up with its link.
        runs(&alpha, Some(Path::Lane));
        assert!(look());
        runs(&alpha, None);
        runs(&gamma, Some(Path::Quic));
        assert!(look());
        let (_pair, link, _far) = links().await;
        gamma.quic.send_replace(Some(Quic::new(link, Incarnation(2))));
        let (at, stream) = waits.await.unwrap();
        assert_eq!((at, stream.path()), (1, Path::Quic));
        assert_eq!(room.len(), 0);
    }

    #[tokio::test]
    async fn a_busy_service_that_fills_the_room_makes_room_for_another() {
        let room = Arc::new(Room::new(3));
        let (alpha, _queue) = Peer::of_test("alpha", &room);
        let deadline = Instant::now() + Duration::from_secs(20);
        let open = |service| alpha.open(Open { purpose: to(service), ..request() }, deadline);
        for path in [None, Some(Path::Lane), Some(Path::Quic)] {
            runs(&alpha, path);
            let mut waits: Vec<_> = (0..3).map(|_| Box::pin(open("busy"))).collect();
            let mut look = |at: usize| waits[at].as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!((0..3).all(|at| look(at).is_pending()));
            let refused = |opened| matches!(opened, Poll::Ready(Err(NoStream { reason: Reason::Limit, .. })));
            let mut other = pin!(open("other"));
            assert!(other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!([0, 1, 2].map(|at| refused(look(at))), [false, false, true], "{path:?}: its newest is refused");
            assert_eq!(room.len(), 3);
        }
    }

    #[tokio::test]
    async fn a_stream_finds_its_way_when_the_path_changes_and_passes_by_a_connection_that_retires() {
        let room = Arc::new(Room::new(1));
        let (alpha, _queue) = Peer::of_test("alpha", &room);
        let (_pair, link, _far) = links().await;
        let old = Quic::new(link, Incarnation(2));
        old.retire();
        alpha.quic.send_replace(Some(old));
        runs(&alpha, Some(Path::Quic));
        let mut waits = pin!(alpha.reopen(said(), Instant::now() + Duration::from_secs(20)));
        let mut look = || waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(look());
        runs(&alpha, Some(Path::Lane));
        assert!(look(), "it waits for a lane now");
        runs(&alpha, Some(Path::Quic));
        let (_pair, link, _far) = links().await;
        alpha.quic.send_replace(Some(Quic::new(link, Incarnation(2))));
        assert_eq!(waits.await.unwrap().path(), Path::Quic);
    }
}
