//! Requests of the admin API to calls of the [`Backend`].
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`](super::view::Status) |
//! | `GET /v1/connections` | [`Connection`](super::view::Connection)s, one a line; with `?follow=true` for as long as it is read |
//! | `GET /v1/explain?from=NODE&service=SERVICE` | [`Explain`](super::view::Explain) |
//! | `POST /v1/ping` of [`PingRequest`] | [`Probe`](super::view::Probe)s, one a line |
//! | `POST /v1/bench` of [`BenchRequest`] | [`Bench`](super::view::Bench) |
//! | `POST /v1/reload` of [`ReloadRequest`] | [`Reload`](super::view::Reload) |
//! | `POST /v1/drain` of [`DrainRequest`] | [`Draining`](super::view::Draining)s, one a line |
//! | `POST /v1/publish` of a signed mesh document, as it is | [`Publication`](super::view::Publication) |
//! | `GET /metrics` | OpenMetrics text |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use mesh_config::gossip::MAX_DOCUMENT;
use mesh_config::{NodeName, ServiceName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::backend::{Backend, Failure, FailureKind};
use super::lines::{Lines, line};
use super::view::{BenchOptions, DrainRequest, ReloadRequest};
use crate::metrics;

/// The largest request body, in bytes.
pub(super) const MAX_BODY: usize = 16 * 1024;

/// Probes that one request may ask for.
pub const MAX_PROBES: u32 = 100_000;

/// Streams that one measurement may use.
pub const MAX_BENCH_STREAMS: u32 = 64;

/// Seconds that one measurement may take.
pub const MAX_BENCH_SECONDS: f64 = 60.0;

/// Seconds that one drain may leave connections: a day.
pub const MAX_DRAIN_SECONDS: f64 = 86_400.0;

/// What `POST /v1/ping` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// The node to probe.
    pub node: String,
    /// How often, 1 to [`MAX_PROBES`].
    pub count: u32,
}

/// What `POST /v1/bench` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchRequest {
    /// The node to measure the link to.
    pub node: String,
    /// How.
    #[serde(flatten)]
    pub options: BenchOptions,
}

/// A response's body.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The times that one request may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) body: Duration,
    pub(super) answer: Duration,
}

/// Answers one request. `long` is told when the answer takes as long as it takes.
pub(super) async fn answer<B, R>(backend: Arc<B>, request: Request<R>, times: Times, long: impl FnOnce()) -> Answer
where
    B: Backend,
    R: Body<Data = Bytes> + Send + Unpin,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match route(backend, request, times, long).await {
        Ok(answer) => answer,
        Err(failure) => refusal(&failure),
    }
}

async fn route<B, R>(backend: Arc<B>, request: Request<R>, times: Times, long: impl FnOnce()) -> Result<Answer, Failure>
where
    B: Backend,
    R: Body<Data = Bytes> + Send + Unpin,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = request.uri().path().to_owned();
    let wanted = match path.as_str() {
        "/v1/status" | "/v1/connections" | "/v1/explain" | "/metrics" => Method::GET,
        "/v1/ping" | "/v1/bench" | "/v1/reload" | "/v1/drain" | "/v1/publish" => Method::POST,
        _ => {
            let text = format!("the admin API has no `{path}`");
            return Err(Failure::new(FailureKind::Unknown, "unknown_endpoint", text)
                .with_hint("the agent and the command line may be of different versions: `adit --version`"));
        }
    };
    if request.method() != wanted {
        let text = format!("`{path}` takes {wanted}");
        return Err(Failure::new(FailureKind::Usage, "wrong_method", text));
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let query = Query(&query);
    match path.as_str() {
        "/v1/status" => within(times.answer, backend.status()).await.map(|status| json(&status)),
        "/v1/connections" if query.value("follow") == Some("true") => {
            long();
            Ok(streamed(Lines::new(|out| async move { backend.follow(out).await })))
        }
        "/v1/connections" => {
            let connections = within(times.answer, backend.connections()).await?;
            let lines: Vec<u8> = connections.iter().flat_map(line).collect();
            Ok(with_type("application/x-ndjson", Full::new(lines.into())))
        }
        "/v1/explain" => {
            let from = name(query.value("from").unwrap_or_default(), NodeName::new)?;
            let service = name(query.value("service").unwrap_or_default(), ServiceName::new)?;
            within(times.answer, backend.explain(from, service)).await.map(|explain| json(&explain))
        }
        "/v1/ping" => {
            let PingRequest { node, count } = read(request, times.body).await?;
            let node = name(&node, NodeName::new)?;
            if !(1..=MAX_PROBES).contains(&count) {
                return Err(usage(format!("a ping sends 1 to {MAX_PROBES} probes, not {count}")));
            }
            long();
            let probes = Lines::new(|out| async move { backend.ping(node, count, out).await });
            probes.started().await.map(streamed)
        }
        "/v1/bench" => {
            let BenchRequest { node, options } = read(request, times.body).await?;
            let node = name(&node, NodeName::new)?;
            if !(1..=MAX_BENCH_STREAMS).contains(&options.streams) {
                return Err(usage(format!("a bench uses 1 to {MAX_BENCH_STREAMS} streams, not {}", options.streams)));
            }
            if !(0.1..=MAX_BENCH_SECONDS).contains(&options.seconds) {
                return Err(usage(format!(
                    "a bench takes 0.1 to {MAX_BENCH_SECONDS} seconds, not {}",
                    options.seconds
                )));
            }
            long();
            let limit = Duration::from_secs_f64(options.seconds) + times.answer;
            within(limit, backend.bench(node, options)).await.map(|bench| json(&bench))
        }
        "/v1/reload" => {
            let request: ReloadRequest = read(request, times.body).await?;
            if request.file.as_ref().is_some_and(|file| !request.dry_run || !file.is_absolute()) {
                return Err(usage("`file` is a whole path, and is looked at by a dry run alone".to_owned()));
            }
            within(times.answer, backend.reload(request)).await.map(|reload| json(&reload))
        }
        "/v1/drain" => {
            let request: DrainRequest = read(request, times.body).await?;
            if request.timeout.is_some_and(|seconds| !(0.0..=MAX_DRAIN_SECONDS).contains(&seconds)) {
                return Err(usage(format!("a drain takes 0 to {MAX_DRAIN_SECONDS} seconds")));
            }
            long();
            let states = Lines::new(|out| async move { backend.drain(request, out).await });
            states.started().await.map(streamed)
        }
        "/v1/publish" => {
            let document = bytes(request, times.body, MAX_DOCUMENT).await?;
            within(times.answer, backend.publish(document.into())).await.map(|publication| json(&publication))
        }
        _ => Ok(with_type(metrics::CONTENT_TYPE, Full::new(backend.metrics().into()))),
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let text = format!("the agent did not answer within {} s", limit.as_secs());
        Err(Failure::new(FailureKind::Timeout, "timeout", text))
    })
}

async fn read<T, R>(request: Request<R>, limit: Duration) -> Result<T, Failure>
where
    T: DeserializeOwned,
    R: Body<Data = Bytes> + Send + Unpin,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = bytes(request, limit, MAX_BODY).await?;
    // A list would be taken for the fields of an object in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(usage("the request does not parse: it is not a JSON object".to_owned()));
    }
    serde_json::from_slice(&body).map_err(|e| usage(format!("the request does not parse: {e}")))
}

/// A whole body of `most` bytes at most.
async fn bytes<R>(request: Request<R>, limit: Duration, most: usize) -> Result<Bytes, Failure>
where
    R: Body<Data = Bytes> + Send + Unpin,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || usage(format!("a request has at most {most} bytes"));
    if request.body().size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(limit, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(usage(format!("the request could not be read: {error}"))),
        Err(_) => Err(usage(format!("the request did not arrive within {} s", limit.as_secs()))),
    }
}

fn usage(text: String) -> Failure {
    Failure::new(FailureKind::Usage, "bad_request", text)
}

fn name<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, mesh_config::NameError>) -> Result<T, Failure> {
    parse(text).map_err(|e| Failure::new(FailureKind::Usage, "bad_name", format!("`{text}` is not a name: {e}")))
}

/// Names need no percent decoding, so a value that has some is not found or not a name.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn value(&self, key: &str) -> Option<&'a str> {
        self.0.split('&').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, value)| value)
    }
}

fn json(document: &impl Serialize) -> Answer {
    with_type("application/json", Full::new(line(document)))
}

fn streamed<T: Serialize + Send + Unpin + 'static>(lines: Lines<T>) -> Answer {
    with_type("application/x-ndjson", lines)
}

/// An answer that says why not.
pub(super) fn refusal(failure: &Failure) -> Answer {
    let mut answer = json(&failure.document());
    *answer.status_mut() =
        StatusCode::from_u16(failure.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}

pub(super) fn with_type<R>(content_type: &'static str, body: R) -> Answer
where
    R: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut answer = Response::new(body.boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
