//! Metrics for Prometheus over TCP, and whether the agent lives and is ready: `GET /metrics`, `/livez` and `/readyz`, and
//! nothing else.
//!
//! A web page must not read them through somebody's browser: a request with an `Origin` comes from a page and is refused,
//! and so is one whose `Host` is a name that nobody configured, which is how DNS rebinding looks.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::routes::{Answer, with_type};
use crate::host::Phase;
use crate::log_limited;
use crate::logging::Who;
use crate::metrics::{CONTENT_TYPE, Metrics};

/// Scrapes at once; more wait in the kernel's queue.
const MAX_CLIENTS: usize = 16;

/// For a whole conversation.
const TIME: Duration = Duration::from_secs(10);

/// How long accepting rests when the system has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves `GET /metrics`, and the probes, until `stop` is ready. `phase` is the agent's. `hosts` are names, without a port, by which scrapers may call this host;
/// IP addresses and `localhost` always may.
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: Metrics,
    phase: watch::Receiver<Phase>,
    hosts: Vec<String>,
    stop: impl Future<Output = ()>,
) {
    let hosts: Arc<[String]> = hosts.into();
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut clients = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            Some(_) = clients.join_next() => continue,
            accepted = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let (metrics, phase, hosts) = (metrics.clone(), phase.clone(), Arc::clone(&hosts));
                clients.spawn(async move {
                    converse(stream, metrics, phase, hosts).await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                log_limited!(warn, Who::Here, "metrics.accept", %error, "cannot accept on the metrics address");
                tokio::time::sleep(ACCEPT_REST).await;
            }
            (Err(_), _) => return,
        }
    }
}

async fn converse(stream: TcpStream, metrics: Metrics, phase: watch::Receiver<Phase>, hosts: Arc<[String]>) {
    let respond = |request: Request<Incoming>| {
        let answer = match (refused(&request, &hosts), request.uri().path()) {
            (Some((status, why)), _) => plain(status, why),
            (None, "/livez") => plain(StatusCode::OK, "alive\n"),
            (None, "/readyz") => readiness(*phase.borrow()),
            (None, _) => with_type(CONTENT_TYPE, Full::new(Bytes::from(metrics.text()))),
        };
        std::future::ready(Ok::<Answer, Infallible>(answer))
    };
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(8 * 1024).timer(TokioTimer::new()).header_read_timeout(TIME);
    let connection = http.serve_connection(TokioIo::new(stream), service_fn(respond));
    // How a scraper leaves is its own affair.
    let _ = tokio::time::timeout(TIME, connection).await;
}

fn refused<B>(request: &Request<B>, hosts: &[String]) -> Option<(StatusCode, &'static str)> {
    if request.headers().contains_key(ORIGIN) {
        return Some((StatusCode::FORBIDDEN, "web pages are not answered\n"));
    }
    if !host_matches(request.headers(), hosts) {
        let why = "the Host is neither an address nor a configured name: add it to the metrics' `hosts`\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, why));
    }
    if !["/metrics", "/livez", "/readyz"].contains(&request.uri().path()) {
        return Some((StatusCode::NOT_FOUND, "only /metrics, /livez and /readyz are here\n"));
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "GET it\n"));
    }
    None
}

/// Rebinding needs a name that somebody else's DNS server answers for, so an address literal is never one.
fn host_matches(headers: &HeaderMap, hosts: &[String]) -> bool {
    let mut given = headers.get_all(HOST).iter();
    let (Some(Ok(host)), None) = (given.next().map(|h| h.to_str()), given.next()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|h| h.eq_ignore_ascii_case(name))
}

/// Whether new connections are taken: 200, or 503 and why not.
fn readiness(phase: Phase) -> Answer {
    match phase {
        Phase::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Ready => plain(StatusCode::OK, "ready\n"),
        Phase::Draining | Phase::Cut | Phase::Over => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

fn plain(status: StatusCode, why: &'static str) -> Answer {
    let mut answer = with_type("text/plain; charset=utf-8", Full::new(Bytes::from_static(why.as_bytes())));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_configured_names_are_hosts() {
        let ask = |host: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, host.parse().unwrap());
            }
            host_matches(&headers, &["alpha.example.net".into()])
        };
        for good in ["127.0.0.1:9464", "127.0.0.1", "[::1]:9464", "[::1]", "LOCALHOST:1", "alpha.example.net:9464"] {
            assert!(ask(Some(good)), "{good}");
        }
        for bad in ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "", ":", "[", "alpha.example.net.x"]
        {
            assert!(!ask(Some(bad)), "{bad}");
        }
        assert!(!ask(None));
    }
}
