//! Puts a signed document into etcd.
//!
//! Pieces are written first, then the head in one step, if it is still the one that was read: of two who publish at once one is
//! told so. What neither this document nor the one before it needs is removed at last; one that another publisher has written
//! meanwhile is never among that, since it was written after the head.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use mesh_config::MeshName;
use serde_json::{Value, json};

use super::pieces::{Assembly, HEAD, Parts, Pieces, is_ours};
use super::{Cluster, MOST_BYTES, MOST_KEYS};
use crate::agent_file::EtcdSource;
use crate::clock::Clock;
use crate::identity::published::Refused;
use crate::source::SourceError;

/// Lists of keys that are looked through for what is not needed, at most: what is left goes the next time.
const MOST_LISTS: usize = 1_000;

/// A cluster that is published to.
pub(crate) struct Publisher {
    cluster: Cluster,
    /// When the head that was found was set; 0 if there was none.
    set: i64,
    /// The keys that belong to it.
    keys: BTreeSet<String>,
}

/// What was found there.
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// This, as it lies there. Nothing about it is verified.
    Document(Bytes),
    /// What is no document, and why. It may be replaced.
    Broken(SourceError),
}

/// What came of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Put {
    /// Keys that were written.
    pub(crate) written: usize,
    /// Keys that were removed.
    pub(crate) removed: usize,
}

impl Publisher {
    /// Looks what is there. `dir` is the agent's directory, whose agent file has these settings.
    pub(crate) async fn open(
        settings: EtcdSource,
        dir: &Path,
        mesh: &MeshName,
        clock: Clock,
    ) -> Result<(Self, Found), SourceError> {
        let mut this = Self { cluster: Cluster::new(settings, dir, mesh, clock), set: 0, keys: BTreeSet::new() };
        let key = this.cluster.key(HEAD);
        let mut tried = 0;
        let (mut api, head) = loop {
            let read = async {
                let mut api = this.cluster.open().await?;
                let (head, _) = api.get(&key).await?;
                Ok::<_, SourceError>((api, head))
            };
            match read.await {
                Ok(read) => break read,
                Err(error) => {
                    tried += 1;
                    if tried >= this.cluster.settings.endpoints.len() {
                        return Err(error);
                    }
                    this.cluster.rotate();
                }
            }
        };
        let Some(head) = head else { return Ok((this, Found::Nothing)) };
        this.set = head.set;
        match this.cluster.fetch(&mut api, &head.value, &Pieces::new()).await {
            Ok((document, pieces)) => {
                this.keys = pieces.into_keys().collect();
                Ok((this, Found::Document(document)))
            }
            Err(error @ (SourceError::Refused { .. } | SourceError::Incomplete { .. })) => {
                // Its pieces are not counted on: all of the next one are written.
                this.keys = BTreeSet::new();
                Ok((this, Found::Broken(error)))
            }
            Err(error) => Err(error),
        }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        self.cluster.place()
    }

    /// Puts a signed document there; nothing if somebody else has published meanwhile.
    pub(crate) async fn put(&mut self, document: Bytes) -> Result<Option<Put>, SourceError> {
        let refused = |why: Refused| SourceError::Refused { place: self.cluster.place(), why: Box::new(why) };
        let parts = Parts::of(document).map_err(refused)?;
        let new = Assembly::new(&parts.head, &parts.pieces).map_err(refused)?.keys();
        let mut api = self.cluster.open().await?;
        let put = |key: &str, value: &[u8]| json!({"request_put": {"key": BASE64.encode(key), "value": BASE64.encode(value)}});

        // What lies there already and belongs to no document may be removed by whoever removes such: it is written all the same.
        let mut missing = parts.pieces.iter().filter(|(key, _)| !self.keys.contains(*key)).peekable();
        let mut written = 0;
        while missing.peek().is_some() {
            let (mut operations, mut bytes) = (Vec::new(), 0);
            while let Some((key, value)) =
                missing.next_if(|(_, value)| operations.is_empty() || bytes + value.len() <= MOST_BYTES)
            {
                bytes += value.len();
                operations.push(put(&self.cluster.key(key), value));
                if operations.len() == MOST_KEYS {
                    break;
                }
            }
            written += operations.len();
            api.transact(&[], &operations).await?;
        }

        let head = self.cluster.key(HEAD);
        let unchanged = condition(&head, self.set);
        let (done, set) = api.transact(&[unchanged], &[put(&head, &parts.head)]).await?;
        if !done {
            return Ok(None);
        }
        let old = std::mem::replace(&mut self.keys, new);
        self.set = set;
        // The document is there: what could not be tidied up is tidied up the next time.
        let removed = self.tidy(&mut api, &old).await.unwrap_or_default();
        Ok(Some(Put { written: written + 1, removed }))
    }

    /// Removes what neither the document that is there nor the one before it needs.
    async fn tidy(&self, api: &mut super::Api, old: &BTreeSet<String>) -> Result<usize, SourceError> {
        let head = self.cluster.key(HEAD);
        let (mut from, mut removed) = (self.cluster.prefix.clone(), 0);
        for _ in 0..MOST_LISTS {
            let (keys, more) = api.list(&self.cluster.prefix, &from).await?;
            let Some((last, _)) = keys.last() else { break };
            // The least key that is greater.
            from = format!("{last}\0");
            let unneeded: Vec<_> = keys
                .iter()
                .filter(|(key, set)| {
                    let ours = key.strip_prefix(&self.cluster.prefix).filter(|key| is_ours(key));
                    *set < self.set && ours.is_some_and(|key| !self.keys.contains(key) && !old.contains(key))
                })
                .collect();
            for some in unneeded.chunks(MOST_KEYS - 1) {
                let mut conditions = vec![condition(&head, self.set)];
                conditions.extend(some.iter().map(|(key, set)| condition(key, *set)));
                let remove = |(key, _): &&(String, i64)| json!({"request_delete_range": {"key": BASE64.encode(key)}});
                let operations: Vec<_> = some.iter().map(remove).collect();
                if api.transact(&conditions, &operations).await?.0 {
                    removed += some.len();
                }
            }
            if !more {
                break;
            }
        }
        Ok(removed)
    }
}

/// That a key was set last at this revision; 0: that there is none.
fn condition(key: &str, set: i64) -> Value {
    json!({"key": BASE64.encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": set.to_string()})
}
