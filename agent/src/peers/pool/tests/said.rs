//! What is not worth a record of its own waits for one that leaves anyway, and leaves without it after a moment.

use std::future::poll_fn;
use std::io;
use std::net::Ipv4Addr;
use std::task::Poll;

use tokio::net::UdpSocket;

use super::*;
use crate::transport::message::Open;

/// A lane on which a stream was asked for, and its responder, which has heard of that.
async fn asked(net: &Net) -> (Arc<Pool>, Lease, Link) {
    asked_for(net, open_request()).await
}

async fn asked_for(net: &Net, open: Open) -> (Arc<Pool>, Lease, Link) {
    let (pool, mut far) = net.pool(RULES, 1).await;
    let mut lease = pool.try_take().unwrap();
    lease.link.open(open).unwrap();
    poll_fn(|cx| lease.link.poll_flush(cx)).await.unwrap();
    let mut end = far.remove(0).1;
    within(end.next_open()).await.unwrap().unwrap();
    (pool, lease, end)
}

async fn hear(link: &mut Link) -> Received {
    within(poll_fn(|cx| link.poll_received(cx))).await.unwrap()
}

/// The runtime looks at all sockets: what has left before has arrived.
async fn look_at_sockets() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(b"?", socket.local_addr().unwrap()).await.unwrap();
    within(socket.recv(&mut [0])).await.unwrap();
}

fn is_answered(link: &mut Link) -> bool {
    let _what_comes = link.poll_received(&mut Context::from_waker(Waker::noop()));
    matches!(link.answer(), Some(Ok(_)))
}

/// The application has `bytes` for the stream of `link`.
fn say(link: &mut Link, bytes: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(link.poll_slot(&mut cx), Poll::Ready(Ok(()))));
    let read = link.fill(|slots| {
        slots[0][..bytes.len()].copy_from_slice(bytes);
        Poll::Ready(Ok::<_, io::Error>(bytes.len()))
    });
    assert!(matches!(read, Ok(Poll::Ready(Ok(len))) if len == bytes.len()));
}

#[tokio::test]
async fn opened_leaves_with_the_first_bytes_of_the_target() {
    let net = Net::new();
    let (_pool, mut lease, mut end) = asked(&net).await;
    // The clock stands still: what waits for it would wait for ever.
    tokio::time::pause();
    end.accept("a target").unwrap();
    poll_fn(|cx| end.poll_flush(cx)).await.unwrap();
    look_at_sockets().await;
    assert!(!is_answered(&mut lease.link));
    say(&mut end, b"first bytes");
    poll_fn(|cx| end.poll_flush(cx)).await.unwrap();
    assert_eq!(hear(&mut lease.link).await, Received::Data);
    assert_eq!(lease.link.chunk(), b"first bytes");
    assert!(matches!(lease.link.answer(), Some(Ok(_))));
}

#[tokio::test]
async fn what_was_reached_is_known_to_a_probe_and_kept_for_no_application() {
    let net = Net::new();
    let probe = Open { purpose: Purpose::Probe("db".parse().unwrap()), ..open_request() };
    for (open, kept) in [(probe, "a target"), (open_request(), "")] {
        let (_pool, mut lease, mut end) = asked_for(&net, open).await;
        end.accept("a target").unwrap();
        say(&mut end, b"first bytes");
        poll_fn(|cx| end.poll_flush(cx)).await.unwrap();
        assert_eq!(hear(&mut lease.link).await, Received::Data);
        assert!(matches!(lease.link.answer(), Some(Ok(opened)) if opened.target.as_str() == kept), "{kept}");
    }
}

#[tokio::test]
async fn opened_leaves_a_moment_later_if_the_target_says_nothing() {
    let net = Net::new();
    let (_pool, mut lease, mut end) = asked(&net).await;
    end.accept("a target").unwrap();
    // The splice of the responder, which only waits.
    let waits = poll_fn(|cx| {
        assert!(end.poll_flush(cx).is_ready());
        end.poll_received(cx).map(drop)
    });
    let answered = poll_fn(|cx| {
        let _nothing_else = lease.link.poll_received(cx).is_pending();
        if lease.link.answer().is_some() { Poll::Ready(()) } else { Poll::Pending }
    });
    within(async {
        tokio::select! {
            () = waits => panic!("the opener says nothing"),
            () = answered => {}
        }
    })
    .await;
}

#[tokio::test]
async fn opened_does_not_wait_while_the_opener_has_much_to_say() {
    let net = Net::new();
    let (pool, mut far) = net.pool(RULES, 1).await;
    let mut lease = pool.try_take().unwrap();
    lease.link.reopen((open_request(), vec![1; 32 * 1024], false)).unwrap();
    poll_fn(|cx| lease.link.poll_flush(cx)).await.unwrap();
    let end = &mut far[0].1;
    within(end.next_open()).await.unwrap().unwrap();
    let mut heard = 0;
    while heard < 32 * 1024 {
        assert_eq!(hear(end).await, Received::Data);
        let len = end.chunk().len();
        end.consume(len);
        heard += len;
    }
    end.accept("a target").unwrap();
    // Nobody looks at it again: what does not leave now never does.
    poll_fn(|cx| end.poll_flush(cx)).await.unwrap();
    within(poll_fn(|cx| {
        let _nothing_else = lease.link.poll_received(cx).is_pending();
        if lease.link.answer().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }))
    .await;
}

/// Both sides end the stream that was asked for, the opener before.
async fn finish(lease: &mut Lease, end: &mut Link) {
    end.accept("a target").unwrap();
    lease.link.finish();
    poll_fn(|cx| lease.link.poll_flush(cx)).await.unwrap();
    assert_eq!(hear(end).await, Received::Fin);
    end.finish();
    poll_fn(|cx| end.poll_flush(cx)).await.unwrap();
    assert_eq!(hear(&mut lease.link).await, Received::Fin);
}

#[tokio::test]
async fn done_leaves_with_the_next_open() {
    let net = Net::new();
    let (pool, mut lease, mut end) = asked(&net).await;
    finish(&mut lease, &mut end).await;
    within(lease.give_back()).await;
    look_at_sockets().await;
    assert!(is_pending(pin!(end.settle())), "nothing has left");
    // Nobody but the next stream makes it leave.
    let mut lease = pool.try_take().unwrap();
    lease.link.open(open_request()).unwrap();
    poll_fn(|cx| lease.link.poll_flush(cx)).await.unwrap();
    assert!(within(end.settle()).await);
    assert!(within(end.next_open()).await.unwrap().is_some());
}

#[tokio::test]
async fn done_leaves_a_moment_later_if_no_stream_follows() {
    let net = Net::new();
    let (pool, mut lease, mut end) = asked(&net).await;
    finish(&mut lease, &mut end).await;
    within(lease.give_back()).await;
    within(act(&pool)).await;
    assert!(within(end.settle()).await);
    assert_eq!(counts(&pool), (1, 0));
}
