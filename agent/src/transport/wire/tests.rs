//! Two ends over a real connection: every byte arrives in order, whatever the sizes and however often the keys change.

mod kernel;

use std::future::poll_fn;
use std::io::Read as _;
use std::sync::Arc;
use std::task::Poll;

use proptest::prelude::*;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::buffer::Size;
use super::*;
use crate::tcp::Tcp;
use crate::transport::frame::{Item, Kind, Parser, header};
use crate::transport::lane::machine::MAX_QUEUED;
use crate::transport::quic::tests::{SERVER, tls_configs};
use crate::transport::record::{Fatal, Limits, Secret, Side, Suite};

/// What a slot, a frame, a record, as many of them as are read or written at once, or a buffer ends at, in bytes.
const BORDERS: [usize; 14] = [
    1,
    1024,
    MAX_QUEUED,
    CONTENT - HEADER,
    CONTENT,
    RECORD,
    Size::Small.bytes(),
    PACED * (CONTENT - HEADER),
    PACED * RECORD + 1024,
    UNPACED * (CONTENT - HEADER),
    UNPACED * CONTENT,
    UNPACED * RECORD,
    UNPACED * RECORD + 1024,
    Size::Large.bytes(),
];

/// Two ends whose sending keys change after so many records.
async fn pair(suite: Suite, update_after: u64) -> [Wire; 2] {
    pair_of(suite, update_after, [false; 2], |_, _| unreachable!("no end is another's")).await
}

/// Two ends, some of which are `other`.
async fn pair_of(
    suite: Suite,
    update_after: u64,
    others: [bool; 2],
    other: impl Fn(Socket, Records) -> Wire,
) -> [Wire; 2] {
    let [near, far] = sockets().await;
    let length = if matches!(suite, Suite::Aes256Gcm) { 48 } else { 32 };
    let wire = |socket, side, is_other: bool| {
        let secret = |byte| Secret::new(suite, &vec![byte; length]).unwrap();
        let limits = Limits { update_after, ..Limits::default() };
        let records = Records::new(suite, side, secret(1), secret(2), limits).unwrap();
        if is_other { other(socket, records) } else { Wire::new(socket, records, &[]) }
    };
    [wire(near, Side::Client, others[0]), wire(far, Side::Server, others[1])]
}

/// Two ends whose records rustls makes.
async fn pair_of_rustls() -> [Wire; 2] {
    let [near, far] = sockets().await;
    let (server, client) = tls_configs();
    let (near, far) = tokio::join!(
        TlsConnector::from(Arc::new(client)).connect(SERVER.try_into().unwrap(), near),
        TlsAcceptor::from(Arc::new(server)).accept(far)
    );
    [Wire::of_rustls(near.unwrap().into()), Wire::of_rustls(far.unwrap().into())]
}

/// The same ends, of which the kernel does not pace some.
async fn unpaced(pair: impl Future<Output = [Wire; 2]>, at: [bool; 2]) -> [Wire; 2] {
    let mut wires = pair.await;
    wires.iter_mut().zip(at).filter(|(_, unpaced)| *unpaced).for_each(|(wire, _)| wire.unpaced());
    wires
}

async fn sockets() -> [Socket; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    [near.unwrap(), far.unwrap().0].map(|tcp| Socket::new(Tcp::of(tcp).unwrap()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn content(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u64).wrapping_mul(0x9e37_79b9).to_le_bytes()[2] ^ seed).collect()
}

/// Sends `out` in pieces of these sizes, one after the other and again, while it receives as many bytes as `wanted`.
async fn exchange(wire: &mut Wire, out: &[u8], sizes: &[usize], wanted: usize) -> Vec<u8> {
    let (mut rest, mut next, mut parser, mut received) = (out, 0, Parser::new(), Vec::new());
    poll_fn(|cx| {
        while !rest.is_empty() && wire.poll_room(cx, usize::MAX).map(Result::unwrap).is_ready() {
            let size = sizes[next % sizes.len()].max(1);
            next += 1;
            let copy = |slots: &mut [IoSliceMut<'_>]| {
                let (mut piece, mut copied) = (rest.take(size as u64), 0);
                for slot in slots {
                    copied += piece.read(slot)?;
                }
                rest = piece.into_inner();
                Poll::Ready(Ok(copied))
            };
            let filled = wire.fill(usize::MAX, copy, |data| Ok(header(Kind::Data, data.len())));
            assert!(filled.unwrap().is_ready());
            // A frame between two pieces now and then.
            if next.is_multiple_of(7) && wire.has_room(64) {
                wire.push(&[header(Kind::Ping, 3).as_slice(), b"abc"].concat()).unwrap();
            }
        }
        let written = wire.poll_write(cx).map(Result::unwrap).is_ready();
        while received.len() < wanted {
            match wire.poll_plain(cx) {
                Poll::Ready(result) => result.unwrap(),
                Poll::Pending => break,
            }
            while !wire.plain().is_empty() {
                let mut input = wire.plain();
                let before = input.len();
                if let Some(Item::Data(piece)) = parser.next(&mut input).unwrap() {
                    received.extend_from_slice(piece);
                }
                let used = before - input.len();
                wire.advance(used, 0);
            }
        }
        if rest.is_empty() && written && received.len() >= wanted { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    received
}

fn run(suite: Suite, update_after: u64, lengths: [usize; 2], sizes: &[usize]) {
    run_over(pair(suite, update_after), lengths, sizes);
}

fn run_over(pair: impl Future<Output = [Wire; 2]>, lengths: [usize; 2], sizes: &[usize]) {
    runtime().block_on(async {
        let [mut a, mut b] = pair.await;
        let (x, y) = (content(lengths[0], 1), content(lengths[1], 2));
        let both = async { tokio::join!(exchange(&mut a, &x, sizes, y.len()), exchange(&mut b, &y, sizes, x.len())) };
        let (at_a, at_b) = tokio::time::timeout(std::time::Duration::from_secs(20), both).await.unwrap();
        assert!(at_a == y && at_b == x, "bytes differ");
        // Nothing is under way, so nothing is held.
        let mut cx = Context::from_waker(Waker::noop());
        for wire in [&mut a, &mut b] {
            assert!(wire.poll_plain(&mut cx).is_pending());
            assert!(wire.outbound.is_empty() && wire.inbound.is_released() && wire.outbound.is_released());
        }
        poll_fn(|cx| a.poll_close(cx)).await.unwrap();
        assert!(matches!(poll_fn(|cx| b.poll_plain(cx)).await, Err(Lost::Closed)));
    });
}

#[test]
fn megabytes_cross_both_ways_while_keys_change_all_the_time() {
    for suite in Suite::ALL {
        for update_after in [1, 2, 5, 1 << 23] {
            run(suite, update_after, [3 << 20, 2 << 20], &[200_000, 1, 16_380, 7]);
        }
    }
}

#[test]
fn an_end_without_close_notify_is_a_truncation() {
    runtime().block_on(async {
        let [a, mut b] = pair(Suite::Aes128Gcm, 1 << 23).await;
        drop(a);
        assert!(matches!(poll_fn(|cx| b.poll_plain(cx)).await, Err(Lost::Truncated)));
    });
}

#[test]
fn a_forged_record_ends_the_connection_and_the_peer_is_told() {
    use tokio::io::AsyncWriteExt as _;
    runtime().block_on(async {
        let [mut a, mut b] = pair(Suite::Aes128Gcm, 1 << 23).await;
        // What is begun and not sealed is not said any more.
        b.push(&[header(Kind::Ping, 3).as_slice(), b"abc"].concat()).unwrap();
        let socket = a.socket_mut();
        socket.write_all(&[23, 3, 3, 0, 32]).await.unwrap();
        socket.write_all(&[7; 32]).await.unwrap();
        assert!(matches!(poll_fn(|cx| b.poll_plain(cx)).await, Err(Lost::Tls(Fatal::BadRecord))));
        let told = poll_fn(|cx| a.poll_plain(cx)).await;
        assert!(matches!(told, Err(Lost::Tls(Fatal::Alerted(rustls::AlertDescription::BadRecordMac)))), "{told:?}");
    });
}

#[test]
fn a_read_of_every_size_around_every_border_arrives_amid_bulk() {
    const MUCH: usize = 200_000;
    for border in BORDERS {
        for size in border - 1..=border + 1 {
            // After three that fill what there is, as many records are read at once as ever are.
            let (sizes, lengths) = ([MUCH, MUCH, MUCH, size], [5 * MUCH, 3 * MUCH]);
            for at in [[false; 2], [true; 2]] {
                run_over(unpaced(pair(Suite::Aes128Gcm, 1 << 23), at), lengths, &sizes);
                run_over(unpaced(pair_of_rustls(), at), lengths, &sizes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_size_around_every_border_arrives(
        lengths in [0usize..200_000, 0usize..70_000],
        borders in proptest::collection::vec((0..BORDERS.len(), 0usize..5), 1..12),
        update_after in 1u64..40,
        at in any::<[bool; 2]>(),
        by_rustls in any::<bool>(),
    ) {
        let sizes: Vec<_> = borders.iter().map(|(at, off)| (BORDERS[*at] + off).saturating_sub(2)).collect();
        if by_rustls {
            run_over(unpaced(pair_of_rustls(), at), lengths, &sizes);
        } else {
            run_over(unpaced(pair(Suite::Aes128Gcm, update_after), at), lengths, &sizes);
        }
    }
}
