//! The two ways in which a connection ends, and the order of what is sent then.

use rustls::AlertDescription as Alert;

use super::super::*;
use super::support::*;

#[test]
fn close_notify_ends_one_direction() {
    let (mut client, mut server) = plain_pair();
    let last = data(&mut client, b"last");
    client.close();
    client.close();
    assert_eq!(client.seal(&mut [0; 64], 1), Err(SealError::Closed));
    assert!(client.has_control() && !client.has_ended());
    let close = control(&mut client);
    assert!(client.has_ended() && !client.has_control());
    assert_eq!(client.seal(&mut [0; 64], 1), Err(SealError::Closed));

    let (content, received) = feed(&mut server, [last, close].concat()).unwrap();
    assert_eq!((content, received.last()), (b"last".to_vec(), Some(&Received::Closed)));
    assert!(server.is_closed() && !client.is_closed());
    // What follows is ignored, whatever it is.
    assert_eq!(server.open(&mut [0; 30]), Ok(Received::Closed));
    assert_eq!(server.parse(b"GET / HTTP/1.1"), Ok(None));

    // The other direction goes on.
    let answer = data(&mut server, b"answer");
    assert_eq!(feed(&mut client, answer).unwrap().0, b"answer");
    server.close();
    let close = control(&mut server);
    assert_eq!(feed(&mut client, close).unwrap().1, [Received::Closed]);
}

#[test]
fn a_fatal_alert_ends_both_directions_without_an_answer() {
    let (mut client, mut server) = plain_pair();
    let alert = forge(&mut client, &[2, 48, 21]);
    assert_eq!(feed(&mut server, alert), Err(Fatal::Alerted(Alert::UnknownCA)));
    assert!(server.has_ended() && control(&mut server).is_empty());
    assert_eq!(server.seal(&mut [0; 64], 1), Err(Fatal::Alerted(Alert::UnknownCA).into()));
}

#[test]
fn after_close_notify_not_even_an_alert_is_sealed() {
    let (mut client, mut server) = plain_pair();
    server.close();
    let sent = control(&mut server);
    assert!(!sent.is_empty());
    let mut bad = data(&mut client, b"x");
    bad[HEADER] ^= 1;
    assert_eq!(feed(&mut server, bad), Err(Fatal::BadRecord));
    assert!(server.has_ended() && !server.has_control() && control(&mut server).is_empty());
}

#[test]
fn an_alert_takes_the_place_of_a_close_notify_that_waits() {
    let (mut client, mut server) = plain_pair();
    server.close();
    assert_eq!(server.parse(b"GET /"), Err(Fatal::Unsealed(b'G')));
    let told = control(&mut server);
    assert_eq!(feed(&mut client, told), Err(Fatal::Alerted(Alert::UnexpectedMessage)));
}

#[test]
fn sealing_needs_room_and_a_length_that_may_be() {
    let (mut client, mut server) = plain_pair();
    let mut buffer = vec![0; MAX_RECORD];
    assert_eq!(client.seal(&mut buffer, MAX_CONTENT + 1), Err(SealError::Length));
    assert_eq!(client.seal(&mut buffer, usize::MAX), Err(SealError::Length));
    assert_eq!(client.seal(&mut buffer[..HEADER + 10 + TRAILER - 1], 10), Err(SealError::Length));
    assert_eq!(client.seal(&mut [], 0), Err(SealError::Length));
    // None of them has used up a number.
    let len = client.seal(&mut buffer, MAX_CONTENT).unwrap();
    assert_eq!(server.open(&mut buffer[..len]), Ok(Received::Data(HEADER..HEADER + MAX_CONTENT)));
    client.close();
    assert_eq!(client.seal_control(&mut buffer[..MAX_CONTROL - 1]), Err(SealError::Length));
    assert!(client.seal_control(&mut buffer[..MAX_CONTROL]).unwrap().is_some());
}

#[test]
fn a_sequence_number_never_wraps() {
    let (mut client, mut server) = pair(Suite::Aes128Gcm, Limits { update_after: u64::MAX, ..Limits::default() });
    client.directions().0.keys().skip_to(u64::MAX - 1);
    server.directions().1.keys().skip_to(u64::MAX - 1);
    let last = data(&mut client, b"last");
    assert_eq!(feed(&mut server, last).unwrap().0, b"last");
    client.directions().0.keys().skip_to(u64::MAX);
    assert_eq!(client.directions().0.seal(&mut [0; 64], 1, ContentType::Alert), Err(Fatal::Internal.into()));
    assert_eq!(client.poll_control(&mut Vec::new()), Err(Fatal::Internal.into()));
    assert!(client.has_ended() && client.fatal() == Some(Fatal::Internal));
    assert_eq!(server.open(&mut forge_nothing()), Err(Fatal::Internal));
}

fn forge_nothing() -> Vec<u8> {
    [&[23, 3, 3, 0, 17][..], &[0; 17]].concat()
}
