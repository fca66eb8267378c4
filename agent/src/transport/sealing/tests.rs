//! Which record layer a connection gets, and what becomes of what was read behind the handshake.

use std::future::poll_fn;

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::tcp::Tcp;
use crate::transport::record::{Fatal, HEADER, Limits, Secret, Side, Suite, TRAILER};
use crate::transport::wire::Lost;

fn records(side: Side) -> Records {
    let secret = |byte| Secret::new(Suite::Aes128Gcm, &[byte; 32]).unwrap();
    Records::new(Suite::Aes128Gcm, side, secret(1), secret(2), Limits::default()).unwrap()
}

fn data(from: &mut Records, content: &[u8]) -> Vec<u8> {
    let mut record = vec![0; HEADER + content.len() + TRAILER];
    record[HEADER..][..content.len()].copy_from_slice(content);
    from.seal(&mut record, content.len()).unwrap();
    record
}

async fn sockets() -> [Socket; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    [near.unwrap(), far.unwrap().0].map(|end| Socket::new(Tcp::of(end).unwrap()))
}

/// Takes `wanted` bytes of plaintext.
async fn taken(wire: &mut Wire, wanted: usize) -> Result<Vec<u8>, Lost> {
    let mut taken = Vec::new();
    while taken.len() < wanted {
        if wire.plain().is_empty() {
            poll_fn(|cx| wire.poll_plain(cx)).await?;
        }
        let plain = wire.plain().to_vec();
        wire.advance(plain.len(), 0);
        taken.extend(plain);
    }
    Ok(taken)
}

#[test]
fn the_kernel_is_taken_where_it_can_and_else_the_reason_is_told() {
    assert_eq!(Sealing::choose(RecordLayer::Adit), (Sealing::Adit, None));
    assert_eq!(Sealing::choose(RecordLayer::Rustls), (Sealing::Rustls, None));
    match Sealing::choose(RecordLayer::Kernel) {
        (Sealing::Kernel(kernel), warning) => {
            println!("this kernel has kTLS");
            assert_eq!(warning.is_none(), kernel.rekeys(), "{warning:?}");
        }
        (other, warning) => {
            println!("this kernel has no kTLS");
            assert_eq!(other, Sealing::Adit);
            let warning = warning.unwrap();
            for part in
                ["`ktls` cannot be used", "TCP_ULP tls", "os error 2", "the agent's own", "modprobe tls", "CONFIG_TLS"]
            {
                assert!(warning.contains(part), "no {part} in: {warning}");
            }
        }
    }
}

#[test]
fn the_kernel_begins_behind_whole_records_alone() {
    let mut peer = records(Side::Client);
    let (first, second) = (data(&mut peer, b"HELLO"), data(&mut peer, &[7; 3000]));
    let both = [first.clone(), second].concat();
    for len in 0..=both.len() {
        let at_a_border = len == 0 || len == first.len() || len == both.len();
        assert_eq!(ends_with_a_record(&both[..len]), at_a_border, "{len}");
    }
    assert!(!ends_with_a_record(b"GET / HTTP/1.1\r\n\r\n"));
}

/// Wherever what was read behind the handshake ends, all of it arrives, and what is said afterwards: by the kernel where it has
/// kTLS, by the agent where it refuses.
#[tokio::test]
async fn what_was_read_with_the_handshake_arrives_whoever_goes_on() {
    let whole = {
        let mut peer = records(Side::Client);
        [data(&mut peer, b"HELLO"), data(&mut peer, b"and more")].concat()
    };
    for len in 0..=whole.len() {
        let [mut near, far] = sockets().await;
        let mut early = whole[..len].to_vec();
        let mut server = connection(Some(Kernel::untried()), far, records(Side::Server), &mut early).unwrap();
        // The rest, then a record that was sealed afterwards.
        let mut peer = records(Side::Client);
        for content in [&b"HELLO"[..], b"and more"] {
            data(&mut peer, content);
        }
        let rest = [&whole[len..], &data(&mut peer, b", then bye")].concat();
        tokio::io::AsyncWriteExt::write_all(&mut near, &rest).await.unwrap();
        assert_eq!(taken(&mut server, 23).await.unwrap(), b"HELLOand more, then bye", "{len}");
        server.push(b"heard").unwrap();
        poll_fn(|cx| server.poll_write(cx)).await.unwrap();
        let mut answer = vec![0; HEADER + 5 + TRAILER];
        tokio::io::AsyncReadExt::read_exact(&mut near, &mut answer).await.unwrap();
        assert_eq!(peer.open(&mut answer), Ok(Received::Data(HEADER..HEADER + 5)), "{len}");
        assert_eq!(&answer[HEADER..HEADER + 5], b"heard", "{len}: sealed, whoever did it");
    }
}

#[tokio::test]
async fn what_was_read_with_the_handshake_and_is_forged_ends_the_connection() {
    let [_near, far] = sockets().await;
    let mut early = data(&mut records(Side::Client), b"HELLO");
    early[HEADER] ^= 1;
    let mut server = connection(Some(Kernel::untried()), far, records(Side::Server), &mut early).unwrap();
    assert!(matches!(taken(&mut server, 1).await, Err(Lost::Tls(Fatal::BadRecord))));
}

#[tokio::test]
async fn an_end_that_was_read_with_the_handshake_is_an_end() {
    let [_near, far] = sockets().await;
    let mut peer = records(Side::Client);
    peer.close();
    let mut early = Vec::new();
    peer.poll_control(&mut early).unwrap();
    let ended = connection(Some(Kernel::untried()), far, records(Side::Server), &mut early).unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
}
