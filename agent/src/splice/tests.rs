//! Connections that move bulk, and what may happen to them while a thread serves them alone.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;
use crate::transport::lane::link::Link;
use crate::transport::lane::link::tests::Net;
use crate::transport::message::Incarnation;
use crate::transport::message::tests::open_request;

const BOUND: Duration = Duration::from_secs(30);
const PIECE: usize = 256 * 1024;

/// One agent of a pair that carries a connection, and the application beside it.
struct Side {
    places: Places,
    cut: oneshot::Sender<Reason>,
    ended: JoinSet<(End, Box<Link>)>,
}

async fn beside(mut link: Box<Link>) -> (Side, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (app, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let mut near = Tcp::of(near.unwrap().0).unwrap();
    // However slow the machine is.
    let mut places = Places::new(1);
    places.soon = BOUND;
    let (cut, mut cuts) = oneshot::channel();
    let of_it = places.clone();
    let mut ended = JoinSet::new();
    ended.spawn(async move {
        let (limits, meter) = (Limits { places: Some(&of_it), ..Limits::default() }, Meter::default());
        let mut told = pin!(async {
            match (&mut cuts).await {
                Ok(reason) => reason,
                Err(_) => std::future::pending().await,
            }
        });
        let end = splice(&mut near, &mut *link, limits, &meter, false, told.as_mut()).await;
        if matches!(end, End::Closed) {
            return (end, link);
        }
        crate::transport::connect::reset_unless_in_order(&near);
        (end, link)
    });
    (Side { places, cut, ended }, app.unwrap())
}

/// Two applications, joined by a lane.
async fn joined() -> [(Side, TcpStream); 2] {
    let (mut near, mut far) = Net::new().lane_to(Incarnation(7)).await;
    near.open(open_request()).unwrap();
    poll_fn(|cx| near.poll_flush(cx)).await.unwrap();
    far.next_open().await.unwrap().unwrap();
    far.accept("").unwrap();
    [beside(near).await, beside(Box::new(far)).await]
}

/// How it ended.
async fn ended(side: &mut Side) -> (End, Box<Link>) {
    side.ended.join_next().await.unwrap().unwrap()
}

fn piece(number: u64) -> Vec<u8> {
    (0..PIECE as u64 / 8).flat_map(|at| (at ^ number << 32).to_le_bytes()).collect()
}

/// Moves bulk from one application to the other until both agents serve it alone. How many pieces that took.
async fn until_alone(from: &mut TcpStream, to: &mut TcpStream, sides: [&Places; 2]) -> u64 {
    let mut got = vec![0; PIECE];
    for number in 0.. {
        let sent = piece(number);
        let (written, read) = tokio::join!(from.write_all(&sent), to.read_exact(&mut got));
        written.unwrap();
        read.unwrap();
        assert!(got == sent, "piece {number}");
        if sides.iter().all(|places| places.left() == 0) {
            return number;
        }
    }
    unreachable!()
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_gets_a_thread_and_gives_it_back_when_it_is_bulk_no_more() {
    let work = async {
        let [(mut a, mut client), (mut b, mut server)] = joined().await;
        for _ in 0..3 {
            until_alone(&mut client, &mut server, [&a.places, &b.places]).await;
            until(|| a.places.left() + b.places.left() == 2).await;
            // A conversation needs none, either way.
            for _ in 0..50 {
                let mut byte = [0];
                client.write_all(&[7]).await.unwrap();
                server.read_exact(&mut byte).await.unwrap();
                server.write_all(&byte).await.unwrap();
                client.read_exact(&mut byte).await.unwrap();
                assert_eq!((byte, a.places.left() + b.places.left()), ([7], 2));
            }
            until_alone(&mut server, &mut client, [&a.places, &b.places]).await;
        }
        // In order, from bulk.
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        server.write_all(b"last words").await.unwrap();
        drop(server);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"last words");
        let [(near, mut opener), (far, mut responder)] = [ended(&mut a).await, ended(&mut b).await];
        assert!(matches!((&near, &far), (End::Closed, End::Closed)), "{near:?} {far:?}");
        let through = async {
            let settled = opener.settle().await;
            // Its last word would wait for its next stream.
            poll_fn(|cx| opener.poll_flush(cx)).await.unwrap();
            settled
        };
        let settled = tokio::join!(through, responder.settle());
        assert_eq!(settled, (true, true), "the lane can be used again");
    };
    timeout(BOUND, work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_serves_bulk_hears_of_a_cut_a_reset_and_a_loss() {
    let work = async {
        for fault in ["cut", "reset", "lost", "reset while the other stalls"] {
            let [(mut a, mut client), (mut b, mut server)] = joined().await;
            until_alone(&mut client, &mut server, [&a.places, &b.places]).await;
            let stalls = fault.ends_with("stalls");
            // Nothing is read any longer: both agents wait for room.
            let sent = piece(0);
            let stalled = async { while client.write_all(&sent).await.is_ok() {} };
            if stalls {
                timeout(Duration::from_millis(300), stalled).await.unwrap_err();
            } else {
                timeout(Duration::from_millis(5), stalled).await.ok();
            }
            match fault {
                "cut" => {
                    let (unused, _) = oneshot::channel();
                    std::mem::replace(&mut a.cut, unused).send(Reason::PermitWithdrawn).unwrap();
                }
                "lost" => b.ended.abort_all(),
                _ => {
                    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
                    drop(client);
                }
            }
            let (end, mut link) = ended(&mut a).await;
            match fault {
                "cut" => assert!(matches!(end, End::Cut(Reason::PermitWithdrawn)), "{end:?}"),
                "lost" => assert!(matches!(end, End::Lost(_) | End::Far(_)), "{end:?}"),
                _ => assert!(matches!(end, End::Application(_)), "{fault}: {end:?}"),
            }
            if fault != "lost" {
                timeout(Duration::from_secs(3), link.settle()).await.ok();
                drop(link);
                let (end, _) = ended(&mut b).await;
                assert!(matches!(end, End::Far(_) | End::Lost(_)), "{fault}: {end:?}");
                let mut rest = vec![0; PIECE];
                let error = loop {
                    match server.read(&mut rest).await {
                        Ok(0) => panic!("{fault}: an end in order"),
                        Ok(_) => {}
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{fault}");
            }
        }
    };
    timeout(BOUND, work).await.unwrap();
}
