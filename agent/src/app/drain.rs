//! The end of an agent: nothing new is accepted, connections may finish for a time, the rest is cut with a reason.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout};

use crate::host::{Host, Phase};
use crate::peers::registry::Peers;
use crate::reason::Reason;
use crate::reconcile::Ports;
use crate::table::Connection;

/// How long peers may take to hear why connections are cut.
const TOLD: Duration = Duration::from_millis(500);
/// How long what is cut may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long whoever asked for the drain may take to hear of its end.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// How often systemd is asked for more time, and for how much: else it ends what has said that it stops after its own.
const MORE_TIME: Duration = Duration::from_secs(60);
const MORE: Duration = Duration::from_secs(180);

/// What a drain came to.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// The connections that did not end in time.
    pub(super) cut: Vec<Arc<Connection>>,
}

/// Whether the agent is to drain, and until when connections may go on.
#[derive(Debug, Default)]
pub(super) struct Drain {
    times: watch::Sender<Option<Times>>,
    outcome: watch::Sender<Option<Outcome>>,
}

/// When a drain began, and when it is over at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) since: Instant,
    pub(super) until: Instant,
}

impl Drain {
    /// Asks for a drain that leaves connections `limit`, or `usual` if that is not said. One that is under way is shortened at the
    /// most.
    pub(super) fn ask(&self, limit: Option<Duration>, usual: Duration, now: Instant) -> Times {
        let mut asked = Times { since: now, until: now + limit.unwrap_or(usual) };
        self.times.send_modify(|times| {
            if let Some(known) = times {
                let until = limit.map_or(known.until, |_| asked.until.min(known.until));
                asked = Times { until, ..*known };
            }
            *times = Some(asked);
        });
        asked
    }

    /// When it began and is over, once somebody has asked for one.
    pub(super) fn times(&self) -> Option<Times> {
        *self.times.borrow()
    }

    /// Resolves when somebody has asked for a drain.
    pub(super) async fn asked(&self) {
        // The sender lives as long as `self`.
        self.times.subscribe().wait_for(Option::is_some).await.ok();
    }

    /// What a drain comes to, once it has. The agent stays a moment for whoever holds this.
    pub(super) fn outcome(&self) -> watch::Receiver<Option<Outcome>> {
        self.outcome.subscribe()
    }

    /// Stops accepting, lets connections end in the time that they were left, or until another signal comes, then cuts the rest.
    pub(super) async fn run(
        &self,
        host: &Arc<Host>,
        peers: &Arc<Peers>,
        mut reloading: JoinSet<(JoinSet<()>, Ports)>,
        terminate: &mut Signal,
        interrupt: &mut Signal,
    ) {
        let Times { since, until } = self.ask(None, host.limits().drain, Instant::now());
        let open = host.table.len();
        tracing::info!(connections = open, seconds = (until - since).as_secs_f64(), "draining");
        sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
        host.enter(Phase::Draining);
        let finished = async {
            let listeners = async {
                let Some(Ok((mut services, ports))) = reloading.join_next().await else { return None };
                while services.join_next().await.is_some() {}
                Some(ports)
            };
            // The ports are there until the last stream has ended: QUIC runs over them.
            tokio::join!(peers.drain(), listeners).1
        };
        tokio::pin!(finished);
        let in_time = tokio::select! {
            ports = &mut finished => Some(ports),
            () = self.time_is_up() => None,
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        let mut cut = Vec::new();
        let _ports = match in_time {
            Some(ports) => {
                tracing::info!("drained");
                host.enter(Phase::Cut);
                ports
            }
            None => {
                cut = host.table.all();
                let early = self.times().is_some_and(|times| Instant::now() < times.until);
                tracing::warn!(
                    connections = cut.len(),
                    "connections that did not end in time are cut{}",
                    if early { ", since the agent was told to stop again" } else { "" }
                );
                for connection in &cut {
                    connection.cut(Reason::Draining);
                }
                // First the peers are told why, then what carries is cut.
                let told = timeout(TOLD, &mut finished).await;
                host.enter(Phase::Cut);
                match told {
                    Ok(ports) => ports,
                    Err(_) => timeout(LAST_WORDS, finished).await.ok().flatten(),
                }
            }
        };
        self.outcome.send_replace(Some(Outcome { cut }));
        timeout(LAST_ANSWER, self.outcome.closed()).await.ok();
        host.enter(Phase::Over);
    }

    /// Resolves when connections have had their time, which may become shorter meanwhile.
    async fn time_is_up(&self) {
        let mut times = self.times.subscribe();
        let mut more = interval(MORE_TIME);
        loop {
            let until = times.borrow_and_update().map_or_else(Instant::now, |times| times.until);
            tokio::select! {
                () = sleep_until(until) => return,
                // The sender lives as long as `self`.
                Ok(()) = times.changed() => {}
                _ = more.tick() => {
                    let micros = u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX);
                    sd_notify::notify(&[sd_notify::NotifyState::ExtendTimeoutUsec(micros)]).ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_is_under_way_is_shortened_at_the_most() {
        let (drain, start) = (Drain::default(), Instant::now());
        let seconds = Duration::from_secs;
        let rows = [
            // Asked after, for, and what is left of it then.
            (0, None, 30),
            (10, None, 20),
            (10, Some(60), 20),
            (10, Some(5), 5),
            (12, None, 3),
            (13, Some(0), 0),
        ];
        for (after, limit, left) in rows {
            let now = start + seconds(after);
            let times = drain.ask(limit.map(seconds), seconds(30), now);
            assert_eq!((times.since, times.until), (start, now + seconds(left)), "{limit:?} after {after} s");
        }
        drain.asked().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_up_when_it_was_said_last() {
        let (drain, start) = (Drain::default(), Instant::now());
        drain.ask(Some(Duration::from_secs(3_600)), Duration::ZERO, start);
        let shorten = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            drain.ask(Some(Duration::from_secs(20)), Duration::ZERO, Instant::now());
        };
        tokio::join!(drain.time_is_up(), shorten);
        assert_eq!(start.elapsed(), Duration::from_secs(120));
    }
}
