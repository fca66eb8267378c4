//! The task around a source: asks it, has what it hands over judged, and says how it stands.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mesh_config::Digest;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::chance;
use super::pause::Pauses;
use crate::distribution::{Handle, NotTaken, refuse};
use crate::host::{Host, Phase};
use crate::source::{Heard, MeshSource, SourceError};
use crate::vocabulary::SourceKind;

/// How often a failure that lasts is logged, and one that has become another.
const REMINDER: Duration = Duration::from_secs(3_600);
const CHANGE: Duration = Duration::from_secs(60);

/// How it stands with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not answered yet.
    Connecting,
    /// It answers.
    InTouch,
    /// It does not, or what it has is not taken.
    Failing,
}

impl State {
    /// A stable name, for JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::InTouch => "in_touch",
            Self::Failing => "failing",
        }
    }
}

/// How it stands with a source, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What it is.
    pub kind: SourceKind,
    /// Where it is.
    pub place: String,
    /// How it stands.
    pub state: State,
    /// Since when.
    pub since: OffsetDateTime,
    /// When it answered last.
    pub answered: Option<OffsetDateTime>,
    /// The version of the document that it has, as far as that is known.
    pub version: Option<u64>,
    /// Why it fails: a stable name, what happened, and what to do.
    pub error: Option<(&'static str, String, String)>,
    /// Tries in a row that have failed.
    pub failures: u32,
}

/// What came of asking once.
enum Came {
    /// It has this version, or none.
    Version(Option<u64>),
    /// The same as before.
    Same,
    /// It has a document that is not taken. What was asked for in vain is its own affair; this one waits for another document.
    NotTaken(&'static str, String, String),
}

/// Prepares to follow a source until the agent drains.
pub(super) fn start<S>(
    source: S,
    host: Arc<Host>,
    documents: Handle,
) -> (watch::Receiver<Shown>, impl Future<Output = ()> + Send)
where
    S: MeshSource<Document = Arc<[u8]>> + Send,
{
    let (sender, shown) = watch::channel(Shown {
        kind: source.kind(),
        place: source.place(),
        state: State::Connecting,
        since: host.clock.now(),
        answered: None,
        version: None,
        error: None,
        failures: 0,
    });
    host.metrics.mesh_source_up(source.kind(), false);
    tracing::info!(
        source = source.kind().name(),
        place = source.place(),
        "mesh documents are fetched from here as well"
    );
    let follower = Follower {
        trust: host.snapshot.load().epochs.trust,
        source,
        host: host.clone(),
        documents,
        shown: sender,
        pauses: Pauses::default(),
        refused: None,
        logged: None,
    };
    let task = async move {
        let draining = host.reached(Phase::Draining);
        tokio::select! {
            () = draining => {}
            () = follower.run() => {}
        }
    };
    (shown, task)
}

struct Follower<S> {
    source: S,
    host: Arc<Host>,
    documents: Handle,
    shown: watch::Sender<Shown>,
    pauses: Pauses,
    /// The trust in force when the last document was judged.
    trust: u64,
    /// The last document that was refused for good.
    refused: Option<(Digest, (&'static str, String, String))>,
    /// The failure that was logged last since it was in touch, and when.
    logged: Option<(&'static str, Instant)>,
}

impl<S: MeshSource<Document = Arc<[u8]>> + Send> Follower<S> {
    async fn run(mut self) {
        loop {
            let trust = self.host.snapshot.load().epochs.trust;
            if std::mem::replace(&mut self.trust, trust) != trust {
                self.refused = None;
                self.source.forget();
            }
            match self.source.next().await {
                Ok(heard) => {
                    self.pauses.worked();
                    let came = match heard {
                        Heard::Document(document) => self.judge(document).await,
                        Heard::Nothing => {
                            self.refused = None;
                            Came::Version(None)
                        }
                        Heard::Unchanged => Came::Same,
                    };
                    self.answered(came);
                    self.logged = None;
                }
                Err(error) => {
                    let pause = self.pauses.failed(chance());
                    self.failed(&error, pause);
                    sleep(pause).await;
                }
            }
        }
    }

    async fn judge(&mut self, document: Arc<[u8]>) -> Came {
        let digest = Digest::of(&document);
        if let Some((_, (name, why, hint))) = self.refused.as_ref().filter(|(refused, _)| *refused == digest) {
            self.source.judged(false);
            return Came::NotTaken(name, why.clone(), hint.clone());
        }
        let offered = self.documents.offer(document, self.source.kind()).await;
        match offered {
            Ok(document) => {
                self.refused = None;
                self.source.judged(false);
                Came::Version(Some(document.rank().version.number()))
            }
            Err(NotTaken::Refused(why)) => {
                let told = (why.name(), why.to_string(), why.hint().to_owned());
                self.source.judged(why.may_pass());
                if !why.may_pass() {
                    self.refused = Some((digest, told.clone()));
                }
                Came::NotTaken(told.0, told.1, told.2)
            }
            Err(NotTaken::Failed(failure)) => {
                self.source.judged(true);
                Came::NotTaken("not_kept", failure.message, failure.hint.unwrap_or_default())
            }
        }
    }

    fn answered(&self, came: Came) {
        let now = self.host.clock.now();
        self.host.metrics.mesh_source_answered(self.source.kind(), now);
        let kind = self.source.kind().name();
        self.shown.send_modify(|shown| {
            let error = match came {
                Came::Version(version) => {
                    shown.version = version;
                    None
                }
                // What was not taken stays so.
                Came::Same => self.refused.as_ref().map(|(_, told)| told.clone()),
                Came::NotTaken(name, why, hint) => Some((name, why, hint)),
            };
            let state = if error.is_some() { State::Failing } else { State::InTouch };
            if shown.state != state {
                if state == State::InTouch {
                    let seconds = (now - shown.since).as_seconds_f64().max(0.0);
                    tracing::info!(
                        source = kind,
                        place = shown.place,
                        "the mesh's source is in touch after {seconds:.1} s"
                    );
                }
                (shown.state, shown.since) = (state, now);
            }
            (shown.answered, shown.failures, shown.error) = (Some(now), 0, error);
        });
        self.host.metrics.mesh_source_up(self.source.kind(), self.shown.borrow().state == State::InTouch);
    }

    fn failed(&mut self, error: &SourceError, pause: Duration) {
        let now = self.host.clock.now();
        if let SourceError::Refused { why, .. } = error {
            refuse(&self.host, None, Some(self.source.kind()), why);
        }
        self.host.metrics.mesh_source_failed(self.source.kind(), error.name());
        self.host.metrics.mesh_source_up(self.source.kind(), false);
        // When it begins, when it becomes another, and at times: an outage of hours is a few lines.
        let is_news =
            self.logged.is_none_or(|(name, at)| at.elapsed() > if name == error.name() { REMINDER } else { CHANGE });
        if is_news {
            self.logged = Some((error.name(), Instant::now()));
            tracing::warn!(
                source = self.source.kind().name(),
                place = self.source.place(),
                reason = error.name(),
                "the mesh's source gives nothing, and what is in force stays: {error}; {}",
                error.hint()
            );
        }
        self.shown.send_modify(|shown| {
            if shown.state != State::Failing {
                (shown.state, shown.since) = (State::Failing, now);
            }
            shown.failures = self.pauses.failures();
            shown.error = Some((error.name(), error.to_string(), error.hint().to_owned()));
        });
        tracing::debug!(
            source = self.source.kind().name(),
            seconds = pause.as_secs_f64(),
            "next try after a pause: {error}"
        );
    }
}

#[cfg(test)]
mod tests;
