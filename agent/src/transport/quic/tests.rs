use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::{MeshName, ServiceName};
use quinn::{Connection, Endpoint};
use tokio::task::JoinSet;

use super::*;
use crate::clock::Clock;
use crate::reason::Reason;
use crate::splice::{Broken, Carrier as _, Received};
use crate::transport::frame::{HEADER, Kind, header};
use crate::transport::hello::{HelloError, PeerHello};
use crate::transport::message::{
    Capabilities, Detail, Features, Frame, Hello, Incarnation, LaneRole, Open, Purpose, Refused, TraceId, VersionRange,
    WallTime,
};

const BOUND: Duration = Duration::from_secs(20);

fn hello(incarnation: u64) -> Hello {
    Hello {
        versions: VersionRange::OURS,
        incarnation: Incarnation(incarnation),
        wall_time: WallTime::from(Clock::default().now()),
        mesh: MeshName::new("lab").unwrap(),
        mesh_version: 1,
        mesh_digest: [0; 32],
        role: LaneRole::Opener,
        features: Features(0),
        capabilities: Capabilities::default(),
    }
}

pub(crate) fn request() -> Open {
    Open {
        purpose: Purpose::Service(ServiceName::new("db").unwrap()),
        relay: None,
        client: None,
        trace: TraceId([1; 16]),
        credit: 0,
    }
}

pub(crate) struct Pair {
    _endpoints: [Endpoint; 2],
    connections: [Connection; 2],
}

/// Two endpoints on loopback with a certificate made for the test, connected.
async fn connect() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["b.lab".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13];
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"adit/1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"adit/1".to_vec()];
    let server = quinn::crypto::rustls::QuicServerConfig::try_from(server).unwrap();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(Arc::new(transport_config()));
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(client).unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(Arc::new(transport_config()));
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let listening = Endpoint::server(server, any).unwrap();
    let dialling = Endpoint::client(any).unwrap();
    let address = listening.local_addr().unwrap();
    let dial = dialling.connect_with(client, address, "b.lab").unwrap();
    let accept = async { listening.accept().await.unwrap().await.unwrap() };
    let (dialled, accepted) = tokio::join!(dial, accept);
    Pair { connections: [dialled.unwrap(), accepted], _endpoints: [dialling, listening] }
}

async fn greeted(pair: &Pair) -> [(QuicLink, PeerHello); 2] {
    let [a, b] = pair.connections.clone();
    let clock = Clock::default();
    let (a, b) =
        tokio::join!(QuicLink::handshake(a, hello(1), true, &clock), QuicLink::handshake(b, hello(2), false, &clock));
    [a.unwrap(), b.unwrap()]
}

pub(crate) async fn links() -> (Pair, QuicLink, QuicLink) {
    let pair = connect().await;
    let [(a, _), (b, _)] = greeted(&pair).await;
    (pair, a, b)
}

/// A stream from one link to the other, accepted.
async fn streams(a: &QuicLink, b: &QuicLink) -> (QuicStream, QuicStream) {
    let (opened, asked) = tokio::join!(a.open(request()), b.accept());
    let mut opened = opened.unwrap();
    let accepted = asked.unwrap().accept(Detail::new("127.0.0.1:5432"));
    assert_eq!(opened.opened().await.unwrap().unwrap().target.as_str(), "127.0.0.1:5432");
    (opened, accepted)
}

/// The byte at `index` of what is sent in the direction `seed`.
fn byte(seed: u64, index: u64) -> u8 {
    let mixed = (index / 8 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).to_le_bytes()[usize::try_from(index % 8).unwrap()]
}

/// Sends `bytes` and then FIN.
async fn send(stream: &mut QuicStream, seed: u64, bytes: u64) -> Result<(), Broken> {
    push(stream, seed, 0, bytes).await?;
    stream.finish();
    poll_fn(|cx| stream.poll_flush(cx)).await
}

async fn push(stream: &mut QuicStream, seed: u64, from: u64, to: u64) -> Result<(), Broken> {
    let mut at = from;
    while at < to {
        poll_fn(|cx| stream.poll_slot(cx)).await?;
        let slot = stream.slot();
        let len = slot.len().min(usize::try_from(to - at).unwrap());
        slot[..len].iter_mut().zip(at..).for_each(|(place, index)| *place = byte(seed, index));
        stream.commit(len);
        at += len as u64;
    }
    poll_fn(|cx| stream.poll_flush(cx)).await
}

/// Takes everything up to the end, checks it, and gives its length and how it ended.
async fn drain(stream: &mut QuicStream, seed: u64) -> (u64, Result<Received, Broken>) {
    let mut at = 0;
    loop {
        match poll_fn(|cx| stream.poll_received(cx)).await {
            Ok(Received::Data) => at += take(stream, seed, at),
            end => return (at, end),
        }
    }
}

fn take(stream: &mut QuicStream, seed: u64, at: u64) -> u64 {
    let chunk = stream.chunk();
    assert!(!chunk.is_empty() && chunk.iter().zip(at..).all(|(&got, index)| got == byte(seed, index)), "wrong bytes");
    let len = chunk.len();
    stream.consume(len);
    len as u64
}

/// Both directions at once, from one task, as the splice does it.
async fn exchange(stream: &mut QuicStream, [mine, theirs]: [u64; 2], bytes: u64) -> u64 {
    let (mut sent, mut got, mut over) = (0, 0, false);
    poll_fn(|cx| {
        while sent < bytes && stream.poll_slot(cx)?.is_ready() {
            let slot = stream.slot();
            let len = slot.len().min(usize::try_from(bytes - sent).unwrap());
            slot[..len].iter_mut().zip(sent..).for_each(|(place, index)| *place = byte(mine, index));
            stream.commit(len);
            sent += len as u64;
            if sent == bytes {
                stream.finish();
            }
        }
        while !over && let std::task::Poll::Ready(received) = stream.poll_received(cx)? {
            match received {
                Received::Data => got += take(stream, theirs, got),
                Received::Fin => over = true,
                Received::Reset(reason) => panic!("{reason}"),
            }
        }
        let flushed = stream.poll_flush(cx)?.is_ready();
        if over && sent == bytes && flushed {
            std::task::Poll::Ready(Ok::<_, Broken>(()))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
    .unwrap();
    got
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, what).await.expect("in time")
}

#[tokio::test]
async fn hello_comes_first_and_is_judged_at_both_ends() {
    within(async {
        let pair = connect().await;
        let [(_, dialler), (_, acceptor)] = greeted(&pair).await;
        assert_eq!((dialler.incarnation, acceptor.incarnation), (Incarnation(2), Incarnation(1)));
        assert!(dialler.skew.abs() < time::Duration::seconds(1), "{}", dialler.skew);

        let pair = connect().await;
        let [a, b] = pair.connections.clone();
        let clock = Clock::default();
        let stranger = Hello { mesh: MeshName::new("prod").unwrap(), ..hello(1) };
        let accept = async {
            let refused = QuicLink::handshake(b.clone(), hello(2), false, &clock).await.unwrap_err();
            assert!(matches!(refused, QuicError::Hello(HelloError::Mesh { .. })), "{refused}");
            b.close(VarInt::from_u32(0), b"");
        };
        let (dialled, ()) = tokio::join!(QuicLink::handshake(a, stranger, true, &clock), accept);
        dialled.unwrap_err();

        let pair = connect().await;
        let talk = async {
            let (mut send, recv) = pair.connections[0].open_bi().await.unwrap();
            send.write_all(&header(Kind::Ping, 0)).await.unwrap();
            (send, recv)
        };
        let accept = QuicLink::handshake(pair.connections[1].clone(), hello(2), false, &clock);
        let (accepted, _streams) = tokio::join!(accept, talk);
        assert!(matches!(accepted.unwrap_err(), QuicError::Hello(HelloError::NotHello(Kind::Ping))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_both_ways_at_once_and_both_ends_see_the_end() {
    within(async {
        let (_pair, a, b) = links().await;
        let (mut near, mut far) = streams(&a, &b).await;
        let bytes = 64 << 20;
        let (got, taken) = tokio::join!(exchange(&mut near, [1, 2], bytes), exchange(&mut far, [2, 1], bytes));
        assert_eq!((got, taken), (bytes, bytes));
        drop((near, far));
        assert_eq!((a.budget_used(), b.budget_used()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn data_may_go_before_the_answer_and_half_closed_streams_go_on() {
    within(async {
        let (_pair, a, b) = links().await;
        let mut near = a.open(request()).await.unwrap();
        send(&mut near, 5, 4096).await.unwrap();
        assert!(poll_fn(|cx| std::task::Poll::Ready(near.poll_slot(cx).is_pending())).await, "4 KiB and FIN, no more");
        let request = b.accept().await.unwrap();
        assert_eq!(request.open.trace, TraceId([1; 16]));
        let mut far = request.accept(Detail::default());
        let (got, end) = drain(&mut far, 5).await;
        assert_eq!((got, end.unwrap()), (4096, Received::Fin));
        let (sent, got) = tokio::join!(send(&mut far, 6, 10 << 20), drain(&mut near, 6));
        sent.unwrap();
        assert_eq!((got.0, got.1.unwrap()), (10 << 20, Received::Fin));
    })
    .await;
}

#[tokio::test]
async fn more_than_the_early_credit_waits_for_the_answer() {
    within(async {
        let (_pair, a, b) = links().await;
        let mut near = a.open(request()).await.unwrap();
        push(&mut near, 5, 0, 4096).await.unwrap();
        let blocked = poll_fn(|cx| std::task::Poll::Ready(near.poll_slot(cx).is_pending())).await;
        assert!(blocked);
        let mut far = b.accept().await.unwrap().accept(Detail::default());
        let finish = async {
            push(&mut near, 5, 4096, 20_000).await.unwrap();
            near.finish();
            poll_fn(|cx| near.poll_flush(cx)).await.unwrap();
        };
        let ((got, end), ()) = tokio::join!(drain(&mut far, 5), finish);
        assert_eq!((got, end.unwrap()), (20_000, Received::Fin));
    })
    .await;
}

#[tokio::test]
async fn a_reset_at_either_end_is_a_reset_at_the_other_even_behind_data_that_nobody_reads() {
    within(async {
        let (_pair, a, b) = links().await;
        for far_cuts in [false, true] {
            let (mut near, mut far) = streams(&a, &b).await;
            push(&mut near, 1, 0, 10_000).await.unwrap();
            push(&mut far, 2, 0, 10_000).await.unwrap();
            let (cutter, other) = if far_cuts { (&mut far, &mut near) } else { (&mut near, &mut far) };
            cutter.reset(Reason::Application);
            let received = poll_fn(|cx| match other.poll_received(cx) {
                std::task::Poll::Ready(Ok(Received::Data)) => std::task::Poll::Pending,
                received => received,
            });
            assert_eq!(received.await.unwrap(), Received::Reset(Reason::Application));
            let again = poll_fn(|cx| other.poll_received(cx)).await.unwrap();
            assert_eq!(again, Received::Reset(Reason::Application));
        }
        assert_eq!((a.budget_used(), b.budget_used()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_reset_after_fin_reaches_the_side_that_still_sends() {
    within(async {
        let (_pair, a, b) = links().await;
        let (mut near, mut far) = streams(&a, &b).await;
        send(&mut far, 2, 10).await.unwrap();
        let (got, end) = drain(&mut near, 2).await;
        assert_eq!((got, end.unwrap()), (10, Received::Fin));
        far.reset(Reason::Application);
        let sending = async {
            loop {
                let from = 0;
                if push(&mut near, 1, from, 1 << 20).await.is_err() {
                    break;
                }
            }
        };
        sending.await;
        let late = poll_fn(|cx| near.poll_received(cx)).await.unwrap();
        assert_eq!(late, Received::Reset(Reason::Application));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_tells_why_and_costs_only_its_stream() {
    within(async {
        let (_pair, a, b) = links().await;
        let (mut bystander, mut other) = streams(&a, &b).await;
        for early in [0, 4096] {
            let mut near = a.open(request()).await.unwrap();
            push(&mut near, 1, 0, early).await.unwrap();
            let refused = Refused { reason: Reason::NotPermitted, detail: Detail::new("no `allow` names beta") };
            let request = b.accept().await.unwrap();
            let (answer, ()) = tokio::join!(near.opened(), request.refuse(refused.clone()));
            assert_eq!(answer.unwrap(), Err(refused.clone()));
            assert_eq!(near.refused(), Some(&refused));
            let received = poll_fn(|cx| near.poll_received(cx)).await.unwrap();
            assert_eq!(received, Received::Reset(Reason::NotPermitted));
        }
        let dropped = a.open(request()).await.unwrap();
        drop(dropped);
        let mut cut = a.open(Open { trace: TraceId([7; 16]), ..request() }).await.unwrap();
        // The dropped one may be gone before its OPEN was read.
        while b.accept().await.unwrap().open.trace != TraceId([7; 16]) {}
        let answer = cut.opened().await.unwrap().unwrap_err();
        assert_eq!(answer.reason, Reason::Other);
        let (sent, got) = tokio::join!(send(&mut bystander, 9, 100_000), drain(&mut other, 9));
        sent.unwrap();
        assert_eq!(got.0, 100_000);
    })
    .await;
}

#[tokio::test]
async fn an_opener_that_gives_up_is_noticed_while_the_target_is_being_connected() {
    within(async {
        let (_pair, a, b) = links().await;
        let mut near = a.open(request()).await.unwrap();
        push(&mut near, 1, 0, 100).await.unwrap();
        let mut request = b.accept().await.unwrap();
        near.reset(Reason::Application);
        assert_eq!(request.withdrawn().await, Reason::Application);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_blocks_its_own_stream_alone_and_pins_no_more_than_the_budget() {
    within(async {
        let (_pair, a, b) = links().await;
        let mut stalled = Vec::new();
        for _ in 0..40 {
            let (mut near, mut far) = streams(&a, &b).await;
            // Drained quickly at first, so that its window grows; then no more.
            let grow = 2 << 20;
            let taking = async {
                let mut at = 0;
                while at < grow {
                    assert_eq!(poll_fn(|cx| far.poll_received(cx)).await.unwrap(), Received::Data);
                    at += take(&mut far, 3, at);
                }
            };
            let (sent, ()) = tokio::join!(push(&mut near, 3, 0, grow), taking);
            sent.unwrap();
            let filled = async {
                let mut at = grow;
                while let Ok(sent) =
                    tokio::time::timeout(Duration::from_millis(20), push(&mut near, 3, at, at + 16384)).await
                {
                    sent.unwrap();
                    at += 16384;
                }
            };
            filled.await;
            stalled.push((near, far));
        }
        assert!(b.budget_used() > 12 << 20, "{} bytes: the stalled streams hold much", b.budget_used());
        assert!(b.budget_used() <= BUDGET, "{} bytes", b.budget_used());
        let (mut near, mut far) = streams(&a, &b).await;
        let (sent, got) = tokio::join!(send(&mut near, 4, 8 << 20), drain(&mut far, 4));
        sent.unwrap();
        assert_eq!((got.0, got.1.unwrap()), (8 << 20, Received::Fin));
        // Who reads on gets everything.
        let (mut near, mut far) = stalled.swap_remove(7);
        near.finish();
        let flush = poll_fn(|cx| near.poll_flush(cx));
        let mut left = 0;
        let rest = async {
            loop {
                match poll_fn(|cx| far.poll_received(cx)).await.unwrap() {
                    Received::Data => {
                        let len = far.chunk().len();
                        far.consume(len);
                        left += len;
                    }
                    end => return end,
                }
            }
        };
        let (flushed, end) = tokio::join!(flush, rest);
        flushed.unwrap();
        assert_eq!(end, Received::Fin);
        assert!(left >= 16 << 10);
    })
    .await;
}

#[tokio::test]
async fn unused_credit_is_given_back() {
    within(async {
        let (_pair, a, b) = links().await;
        let (mut near, mut far) = streams(&a, &b).await;
        let bytes = 4 << 20;
        let taking = async {
            let mut at = 0;
            while at < bytes {
                poll_fn(|cx| far.poll_received(cx)).await.unwrap();
                at += take(&mut far, 3, at);
            }
        };
        let (sent, ()) = tokio::join!(push(&mut near, 3, 0, bytes), taking);
        sent.unwrap();
        assert!(b.budget_used() > 64 << 10, "{} bytes", b.budget_used());
        let waits = async {
            poll_fn(|cx| {
                let (_near, _far) = (near.poll_received(cx), far.poll_received(cx));
                if b.budget_used() <= INITIAL_CREDIT { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
        };
        waits.await;
        let (sent, got) = tokio::join!(send(&mut near, 8, 1 << 20), drain(&mut far, 8));
        sent.unwrap();
        assert_eq!(got.0, 1 << 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_at_once_carry_their_own_bytes() {
    within(async {
        let (_pair, a, b) = links().await;
        let (a, b) = (Arc::new(a), Arc::new(b));
        let mut tasks = JoinSet::new();
        for seed in 0..1000 {
            let a = Arc::clone(&a);
            tasks.spawn(async move {
                let mut open = request();
                open.trace.0[..8].copy_from_slice(&u64::to_le_bytes(seed));
                let mut stream = a.open(open).await.unwrap();
                assert_eq!(exchange(&mut stream, [seed, seed + 5000], 20_000).await, 20_000);
            });
        }
        for _ in 0..1000 {
            let request = b.accept().await.unwrap();
            tasks.spawn(async move {
                let seed = u64::from_le_bytes(request.open.trace.0[..8].try_into().unwrap());
                let mut stream = request.accept(Detail::default());
                assert_eq!(exchange(&mut stream, [seed + 5000, seed], 20_000).await, 20_000);
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!((a.budget_used(), b.budget_used()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_broken_and_never_an_end() {
    within(async {
        let (pair, a, b) = links().await;
        let (mut near, mut far) = streams(&a, &b).await;
        let (mut half_near, mut half_far) = streams(&a, &b).await;
        send(&mut half_far, 2, 10).await.unwrap();
        assert_eq!(drain(&mut half_near, 2).await.0, 10);
        push(&mut near, 1, 0, 1000).await.unwrap();
        assert_eq!(poll_fn(|cx| far.poll_received(cx)).await.unwrap(), Received::Data);
        pair.connections[0].close(VarInt::from_u32(0), b"");
        let (_, end) = drain(&mut near, 2).await;
        end.unwrap_err();
        let (got, end) = drain(&mut far, 1).await;
        assert!(got <= 1000);
        end.unwrap_err();
        poll_fn(|cx| far.poll_slot(cx)).await.unwrap_err();
        poll_fn(|cx| half_near.poll_received(cx)).await.unwrap_err();
        poll_fn(|cx| half_far.poll_received(cx)).await.unwrap_err();
        b.accept().await.unwrap_err();
        a.open(request()).await.unwrap_err();
    })
    .await;
}

/// Sends raw bytes on a stream and gives why the connection ended.
async fn rude(bytes: Vec<u8>, finish: bool) -> String {
    let (pair, _a, b) = links().await;
    let (mut send, _recv) = pair.connections[0].open_bi().await.unwrap();
    send.write_all(&bytes).await.unwrap();
    if finish {
        send.finish().unwrap();
    }
    let serve = async {
        let mut streams = Vec::new();
        while let Ok(request) = b.accept().await {
            let mut stream = request.accept(Detail::default());
            let _end = drain(&mut stream, 0).await;
            streams.push(stream);
        }
    };
    let closed = pair.connections[0].closed();
    let ((), closed) = tokio::join!(serve, closed);
    closed.to_string()
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_loses_its_connection() {
    let open = Frame::Open(1, Box::new(request())).to_bytes();
    let data = |len: usize| [&header(Kind::Data, len)[..], &vec![0; len]].concat();
    let cases = [
        (data(5), false, "DATA out of place"),
        (Frame::Fin(1).to_bytes(), false, "FIN out of place"),
        ([open.clone(), open.clone()].concat(), false, "OPEN out of place"),
        ([open.clone(), Frame::Done(1).to_bytes()].concat(), false, "DONE out of place"),
        ([open.clone(), Frame::Fin(2).to_bytes()].concat(), false, "FIN out of place"),
        ([open.clone(), Frame::Fin(1).to_bytes(), data(1)].concat(), false, "DATA out of place"),
        ([open.clone(), data(4096), data(16384), data(16384)].concat(), false, "more than its credit"),
        ([open.clone(), data(10)].concat(), true, "ended without FIN"),
        ([open, vec![0xff; HEADER]].concat(), false, "unknown frame type 255"),
    ];
    for (bytes, finish, why) in cases {
        let closed = within(rude(bytes, finish)).await;
        assert!(closed.contains(why), "{closed}, not {why}");
    }
}
