//! The lanes of one peer, judged while there is no control channel to judge the peer by.

use std::net::{Shutdown, TcpStream};
use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use super::control::SILENCE;
use crate::transport::lane::link::Link;
use crate::transport::tcp_info;

struct Lane {
    socket: Weak<TcpStream>,
    /// Since when something is under way that nothing has come back for.
    since: Option<Instant>,
}

/// The connections of all lanes of a peer.
#[derive(Default)]
pub(super) struct Judge {
    lanes: Vec<Lane>,
}

impl Judge {
    /// Watches a lane until it is gone.
    pub(super) fn add(&mut self, link: &Link) {
        self.lanes.push(Lane { socket: link.watched(), since: None });
    }

    /// How many lanes there are.
    pub(super) fn count(&mut self) -> usize {
        self.lanes.retain(|lane| lane.socket.strong_count() > 0);
        self.lanes.len()
    }

    /// Looks at every lane. While the control channel is not `up`, those on which the peer has answered nothing for as long
    /// as would have been silence there are cut: the applications at this end get their RST.
    pub(super) fn look(&mut self, up: bool, now: Instant) {
        self.count();
        for lane in &mut self.lanes {
            let Some(socket) = lane.socket.upgrade().filter(|_| !up) else {
                lane.since = None;
                continue;
            };
            lane.since = match (lane.since, tcp_info::unanswered(&socket)) {
                (_, None) => None,
                // A lane that was quiet for long may have begun to speak just now.
                (None, Some(_)) => Some(now),
                (Some(since), Some(silent)) if answered_since(now - since, silent) => Some(now),
                (Some(since), Some(_)) => {
                    if now - since >= SILENCE {
                        // Its reader sees the end, its writer a broken pipe.
                        socket.shutdown(Shutdown::Both).ok();
                    }
                    Some(since)
                }
            };
        }
    }
}

/// Whether something has come back after the lane was first seen waiting.
fn answered_since(waiting: Duration, silent: Duration) -> bool {
    silent < waiting
}
