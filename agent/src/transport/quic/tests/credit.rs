//! Credit holds senders back, grows, and is given back.

use super::*;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_blocks_its_own_stream_alone_and_pins_no_more_than_the_budget() {
    within(async {
        let (_pair, a, b) = links().await;
        let mut stalled = Vec::new();
        for _ in 0..40 {
            let (mut near, mut far) = streams(&a, &b).await;
            stall(&mut near, &mut far).await;
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
        // Where others hold most of the budget, it is no more than the early credit, less what is too little to grant.
        assert!(left as u64 > EARLY_CREDIT / 2, "{left} bytes");
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
