//! How streams and connections end: cut, refused, withdrawn, lost.

use super::*;

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

#[tokio::test]
async fn bytes_that_came_whole_are_the_application_s_although_the_connection_has_ended() {
    within(async {
        let (pair, a, b) = links().await;
        let (mut near, mut far) = streams(&a, &b).await;
        send(&mut near, 1, 10_000).await.unwrap();
        send(&mut far, 2, 10).await.unwrap();
        assert_eq!(drain(&mut near, 2).await.0, 10);
        // The application takes none of it yet, and its end of the stream has heard FIN.
        poll_fn(|cx| {
            assert_eq!(far.poll_received(cx).map(Result::unwrap), std::task::Poll::Ready(Received::Data));
            if far.fin_received { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        pair.connections[0].close(VarInt::from_u32(0), b"");
        pair.connections[1].closed().await;
        poll_fn(|cx| {
            assert!(far.poll_lost(cx).is_pending());
            far.poll_flush(cx)
        })
        .await
        .unwrap();
        let (got, end) = drain(&mut far, 1).await;
        assert_eq!((got, end.unwrap()), (10_000, Received::Fin));
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_its_opener_has_finished_is_refused_like_any_other() {
    within(async {
        let (_pair, a, b) = links().await;
        let (opened, asked) = tokio::join!(a.open(request()), b.accept());
        let mut opened = opened.unwrap();
        opened.finish();
        poll_fn(|cx| opened.poll_flush(cx)).await.unwrap();
        let (_open, mut asked) = asked.unwrap().into_parts();
        poll_fn(|cx| {
            assert!(asked.poll_withdrawn(cx).is_pending());
            if asked.fin_received { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        asked.refuse(Refused { reason: Reason::Draining, detail: Detail::new("") });
        poll_fn(|cx| asked.poll_flush(cx)).await.unwrap();
        tokio::join!(asked.settle(), async {
            let end = poll_fn(|cx| opened.poll_received(cx)).await;
            assert_eq!(end.unwrap(), Received::Reset(Reason::Draining));
            drop(opened);
        });
        // The connection lives on.
        streams(&a, &b).await;
    })
    .await;
}
