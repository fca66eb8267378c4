//! HELLO, and peers that break the rules.

use super::*;

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
        let stranger = Hello { mesh: MeshName::new("prod").unwrap(), ..hello_of(Incarnation(1)) };
        let accept = async {
            let refused = QuicLink::handshake(b.clone(), hello_of(Incarnation(2)), false, &clock, PeerShare::default())
                .await
                .unwrap_err();
            assert!(matches!(refused, QuicError::Hello(HelloError::Mesh { .. })), "{refused}");
            b.close(VarInt::from_u32(0), b"");
        };
        let (dialled, ()) = tokio::join!(QuicLink::handshake(a, stranger, true, &clock, PeerShare::default()), accept);
        dialled.unwrap_err();

        let pair = connect().await;
        let talk = async {
            let (mut send, recv) = pair.connections[0].open_bi().await.unwrap();
            send.write_all(&header(Kind::Ping, 0)).await.unwrap();
            (send, recv)
        };
        let accept = QuicLink::handshake(
            pair.connections[1].clone(),
            hello_of(Incarnation(2)),
            false,
            &clock,
            PeerShare::default(),
        );
        let (accepted, _streams) = tokio::join!(accept, talk);
        assert!(matches!(accepted.unwrap_err(), QuicError::Hello(HelloError::NotHello(Kind::Ping))));
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
