//! The admin API's server: HTTP/1.1, one request a connection, over the admin socket.
//!
//! Loopback is not trust, so there is no TCP here: a client is who the kernel says it is (`SO_PEERCRED`), and only the
//! agent's own user and root are answered.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::backend::{Backend, Failure, FailureKind};
use super::routes::{Answer, Times, answer, refusal};
use super::socket::{AdminSocket, admits};
use crate::log_limited;
use crate::logging::{Who, audit};

/// How much a client may ask of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Clients at once. One more is told so.
    pub clients: usize,
    /// Until a request's head has arrived, and again for its body.
    pub request: Duration,
    /// Until an answer is made, and again until it is read. Does not hold for what runs as long as it is read.
    pub answer: Duration,
}

impl Default for Limits {
    /// 32 clients, 5 s for a request, 30 s for an answer.
    fn default() -> Self {
        Self { clients: 32, request: Duration::from_secs(5), answer: Duration::from_secs(30) }
    }
}

/// The largest request head, in bytes: hyper's smallest buffer.
const MAX_HEAD: usize = 8 * 1024;

/// How long accepting rests when the system has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Clients beyond the limit that are being told so.
const MAX_TURNED_AWAY: usize = 32;

/// Serves the admin API until `stop` is ready, then cuts what is still open.
pub async fn serve<B: Backend>(socket: AdminSocket, backend: Arc<B>, limits: Limits, stop: impl Future<Output = ()>) {
    let own = rustix::process::geteuid().as_raw();
    let room = Arc::new(Semaphore::new(limits.clients));
    let mut clients = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            Some(_) = clients.join_next() => continue,
            accepted = socket.listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                log_limited!(warn, Who::Here, "admin.accept", %error, "cannot accept on the admin socket");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(client) = stream.peer_cred() else { continue };
        if !admits(client.uid(), own) {
            log_limited!(warn, Who::Here, "admin.uid", uid = client.uid(), "another user was turned away");
            let text = format!("this agent answers its own user ({own}) and root, not user {}", client.uid());
            let failure = Failure::new(FailureKind::Refused, "wrong_user", text)
                .with_hint("run the command as the agent's user, or with sudo");
            if clients.len() < limits.clients + MAX_TURNED_AWAY {
                clients.spawn(turn_away(stream, client, failure, limits));
            }
            continue;
        }
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => {
                let backend = Arc::clone(&backend);
                clients.spawn(async move {
                    converse(stream, client, backend, limits).await;
                    drop(place);
                });
            }
            Err(_) if clients.len() < limits.clients + MAX_TURNED_AWAY => {
                let text = format!("{} clients use the admin API already", limits.clients);
                let failure = Failure::new(FailureKind::Unavailable, "busy", text)
                    .with_hint("end some `adit connections --follow`, `adit ping` or `adit bench`");
                clients.spawn(turn_away(stream, client, failure, limits));
            }
            Err(_) => {}
        }
    }
}

async fn converse<B: Backend>(stream: UnixStream, client: UCred, backend: Arc<B>, limits: Limits) {
    let long = AtomicBool::new(false);
    let times = Times { body: limits.request, answer: limits.answer };
    let respond = |request: Request<Incoming>| {
        let backend = Arc::clone(&backend);
        let long = &long;
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let answer = answer(backend, request, times, || long.store(true, Ordering::Relaxed)).await;
            audit::admin_call(method.as_str(), &path, answer.status().as_u16(), client.uid(), client.pid());
            Ok::<Answer, Infallible>(answer)
        }
    };
    let mut connection = pin!(http(limits).serve_connection(TokioIo::new(stream), service_fn(respond)));
    // Head, body, answer made, answer read.
    let limit = limits.request * 2 + limits.answer * 2;
    if tokio::time::timeout(limit, connection.as_mut()).await.is_err() && long.load(Ordering::Relaxed) {
        // How a client leaves is its own affair.
        let _ = connection.await;
    }
}

async fn turn_away(stream: UnixStream, client: UCred, failure: Failure, limits: Limits) {
    let respond = |request: Request<Incoming>| {
        let answer = refusal(&failure);
        let (method, path) = (request.method(), request.uri().path());
        audit::admin_call(method.as_str(), path, answer.status().as_u16(), client.uid(), client.pid());
        std::future::ready(Ok::<Answer, Infallible>(answer))
    };
    let connection = http(limits).serve_connection(TokioIo::new(stream), service_fn(respond));
    let _ = tokio::time::timeout(limits.request, connection).await;
}

fn http(limits: Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(32)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request);
    http
}
