//! Serving the streams that a peer opens on a lane, one after the other.

use std::pin::pin;

use super::peer::Peer;
use crate::host::{Host, Phase};
use crate::reason::Reason;
use crate::services::egress::{self, Answer};
use crate::splice::Broken;
use crate::transport::lane::link::Link;
use crate::vocabulary::Path;

impl Answer for Link {
    fn accept(&mut self, target: &str) -> Result<(), Broken> {
        Self::accept(self, target)
    }

    fn refuse(&mut self, reason: Reason, detail: &str) -> Result<(), Broken> {
        Self::refuse(self, reason, detail)
    }
}

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
