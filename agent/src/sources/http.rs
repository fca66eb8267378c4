//! HTTP/1.1 towards a source: every wait and every answer has a bound.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::agent_file::Endpoint;
use crate::source::SourceError;

/// To connect, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Until an answer begins: etcd itself gives up after seven.
const ANSWER: Duration = Duration::from_secs(10);
/// Until the whole of an answer is here.
const WHOLE: Duration = Duration::from_secs(60);
/// Silence after which the kernel probes whether the server is there.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// What of an error's answer is told.
const TOLD: usize = 300;

/// A connection to a server.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinSet<()>,
    place: String,
    host: HeaderValue,
}

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: hyper::HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// What it says, for people: no more than a line.
    pub(super) fn told(&self) -> String {
        let text = String::from_utf8_lossy(self.body.get(..TOLD.min(self.body.len())).unwrap_or_default());
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match text.trim() {
            "" => self.status.to_string(),
            text => format!("{}: {text}", self.status),
        }
    }
}

impl Connection {
    /// Connects. Without `tls` the endpoint is one that speaks none.
    pub(super) async fn open(endpoint: &Endpoint, tls: Option<Arc<ClientConfig>>) -> Result<Self, SourceError> {
        let place = endpoint.to_string();
        within(&place, CONNECT, Self::connect(endpoint, tls, &place)).await
    }

    async fn connect(endpoint: &Endpoint, tls: Option<Arc<ClientConfig>>, place: &str) -> Result<Self, SourceError> {
        let unreachable =
            |error: std::io::Error| SourceError::Unreachable { place: place.to_owned(), why: error.to_string() };
        let stream = TcpStream::connect((&*endpoint.host, endpoint.port)).await.map_err(unreachable)?;
        let alive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(4);
        // A kernel that cannot is no reason to stay away: there is a look at times as well.
        SockRef::from(&stream).set_tcp_keepalive(&alive).ok();
        stream.set_nodelay(true).ok();
        let (sender, driver) = match tls {
            None => handshake(TokioIo::new(stream), place).await?,
            Some(config) => {
                let failed = |why: String| SourceError::Handshake { place: place.to_owned(), why };
                let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| failed(error.to_string()))?;
                let stream = TlsConnector::from(config).connect(name, stream).await;
                handshake(TokioIo::new(stream.map_err(|error| failed(error.to_string()))?), place).await?
            }
        };
        let host = HeaderValue::from_str(&endpoint.authority()).map_err(SourceError::tls)?;
        Ok(Self { sender, driver, place: place.to_owned(), host })
    }

    /// The server, for people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Asks, and takes an answer of at most `most` bytes.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        most: usize,
    ) -> Result<Answer, SourceError> {
        let response = self.send(method, path, headers, body).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let place = self.place.clone();
        let body = within(&place, WHOLE, whole(response, most, &place)).await?;
        Ok(Answer { status, headers, body })
    }

    /// Asks for an answer that goes on; its status is a good one.
    pub(super) async fn stream(
        mut self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        longest: usize,
    ) -> Result<Lines, SourceError> {
        let response = self.send(Method::POST, path, headers, body).await?;
        let (status, place) = (response.status(), self.place.clone());
        if !status.is_success() {
            let headers = response.headers().clone();
            let body = within(&place, ANSWER, whole(response, longest, &place)).await?;
            return Err(failed(&place, &Answer { status, headers, body }));
        }
        Ok(Lines { body: response.into_body(), buffer: BytesMut::new(), longest, place, _driver: self.driver })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        let lost = |error: hyper::Error| SourceError::Lost { place: self.place.clone(), why: error.to_string() };
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.host.clone());
        request = request.header(USER_AGENT, concat!("adit/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(SourceError::tls)?;
        let answer = async {
            self.sender.ready().await.map_err(lost)?;
            self.sender.send_request(request).await.map_err(lost)
        };
        within(&self.place.clone(), ANSWER, answer).await
    }
}

async fn handshake<T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static>(
    io: T,
    place: &str,
) -> Result<(http1::SendRequest<Full<Bytes>>, JoinSet<()>), SourceError> {
    let made = http1::handshake(io).await;
    let (sender, connection) =
        made.map_err(|error| SourceError::Lost { place: place.to_owned(), why: error.to_string() })?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Its failure is told to the request as well.
        connection.await.ok();
    });
    Ok((sender, driver))
}

/// What an answer that is no success comes to.
pub(super) fn failed(place: &str, answer: &Answer) -> SourceError {
    let place = place.to_owned();
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SourceError::Denied { place, why: answer.told() },
        status if status.is_redirection() => {
            let to = answer.headers.get(hyper::header::LOCATION).and_then(|to| to.to_str().ok());
            let to: String = to.unwrap_or("somewhere else").chars().take(TOLD).collect();
            SourceError::Redirect { place, to }
        }
        _ => SourceError::Answer { place, why: answer.told() },
    }
}

/// The bytes of an answer, held against the limit before they are taken.
async fn whole(mut response: Response<Incoming>, most: usize, place: &str) -> Result<Bytes, SourceError> {
    let too_large = || SourceError::TooLarge { place: place.to_owned(), most };
    if response.body().size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| SourceError::Lost { place: place.to_owned(), why: error.to_string() })?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.freeze())
}

async fn within<T>(
    place: &str,
    bound: Duration,
    what: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let silent = |_| SourceError::Silent { place: place.to_owned(), seconds: bound.as_secs() };
    timeout(bound, what).await.map_err(silent)?
}

/// An answer that goes on, a line at a time.
pub(super) struct Lines {
    body: Incoming,
    buffer: BytesMut,
    longest: usize,
    place: String,
    _driver: JoinSet<()>,
}

impl Lines {
    /// The next line. Can be dropped and called again without losing one.
    pub(super) async fn next(&mut self) -> Result<Bytes, SourceError> {
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.buffer[looked_at..].iter().position(|byte| *byte == b'\n') {
                return Ok(self.buffer.split_to(looked_at + end + 1).freeze());
            }
            looked_at = self.buffer.len();
            let lost = |why: String| SourceError::Lost { place: self.place.clone(), why };
            match self.body.frame().await {
                None => return Err(lost("it has ended the watch".to_owned())),
                Some(Err(error)) => return Err(lost(error.to_string())),
                Some(Ok(frame)) => {
                    let data = frame.data_ref().map_or(&[][..], |data| data);
                    if self.buffer.len() + data.len() > self.longest {
                        return Err(SourceError::TooLarge { place: self.place.clone(), most: self.longest });
                    }
                    self.buffer.extend_from_slice(data);
                }
            }
        }
    }
}
