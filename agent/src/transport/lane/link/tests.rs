use std::net::Ipv4Addr;

use mesh_config::NodeName;
use tokio::net::{TcpListener, TcpStream};

use super::super::machine::EARLY_DATA;
use super::carrier::MOST_PIECES;
use super::*;
use crate::identity::{ALPN_LANE, TlsContext, tests::contexts};
use crate::tcp::Tcp;
use crate::transport::frame::{Kind, header};
use crate::transport::message::tests::{hello_of, open_request};
use crate::transport::sealing::Sealing;
use crate::transport::secure;

const BOUND: Duration = Duration::from_secs(20);

/// Makes lanes from alpha to beta, each with an address of its own.
pub(crate) struct Net {
    alpha: TlsContext,
    beta: TlsContext,
    peer: NodeName,
}

impl Net {
    pub(crate) fn new() -> Self {
        let [alpha, beta] = contexts(["alpha", "beta"]);
        Self { alpha, beta, peer: NodeName::new("beta").unwrap() }
    }

    /// The opener's end, which leads to that run of the peer, and the responder's.
    pub(crate) async fn lane_to(&self, run: Incarnation) -> (Box<Link>, Link) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        // As every connection of an agent.
        for end in [&tcp, &accepted] {
            end.set_nodelay(true).unwrap();
        }
        let [tcp, accepted] = [tcp, accepted].map(|end| Tcp::of(end).unwrap());
        let deadline = tokio::time::Instant::now() + BOUND;
        let near =
            secure::dial(&self.alpha, &self.peer, ALPN_LANE, tcp, hello_of(Incarnation(1)), Sealing::Adit, deadline);
        let far = secure::accept(&self.beta, &[ALPN_LANE], accepted, hello_of(run), Sealing::Adit, deadline);
        let (near, far) = tokio::join!(near, far);
        (Box::new(Link::new(near.unwrap(), End::Opener).0), Link::new(far.unwrap(), End::Responder).0)
    }
}

#[tokio::test]
async fn what_is_said_again_on_a_lane_on_which_something_waits_has_room_or_fails() {
    let (net, waits) = (Net::new(), [&header(Kind::Data, 1000)[..], &[0; 1000]].concat());
    let mut failed = 0;
    for frames in (0..64).step_by(4) {
        let (mut near, _far) = net.lane_to(Incarnation(7)).await;
        for _ in 0..frames {
            near.wire.push(&waits).unwrap();
        }
        let said = near.reopen((open_request(), vec![7; EARLY_DATA], true));
        assert!(frames > 0 || said.is_ok(), "{said:?}");
        failed += u32::from(said.is_err_and(|broken| broken.0.contains("something else waits")));
    }
    assert!(failed > 2, "{failed}");
}

#[tokio::test]
async fn small_pieces_of_one_record_are_handed_on_a_few_at_a_time_and_all_of_them() {
    let (mut near, mut far) = Net::new().lane_to(Incarnation(7)).await;
    near.open(open_request()).unwrap();
    let serve = async {
        far.next_open().await.unwrap().unwrap();
        far.accept("").unwrap();
        far.transfer().unwrap();
        // One record: there is room for all of it.
        for piece in 0..200_u8 {
            let header = far.machine.data(1).unwrap();
            far.wire.push(&[&header[..], &[piece]].concat()).unwrap();
        }
        // As after bytes of an application.
        far.held = None;
        poll_fn(|cx| far.poll_flush(cx)).await.unwrap();
    };
    let ask = async {
        poll_fn(|cx| near.poll_flush(cx)).await.unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < 200 {
            let received = poll_fn(|cx| near.poll_received(cx)).await.unwrap();
            assert_eq!(received, Received::Data);
            assert!(near.pieces.len() <= MOST_PIECES, "{} pieces", near.pieces.len());
            let drained = near.drain(|chunks| {
                chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
                Poll::Ready(Ok(chunks.iter().map(|chunk| chunk.len()).sum()))
            });
            assert!(matches!(drained, Poll::Ready(Ok(1..))));
        }
        assert_eq!(bytes, (0..200).collect::<Vec<u8>>());
    };
    timeout(BOUND, async { tokio::join!(serve, ask) }).await.unwrap();
}

/// An opener may ask for its next stream as soon as it has heard DONE, while who serves the last one still looks at it.
#[tokio::test]
async fn the_next_stream_waits_until_who_serves_the_last_one_is_through_with_it() {
    let (mut near, mut far) = Net::new().lane_to(Incarnation(7)).await;
    let twice = async {
        near.open(open_request()).unwrap();
        near.finish();
        poll_fn(|cx| near.poll_flush(cx)).await.unwrap();
        far.next_open().await.unwrap().unwrap();
        far.accept("").unwrap();
        far.finish();
        assert_eq!(poll_fn(|cx| far.poll_received(cx)).await.unwrap(), Received::Fin);
        poll_fn(|cx| far.poll_flush(cx)).await.unwrap();
        assert!(near.settle().await);
        near.open(open_request()).unwrap();
        poll_fn(|cx| near.poll_flush(cx)).await.unwrap();
        let socket = far.watched().upgrade().unwrap();
        while socket.peek(&mut [0]).is_err() {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            assert_eq!(poll_fn(|cx| far.poll_received(cx)).await.unwrap(), Received::Fin);
        }
        assert!(far.settle().await, "the first is over");
        assert!(far.next_open().await.unwrap().is_some(), "the second waits");
    };
    timeout(BOUND, twice).await.unwrap();
}
