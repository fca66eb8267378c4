//! One stream of records, right or wrong, for two receivers with the same secrets: this record layer and rustls. Both take the
//! same content and end in the same way.

use std::io::Read;
use std::sync::{Arc, Mutex};

use agent::transport::record::{Fatal, Limits, Received, Records, Secret, Side, Suite};
use rustls::{AlertDescription as Alert, ClientConnection, Connection, KeyLog, ServerConnection};

use crate::forger::Forger;
use crate::pki;
use crate::wire::Wire;

/// How a receiver has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has not.
    Open,
    /// The peer closed in order.
    Closed,
    /// It ended the connection, and said this to the peer.
    Refused(Alert),
    /// It ended the connection without a word, as one does on an alert.
    Silent,
}

impl End {
    /// How it came to an end, if it did, leaving aside what the peer was told.
    fn ended(self) -> bool {
        self != Self::Open
    }
}

/// What a receiver made of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    content: Vec<u8>,
    end: End,
}

/// The traffic secrets of a handshake, client's first.
#[derive(Debug, Default)]
struct Secrets(Mutex<[Vec<u8>; 2]>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let at = match label {
            "CLIENT_TRAFFIC_SECRET_0" => 0,
            "SERVER_TRAFFIC_SECRET_0" => 1,
            _ => return,
        };
        self.0.lock().unwrap()[at] = secret.to_vec();
    }
}

/// Makes a stream of records out of `input` and gives it to both.
///
/// # Panics
/// If they differ in what is not [odd](crate::wire::Odd), or in more than the alert that the peer is told: which one it is when
/// there are several things wrong is a matter of the order of looking, and rustls tells none in some cases.
pub(crate) fn compare(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let suite = Suite::ALL[usize::from(first) % 3];
    let side = if first & 0x80 == 0 { Side::Client } else { Side::Server };
    let piece = 1 + usize::from(first & 0x78) * usize::from(first & 0x78);
    let (theirs, secrets) = handshake(suite, side);
    let peer = usize::from(side == Side::Client);
    let (stream, odd) = Wire::of(rest, Forger::new(suite, secrets[peer].clone())).bytes();
    let (ours, fatal) =
        receive_ours(records(suite, side, &secrets), &stream, piece, &mut opposite(suite, side, &secrets));
    let theirs = receive_theirs(theirs, &stream, piece, &mut opposite(suite, side, &secrets));
    // One of them may be stricter, by intent: it has the beginning of what the other has.
    // Records and handshake messages are judged here by their head, and by rustls when all of them is there.
    let early =
        matches!(fatal, Some(Fatal::Unsealed(_) | Fatal::Overflow | Fatal::Message(_) | Fatal::Decode | Fatal::Flood));
    let ours_is_stricter = odd.header || odd.empty || early;
    let theirs_is_stricter = odd.header || odd.ticket || odd.fatal_cancel;
    let fine = match (ours_is_stricter, theirs_is_stricter) {
        (false, false) => ours.content == theirs.content && ours.end.ended() == theirs.end.ended(),
        (true, false) => theirs.content.starts_with(&ours.content) && (ours.end.ended() || !theirs.end.ended()),
        (false, true) => ours.content.starts_with(&theirs.content) && (theirs.end.ended() || !ours.end.ended()),
        (true, true) => theirs.content.starts_with(&ours.content) || ours.content.starts_with(&theirs.content),
    };
    assert!(
        fine,
        "{suite:?}, {side:?}, {odd:?}, {fatal:?}: ours {:?} after {} bytes, theirs {:?} after {}\n{input:02x?}",
        ours.end,
        ours.content.len(),
        theirs.end,
        theirs.content.len()
    );
}

/// rustls as `side`, after a handshake with rustls.
fn handshake(suite: Suite, side: Side) -> (Connection, [Vec<u8>; 2]) {
    let secrets = Arc::new(Secrets::default());
    let (mut client, mut server) = (pki::client(suite), pki::server(suite));
    client.key_log = secrets.clone();
    server.send_tls13_tickets = 0;
    let mut client: Connection = ClientConnection::new(Arc::new(client), pki::name()).unwrap().into();
    let mut server: Connection = ServerConnection::new(Arc::new(server)).unwrap().into();
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }
    let secrets = secrets.0.lock().unwrap().clone();
    (if side == Side::Client { client } else { server }, secrets)
}

fn pass(from: &mut Connection, to: &mut Connection) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = &bytes[..];
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets().unwrap();
    }
}

fn records(suite: Suite, side: Side, [client, server]: &[Vec<u8>; 2]) -> Records {
    let secret = |bytes| Secret::new(suite, bytes).unwrap();
    Records::new(suite, side, secret(client), secret(server), Limits::default()).unwrap()
}

/// Who hears what the receivers answer.
fn opposite(suite: Suite, side: Side, secrets: &[Vec<u8>; 2]) -> Records {
    let side = if side == Side::Client { Side::Server } else { Side::Client };
    records(suite, side, secrets)
}

fn receive_ours(mut records: Records, stream: &[u8], piece: usize, peer: &mut Records) -> (Outcome, Option<Fatal>) {
    let (mut content, mut inbox, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    'all: for piece in stream.chunks(piece) {
        inbox.extend_from_slice(piece);
        while let Ok(Some(len)) = records.parse(&inbox)
            && len <= inbox.len()
        {
            match records.open(&mut inbox[..len]) {
                Ok(Received::Data(range)) => content.extend_from_slice(&inbox[range]),
                Ok(_) => {}
                Err(_) => break 'all,
            }
            inbox.drain(..len);
            records.poll_control(&mut answer).unwrap();
        }
    }
    records.poll_control(&mut answer).unwrap();
    let end = match records.fatal() {
        Some(_) => heard(peer, answer),
        None if records.is_closed() => End::Closed,
        None => {
            assert_eq!(heard(peer, answer), End::Silent, "an alert of a connection that goes on");
            End::Open
        }
    };
    (Outcome { content, end }, records.fatal())
}

fn receive_theirs(mut rustls: Connection, stream: &[u8], piece: usize, peer: &mut Records) -> Outcome {
    rustls.set_buffer_limit(None);
    let (mut content, mut answer, mut end) = (Vec::new(), Vec::new(), End::Open);
    for mut piece in stream.chunks(piece) {
        while !piece.is_empty() && end == End::Open {
            rustls.read_tls(&mut piece).unwrap();
            let state = rustls.process_new_packets();
            let failed = state.is_err();
            if state.is_ok_and(|s| s.peer_has_closed()) {
                end = End::Closed;
            }
            // What came before an error counts, too. The end that this gives was told already.
            let _ = rustls.reader().read_to_end(&mut content);
            while rustls.wants_write() {
                rustls.write_tls(&mut answer).unwrap();
            }
            if failed {
                end = heard(peer, std::mem::take(&mut answer));
            }
        }
    }
    Outcome { content, end }
}

/// What the peer makes of an answer: key updates, and an alert at most.
fn heard(peer: &mut Records, mut answer: Vec<u8>) -> End {
    while let Some(len) = peer.parse(&answer).unwrap() {
        match peer.open(&mut answer[..len]) {
            Ok(_) => {}
            Err(Fatal::Alerted(alert)) => return End::Refused(alert),
            // Each answer to a request for new keys is a record without data.
            Err(Fatal::Flood) => return End::Silent,
            Err(other) => panic!("an answer that cannot be opened: {other}"),
        }
        answer.drain(..len);
    }
    End::Silent
}

/// SplitMix64.
#[cfg(test)]
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn right_and_wrong_streams_are_taken_as_rustls_takes_them() {
    // More of them, for a long run by hand.
    let cases = std::env::var("ADIT_DIFFERENTIAL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000_u64);
    for case in 0..cases {
        let mut state = case;
        let len = 2 + next(&mut state) % 60;
        let input: Vec<u8> = (0..len).map(|_| next(&mut state).to_be_bytes()[0]).collect();
        compare(&input);
    }
}
