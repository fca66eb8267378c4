//! What a hostile peer can pin.

use quinn::{RecvStream, SendStream};

use super::super::stream::QUEUE;
use super::*;
use crate::transport::frame::{Item, MAX_DATA, Parser};
use crate::transport::message::Credit;

/// Sends and takes bytes of a stream, and returns all the credit it has, so that more is granted each time.
async fn provoke(send: &mut SendStream, far: &mut QuicStream, at: u64, returned: u64) {
    let piece: Vec<u8> = (at..at + 100).map(|index| byte(3, index)).collect();
    let credit = Frame::Credit(1, Credit { granted: 0, returned }).to_bytes();
    send.write_all(&[&credit, &header(Kind::Data, piece.len())[..], &piece].concat()).await.unwrap();
    let (mut at, end) = (at, at + 100);
    while at < end {
        assert_eq!(poll_fn(|cx| far.poll_received(cx)).await.unwrap(), Received::Data);
        at += take(far, 3, at);
    }
}

/// Reads frames to the end, as CREDIT may follow FIN: how many bytes of DATA came, and how much credit was granted.
async fn read_all(recv: &mut RecvStream) -> (u64, u64) {
    let (mut parser, mut data, mut granted, mut fin) = (Parser::new(), 0, 0, false);
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.unwrap() {
        let mut input = &chunk.bytes[..];
        while let Some(item) = parser.next(&mut input).unwrap() {
            match item {
                Item::Data(piece) => {
                    assert!(piece.iter().zip(data..).all(|(&got, index)| got == byte(4, index)), "wrong bytes");
                    data += piece.len() as u64;
                }
                Item::Control { kind, payload } => match Frame::decode(kind, payload).unwrap() {
                    Frame::Opened(1, opened) => granted += opened.credit,
                    Frame::Credit(1, credit) => granted += credit.granted,
                    Frame::Fin(1) => fin = true,
                    other => panic!("{other:?}"),
                },
            }
        }
    }
    assert!(fin);
    (data, granted)
}

#[tokio::test]
async fn what_waits_for_a_peer_that_takes_nothing_is_bounded_and_comes_when_it_takes_again() {
    within(async {
        let mut narrow = transport_config(Algorithm::default());
        narrow.stream_receive_window(VarInt::from_u32(64));
        let pair = connect_as(narrow).await;
        let [(_a, _), (b, _)] = greeted(&pair).await;
        let (mut send, mut recv) = pair.connections[0].open_bi().await.unwrap();
        let open = Frame::Open(1, Box::new(Open { credit: 1 << 20, ..request() }));
        send.write_all(&open.to_bytes()).await.unwrap();
        let mut far = b.accept().await.unwrap().accept(Detail::default());
        let mut sent = 0;
        poll_fn(|cx| {
            while far.poll_slot(cx)?.is_ready() {
                far.slot().iter_mut().zip(sent..).for_each(|(place, index)| *place = byte(4, index));
                let len = far.slot().len();
                far.commit(len);
                sent += len as u64;
            }
            std::task::Poll::Ready(Ok::<_, Broken>(()))
        })
        .await
        .unwrap();

        let (mut at, mut returned) = (0, 0);
        for _ in 0..2000 {
            let back = b.budget_used() - 100;
            provoke(&mut send, &mut far, at, back).await;
            (at, returned) = (at + 100, returned + back);
            // What is granted between the two frames is what the second takes from.
            assert!(b.budget_used() >= INITIAL_CREDIT - 100, "nothing was granted");
            assert!(far.queued <= QUEUE + MAX_DATA + 256 && far.queue.len() <= 16, "{} frames wait", far.queue.len());
        }

        send.write_all(&Frame::Fin(1).to_bytes()).await.unwrap();
        far.finish();
        let flush = poll_fn(|cx| far.poll_flush(cx));
        let (flushed, (data, granted)) = tokio::join!(flush, read_all(&mut recv));
        flushed.unwrap();
        assert_eq!(data, sent);
        assert_eq!(poll_fn(|cx| far.poll_received(cx)).await.unwrap(), Received::Fin);
        assert_eq!(EARLY_CREDIT + granted - returned - at, b.budget_used(), "the peer was told of all of its credit");
    })
    .await;
}

/// As many connections as a peer may have, all at one acceptor.
async fn four() -> (PeerShare, Vec<(Pair, QuicLink, QuicLink)>) {
    let (share, mut connections) = (PeerShare::default(), Vec::new());
    for _ in 0..4 {
        let pair = connect().await;
        let [(a, _), (b, _)] = greeted_as(&pair, share.clone()).await;
        connections.push((pair, a, b));
    }
    (share, connections)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_on_four_connections_pin_no_more_than_the_budget_of_one_peer() {
    within(async {
        let (share, connections) = four().await;
        let (mut unread, mut stalled) = (0, Vec::new());
        for (_, a, b) in &connections {
            for _ in 0..8 {
                let (mut near, mut far) = streams(a, b).await;
                unread += stall(&mut near, &mut far).await;
                stalled.push((near, far));
            }
        }
        assert!((12 << 20..=BUDGET).contains(&unread), "{unread} bytes are unread");
        assert!(share.budget_used() <= BUDGET);
        drop(stalled);
        assert_eq!(share.budget_used(), 0);
    })
    .await;
}

/// Writes until nothing more is taken.
async fn fill(send: &mut SendStream) -> u64 {
    let mut written = 0;
    while let Ok(more) = tokio::time::timeout(Duration::from_millis(100), send.write(&[0; 16384])).await {
        written += more.unwrap() as u64;
    }
    written
}

/// Nobody reads, as if a gap kept QUIC from handing anything over.
#[tokio::test]
async fn what_quic_holds_back_on_four_connections_is_no_more_than_the_windows_of_one_peer() {
    within(async {
        let (_share, mut connections) = four().await;
        let mut held = 0;
        for (pair, ..) in &connections {
            let (mut send, _recv) = pair.connections[0].open_bi().await.unwrap();
            held += fill(&mut send).await;
        }
        assert!((6 << 20..=WINDOWS).contains(&held), "{held} bytes");
        // The last becomes wide when the others are gone.
        let (pair, _a, b) = connections.pop().unwrap();
        drop(connections);
        let (mut send, _recv) = pair.connections[0].open_bi().await.unwrap();
        let _stream = b.open(request()).await.unwrap();
        send.write_all(&vec![0; 4 << 20]).await.unwrap();
    })
    .await;
}
