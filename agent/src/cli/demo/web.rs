//! The demo's application: a small web server that knows nothing of the mesh.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::error::CliError;

/// What `--once` fetches through every pair.
const BLOB: usize = 1 << 20;
/// Connections at once.
const MOST: usize = 256;

/// What the server serves.
#[derive(Clone)]
pub(super) struct Page {
    offerer: String,
    requests: Arc<AtomicU64>,
    blob: Bytes,
}

impl Page {
    pub(super) fn new(offerer: &str) -> Self {
        let mut blob = vec![0; BLOB];
        // Without randomness it is still a megabyte.
        aws_lc_rs::rand::fill(&mut blob).ok();
        Self { offerer: offerer.to_owned(), requests: Arc::default(), blob: blob.into() }
    }

    /// The bytes under `/blob`.
    pub(super) fn blob(&self) -> &[u8] {
        &self.blob
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let count = self.requests.fetch_add(1, Relaxed) + 1;
        let (status, kind, body) = match request.uri().path() {
            "/" => (
                StatusCode::OK,
                "text/plain; charset=utf-8",
                format!(
                    "Hello from the web server beside {}.\n\n\
                     It listens on loopback only. This page came to you through two agents, over TLS 1.3, and both had to\n\
                     prove who they are. Request {count}.\n",
                    self.offerer
                )
                .into(),
            ),
            "/blob" => (StatusCode::OK, "application/octet-stream", self.blob.clone()),
            _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", Bytes::from_static(b"There is / and /blob.\n")),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

/// Binds at once; the future serves for as long as it is polled.
pub(super) async fn serve(
    address: SocketAddr,
    page: Page,
) -> Result<impl Future<Output = Result<(), CliError>>, CliError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| CliError::failed("bind", format!("the demo's web server cannot listen on {address}: {e}")))?;
    Ok(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < MOST => match accepted {
                    Ok((stream, _)) => {
                        let page = page.clone();
                        connections.spawn(async move {
                            let service = service_fn(move |request| {
                                let response = page.answer(&request);
                                async move { Ok::<_, Infallible>(response) }
                            });
                            // A client that leaves early is its own affair.
                            http1::Builder::new()
                                .timer(TokioTimer::new())
                                .header_read_timeout(Duration::from_secs(10))
                                .serve_connection(TokioIo::new(stream), service)
                                .await
                                .ok();
                        });
                    }
                    Err(_) => sleep(Duration::from_millis(100)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    })
}
