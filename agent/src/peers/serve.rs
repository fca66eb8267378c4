//! Serving the streams that a peer opens: those of a lane one after the other, those of a QUIC connection all at once.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::peer::Peer;
use super::pool::policy::LaneEpoch;
use super::quic::Quic;
use crate::host::Phase;
use crate::identity::VerifiedPeer;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier};
use crate::transport::lane::link::Link;
use crate::transport::message::{Detail, Open, Refused};
use crate::transport::quic::QuicStream;

/// How long a stream that is over may take to reach the peer.
pub(super) const SETTLE: Duration = Duration::from_secs(5);
/// For how long a connection that retires refuses streams at the least, so that what the peer opened before it heard of that
/// is not lost with the connection; beside two round trips.
const LINGER: Duration = Duration::from_millis(50);

/// A stream that waits for this side's answer.
pub trait Answer: Carrier {
    /// Serves it; `target` is told to the peer.
    ///
    /// # Errors
    /// If it was cut in the meantime.
    fn accept(&mut self, target: &str) -> Result<(), Broken>;

    /// Does not serve it.
    ///
    /// # Errors
    /// If it was cut in the meantime.
    fn refuse(&mut self, reason: Reason, detail: &str) -> Result<(), Broken>;
}

/// Work on a stream.
pub type Serving<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Resolves when what a stream runs over is known to be lost.
pub type Ended<'a> = &'a mut (dyn Future<Output = ()> + Send + Unpin + 'a);

/// What serves the streams that proven peers open, until this side is through with each. The caller settles the stream;
/// `ended` resolves when what it runs over is known to be lost.
pub trait Serve: Send + Sync {
    /// Serves one over a lane.
    fn lane<'a>(
        &'a self,
        peer: &'a VerifiedPeer,
        open: Box<Open>,
        stream: &'a mut Link,
        ended: Ended<'a>,
    ) -> Serving<'a>;

    /// Serves one over QUIC.
    fn quic<'a>(
        &'a self,
        peer: &'a VerifiedPeer,
        open: Box<Open>,
        stream: &'a mut QuicStream,
        ended: Ended<'a>,
    ) -> Serving<'a>;
}

impl Answer for Link {
    fn accept(&mut self, target: &str) -> Result<(), Broken> {
        Self::accept(self, target)
    }

    fn refuse(&mut self, reason: Reason, detail: &str) -> Result<(), Broken> {
        Self::refuse(self, reason, detail)
    }
}

impl Answer for QuicStream {
    fn accept(&mut self, target: &str) -> Result<(), Broken> {
        self.answer(Detail::new(target), std::time::Instant::now());
        Ok(())
    }

    fn refuse(&mut self, reason: Reason, detail: &str) -> Result<(), Broken> {
        Self::refuse(self, Refused { reason, detail: Detail::new(detail) });
        Ok(())
    }
}

/// Serves the streams of a QUIC connection until it is lost, or has retired and carried its last stream, or the agent has
/// drained.
pub(super) async fn quic(
    services: &Arc<dyn Serve>,
    peer: &Arc<Peer>,
    quic: &Arc<Quic>,
    proven: VerifiedPeer,
    epoch: LaneEpoch,
) {
    let mut ended = pin!(peer.run_ended(quic.incarnation));
    let mut retires = pin!(async {
        tokio::select! {
            () = peer.reached(Phase::Draining, epoch) => quic.retire(),
            () = quic.retired() => {}
        }
    });
    let mut cut = pin!(peer.reached(Phase::Cut, epoch));
    let mut closed = pin!(quic.link.connection().closed());
    let mut lingers = None;
    let mut streams = JoinSet::new();
    // Whether all knew how their streams had ended.
    let mut told = true;
    loop {
        let left = async {
            match lingers {
                Some(until) => {
                    sleep_until(until).await;
                    quic.is_left().await;
                }
                None => std::future::pending().await,
            }
        };
        let request = tokio::select! {
            request = quic.link.accept() => request,
            Some(ended) = streams.join_next() => {
                told &= ended.unwrap_or(false);
                continue;
            }
            () = &mut retires, if lingers.is_none() => {
                peer.forsake(quic);
                lingers = Some(Instant::now() + LINGER + 2 * quic.link.connection().rtt());
                continue;
            }
            () = left, if streams.is_empty() => {
                tracing::debug!(peer = %peer.name, "the retired QUIC connection is left");
                // Whoever has no answer by then was not served, and learns it so.
                return quic.link.close(if told { Reason::Superseded } else { Reason::Draining });
            }
            () = &mut ended => return quic.link.close(Reason::LinkLost),
            () = &mut cut => return quic.link.close(Reason::Draining),
            lost = &mut closed => Err(Broken(lost.to_string())),
        };
        let request = match request {
            Ok(request) => request,
            // Either may hear first that the connection is gone.
            Err(lost) => {
                tracing::debug!(peer = %peer.name, %lost, "QUIC connection lost");
                break;
            }
        };
        let (open, mut stream) = request.into_parts();
        if lingers.is_some() {
            streams.spawn(async move {
                Answer::refuse(&mut stream, Reason::Draining, "").ok();
                let told = async {
                    poll_fn(|cx| stream.poll_flush(cx)).await.ok();
                    stream.settle().await;
                };
                timeout(SETTLE, told).await.ok();
                true
            });
            continue;
        }
        let (services, proven) = (services.clone(), proven.clone());
        let mut ended = peer.run_ended(quic.incarnation);
        streams.spawn(async move {
            services.quic(&proven, Box::new(open), &mut stream, &mut ended).await;
            timeout(SETTLE, stream.settle()).await.unwrap_or(false)
        });
    }
    // A stream that had come to its end in order may still be giving its last bytes to a slow application. The others have
    // heard of the loss.
    let finished = async { while streams.join_next().await.is_some() {} };
    tokio::select! {
        () = finished => {}
        () = &mut ended => {}
        () = &mut cut => {}
    }
}

/// Why a lane is let go of.
fn why(peer: &Peer) -> Reason {
    if peer.is_draining() { Reason::Draining } else { Reason::Superseded }
}

/// Serves a lane until its opener closes it, it is lost, or the agent has drained. Its opener is asked to let go of it when
/// identity or trust are no longer those of `epoch`.
pub(super) fn lane(
    services: Arc<dyn Serve>,
    peer: Arc<Peer>,
    mut link: Box<Link>,
    epoch: LaneEpoch,
) -> impl Future<Output = ()> + Send {
    // Not an `async fn`, which would store twice what it is given.
    async move {
        let mut ended = peer.run_ended(link.incarnation());
        // What every lane waits for it waits for in one place: first for the one, then for the other.
        let mut phase = peer.reached(Phase::Draining, epoch);
        let mut retired = false;
        let proven = link.peer().clone();
        loop {
            let open = tokio::select! {
                open = link.next_open() => match open {
                    Ok(Some(open)) => open,
                    Ok(None) => return,
                    Err(broken) => {
                        tracing::debug!(peer = %peer.name, %broken, "lane lost");
                        return;
                    }
                },
                () = &mut phase => {
                    if retired {
                        return link.abort();
                    }
                    retired = true;
                    phase = peer.reached(Phase::Cut, epoch);
                    link.retire(why(&peer));
                    continue;
                }
                () = &mut ended => return link.abort(),
            };
            services.lane(&proven, open, &mut link, &mut ended).await;
            let settled = loop {
                tokio::select! {
                    // Short, so its memory is not that of every lane that carries a stream.
                    settled = Box::pin(link.settle()) => break settled,
                    () = &mut phase => {
                        if retired {
                            return link.abort();
                        }
                        retired = true;
                        phase = peer.reached(Phase::Cut, epoch);
                        link.retire(why(&peer));
                    }
                    () = &mut ended => return link.abort(),
                }
            };
            if !settled && !retired {
                return;
            }
            if link.is_worn() && !retired {
                retired = true;
                link.retire(Reason::Superseded);
            }
        }
    }
}
