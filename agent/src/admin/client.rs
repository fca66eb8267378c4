//! The command line's end of the admin API.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use mesh_config::{NodeName, ServiceName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::routes::{BenchRequest, PingRequest};
use super::socket::ShortPath;
use super::view::{
    Bench, BenchOptions, Connection, DrainRequest, Draining, ErrorBody, ErrorDocument, Explain, Probe, Publication,
    Reload, ReloadRequest, Status,
};

/// The longest line of a stream, in bytes.
const MAX_LINE: usize = 1 << 20;

/// The largest single answer, in bytes: the status of a mesh of 100,000 peers.
const MAX_ANSWER: usize = 64 << 20;

/// The server answers within 30 s, or says that it could not.
const ANSWER_TIME: Duration = Duration::from_secs(35);

/// To be accepted: the kernel does it, unless the agent hangs.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Why the agent could not be asked, or what it answered instead.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("the agent is not running: nothing answers on {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket belongs to somebody else.
    #[error("the admin socket {} belongs to another user", .0.display())]
    Permission(PathBuf),
    /// The agent is there and does not answer.
    #[error("the agent does not answer on {}", .0.display())]
    Silent(PathBuf),
    /// The agent says no.
    #[error("{}", .body.message)]
    Agent {
        /// The HTTP status.
        status: u16,
        /// What it says.
        body: ErrorBody,
    },
    /// The agent went away in the middle of an answer.
    #[error("the agent stopped while it answered")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer makes no sense.
    #[error("the agent's answer does not parse")]
    Answer(#[source] serde_json::Error),
    /// The system failed.
    #[error("cannot reach the agent on {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Asks the agent behind an admin socket. Every call is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the agent whose admin socket is at `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The agent at a glance.
    ///
    /// # Errors
    /// The agent cannot be asked, or says no.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.document("/v1/status").await
    }

    /// The connections that are open now.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn connections(&self) -> Result<Stream<Connection>, ClientError> {
        Ok(Stream::new(self.limited("/v1/connections").await?))
    }

    /// The connections that are open now, then each that opens or ends.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn follow(&self) -> Result<Stream<Connection>, ClientError> {
        Ok(Stream::new(self.limited("/v1/connections?follow=true").await?))
    }

    /// Whether, and why, an application on `from` gets through to `service`.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn explain(&self, from: &NodeName, service: &ServiceName) -> Result<Explain, ClientError> {
        self.document(&format!("/v1/explain?from={from}&service={service}")).await
    }

    /// Probes a link. Ends when the stream is dropped.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn ping(&self, node: &NodeName, count: u32) -> Result<Stream<Probe>, ClientError> {
        let request = PingRequest { node: node.to_string(), count };
        Ok(Stream::new(self.call(Method::POST, "/v1/ping", Some(body(&request)?)).await?))
    }

    /// Measures a link. Ends when the future is dropped.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn bench(&self, node: &NodeName, options: BenchOptions) -> Result<Bench, ClientError> {
        let request = BenchRequest { node: node.to_string(), options };
        parse(self.call(Method::POST, "/v1/bench", Some(body(&request)?)).await?).await
    }

    /// Has the agent read its directory again; with `dry_run` only asks what that would do.
    ///
    /// # Errors
    /// As [`status`](Self::status); also why what lies in the directory is not applied.
    pub async fn reload(&self, request: &ReloadRequest) -> Result<Reload, ClientError> {
        let call = self.call(Method::POST, "/v1/reload", Some(body(request)?));
        let reply = tokio::time::timeout(ANSWER_TIME, call).await;
        parse(reply.unwrap_or_else(|_| Err(ClientError::Silent(self.socket.clone())))?).await
    }

    /// Has the agent drain and end. What it is told of ends with the state `drained`.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn drain(&self, request: &DrainRequest) -> Result<Stream<Draining>, ClientError> {
        Ok(Stream::new(self.call(Method::POST, "/v1/drain", Some(body(request)?)).await?))
    }

    /// Hands over a mesh document that was signed just now.
    ///
    /// # Errors
    /// As [`status`](Self::status); also why it is refused.
    pub async fn publish(&self, document: Vec<u8>) -> Result<Publication, ClientError> {
        let call = self.call(Method::POST, "/v1/publish", Some(document.into()));
        let reply = tokio::time::timeout(ANSWER_TIME, call).await;
        parse(reply.unwrap_or_else(|_| Err(ClientError::Silent(self.socket.clone())))?).await
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let bytes = whole(self.limited("/metrics").await?).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn document<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        parse(self.limited(target).await?).await
    }

    async fn limited(&self, target: &str) -> Result<Reply, ClientError> {
        let call = self.call(Method::GET, target, None);
        tokio::time::timeout(ANSWER_TIME, call).await.unwrap_or_else(|_| Err(ClientError::Silent(self.socket.clone())))
    }

    async fn call(&self, method: Method, target: &str, body: Option<Bytes>) -> Result<Reply, ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its failure is told to the request as well.
            let _ = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, "adit")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.unwrap_or_default()))
            .map_err(lost)?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let status = response.status();
        let reply = Reply { response, _driver: driver };
        if status.is_success() {
            return Ok(reply);
        }
        let ErrorDocument { error } = parse(reply).await?;
        Err(ClientError::Agent { status: status.as_u16(), body: error })
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                ClientError::NotRunning(self.socket.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::Permission(self.socket.clone()),
            // The queue of those that wait to be accepted is full.
            io::ErrorKind::WouldBlock => ClientError::Silent(self.socket.clone()),
            _ => ClientError::Io { path: self.socket.clone(), source: error },
        };
        let short = ShortPath::of(&self.socket).map_err(failed)?;
        let connect = tokio::time::timeout(CONNECT_TIME, UnixStream::connect(short.path())).await;
        connect.map_err(|_| ClientError::Silent(self.socket.clone()))?.map_err(failed)
    }
}

/// A response and the task that receives it.
struct Reply {
    response: Response<Incoming>,
    _driver: JoinSet<()>,
}

/// Documents of the agent, one after the other.
pub struct Stream<T> {
    reply: Reply,
    buffer: Vec<u8>,
    ended: bool,
    documents: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Stream<T> {
    fn new(reply: Reply) -> Self {
        Self { reply, buffer: Vec::new(), ended: false, documents: PhantomData }
    }

    /// The next document; nothing after the last. Can be dropped and called again without losing one.
    ///
    /// # Errors
    /// The agent went away, or ends the stream with a failure.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return document(&line).map(Some);
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(lost("a line of the answer is too long"));
            }
            match self.reply.response.body_mut().frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Err(lost(error)),
                None => self.ended = true,
            }
        }
    }
}

fn document<T: DeserializeOwned>(line: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(line).map_err(|error| match serde_json::from_slice::<ErrorDocument>(line) {
        Ok(ErrorDocument { error: body }) => ClientError::Agent { status: 200, body },
        Err(_) => ClientError::Answer(error),
    })
}

async fn whole(reply: Reply) -> Result<Bytes, ClientError> {
    let Reply { response, _driver } = reply;
    Ok(Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(lost)?.to_bytes())
}

async fn parse<T: DeserializeOwned>(reply: Reply) -> Result<T, ClientError> {
    serde_json::from_slice(&whole(reply).await?).map_err(ClientError::Answer)
}

fn body(request: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(request).map(Bytes::from).map_err(ClientError::Answer)
}

fn lost(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Lost(error.into())
}
