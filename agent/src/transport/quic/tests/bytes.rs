//! Bytes arrive whole, both ways and on many streams at once.

use super::super::stream::QUEUE;
use super::*;

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

/// Credit before the answer, at first, grown once and at its most; the queue before QUIC; and QUIC's own windows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_around_every_border_of_credit_arrives_both_ways() {
    let queue = QUEUE as u64;
    let borders = [EARLY_CREDIT, INITIAL_CREDIT, 2 * INITIAL_CREDIT, queue, FIRST_WINDOW.into(), MOST_CREDIT, WINDOWS];
    let (_pair, a, b) = within(links()).await;
    for border in borders {
        for bytes in border - 1..=border + 1 {
            within(async {
                let mut near = a.open(request()).await.unwrap();
                let answers = async {
                    let mut far = b.accept().await.unwrap().accept(Detail::default());
                    exchange(&mut far, [2, 1], bytes).await
                };
                let got = tokio::join!(exchange(&mut near, [1, 2], bytes), answers);
                assert_eq!(got, (bytes, bytes));
            })
            .await;
        }
    }
    assert_eq!((a.budget_used(), b.budget_used()), (0, 0));
}

/// More than any step of the number of streams: each is told to the peer although QUIC tells it of no small one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_are_open_at_once() {
    within(async {
        let (_pair, a, b) = links().await;
        let mut open = Vec::new();
        for _ in 0..2000 {
            open.push(streams(&a, &b).await);
        }
        let (mut near, mut far) = streams(&a, &b).await;
        let (sent, got) = tokio::join!(send(&mut near, 4, 100_000), drain(&mut far, 4));
        sent.unwrap();
        assert_eq!((got.0, got.1.unwrap()), (100_000, Received::Fin));
        drop(open);
        let (mut near, mut far) = streams(&b, &a).await;
        let (sent, got) = tokio::join!(send(&mut near, 5, 100_000), drain(&mut far, 5));
        sent.unwrap();
        assert_eq!((got.0, got.1.unwrap()), (100_000, Received::Fin));
    })
    .await;
}
