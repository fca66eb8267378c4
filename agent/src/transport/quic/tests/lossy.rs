//! A path that loses datagrams and brings others late.

use tokio::net::UdpSocket;

use super::*;

/// Passes datagrams on between whoever sends to the address that it gives and `acceptor`: of ten, one is lost, and one comes after
/// the next.
async fn relay(acceptor: SocketAddr, tasks: &mut JoinSet<()>) -> SocketAddr {
    let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    back.connect(acceptor).await.unwrap();
    let address = front.local_addr().unwrap();
    tasks.spawn(async move {
        let (mut there, mut back_again) = (vec![0; 2048], vec![0; 2048]);
        let (mut dialler, mut dice, mut late) = (None, 1_u64, [None, None]);
        loop {
            let (to_acceptor, datagram) = tokio::select! {
                came = front.recv_from(&mut there) => {
                    let (len, from) = came.unwrap();
                    dialler = Some(from);
                    (true, there[..len].to_vec())
                }
                came = back.recv(&mut back_again) => (false, back_again[..came.unwrap()].to_vec()),
            };
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let late = &mut late[usize::from(to_acceptor)];
            let now = match (dice >> 16) % 10 {
                0 => continue,
                1 if late.is_none() => {
                    *late = Some(datagram);
                    continue;
                }
                _ => [Some(datagram), late.take()],
            };
            for datagram in now.into_iter().flatten() {
                // What the kernel will not take is lost as well.
                let _sent = match dialler {
                    Some(dialler) if !to_acceptor => front.send_to(&datagram, dialler).await,
                    _ => back.send(&datagram).await,
                };
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_come_whole_and_in_order_where_one_datagram_of_ten_is_lost_and_another_late() {
    let (mut tasks, share) = (JoinSet::new(), PeerShare::default());
    let pair =
        connect_via(transport_config(Algorithm::default()), async |acceptor| relay(acceptor, &mut tasks).await).await;
    let [(a, _), (b, _)] = greeted_as(&pair, share.clone()).await;
    let mut most = 0;
    let exchanges = async {
        let mut exchanges = JoinSet::new();
        for seed in 0..8 {
            let (mut near, mut far) = streams(&a, &b).await;
            exchanges.spawn(async move { exchange(&mut near, [seed, seed + 100], 500_000).await });
            exchanges.spawn(async move { exchange(&mut far, [seed + 100, seed], 500_000).await });
        }
        exchanges.join_all().await
    };
    tokio::pin!(exchanges);
    let taken = within(async {
        let mut look = tokio::time::interval(Duration::from_millis(1));
        loop {
            tokio::select! {
                taken = &mut exchanges => break taken,
                _ = look.tick() => most = most.max(share.pieces()),
            }
        }
    })
    .await;
    assert_eq!(taken, [500_000; 16]);
    assert!(most > 0 && most < MOST_PIECES / 16, "{most} pieces waited");
    assert_eq!((share.pieces(), a.budget_used(), b.budget_used()), (0, 0, 0));
}
