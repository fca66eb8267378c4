//! etcd, over its JSON gateway (`/v3/kv/range`, `/v3/watch`, `/v3/kv/txn`): HTTP and TLS are in the tree already, and gRPC would
//! bring a second HTTP stack and a compiler of its own for three calls.
//!
//! Two connections: one for questions, one for the watch of the head. What is read of the head is what counts, and it is read
//! through the leader (a linearizable read), so a member that is cut off from the others is noticed. See [`pieces`] for how a
//! document lies there, and [`events`] for what makes it be read.

mod api;
mod events;
pub(crate) mod pieces;
pub(crate) mod publish;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mesh_config::MeshName;
use tokio::time::timeout;

use self::api::{Api, Entry};
use self::events::{Cursor, Do, Event, Found};
use self::pieces::{Assembly, HEAD, Piece, Pieces};
use super::http::Lines;
use super::pause::jitter;
use super::{chance, tls};
use crate::agent_file::EtcdSource;
use crate::clock::Clock;
use crate::identity::published::Refused;
use crate::source::{Heard, MeshSource, SourceError};
use crate::vocabulary::SourceKind;

/// Keys in one request: etcd takes 128 operations a transaction.
const MOST_KEYS: usize = 128;
/// Bytes of values in one request: etcd takes 1.5 MiB.
const MOST_BYTES: usize = 1 << 20;

/// What is kept of etcd between two connections.
struct Cluster {
    settings: EtcdSource,
    dir: PathBuf,
    clock: Clock,
    prefix: String,
    /// The member that is asked.
    at: usize,
}

impl Cluster {
    fn new(settings: EtcdSource, dir: &Path, mesh: &MeshName, clock: Clock) -> Self {
        let prefix = settings.prefix.clone().unwrap_or_else(|| format!("/adit/{mesh}/"));
        // Agents are to spread over the members.
        let at = usize::try_from(chance() % settings.endpoints.len().max(1) as u64).unwrap_or_default();
        Self { settings, dir: dir.to_owned(), clock, prefix, at }
    }

    async fn open(&self) -> Result<Api, SourceError> {
        let Some(endpoint) = self.settings.endpoints.get(self.at % self.settings.endpoints.len().max(1)) else {
            return Err(SourceError::Unreachable { place: "etcd".to_owned(), why: "it has no member".to_owned() });
        };
        let config = match endpoint.secure {
            true => Some(tls::config(&self.settings.tls, &self.dir, self.clock)?),
            false => None,
        };
        let login = match &self.settings.login {
            None => None,
            Some((user, file)) => Some((user.as_str(), tls::secret(&self.dir.join(file))?)),
        };
        Api::open(endpoint, config, login).await
    }

    /// The next member is asked from now on.
    fn rotate(&mut self) {
        self.at = (self.at + 1) % self.settings.endpoints.len().max(1);
    }

    fn place(&self) -> String {
        let members: Vec<_> = self.settings.endpoints.iter().map(ToString::to_string).collect();
        format!("{} below {}", members.join(", "), self.prefix)
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// What of a document is not here yet. The head is `value`.
    async fn fetch(&self, api: &mut Api, value: &[u8], known: &Pieces) -> Result<(Bytes, Pieces), SourceError> {
        let refused = |why: Refused| SourceError::Refused { place: self.place(), why: Box::new(why) };
        let mut assembly = Assembly::new(value, known).map_err(refused)?;
        loop {
            let wanted = assembly.wanted(MOST_KEYS, MOST_BYTES);
            if wanted.is_empty() {
                break;
            }
            let keys: Vec<_> = wanted.iter().map(|piece| self.key(&piece.key)).collect();
            let values = api.get_all(&keys, wanted.iter().map(|piece| piece.length).sum()).await?;
            for (piece, value) in wanted.iter().zip(values) {
                let value = value.ok_or_else(|| self.incomplete(piece))?;
                assembly.put(piece, value).map_err(refused)?;
            }
        }
        let whole = assembly.finish().map_err(refused)?;
        whole.ok_or_else(|| refused(Refused::Malformed("its index is not whole")))
    }

    fn incomplete(&self, piece: &Piece) -> SourceError {
        SourceError::Incomplete { place: self.place(), key: self.key(&piece.key) }
    }
}

/// A mesh document in etcd.
pub(super) struct Etcd {
    cluster: Cluster,
    api: Option<Api>,
    watch: Option<Lines>,
    cursor: Cursor,
    /// When the head that was handed over last was set.
    offered: Option<i64>,
    /// The pieces of the document that was put together last.
    known: Pieces,
    /// Whether it is read because nothing was heard for long.
    in_doubt: bool,
}

impl Etcd {
    /// That of the agent in `dir`, which has the document `text`. Nothing is opened yet.
    pub(super) fn new(settings: EtcdSource, dir: &Path, mesh: &MeshName, text: Option<&str>, clock: Clock) -> Self {
        let known = text.map(|text| pieces::known(&Bytes::copy_from_slice(text.as_bytes()))).unwrap_or_default();
        Self {
            cluster: Cluster::new(settings, dir, mesh, clock),
            api: None,
            watch: None,
            cursor: Cursor::default(),
            offered: None,
            known,
            in_doubt: false,
        }
    }

    async fn hear(&mut self) -> Result<Heard<Arc<[u8]>>, SourceError> {
        loop {
            match self.cursor.todo() {
                Do::Read => {
                    let (head, revision) = self.head().await?;
                    let found = self.cursor.handle_read(head.as_ref().map(|head| head.set), revision);
                    if std::mem::take(&mut self.in_doubt) && found == Found::Another {
                        // The watch should have told.
                        self.watch = None;
                    }
                    return match (found, head) {
                        (Found::Same, _) => Ok(Heard::Unchanged),
                        (Found::Nothing, _) | (_, None) => Ok(Heard::Nothing),
                        (Found::Another, Some(head)) => self.document(head).await.map(Heard::Document),
                    };
                }
                Do::Watch(from) => self.watch(from).await?,
            }
        }
    }

    /// The head, and the revision at which it was read.
    async fn head(&mut self) -> Result<(Option<Entry>, i64), SourceError> {
        let key = self.cluster.key(HEAD);
        // A connection that has been idle may be closed, and a token that has not been used for long is none: no failure yet.
        if let Some(mut api) = self.api.take()
            && let Ok(read) = api.get(&key).await
        {
            self.api = Some(api);
            return Ok(read);
        }
        let mut api = self.cluster.open().await?;
        let read = api.get(&key).await?;
        self.api = Some(api);
        Ok(read)
    }

    async fn document(&mut self, head: Entry) -> Result<Arc<[u8]>, SourceError> {
        let Some(api) = &mut self.api else {
            return Err(SourceError::Lost { place: self.cluster.place(), why: "there is no connection".to_owned() });
        };
        let (document, pieces) = self.cluster.fetch(api, &head.value, &self.known).await?;
        (self.known, self.offered) = (pieces, Some(head.set));
        Ok(Arc::from(&document[..]))
    }

    /// Waits until there is reason to read, or a while.
    async fn watch(&mut self, from: i64) -> Result<(), SourceError> {
        let key = self.cluster.key(HEAD);
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => {
                let api = self.cluster.open().await?;
                self.watch.insert(api.watch(&key, from).await?)
            }
        };
        let quiet = jitter(self.cluster.settings.poll, chance());
        let Ok(line) = timeout(quiet, watch.next()).await else {
            self.in_doubt = true;
            self.cursor.handle_doubt();
            return Ok(());
        };
        let event = events::read(&line?, &key).ok_or_else(|| SourceError::Answer {
            place: self.cluster.place(),
            why: "something that is no event of a watch".to_owned(),
        })?;
        self.cursor.handle_event(&event);
        match event {
            Event::Quiet(_) | Event::Changed(_) => {}
            Event::Compacted(revision) => {
                tracing::info!(revision, "etcd has compacted what was to be watched: the document is read anew");
                self.watch = None;
            }
            Event::Ended(why) => {
                return Err(SourceError::Lost {
                    place: self.cluster.place(),
                    why: format!("it has ended the watch: {why}"),
                });
            }
        }
        Ok(())
    }
}

impl MeshSource for Etcd {
    type Document = Arc<[u8]>;

    fn kind(&self) -> SourceKind {
        SourceKind::Etcd
    }

    fn place(&self) -> String {
        self.cluster.place()
    }

    async fn next(&mut self) -> Result<Heard<Arc<[u8]>>, SourceError> {
        let heard = self.hear().await;
        if heard.is_err() {
            (self.api, self.watch) = (None, None);
            self.cursor.handle_doubt();
            self.cluster.rotate();
        }
        heard
    }

    fn judged(&mut self, again: bool) {
        if let Some(set) = self.offered.take().filter(|_| !again) {
            self.cursor.handle_judged(set);
        }
    }

    fn forget(&mut self) {
        self.cursor.forget();
    }
}
