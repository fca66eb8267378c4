//! The server and the client over real sockets, with an agent in memory behind them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::backend::{Backend, FailureKind};
use super::client::{Client, ClientError};
use super::fixture::{FakeAgent, Rig, TempDir, connection, status};
use super::scrape::serve_metrics;
use super::server::Limits;
use super::view::*;
use crate::host::Phase;
use crate::metrics::Metrics;

mod socket;

fn rig() -> Rig {
    Rig::start(FakeAgent::default(), Limits::default())
}

fn quick() -> Limits {
    Limits { clients: 2, request: Duration::from_millis(200), answer: Duration::from_millis(200) }
}

/// Sends bytes, and reads until the end.
async fn raw(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(rig.client.socket()).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_all(&mut stream).await
}

async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let read = async {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..n]);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("the server never closed");
    String::from_utf8_lossy(&answer).into_owned()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn has(value: &Value, wanted: &str) {
    for key in wanted.split_whitespace() {
        assert!(value.get(key).is_some(), "{key} is not in {:?}", keys(value));
    }
}

#[tokio::test]
async fn every_endpoint_answers_what_the_agent_says() {
    let rig = rig();
    let client = &rig.client;
    assert_eq!(client.status().await.unwrap(), status());
    let mut connections = client.connections().await.unwrap();
    assert_eq!(connections.next().await.unwrap(), Some(connection(1)));
    assert_eq!(connections.next().await.unwrap().unwrap().id, 2);
    assert_eq!(connections.next().await.unwrap(), None);
    let (beta, gamma, postgres) = ("beta".parse().unwrap(), "gamma".parse().unwrap(), "postgres".parse().unwrap());
    assert!(client.explain(&beta, &postgres).await.unwrap().allowed);
    assert!(!client.explain(&gamma, &postgres).await.unwrap().allowed);
    let mut probes = client.ping(&beta, 3).await.unwrap();
    let mut all = Vec::new();
    while let Some(probe) = probes.next().await.unwrap() {
        all.push(probe);
    }
    assert_eq!(
        PingSummary::of(&all),
        PingSummary { sent: 3, received: 2, min: Some(0.001), avg: Some(0.002), max: Some(0.003) }
    );
    let options = BenchOptions { streams: 1, seconds: 1.0, reverse: false };
    assert_eq!(client.bench(&beta, options).await.unwrap().connections_per_s, 23_300.0);
    assert!(client.metrics().await.unwrap().ends_with("# EOF\n"));
}

#[tokio::test]
async fn following_gives_each_event_at_once_and_ends_with_its_reader() {
    let rig = rig();
    let mut stream = rig.client.follow().await.unwrap();
    rig.running(1).await;
    for id in 1..=3 {
        rig.events.add_permits(1);
        assert_eq!(stream.next().await.unwrap(), Some(connection(id)));
    }
    drop(stream);
    rig.running(0).await;
}

#[tokio::test]
async fn a_follower_that_falls_behind_is_told() {
    let rig = rig();
    let mut stream = rig.client.follow().await.unwrap();
    rig.running(1).await;
    rig.events.close();
    match stream.next().await {
        Err(ClientError::Agent { body, .. }) => assert_eq!(body.code, "lagged"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bench_ends_when_its_client_goes_away() {
    let rig = rig();
    let slow = "slow".parse().unwrap();
    let options = BenchOptions { streams: 1, seconds: 60.0, reverse: false };
    let mut call = Box::pin(rig.client.bench(&slow, options));
    tokio::select! {
        answer = &mut call => panic!("{answer:?}"),
        () = rig.running(1) => {}
    }
    drop(call);
    rig.running(0).await;
}

#[tokio::test]
async fn what_the_agent_refuses_has_a_code_a_message_and_a_hint() {
    let rig = rig();
    let nobody = "nobody".parse().unwrap();
    match rig.client.ping(&nobody, 1).await.err().unwrap() {
        ClientError::Agent { status: 404, body } => {
            assert_eq!(body.code, "unknown_node");
            assert!(body.message.contains("`nobody`") && body.hint.is_some());
        }
        other => panic!("{other:?}"),
    }
    for (request, status, code) in [
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, "unknown_endpoint"),
        ("POST /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", 400, "wrong_method"),
        ("GET /v1/explain?from=UPPER&service=a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_name"),
        ("GET /v1/explain HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_name"),
        ("POST /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_request"),
        ("POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]", 400, "bad_request"),
        (
            "POST /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{\"node\":\"beta\",\"count\":0}",
            400,
            "bad_request",
        ),
        ("POST /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n", 400, "bad_request"),
        (
            "POST /v1/bench HTTP/1.1\r\nHost: x\r\nContent-Length: 58\r\n\r\n\
             {\"node\":\"beta\",\"streams\":1,\"seconds\":1e300,\"reverse\":false}",
            400,
            "bad_request",
        ),
    ] {
        let answer = raw(&rig, request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request}: {answer}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        let error: Value = serde_json::from_str(body).unwrap();
        assert_eq!(keys(&error["error"]), ["code", "hint", "message"]);
        assert_eq!(error["error"]["code"], code, "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_or_too_slow_is_cut() {
    let rig = Rig::start(FakeAgent::default(), quick());
    let head = format!("GET /v1/status HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    assert!(raw(&rig, head.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    let body = format!("POST /v1/ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(4));
    assert!(raw(&rig, body.as_bytes()).await.contains("at most 16384 bytes"));
    for slow in ["", "GET /v1/st", "POST /v1/ping HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{"] {
        let begun = Instant::now();
        let answer = raw(&rig, slow.as_bytes()).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{slow}");
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    assert!(rig.client.status().await.is_ok());
}

#[tokio::test]
async fn an_agent_that_does_not_answer_in_time_is_said_to() {
    let rig = Rig::start(FakeAgent::default(), quick());
    let slow = "slow".parse().unwrap();
    let options = BenchOptions { streams: 1, seconds: 0.1, reverse: false };
    match rig.client.bench(&slow, options).await {
        Err(ClientError::Agent { status: 504, body }) => assert_eq!(body.code, "timeout"),
        other => panic!("{other:?}"),
    }
    rig.running(0).await;
}

#[tokio::test]
async fn one_client_too_many_is_told_so_and_the_next_is_served() {
    let rig = Rig::start(FakeAgent::default(), quick());
    let followers = [rig.client.follow().await.unwrap(), rig.client.follow().await.unwrap()];
    match rig.client.status().await {
        Err(ClientError::Agent { status: 503, body }) => assert_eq!(body.code, "busy"),
        other => panic!("{other:?}"),
    }
    drop(followers);
    rig.running(0).await;
    let served = async {
        while rig.client.status().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let mut agent = FakeAgent::default();
    agent.status.warnings = vec!["x".repeat(1 << 20); 8];
    let rig = Rig::start(agent, quick());
    let mut stuck = Vec::new();
    for _ in 0..2 {
        let mut stream = UnixStream::connect(rig.client.socket()).await.unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stuck.push(stream);
    }
    let served = async {
        while rig.client.status().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("both places stay taken");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_followers() {
    let mut rig = rig();
    let mut stream = rig.client.follow().await.unwrap();
    rig.running(1).await;
    rig.stop().await;
    assert!(matches!(stream.next().await, Err(ClientError::Lost(_))));
}

#[tokio::test]
async fn nobody_listening_is_not_running() {
    let dir = TempDir::new("absent");
    let path = dir.0.join("adit.sock");
    assert!(matches!(Client::new(&path).status().await, Err(ClientError::NotRunning(_))));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::new(&path).status().await, Err(ClientError::NotRunning(_))));
}

#[tokio::test]
async fn metrics_over_tcp_are_for_scrapers_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    let (phase, shown) = watch::channel(Phase::Starting);
    tasks.spawn(serve_metrics(listener, Metrics::new(), shown, vec!["alpha.example.net".into()], async move {
        let _ = stopped.await;
    }));
    for (request, status) in [
        (format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n"), 200),
        ("GET /metrics HTTP/1.1\r\nHost: alpha.example.net\r\n\r\n".into(), 200),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n".into(), 421),
        ("GET /metrics HTTP/1.1\r\n\r\n".into(), 421),
        (format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nOrigin: http://evil.example\r\n\r\n"), 403),
        (format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n\r\n"), 403),
        (format!("POST /metrics HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"), 405),
        (format!("GET /v1/status HTTP/1.1\r\nHost: {address}\r\n\r\n"), 404),
        (format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"), 404),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert_eq!(answer.contains("adit_build_info"), status == 200, "{request}");
    }
    for (now, ready, word) in [
        (Phase::Starting, 503, "starting"),
        (Phase::Ready, 200, "ready"),
        (Phase::Draining, 503, "draining"),
        (Phase::Cut, 503, "draining"),
    ] {
        phase.send_replace(now);
        for (path, status, word) in [("readyz", ready, word), ("livez", 200, "alive")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await.unwrap();
            let answer = read_all(&mut stream).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(word), "{now:?}: {answer}");
        }
    }
    drop(stop);
    tasks.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_documents_have_the_names_of_the_contract() {
    let status = serde_json::to_value(status()).unwrap();
    has(
        &status,
        "node mesh version pid uptime state mesh_version mesh_digest epochs config certificate peers services",
    );
    has(&status, "connections");
    assert_eq!(keys(&status["epochs"]), ["identity", "mesh", "trust"]);
    assert_eq!(keys(&status["config"]), ["applied_at", "error", "loaded_digest", "on_disk_digest", "source"]);
    assert_eq!(keys(&status["config"]["error"]), ["column", "file", "line", "message"]);
    assert_eq!(keys(&status["certificate"]), ["issuer", "not_after", "serial"]);
    has(&status["peers"][0], "node state path via rtt skew address lanes mesh_version congestion error");
    assert_eq!(keys(&status["peers"][0]["lanes"]), ["busy", "idle"]);
    assert_eq!((&status["peers"][0]["via"], &status["peers"][0]["error"]), (&Value::Null, &Value::Null));
    has(&status["services"][0], "name role protocol listen target state connections");
    assert_eq!(status["state"], "ready");
    assert_eq!(status["certificate"]["not_after"], "2026-02-03T12:00:00.000Z");

    let value = serde_json::to_value(connection(1)).unwrap();
    has(&value, "id trace service from to client path opened bytes_in bytes_out state");
    let agent = FakeAgent::default();
    let explain = agent.explain("beta".parse().unwrap(), "postgres".parse().unwrap()).await.unwrap();
    let value = serde_json::to_value(explain).unwrap();
    has(&value, "allowed because steps");
    assert_eq!(keys(&value["steps"][0]), ["check", "detail", "ok"]);
    assert_eq!(
        serde_json::to_value(PingSummary::of([])).unwrap(),
        json!({"sent": 0, "received": 0, "min": null, "avg": null, "max": null})
    );
    let options = BenchOptions { streams: 1, seconds: 1.0, reverse: false };
    let value = serde_json::to_value(agent.bench("beta".parse().unwrap(), options).await.unwrap()).unwrap();
    assert_eq!(keys(&value), ["bytes", "connections_per_s", "gbit_per_s", "path", "rtt", "seconds"]);
    assert_eq!(keys(&value["rtt"]), ["p50", "p99"]);

    let words = |values: Vec<Value>| values.into_iter().map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let all = [AgentState::Starting, AgentState::Ready, AgentState::Draining];
    assert_eq!(words(all.iter().map(|s| json!(s)).collect()), ["starting", "ready", "draining"]);
    for state in [PeerState::Up, PeerState::Connecting, PeerState::Down, PeerState::Idle] {
        assert_eq!(json!(state), state.name());
    }
    for path in [Path::Lane, Path::Quic, Path::Relay] {
        assert_eq!(json!(path), path.name());
    }
    for layer in crate::refusals::Layer::ALL {
        assert_eq!(json!(layer), layer.name());
    }
    assert_eq!(FailureKind::Refused.http_status(), 403);
}

#[tokio::test]
async fn a_published_document_may_be_longer_than_other_requests_and_not_endless() {
    let rig = rig();
    let published = rig.client.publish(vec![1; 1 << 20]).await.unwrap();
    assert_eq!((published.generation, published.version), (1, 13));
    match rig.client.publish(Vec::new()).await.err().unwrap() {
        ClientError::Agent { status: 403, body } => assert_eq!(body.code, "forged"),
        other => panic!("{other:?}"),
    }
    let long = mesh_config::gossip::MAX_DOCUMENT + 1;
    match rig.client.publish(vec![0; long]).await.err().unwrap() {
        ClientError::Agent { status: 400, body } => assert_eq!(body.code, "bad_request"),
        ClientError::Lost(_) => {}
        other => panic!("{other:?}"),
    }
}
