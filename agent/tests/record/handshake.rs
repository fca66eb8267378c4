//! What a peer may do to a handshake.

use agent::transport::handshake::{Handshake, MAX_INPUT};
use agent::transport::record::{Limits, Suite};
use rustls::{AlertDescription as Alert, Error, InvalidMessage};

use crate::pki;

fn server() -> Handshake {
    Handshake::server(&pki::server(Suite::Aes128Gcm)).unwrap()
}

fn client() -> Handshake {
    Handshake::client(&pki::client(Suite::Aes128Gcm), pki::name()).unwrap()
}

fn output(handshake: &mut Handshake) -> Vec<u8> {
    let mut out = Vec::new();
    let any = handshake.poll_output(&mut out);
    assert_eq!(any, !out.is_empty());
    out
}

/// The error that `bytes` end in, and what the peer is told.
fn refused(mut handshake: Handshake, bytes: &[u8]) -> (Error, Vec<u8>) {
    output(&mut handshake);
    let error = handshake.handle_input(bytes).unwrap_err();
    assert_eq!(handshake.handle_input(b"more"), Err(error.clone()), "the same again");
    let told = output(&mut handshake);
    assert!(!handshake.is_done());
    assert_eq!(handshake.finish(Limits::default()).map(drop), Err(error.clone()));
    (error, told)
}

fn alert(alert: Alert) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, u8::from(alert)]
}

#[test]
fn what_is_not_a_handshake_is_refused_by_its_first_header() {
    let decode = |why| (Error::InvalidMessage(why), alert(Alert::DecodeError));
    for handshake in [server, client] {
        assert_eq!(refused(handshake(), b"GET / HTTP/1.1\r\n\r\n"), decode(InvalidMessage::InvalidContentType));
        assert_eq!(refused(handshake(), b"GET /"), decode(InvalidMessage::InvalidContentType));
        assert_eq!(refused(handshake(), &[22, 9, 9, 0, 5]), decode(InvalidMessage::UnknownProtocolVersion));
        assert_eq!(refused(handshake(), &[22, 3, 1, 255, 255]), decode(InvalidMessage::MessageTooLarge));
        assert_eq!(refused(handshake(), &[22, 3, 1, 0, 0]), decode(InvalidMessage::InvalidEmptyPayload));
    }
}

#[test]
fn close_notify_instead_of_a_handshake_does_not_keep_it() {
    const CLOSE: &[u8] = &[21, 3, 3, 0, 2, 1, 0];
    // Not authentic as yet, so a few of them mean nothing.
    for handshake in [server, client] {
        let mut handshake = handshake();
        output(&mut handshake);
        assert!((0..10).any(|_| handshake.handle_input(CLOSE).is_err()));
    }
    let (mut client, mut server) = (client(), server());
    let hello = output(&mut client);
    assert_eq!(server.handle_input(&hello), Ok(hello.len()));
    assert_eq!(server.handle_input(CLOSE), Err(Error::AlertReceived(Alert::CloseNotify)));
}

#[test]
fn an_alert_keeps_its_name() {
    for (description, name) in [(48, Alert::UnknownCA), (49, Alert::AccessDenied), (120, Alert::NoApplicationProtocol)]
    {
        let (error, told) = refused(client(), &[21, 3, 3, 0, 2, 2, description]);
        assert_eq!((error, told), (Error::AlertReceived(name), Vec::new()));
    }
}

#[test]
fn a_record_longer_than_the_rules_is_refused_by_its_header() {
    for len in [16_385u16, 16_640, 16_641] {
        let [high, low] = len.to_be_bytes();
        let (error, told) = refused(server(), &[22, 3, 1, high, low]);
        assert_eq!((error, told), (Error::PeerSentOversizedRecord, alert(Alert::RecordOverflow)), "{len}");
    }
    // Sealed ones may be a little longer, and an alert in the clear would say nothing any more.
    let (mut client, mut server) = (client(), server());
    let hello = output(&mut client);
    assert_eq!(server.handle_input(&hello), Ok(hello.len()));
    output(&mut server);
    assert_eq!(refused(server, &[23, 3, 3, 0x41, 1]), (Error::PeerSentOversizedRecord, Vec::new()));
}

#[test]
fn a_peer_that_sends_without_end_is_cut_off() {
    // A ClientHello that announces 16 MiB, by header and by crumbs.
    let announced = [22, 3, 1, 0, 4, 1, 255, 255, 255];
    let (error, _) = refused(server(), &announced);
    assert_eq!(error, Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge));
    // One that keeps within rustls' bound, in records of one byte: six bytes for each.
    let mut stream = [22, 3, 1, 0, 4, 1, 0, 255, 255].to_vec();
    stream.extend([22, 3, 1, 0, 1, 0].repeat(65_000));
    let mut server = server();
    let mut taken = 0;
    let error = loop {
        match server.handle_input(&stream[taken..][..1000]) {
            Ok(len) => taken += len,
            Err(error) => break error,
        }
    };
    assert!(taken <= MAX_INPUT, "{taken}: {error:?}");
}

#[test]
fn bytes_behind_the_handshake_are_left_alone() {
    let (mut client, mut server) = (client(), server());
    let hello = output(&mut client);
    server.handle_input(&hello).unwrap();
    let mut flight = output(&mut server);
    let whole = flight.len();
    flight.extend([0xff; 100]);
    assert_eq!(client.handle_input(&flight), Ok(whole));
    assert!(client.is_done());
    assert_eq!(client.handle_input(b"more"), Ok(0));
    let mut finished = output(&mut client);
    let whole = finished.len();
    finished.extend([0xff; 100]);
    assert_eq!(server.handle_input(&finished), Ok(whole));
    assert!(server.is_done() && output(&mut server).is_empty(), "no ticket");
}

#[test]
fn a_flight_cut_short_is_no_handshake() {
    let (mut client, mut server) = (client(), server());
    let hello = output(&mut client);
    server.handle_input(&hello).unwrap();
    let flight = output(&mut server);
    client.handle_input(&flight[..flight.len() - 1]).unwrap();
    assert!(!client.is_done());
    assert_eq!(client.finish(Limits::default()).map(drop), Err(Error::HandshakeNotComplete));
}
