//! What a watch of the head says, and what follows from it: pure.
//!
//! ```text
//!   read the head ──▶ at revision r ──▶ watch from r + 1 ──┬─ the head was set or removed ─┐
//!        ▲                                                 ├─ compacted, cancelled, lost ──┤
//!        │                                                 └─ quiet for long ──────────────┤
//!        └─────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A watch only says that it is time to read: what is read is what counts, so nothing is lost whatever a watch leaves out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};

/// The longest line of a watch, in bytes: a request to etcd has 1.5 MiB at most, and Base64 makes it a third longer.
pub(super) const MAX_LINE: usize = 3 << 20;

/// What a line of a watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing has changed up to this revision.
    Quiet(i64),
    /// The head was set or removed, last at this revision.
    Changed(i64),
    /// What it was to begin with has been compacted away: this is the first revision that is left.
    Compacted(i64),
    /// The watch has ended, for this reason.
    Ended(String),
}

#[derive(Deserialize)]
struct Line {
    result: Option<Answer>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Answer {
    header: Header,
    canceled: bool,
    #[serde(deserialize_with = "number")]
    compact_revision: i64,
    cancel_reason: String,
    events: Vec<Change>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Header {
    #[serde(deserialize_with = "number")]
    revision: i64,
}

#[derive(Deserialize)]
struct Change {
    kv: Key,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Key {
    key: String,
    #[serde(deserialize_with = "number")]
    mod_revision: i64,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

/// Protobuf's JSON has 64-bit numbers in strings; plain ones are taken as well.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number<'a> {
        Text(std::borrow::Cow<'a, str>),
        Number(i64),
    }
    match Number::deserialize(from)? {
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
        Number::Number(number) => Ok(number),
    }
}

/// What a line of a watch of `key` says; nothing if it is none.
pub(super) fn read(line: &[u8], key: &str) -> Option<Event> {
    let line: Line = serde_json::from_slice(line).ok()?;
    if let Some(failure) = line.error {
        return Some(Event::Ended(failure.message));
    }
    let answer = line.result?;
    if answer.compact_revision > 0 {
        return Some(Event::Compacted(answer.compact_revision));
    }
    if answer.canceled {
        return Some(Event::Ended(answer.cancel_reason));
    }
    let key = BASE64.encode(key);
    let changed = answer.events.iter().filter(|change| change.kv.key == key).map(|change| change.kv.mod_revision).max();
    Some(changed.map_or(Event::Quiet(answer.header.revision), Event::Changed))
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Do {
    /// Read the head.
    Read,
    /// Watch it from this revision on.
    Watch(i64),
}

/// What a reading of the head came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none.
    Nothing,
    /// It is the one that was judged last.
    Same,
    /// It is another one.
    Another,
}

/// How far the head is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The revision at which the head was read last; nothing while it has to be read.
    read_at: Option<i64>,
    /// When the head that was judged last was set.
    judged: Option<i64>,
}

impl Cursor {
    /// What to do next.
    pub(super) fn todo(&self) -> Do {
        self.read_at.map_or(Do::Read, |revision| Do::Watch(revision.saturating_add(1)))
    }

    /// The head was read: `set` is the revision at which it was set, if there is one, and `revision` that of the reading.
    pub(super) fn handle_read(&mut self, set: Option<i64>, revision: i64) -> Found {
        // One that has gone back, as after a restore of a backup, counts all the same: the cluster is what it is now.
        self.read_at = Some(revision);
        match set {
            None => Found::Nothing,
            Some(set) if self.judged == Some(set) => Found::Same,
            Some(_) => Found::Another,
        }
    }

    /// The head that was set at this revision was judged, and is not to be judged again.
    pub(super) fn handle_judged(&mut self, set: i64) {
        self.judged = Some(set);
    }

    /// The watch has said something.
    pub(super) fn handle_event(&mut self, event: &Event) {
        match (event, &mut self.read_at) {
            // Nothing has to be watched again that was quiet.
            (Event::Quiet(revision), Some(read_at)) => *read_at = (*read_at).max(*revision),
            (Event::Quiet(_), None) => {}
            (Event::Changed(_) | Event::Compacted(_) | Event::Ended(_), _) => self.read_at = None,
        }
    }

    /// The connection is lost, or it was quiet for long.
    pub(super) fn handle_doubt(&mut self) {
        self.read_at = None;
    }

    /// What was judged is to be judged again.
    pub(super) fn forget(&mut self) {
        (self.read_at, self.judged) = (None, None);
    }
}

#[cfg(test)]
mod tests;
