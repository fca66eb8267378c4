//! `adit bench`: how fast a peer is, over the streams that applications use.

use std::time::Duration;

use mesh_config::NodeName;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::backend::View;
use crate::admin::backend::{Failure, FailureKind};
use crate::admin::routes::{MAX_BENCH_SECONDS, MAX_BENCH_STREAMS};
use crate::admin::view::{Bench as Report, BenchOptions, Percentiles};
use crate::peers::peer::{NoStream, Peer};
use crate::peers::stream::Stream;
use crate::reason::Reason;
use crate::services::bench::{self, Error};
use crate::services::ingress::new_trace;
use crate::transport::message::{Bench, Open, Purpose, TraceId};
use crate::vocabulary::Path;

/// How long new streams are counted.
const RATE: Duration = Duration::from_millis(500);
/// How often the round trip is measured while bytes move.
const PROBE: Duration = Duration::from_millis(50);

/// Measures the link to `node`.
pub(super) async fn bench(view: &View, node: &NodeName, options: BenchOptions) -> Result<Report, Failure> {
    if !(1..=MAX_BENCH_STREAMS).contains(&options.streams) {
        return Err(usage(format!("--streams takes 1 to {MAX_BENCH_STREAMS}")));
    }
    if !(options.seconds > 0.0 && options.seconds <= MAX_BENCH_SECONDS) {
        return Err(usage(format!("--seconds takes more than 0 and at most {MAX_BENCH_SECONDS}")));
    }
    let peer = view.peer(node)?;
    let limit = view.host.limits().connect;
    // The first stream tells whether the peer lets us measure at all.
    let connections_per_s = rate(&peer, limit).await?;
    let path = peer.status().path.unwrap_or(Path::Lane);

    let time = Duration::from_secs_f64(options.seconds);
    let started = Instant::now();
    let mut streams = JoinSet::new();
    for _ in 0..options.streams {
        let (peer, reverse) = (peer.clone(), options.reverse);
        streams.spawn(async move { one(&peer, time, reverse, limit).await });
    }
    let mut probes = Vec::new();
    let mut bytes = 0;
    let mut tick = tokio::time::interval(PROBE);
    loop {
        tokio::select! {
            done = streams.join_next() => match done {
                Some(Ok(Ok(moved))) => bytes += moved,
                Some(Ok(Err(failure))) => return Err(failure),
                Some(Err(error)) => return Err(Failure::new(FailureKind::Internal, "internal", error.to_string())),
                None => break,
            },
            _ = tick.tick() => {
                if let Ok(rtt) = peer.ping(PROBE * 20).await {
                    probes.push(rtt);
                }
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    probes.sort_unstable();
    let percentile = |p: usize| probes.get((probes.len() * p / 100).min(probes.len().saturating_sub(1)));
    #[expect(clippy::cast_precision_loss, reason = "2^53 bytes are more than a minute brings")]
    let gbit_per_s = bytes as f64 * 8.0 / seconds / 1e9;
    Ok(Report {
        gbit_per_s,
        bytes,
        seconds,
        path,
        connections_per_s,
        rtt: Percentiles {
            p50: percentile(50).map(Duration::as_secs_f64),
            p99: percentile(99).map(Duration::as_secs_f64),
        },
    })
}

/// One stream's bytes in `time`.
async fn one(peer: &Peer, time: Duration, reverse: bool, limit: Duration) -> Result<u64, Failure> {
    let mode = if reverse { Bench::Source } else { Bench::Sink };
    let mut stream = open(peer, mode, limit).await?;
    let work =
        async { if reverse { bench::pull(&mut stream, time).await } else { bench::push(&mut stream, time).await } };
    let moved = match timeout(time + limit, work).await {
        Ok(Ok(moved)) => moved,
        Ok(Err(error)) => return Err(failed(&stream, &error)),
        Err(_) => return Err(Failure::new(FailureKind::Timeout, "timeout", "the peer stopped answering")),
    };
    timeout(limit, stream.give_back()).await.ok();
    Ok(moved)
}

/// New streams a second, one after the other: each opened, answered and closed.
async fn rate(peer: &Peer, limit: Duration) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut count = 0u32;
    while started.elapsed() < RATE {
        let mut stream = open(peer, Bench::Sink, limit).await?;
        match timeout(limit, bench::push(&mut stream, Duration::ZERO)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(failed(&stream, &error)),
            Err(_) => return Err(Failure::new(FailureKind::Timeout, "timeout", "the peer stopped answering")),
        }
        timeout(limit, stream.give_back()).await.ok();
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

async fn open(peer: &Peer, mode: Bench, limit: Duration) -> Result<Stream, Failure> {
    let open =
        Open { purpose: Purpose::Bench(mode), relay: None, client: None, trace: TraceId(new_trace()), credit: 0 };
    peer.open(open, Instant::now() + limit).await.map_err(|NoStream { reason, detail }| {
        Failure::new(FailureKind::Unavailable, reason.name(), detail)
            .with_hint(format!("`adit ping {}` and `adit status` say more", peer.name()))
    })
}

fn failed(stream: &Stream, error: &Error) -> Failure {
    match stream.answer() {
        Some(Err(refused)) if refused.reason == Reason::NotPermitted => {
            Failure::new(FailureKind::Refused, "not_permitted", "the peer refuses to be measured by this node")
                .with_hint("nodes that share no service do not measure each other")
        }
        Some(Err(refused)) => Failure::new(FailureKind::Unavailable, refused.reason.name(), refused.reason.text()),
        _ => Failure::new(FailureKind::Unavailable, "lost", error.to_string()),
    }
}

fn usage(message: String) -> Failure {
    Failure::new(FailureKind::Usage, "usage", message)
}
