//! Serving the streams that a peer opens on a lane, one after the other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::peer::{Peer, Quic};
use crate::host::{Host, Phase};
use crate::identity::VerifiedPeer;
use crate::reason::Reason;
use crate::services::egress::{self, Answer};
use crate::splice::{Broken, Carrier};
use crate::transport::lane::link::Link;
use crate::transport::message::{Detail, Refused};
use crate::transport::quic::QuicStream;
use crate::vocabulary::Path;

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

/// Serves the streams of a QUIC connection until it is lost or the agent has drained.
pub(super) async fn quic(host: &Arc<Host>, peer: &Arc<Peer>, quic: &Arc<Quic>, proven: VerifiedPeer) {
    let mut ended = pin!(peer.run_ended(quic.incarnation));
    let mut draining = pin!(host.reached(Phase::Draining));
    let mut cut = pin!(host.reached(Phase::Cut));
    let mut closed = pin!(quic.link.connection().closed());
    let mut retired = false;
    let mut streams = JoinSet::new();
    loop {
        if retired && streams.is_empty() && peer.streams_out() == 0 {
            quic.link.close(Reason::Draining);
            return;
        }
        let request = tokio::select! {
            request = quic.link.accept() => request,
            Some(_) = streams.join_next() => continue,
            () = &mut draining, if !retired => {
                retired = true;
                continue;
            }
            () = tokio::time::sleep(LOOK), if retired => continue,
            () = &mut ended => return quic.link.close(Reason::LinkLost),
            () = &mut cut => return quic.link.close(Reason::Draining),
            lost = &mut closed => {
                tracing::debug!(peer = %peer.name, %lost, "QUIC connection lost");
                return;
            }
        };
        let Ok(request) = request else { return };
        let (open, mut stream) = request.into_parts();
        if retired {
            streams.spawn(async move {
                Answer::refuse(&mut stream, Reason::Draining, "").ok();
                let told = async {
                    poll_fn(|cx| stream.poll_flush(cx)).await.ok();
                    stream.settle().await;
                };
                timeout(SETTLE, told).await.ok();
            });
            continue;
        }
        let (host, peer, proven) = (host.clone(), peer.clone(), proven.clone());
        let incarnation = quic.incarnation;
        streams.spawn(async move {
            egress::serve(&host, &proven, Path::Quic, open, &mut stream, peer.run_ended(incarnation)).await;
            timeout(SETTLE, stream.settle()).await.ok();
        });
    }
}

/// How long a stream that is over may take to reach the peer.
pub(super) const SETTLE: std::time::Duration = std::time::Duration::from_secs(5);
/// How often a draining connection is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// Serves a lane until its opener closes it, it is lost, or the agent has drained.
pub(super) async fn lane(host: &Host, peer: &Peer, mut link: Link) {
    let mut ended = pin!(peer.run_ended(link.incarnation()));
    let mut draining = pin!(host.reached(Phase::Draining));
    let mut cut = pin!(host.reached(Phase::Cut));
    let mut retired = false;
    let proven = link.peer().clone();
    loop {
        let open = tokio::select! {
            open = link.next_open() => open,
            () = &mut draining, if !retired => {
                retired = true;
                link.retire(Reason::Draining);
                continue;
            }
            () = &mut ended => return link.abort(),
            () = &mut cut => return link.abort(),
        };
        let open = match open {
            Ok(Some(open)) => open,
            Ok(None) => return,
            Err(broken) => {
                tracing::debug!(peer = %peer.name, %broken, "lane lost");
                return;
            }
        };
        egress::serve(host, &proven, Path::Lane, open, &mut link, &mut ended).await;
        let settled = tokio::select! {
            settled = link.settle() => settled,
            () = &mut ended => return link.abort(),
            () = &mut cut => return link.abort(),
        };
        if !settled && !retired {
            return;
        }
    }
}
