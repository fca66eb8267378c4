//! The calls of etcd's v3 API that are needed, as its JSON gateway has them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::events::{MAX_LINE, number};
use super::pieces::MAX_HEAD;
use super::{MOST_BYTES, MOST_KEYS};
use crate::agent_file::Endpoint;
use crate::source::SourceError;
use crate::sources::http::{Connection, Lines, failed};

/// What an answer may have beside its values: keys and revisions in JSON, for each.
const BESIDE: usize = 1_024;
/// Keys that are listed at once.
const LISTED: usize = 1_000;

/// A key's value, and when it was set last.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    pub(super) set: i64,
}

/// A connection to a member of the cluster.
pub(super) struct Api {
    connection: Connection,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Header {
    #[serde(deserialize_with = "number")]
    revision: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Range {
    header: Header,
    kvs: Vec<KeyValue>,
    more: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct KeyValue {
    key: String,
    value: String,
    #[serde(deserialize_with = "number")]
    mod_revision: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Txn {
    header: Header,
    succeeded: bool,
    responses: Vec<Response>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Response {
    response_range: Range,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Token {
    token: String,
}

impl Api {
    /// Connects, and logs in if there is a user. A password file may end with a line feed.
    pub(super) async fn open(
        endpoint: &Endpoint,
        tls: Option<Arc<ClientConfig>>,
        login: Option<(&str, Zeroizing<Vec<u8>>)>,
    ) -> Result<Self, SourceError> {
        let connection = Connection::open(endpoint, tls).await?;
        let json = HeaderValue::from_static("application/json");
        // Has the cluster end a watch whose member has lost the leader.
        let leader = HeaderName::from_static("grpc-metadata-hasleader");
        let headers = vec![(CONTENT_TYPE, json), (leader, HeaderValue::from_static("true"))];
        let mut this = Self { connection, headers };
        if let Some((user, password)) = login {
            let text = String::from_utf8_lossy(password.trim_ascii_end());
            let request = json!({"name": user, "password": text});
            let answer: Token = this.post("/v3/auth/authenticate", &request, BESIDE * 8).await?;
            let mut token = HeaderValue::from_str(&answer.token).map_err(|_| this.odd("no token"))?;
            token.set_sensitive(true);
            this.headers.push((AUTHORIZATION, token));
        }
        Ok(this)
    }

    /// The value of a key, and the cluster's revision; through the leader.
    pub(super) async fn get(&mut self, key: &str) -> Result<(Option<Entry>, i64), SourceError> {
        let range: Range =
            self.post("/v3/kv/range", &json!({"key": BASE64.encode(key)}), encoded(MAX_HEAD) + BESIDE).await?;
        let entry = match range.kvs.into_iter().next() {
            None => None,
            Some(found) => Some(Entry { value: self.decode(&found.value)?, set: found.mod_revision }),
        };
        Ok((entry, range.header.revision))
    }

    /// The values of some keys, of `length` bytes together at most, in their order.
    pub(super) async fn get_all(&mut self, keys: &[String], length: usize) -> Result<Vec<Option<Bytes>>, SourceError> {
        let ranges: Vec<_> = keys.iter().map(|key| json!({"request_range": {"key": BASE64.encode(key)}})).collect();
        let most = encoded(length) + (keys.len() + 1) * BESIDE;
        let txn: Txn = self.post("/v3/kv/txn", &json!({"success": ranges}), most).await?;
        if txn.responses.len() != keys.len() {
            return Err(self.odd("to another number of keys than it was asked for"));
        }
        let values = txn.responses.into_iter().map(|response| response.response_range.kvs.into_iter().next());
        values.map(|found| found.map(|found| self.decode(&found.value)).transpose()).collect()
    }

    /// Does all of `operations` if all of `conditions` hold; whether it has, and at which revision.
    pub(super) async fn transact(
        &mut self,
        conditions: &[Value],
        operations: &[Value],
    ) -> Result<(bool, i64), SourceError> {
        let request = json!({"compare": conditions, "success": operations});
        let txn: Txn = self.post("/v3/kv/txn", &request, (MOST_KEYS + 1) * BESIDE).await?;
        Ok((txn.succeeded, txn.header.revision))
    }

    /// Keys that begin with `prefix`, from `from` on, and when each was set; whether there are more.
    pub(super) async fn list(&mut self, prefix: &str, from: &str) -> Result<(Vec<(String, i64)>, bool), SourceError> {
        let mut end = prefix.as_bytes().to_vec();
        // Prefixes are ASCII, and end with a slash.
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        let request = json!({
            "key": BASE64.encode(from), "range_end": BASE64.encode(end), "keys_only": true, "limit": LISTED.to_string(),
        });
        let range: Range = self.post("/v3/kv/range", &request, LISTED * BESIDE).await?;
        let mut keys = Vec::new();
        for found in &range.kvs {
            if let Ok(key) = String::from_utf8(self.decode(&found.key)?.into()) {
                keys.push((key, found.mod_revision));
            }
        }
        Ok((keys, range.more && !range.kvs.is_empty()))
    }

    /// Watches a key from a revision on.
    pub(super) async fn watch(self, key: &str, from: i64) -> Result<Lines, SourceError> {
        let request = json!({"create_request": {
            "key": BASE64.encode(key), "start_revision": from.to_string(), "progress_notify": true,
        }});
        let body = Bytes::from(request.to_string());
        let lines = self.connection.stream("/v3/watch", &self.headers, body, MAX_LINE).await;
        lines.map_err(denied)
    }

    async fn post<T: DeserializeOwned>(&mut self, path: &str, request: &Value, most: usize) -> Result<T, SourceError> {
        let body = Bytes::from(request.to_string());
        let answer = self.connection.call(Method::POST, path, &self.headers, body, most).await?;
        if !answer.status.is_success() {
            return Err(denied(failed(self.connection.place(), &answer)));
        }
        serde_json::from_slice(&answer.body).map_err(|_| self.odd("something that is not its API's JSON"))
    }

    fn decode(&self, text: &str) -> Result<Bytes, SourceError> {
        BASE64.decode(text).map(Bytes::from).map_err(|_| self.odd("a value that is not Base64"))
    }

    fn odd(&self, why: &str) -> SourceError {
        SourceError::Answer { place: self.connection.place().to_owned(), why: why.to_owned() }
    }
}

/// A cluster that wants to know who asks says so as if the question were wrong.
fn denied(error: SourceError) -> SourceError {
    match error {
        SourceError::Answer { place, why }
            if ["user name is empty", "authentication failed", "invalid auth token", "permission denied"]
                .iter()
                .any(|text| why.contains(text)) =>
        {
            SourceError::Denied { place, why }
        }
        other => other,
    }
}

/// The length of Base64.
fn encoded(length: usize) -> usize {
    length.div_ceil(3) * 4
}

const _: () = assert!(MOST_BYTES + MOST_KEYS * 512 < 3 << 19, "a request has 1.5 MiB at most");
