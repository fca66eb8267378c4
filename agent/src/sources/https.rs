//! A signed document on a web server: asked for again and again, and sent only if it is another one (RFC 9110 §13.1.2).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, StatusCode};
use mesh_config::Digest;
use mesh_config::gossip::MAX_DOCUMENT;
use tokio::time::{Instant, sleep_until};

use super::http::{Connection, failed};
use super::pause::jitter;
use super::{chance, tls};
use crate::agent_file::HttpsSource;
use crate::clock::Clock;
use crate::identity::published::Refused;
use crate::source::{Heard, MeshSource, SourceError};
use crate::vocabulary::SourceKind;

/// The longest entity tag that is kept, in bytes.
const LONGEST_TAG: usize = 1_024;
/// What a mesh file has.
const MESH: &str = "[mesh]";

/// A document on a web server.
pub(super) struct Https {
    settings: HttpsSource,
    dir: PathBuf,
    clock: Clock,
    /// When it is asked next.
    due: Instant,
    /// Of the answer that was handed over last, and of the one that was judged last.
    offered: Tag,
    judged: Tag,
}

/// By what an answer is known again: the server's tag for it, and the digest of its bytes.
#[derive(Debug, Clone, Default)]
struct Tag {
    etag: Option<HeaderValue>,
    digest: Option<Digest>,
}

impl Https {
    /// That of the agent in `dir`. Nothing is opened yet.
    pub(super) fn new(settings: HttpsSource, dir: &Path, clock: Clock) -> Self {
        let (offered, judged) = (Tag::default(), Tag::default());
        Self { settings, dir: dir.to_owned(), clock, due: Instant::now(), offered, judged }
    }

    async fn ask(&mut self) -> Result<Heard<Arc<[u8]>>, SourceError> {
        let config = tls::config(&self.settings.tls, &self.dir, self.clock)?;
        let mut connection = Connection::open(&self.settings.endpoint, Some(config)).await?;
        let mut headers = vec![(ACCEPT, HeaderValue::from_static("application/octet-stream, */*"))];
        headers.extend(self.judged.etag.clone().map(|etag| (IF_NONE_MATCH, etag)));
        let place = self.place();
        let answer = connection.call(Method::GET, &self.settings.path, &headers, Bytes::new(), MAX_DOCUMENT).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if self.judged.etag.is_some() => return Ok(Heard::Unchanged),
            _ => return Err(failed(&place, &answer)),
        }
        let etag = answer.headers.get(ETAG).filter(|etag| etag.len() <= LONGEST_TAG).cloned();
        let digest = Some(Digest::of(&answer.body));
        if self.judged.digest == digest {
            self.judged.etag = etag;
            return Ok(Heard::Unchanged);
        }
        // A signed one has certificates in it, which are no text.
        if std::str::from_utf8(&answer.body).is_ok_and(|text| text.contains(MESH)) {
            let why = Refused::Malformed(
                "it is a mesh file that nobody has signed: publish it, and put there what `adit mesh show --signed` prints",
            );
            return Err(SourceError::Refused { place, why: Box::new(why) });
        }
        self.offered = Tag { etag, digest };
        Ok(Heard::Document(Arc::from(&answer.body[..])))
    }
}

impl MeshSource for Https {
    type Document = Arc<[u8]>;

    fn kind(&self) -> SourceKind {
        SourceKind::Https
    }

    fn place(&self) -> String {
        format!("{}{}", self.settings.endpoint, self.settings.path)
    }

    async fn next(&mut self) -> Result<Heard<Arc<[u8]>>, SourceError> {
        sleep_until(self.due).await;
        let heard = self.ask().await;
        // After a failure whoever asks makes the pause.
        self.due = Instant::now();
        if heard.is_ok() {
            self.due += jitter(self.settings.poll, chance());
        }
        heard
    }

    fn judged(&mut self, again: bool) {
        let offered = std::mem::take(&mut self.offered);
        self.judged = if again { Tag::default() } else { offered };
    }

    fn forget(&mut self) {
        (self.offered, self.judged) = (Tag::default(), Tag::default());
    }
}
