//! Everything that a peer may not send, and what it is told.

use rustls::AlertDescription as Alert;

use super::super::message::{MAX_TICKET, MAX_TICKETS};
use super::super::*;
use super::support::*;

const KEY_UPDATE: &[u8] = &[24, 0, 0, 1, 0];

fn inner(content: &[u8], kind: u8, padding: usize) -> Vec<u8> {
    [content, &[kind], &vec![0; padding]].concat()
}

fn ticket(len: usize) -> Vec<u8> {
    let [.., a, b, c] = len.to_be_bytes();
    [&[4, a, b, c][..], &vec![7; len]].concat()
}

/// The fatal that `records` end in, and the alert that the other end gets.
fn end_of(side: Side, make: &dyn Fn(&mut Records) -> Vec<u8>) -> (Fatal, Option<Fatal>) {
    let (client, server) = plain_pair();
    let (mut from, mut to) = if side == Side::Client { (server, client) } else { (client, server) };
    let bytes = make(&mut from);
    let fatal = feed(&mut to, bytes).unwrap_err();
    // The same ever after, and nothing but the alert comes out.
    assert_eq!(to.open(&mut [0; 64]), Err(fatal));
    assert_eq!(to.parse(&[23, 3, 3, 0, 40]), Err(fatal));
    assert_eq!(to.fatal(), Some(fatal));
    assert_eq!(to.seal(&mut [0; 64], 1), Err(fatal.into()));
    to.close();
    let told = feed(&mut from, control(&mut to)).err();
    assert_eq!(told, fatal.alert().map(Fatal::Alerted));
    assert!(to.has_ended() && control(&mut to).is_empty());
    assert_eq!(to.seal(&mut [0; 64], 1), Err(fatal.into()));
    (fatal, told)
}

#[test]
fn every_malformed_record_ends_with_its_alert() {
    use Fatal::*;
    use Side::*;
    type Make = Box<dyn Fn(&mut Records) -> Vec<u8>>;
    fn forged(content: &'static [u8], kind: u8) -> Make {
        Box::new(move |from| forge(from, &inner(content, kind, 0)))
    }
    fn raw(bytes: &'static [u8]) -> Make {
        Box::new(move |_| bytes.to_vec())
    }
    fn edited(edit: fn(&mut Vec<u8>)) -> Make {
        Box::new(move |from| {
            let mut record = data(from, b"hello");
            edit(&mut record);
            record
        })
    }
    let cases: Vec<(&str, Side, Make, Fatal, Alert)> = vec![
        ("plaintext alert", Server, raw(&[21, 3, 3, 0, 2, 2, 40]), Unsealed(21), Alert::UnexpectedMessage),
        ("change cipher spec", Client, raw(&[20, 3, 3, 0, 1, 1]), Unsealed(20), Alert::UnexpectedMessage),
        ("plaintext handshake", Server, raw(&[22, 3, 1, 0, 5, 24, 0, 0, 1, 0]), Unsealed(22), Alert::UnexpectedMessage),
        ("no TLS", Server, raw(b"GET / HTTP/1.1\r\n"), Unsealed(b'G'), Alert::UnexpectedMessage),
        ("longer than any", Server, raw(&[23, 3, 3, 0x41, 1]), Overflow, Alert::RecordOverflow),
        ("as long as can be said", Server, raw(&[23, 3, 3, 255, 255]), Overflow, Alert::RecordOverflow),
        ("empty", Server, raw(&[23, 3, 3, 0, 0]), BadRecord, Alert::BadRecordMac),
        ("a tag alone", Server, Box::new(|from| forge(from, &[])), BadRecord, Alert::BadRecordMac),
        ("flipped tag", Server, edited(|r| *r.last_mut().unwrap() ^= 1), BadRecord, Alert::BadRecordMac),
        ("flipped content", Server, edited(|r| r[HEADER] ^= 0x80), BadRecord, Alert::BadRecordMac),
        ("flipped version", Server, edited(|r| r[2] ^= 1), BadRecord, Alert::BadRecordMac),
        (
            "cut, length mended",
            Server,
            edited(|r| {
                r.pop();
                r[4] -= 1
            }),
            BadRecord,
            Alert::BadRecordMac,
        ),
        (
            "out of order",
            Server,
            Box::new(|from| {
                data(from, b"1");
                data(from, b"2")
            }),
            BadRecord,
            Alert::BadRecordMac,
        ),
        ("twice", Server, Box::new(|from| data(from, b"1").repeat(2)), BadRecord, Alert::BadRecordMac),
        ("padding alone", Server, Box::new(|from| forge(from, &[0])), NoContent, Alert::UnexpectedMessage),
        ("much padding alone", Server, Box::new(|from| forge(from, &[0; 16385])), NoContent, Alert::UnexpectedMessage),
        (
            "content too long",
            Server,
            Box::new(|from| forge(from, &inner(&[1; 16385], 23, 0))),
            Overflow,
            Alert::RecordOverflow,
        ),
        (
            "padding too long",
            Server,
            Box::new(|from| forge(from, &inner(b"a", 23, 16384))),
            Overflow,
            Alert::RecordOverflow,
        ),
        (
            "as long as a record may be",
            Server,
            Box::new(|from| forge(from, &inner(b"a", 23, 16638))),
            Overflow,
            Alert::RecordOverflow,
        ),
        ("change cipher spec inside", Server, forged(&[1], 20), Content(20), Alert::UnexpectedMessage),
        ("heartbeat inside", Server, forged(&[1], 24), Content(24), Alert::UnexpectedMessage),
        ("unknown inside", Client, forged(&[1], 255), Content(255), Alert::UnexpectedMessage),
        ("empty alert", Server, forged(&[], 21), Content(21), Alert::UnexpectedMessage),
        ("empty handshake", Server, forged(&[], 22), Content(22), Alert::UnexpectedMessage),
        ("half an alert", Server, forged(&[2], 21), Decode, Alert::DecodeError),
        ("two alerts", Server, forged(&[1, 90, 1, 0], 21), Decode, Alert::DecodeError),
        ("client hello", Server, forged(&[1, 0, 0, 0], 22), Message(1), Alert::UnexpectedMessage),
        ("hello request", Client, forged(&[0, 0, 0, 0], 22), Message(0), Alert::UnexpectedMessage),
        ("certificate request", Client, forged(&[13, 0, 0, 1, 0], 22), Message(13), Alert::UnexpectedMessage),
        ("finished", Server, forged(&[20, 0, 0, 32], 22), Message(20), Alert::UnexpectedMessage),
        ("end of early data", Server, forged(&[5, 0, 0, 0], 22), Message(5), Alert::UnexpectedMessage),
        (
            "ticket to a server",
            Server,
            Box::new(|from| forge(from, &inner(&ticket(9), 22, 0))),
            Message(4),
            Alert::UnexpectedMessage,
        ),
        ("empty ticket", Client, forged(&[4, 0, 0, 0], 22), Decode, Alert::DecodeError),
        ("giant ticket", Client, forged(&[4, 255, 255, 255], 22), Decode, Alert::DecodeError),
        (
            "too many tickets",
            Client,
            Box::new(|from| {
                let two = [ticket(1), ticket(1)].concat();
                (0..=MAX_TICKETS / 2).flat_map(|_| forge(from, &inner(&two, 22, 0))).collect()
            }),
            Flood,
            Alert::UnexpectedMessage,
        ),
        ("long key update", Server, forged(&[24, 0, 0, 2, 0, 0], 22), Decode, Alert::DecodeError),
        ("empty key update", Server, forged(&[24, 0, 0, 0], 22), Decode, Alert::DecodeError),
        ("strange key update", Server, forged(&[24, 0, 0, 1, 2], 22), KeyUpdate(2), Alert::IllegalParameter),
        ("two key updates", Client, forged(&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], 22), NotLast, Alert::UnexpectedMessage),
        ("key update and a bit", Server, forged(&[24, 0, 0, 1, 1, 24], 22), NotLast, Alert::UnexpectedMessage),
        (
            "data amid a message",
            Server,
            Box::new(|from| [forge(from, &inner(&[24, 0], 22, 0)), data(from, b"x")].concat()),
            Content(23),
            Alert::UnexpectedMessage,
        ),
        (
            "alert amid a message",
            Server,
            Box::new(|from| [forge(from, &inner(&KEY_UPDATE[..4], 22, 0)), forge(from, &[1, 0, 21])].concat()),
            Content(21),
            Alert::UnexpectedMessage,
        ),
        (
            "old keys after an update",
            Server,
            Box::new(|from| [forge(from, &inner(KEY_UPDATE, 22, 0)), data(from, b"x")].concat()),
            BadRecord,
            Alert::BadRecordMac,
        ),
        (
            "empty data without end",
            Server,
            Box::new(|from| (0..33).flat_map(|_| data(from, b"")).collect()),
            Flood,
            Alert::UnexpectedMessage,
        ),
        (
            "user_canceled without end",
            Server,
            Box::new(|from| (0..33).flat_map(|_| forge(from, &[1, 90, 21])).collect()),
            Flood,
            Alert::UnexpectedMessage,
        ),
        (
            "ticket in crumbs",
            Client,
            Box::new(|from| ticket(99).iter().flat_map(|&b| forge(from, &[b, 22])).collect()),
            Flood,
            Alert::UnexpectedMessage,
        ),
    ];
    for (name, side, make, fatal, alert) in cases {
        assert_eq!(end_of(side, &make), (fatal, Some(Alerted(alert))), "{name}");
    }
}

#[test]
fn a_slice_that_is_not_one_record_is_refused() {
    let edits: [fn(&mut Vec<u8>); 4] = [|r| r.push(0), |r| r.truncate(r.len() - 1), |r| r.truncate(4), Vec::clear];
    for edit in edits {
        let (mut from, mut to) = plain_pair();
        let mut record = data(&mut from, b"hello");
        edit(&mut record);
        assert_eq!(to.open(&mut record), Err(Fatal::BadRecord));
    }
}

#[test]
fn what_the_rules_allow_is_put_up_with() {
    let (mut server, mut client) = {
        let (c, s) = plain_pair();
        (s, c)
    };
    let from = &mut server;
    // Padding, to the brim; another version; the longest ticket, in two records, with the next one behind it.
    let long = [ticket(MAX_TICKET), ticket(3)].concat();
    let (one, two) = long.split_at(MAX_CONTENT);
    let records = [
        forge(from, &inner(b"a", 23, 0)),
        forge(from, &inner(b"b", 23, 16383)),
        forge(from, &inner(&[b'c'; 16384], 23, 0)),
        forge_headed(from, &inner(b"d", 23, 5), [23, 3, 1]),
        forge_headed(from, &inner(b"e", 23, 5), [23, 0, 255]),
        forge(from, &inner(b"", 23, 100)),
        forge(from, &inner(one, 22, 0)),
        forge(from, &inner(two, 22, 9)),
        forge(from, &inner(&ticket(200), 22, 0)),
        forge(from, &[1, 90, 21]),
        // A key update behind a ticket, cut in two.
        forge(from, &inner(&[&ticket(8)[..], &KEY_UPDATE[..2]].concat(), 22, 0)),
        forge(from, &inner(&KEY_UPDATE[2..], 22, 0)),
    ];
    let (content, _) = feed(&mut client, records.concat()).unwrap();
    assert_eq!(content, [b"ab", &[b'c'; 16384][..], b"de"].concat());
    from.directions().0.update().unwrap();
    let record = data(from, b"new keys");
    assert_eq!(feed(&mut client, record).unwrap().0, b"new keys");
}

#[test]
fn the_length_is_judged_as_soon_as_it_is_there() {
    let cases = [
        (&[][..], Ok(None)),
        (&[0], Ok(None)),
        (&[23, 3, 3, 0], Ok(None)),
        (&[23, 3, 3, 0, 17], Ok(Some(22))),
        (&[23, 3, 3, 0, 16], Err(Fatal::BadRecord)),
        (&[23, 3, 3, 0x41, 0], Ok(Some(MAX_RECORD))),
        (&[23, 3, 3, 0x41, 1], Err(Fatal::Overflow)),
        (&[22, 3, 3, 0x41, 1], Err(Fatal::Unsealed(22))),
    ];
    for (bytes, expected) in cases {
        assert_eq!(parse(bytes), expected, "{bytes:?}");
    }
}
