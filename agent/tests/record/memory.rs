//! Against rustls in memory, as client and as server.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use agent::transport::handshake::{Established, Handshake};
use agent::transport::record::{
    Fatal, HEADER, Limits, MAX_CONTENT, MAX_RECORD, Received, Records, Side, Suite, TRAILER,
};
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use proptest::prelude::*;
use rustls::{
    AlertDescription as Alert, ClientConnection, Connection, ConnectionTrafficSecrets, Error, ServerConnection,
};

use crate::pki;

pub(crate) const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// A connection of ours, on `side`, with one of rustls.
pub(crate) fn connect(side: Side, suite: Suite, limits: Limits) -> (Records, Connection) {
    let (mut ours, mut theirs) = begin(side, suite);
    let mut behind = Vec::new();
    for _ in 0..10 {
        let mut out = Vec::new();
        if !ours.is_done() {
            ours.poll_output(&mut out);
        }
        give(&mut theirs, &out).unwrap();
        let bytes = taken(&mut theirs);
        let used = ours.handle_input(&bytes).unwrap();
        behind.extend_from_slice(&bytes[used..]);
        if ours.is_done() && !theirs.is_handshaking() {
            break;
        }
        if ours.is_done() {
            // What finish hands over goes out, too.
            let Established { records, unsent, alpn, .. } = ours.finish(limits).unwrap();
            give(&mut theirs, &unsent).unwrap();
            assert_eq!(alpn.as_deref(), Some(&b"test/1"[..]));
            return settled(records, theirs, behind);
        }
    }
    settled(ours.finish(limits).unwrap().records, theirs, behind)
}

fn begin(side: Side, suite: Suite) -> (Handshake, Connection) {
    let (client, server) = (pki::client(suite), pki::server(suite));
    match side {
        Side::Client => {
            let theirs = ServerConnection::new(Arc::new(server)).unwrap();
            (Handshake::client(&client, pki::name()).unwrap(), theirs.into())
        }
        Side::Server => {
            let theirs = ClientConnection::new(Arc::new(client), pki::name()).unwrap();
            (Handshake::server(&server).unwrap(), theirs.into())
        }
    }
}

/// What lay behind the handshake is opened: rustls' tickets.
fn settled(mut records: Records, mut theirs: Connection, mut behind: Vec<u8>) -> (Records, Connection) {
    theirs.set_buffer_limit(None);
    behind.extend(taken(&mut theirs));
    assert_eq!(receive(&mut records, &mut behind).unwrap(), b"");
    assert!(behind.is_empty() && !theirs.is_handshaking());
    (records, theirs)
}

/// Gives rustls bytes, and what it makes of them.
pub(crate) fn give(to: &mut Connection, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets()?;
        match to.reader().read_to_end(&mut content) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    Ok(content)
}

/// What rustls has to send.
pub(crate) fn taken(from: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Opens the whole records of `bytes`; the rest stays there.
pub(crate) fn receive(records: &mut Records, bytes: &mut Vec<u8>) -> Result<Vec<u8>, Fatal> {
    let mut content = Vec::new();
    while let Some(len) = records.parse(bytes)?.filter(|&len| len <= bytes.len()) {
        if let Received::Data(range) = records.open(&mut bytes[..len])? {
            content.extend_from_slice(&bytes[range]);
        }
        bytes.drain(..len);
    }
    Ok(content)
}

/// `content` as records of ours, with what comes before each.
pub(crate) fn sealed(records: &mut Records, content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for piece in content.chunks(MAX_CONTENT) {
        records.poll_control(&mut wire).unwrap();
        let mut record = vec![0; HEADER + piece.len() + TRAILER];
        record[HEADER..][..piece.len()].copy_from_slice(piece);
        records.seal(&mut record, piece.len()).unwrap();
        wire.extend(record);
    }
    wire
}

fn pattern(len: usize) -> Vec<u8> {
    (0..251u8).cycle().map(|n| n.wrapping_mul(31)).take(len).collect()
}

#[test]
fn keys_ivs_and_numbers_are_those_of_rustls() {
    for suite in Suite::ALL {
        for side in SIDES {
            let (mut ours, theirs) = connect(side, suite, Limits::default());
            let secrets = theirs.dangerous_extract_secrets().unwrap();
            // Our own direction has sealed nothing in the handshake.
            let (sequence, secrets) = secrets.rx;
            assert_eq!(sequence, 0);
            let (algorithm, key, iv) = match secrets {
                ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
                ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
                ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
                _ => panic!("another suite"),
            };
            // Number zero leaves the IV as it is.
            let nonce = Nonce::try_assume_unique_for_key(iv.as_ref()).unwrap();
            let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
            let mut expected = b"hello\x17".to_vec();
            key.seal_in_place_append_tag(nonce, Aad::from([23, 3, 3, 0, 22]), &mut expected).unwrap();
            assert_eq!(sealed(&mut ours, b"hello")[HEADER..], expected, "{suite:?}, {side:?}");
        }
    }
}

#[test]
fn every_size_around_a_border_passes_both_ways() {
    let sizes = [1, 2, 15, 16, 17, 255, 256, 1400, 16367, 16368, 16383, 16384, 16385, 32768, 50_000];
    for suite in Suite::ALL {
        for side in SIDES {
            let (mut ours, mut theirs) = connect(side, suite, Limits::default());
            for size in sizes {
                let content = pattern(size);
                let got = give(&mut theirs, &sealed(&mut ours, &content)).unwrap();
                assert_eq!(got, content, "{suite:?}, {side:?}, {size}");
                theirs.writer().write_all(&content).unwrap();
                let mut wire = taken(&mut theirs);
                assert_eq!(receive(&mut ours, &mut wire).unwrap(), content, "{suite:?}, {side:?}, {size}");
                assert!(wire.is_empty());
            }
            // An empty record is no end.
            let mut empty = vec![0; HEADER + TRAILER];
            ours.seal(&mut empty, 0).unwrap();
            assert_eq!(give(&mut theirs, &empty).unwrap(), b"");
            assert_eq!(give(&mut theirs, &sealed(&mut ours, b"x")).unwrap(), b"x");
        }
    }
}

#[test]
fn a_stream_of_records_may_be_split_at_every_byte() {
    for side in SIDES {
        let (mut ours, mut theirs) = connect(side, Suite::Aes128Gcm, Limits::default());
        for cut in 0..=3 * (HEADER + 5 + TRAILER) {
            for content in [&b"first"[..], b"secnd", b"third"] {
                theirs.writer().write_all(content).unwrap();
                theirs.writer().flush().unwrap();
            }
            let wire = taken(&mut theirs);
            let (one, two) = wire.split_at(cut.min(wire.len()));
            let mut inbox = one.to_vec();
            let mut content = receive(&mut ours, &mut inbox).unwrap();
            inbox.extend_from_slice(two);
            content.extend(receive(&mut ours, &mut inbox).unwrap());
            assert_eq!(content, b"firstsecndthird", "cut at {cut}");

            let wire = [&b"first"[..], b"secnd", b"third"].map(|content| sealed(&mut ours, content)).concat();
            let (one, two) = wire.split_at(cut.min(wire.len()));
            let content = [give(&mut theirs, one).unwrap(), give(&mut theirs, two).unwrap()].concat();
            assert_eq!(content, b"firstsecndthird", "cut at {cut}");
        }
    }
}

#[test]
fn storms_of_key_updates_under_load_lose_nothing() {
    for suite in Suite::ALL {
        for side in SIDES {
            // New keys before every other record of ours, and of rustls' by its own wish, with requests to us.
            let limits = Limits { update_after: 2, ..Limits::default() };
            let (mut ours, mut theirs) = connect(side, suite, limits);
            for round in 0..200 {
                let content = pattern(1 + round * 211 % 40_000);
                for _ in 0..round % 5 {
                    theirs.refresh_traffic_keys().unwrap();
                }
                theirs.writer().write_all(&content).unwrap();
                let mut wire = taken(&mut theirs);
                assert_eq!(receive(&mut ours, &mut wire).unwrap(), content, "{suite:?}, {side:?}, {round}");
                let wire = sealed(&mut ours, &content);
                let got = give(&mut theirs, &wire).unwrap();
                assert_eq!(got, content, "{suite:?}, {side:?}, {round}");
            }
        }
    }
}

#[test]
fn close_notify_and_alerts_are_understood_both_ways() {
    for side in SIDES {
        let (mut ours, mut theirs) = connect(side, Suite::Aes256Gcm, Limits::default());
        theirs.send_close_notify();
        assert_eq!(receive(&mut ours, &mut taken(&mut theirs)).unwrap(), b"");
        assert!(ours.is_closed());
        let mut wire = sealed(&mut ours, b"last");
        ours.close();
        assert!(ours.poll_control(&mut wire).unwrap());
        assert_eq!(give(&mut theirs, &wire).unwrap(), b"last");
        assert!(theirs.process_new_packets().unwrap().peer_has_closed());

        let (mut ours, mut theirs) = connect(side, Suite::Aes256Gcm, Limits::default());
        theirs.writer().write_all(b"x").unwrap();
        let mut wire = taken(&mut theirs);
        *wire.last_mut().unwrap() ^= 1;
        assert_eq!(receive(&mut ours, &mut wire), Err(Fatal::BadRecord));
        let mut alert = Vec::new();
        assert!(ours.poll_control(&mut alert).unwrap());
        assert_eq!(give(&mut theirs, &alert), Err(Error::AlertReceived(Alert::BadRecordMac)));

        let (mut ours, mut theirs) = connect(side, Suite::Aes256Gcm, Limits::default());
        let mut wire = sealed(&mut ours, b"x");
        *wire.last_mut().unwrap() ^= 1;
        assert_eq!(give(&mut theirs, &wire), Err(Error::DecryptError));
        assert_eq!(receive(&mut ours, &mut taken(&mut theirs)), Err(Fatal::Alerted(Alert::BadRecordMac)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_sizes_and_pieces_pass_both_ways(
        sizes in prop::collection::vec(prop_oneof![0usize..50, 16_300usize..16_500, 0usize..70_000], 1..8),
        pieces in prop::collection::vec(prop_oneof![1usize..40, 1usize..MAX_RECORD], 1..8),
        client in any::<bool>(),
        suite in prop::sample::select(&Suite::ALL[..]),
        update_after in 1u64..20,
    ) {
        let limits = Limits { update_after, ..Limits::default() };
        let (mut ours, mut theirs) = connect(if client { Side::Client } else { Side::Server }, suite, limits);
        let mut piece = pieces.iter().cycle();
        for size in sizes {
            let content = pattern(size);
            theirs.writer().write_all(&content).unwrap();
            let wire = taken(&mut theirs);
            let (mut rest, mut inbox, mut got) = (&wire[..], Vec::new(), Vec::new());
            while !rest.is_empty() {
                let (one, two) = rest.split_at(rest.len().min(*piece.next().unwrap()));
                inbox.extend_from_slice(one);
                rest = two;
                got.extend(receive(&mut ours, &mut inbox).unwrap());
            }
            prop_assert_eq!(&got, &content);
            let wire = sealed(&mut ours, &content);
            let (mut rest, mut got) = (&wire[..], Vec::new());
            while !rest.is_empty() {
                let (one, two) = rest.split_at(rest.len().min(*piece.next().unwrap()));
                got.extend(give(&mut theirs, one).unwrap());
                rest = two;
            }
            prop_assert_eq!(&got, &content);
        }
    }
}
