//! The record layer with a kernel that seals and opens: one of the tests' own, which takes its keys as Linux does.

use aws_lc_rs::aead::{LessSafeKey, Nonce, UnboundKey};
use proptest::prelude::*;
use rustls::AlertDescription as Alert;

use super::super::cipher::{open_in_place, seal_in_place};
use super::super::*;
use super::support::*;

/// One direction of a kernel.
struct Direction {
    key: LessSafeKey,
    nonce: [u8; 12],
    sequence: u64,
}

impl Direction {
    /// What linux/tls.h says of these bytes.
    fn new(keys: &CryptoInfo) -> Self {
        let bytes = keys.as_bytes();
        assert_eq!(bytes[..2], libc::TLS_1_3_VERSION.to_ne_bytes());
        let (suite, nonce, key) = match u16::from_ne_bytes([bytes[2], bytes[3]]) {
            libc::TLS_CIPHER_AES_GCM_128 => {
                (Suite::Aes128Gcm, [&bytes[28..32], &bytes[4..12]].concat(), &bytes[12..28])
            }
            libc::TLS_CIPHER_AES_GCM_256 => {
                (Suite::Aes256Gcm, [&bytes[44..48], &bytes[4..12]].concat(), &bytes[12..44])
            }
            libc::TLS_CIPHER_CHACHA20_POLY1305 => (Suite::ChaCha20Poly1305, bytes[4..16].to_vec(), &bytes[16..48]),
            other => panic!("cipher {other}"),
        };
        Self {
            key: LessSafeKey::new(UnboundKey::new(suite.aead(), key).unwrap()),
            nonce: nonce.try_into().unwrap(),
            sequence: u64::from_be_bytes(*bytes.last_chunk().unwrap()),
        }
    }

    fn take_nonce(&mut self) -> Nonce {
        let mut nonce = self.nonce;
        nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, kind: ContentType, content: &[u8]) -> Vec<u8> {
        let nonce = self.take_nonce();
        let [.., high, low] = (content.len() + TRAILER).to_be_bytes();
        let mut record = [&[23, 3, 3, high, low], content, &[kind as u8], &[0; TAG]].concat();
        let (header, body) = record.split_at_mut(HEADER);
        let (inner, tag) = body.split_at_mut(content.len() + 1);
        seal_in_place(&self.key, nonce, header, inner, tag).unwrap();
        record
    }

    fn open(&mut self, mut record: Vec<u8>) -> (u8, Vec<u8>) {
        let nonce = self.take_nonce();
        let (header, body) = record.split_at_mut(HEADER);
        let (inner, tag) = body.split_at_mut(body.len() - TAG);
        open_in_place(&self.key, nonce, header, inner, tag).unwrap();
        (inner[inner.len() - 1], inner[..inner.len() - 1].to_vec())
    }
}

/// An end whose records its kernel makes.
struct End {
    records: KernelRecords,
    sending: Direction,
    receiving: Direction,
}

impl End {
    fn new(records: Records, rekeys: bool) -> Self {
        let [mut sending, mut receiving] = [None, None];
        let take = |place: &mut Option<Direction>, keys: &CryptoInfo| {
            *place = Some(Direction::new(keys));
            Ok::<_, KeyError>(())
        };
        let handed =
            Box::new(records).hand_over(rekeys, |keys| take(&mut sending, &keys), |keys| take(&mut receiving, &keys));
        let HandedOver::Over(records) = handed.unwrap() else { panic!("it was not refused") };
        Self { records, sending: sending.unwrap(), receiving: receiving.unwrap() }
    }

    /// What has to be said before data.
    fn control(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(record) = self.records.next_control() {
            out.extend(self.sending.seal(record.kind, record.content()));
            if let Some(keys) = self.records.control_sent().unwrap() {
                self.sending = Direction::new(&keys);
            }
        }
        out
    }

    /// Data, behind that.
    fn data(&mut self, content: &[u8]) -> Vec<u8> {
        let mut out = self.control();
        self.records.may_send().unwrap();
        out.extend(self.sending.seal(ContentType::ApplicationData, content));
        self.records.sent(content.len(), true);
        out
    }

    /// Takes records and gives the data in them.
    fn receive(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, Fatal> {
        let mut data = Vec::new();
        while let Some(len) = parse(bytes).unwrap() {
            let (record, rest) = bytes.split_at(len);
            bytes = rest;
            let (kind, content) = self.receiving.open(record.to_vec());
            match self.records.handle(kind, &content)? {
                Brought::Data => data.extend(content),
                Brought::Nothing | Brought::Closed => {}
                Brought::NextKeys(keys) => self.receiving = Direction::new(&keys),
            }
        }
        Ok(data)
    }
}

/// What is left here once a kernel has the keys.
fn of_kernel(records: Records, rekeys: bool) -> KernelRecords {
    End::new(records, rekeys).records
}

#[test]
fn a_connection_that_a_kernel_refuses_goes_on_and_one_that_it_takes_by_half_does_not() {
    let (client, mut server) = plain_pair();
    let refused = Box::new(client).hand_over(true, |_| Err(KeyError), |_| panic!("there is no other direction"));
    let Ok(HandedOver::Back(mut client, KeyError)) = refused else { panic!("{refused:?}") };
    assert_eq!(feed(&mut server, data(&mut client, b"there")).unwrap().0, b"there");
    assert_eq!(feed(&mut client, data(&mut server, b"back")).unwrap().0, b"back");
    let half = client.hand_over(true, |_| Ok(()), |_| Err(KeyError));
    assert!(matches!(half, Err(KeyError)), "{half:?}");
}

fn limits(update_after: u64) -> Limits {
    Limits { update_after, ..Limits::default() }
}

#[test]
fn a_kernel_goes_on_with_every_suite_where_the_record_layer_stood() {
    for suite in Suite::ALL {
        let (mut client, mut server) = pair(suite, Limits::default());
        for _ in 0..3 {
            feed(&mut server, data(&mut client, b"before")).unwrap();
        }
        feed(&mut client, data(&mut server, b"before")).unwrap();
        let mut client = End::new(client, true);
        assert_eq!(feed(&mut server, client.data(b"there")).unwrap().0, b"there", "{suite:?}");
        assert_eq!(client.receive(&data(&mut server, b"back")).unwrap(), b"back", "{suite:?}");
    }
}

#[test]
fn a_key_update_that_came_before_the_kernel_is_answered_by_it() {
    let (mut client, mut server) = plain_pair();
    feed(&mut client, forge(&mut server, &[24, 0, 0, 1, 1, 22])).unwrap();
    server.directions().0.update().unwrap();
    let mut client = End::new(client, true);
    assert!(client.records.has_control());
    let control = client.control();
    assert_eq!(control.len(), MAX_CONTROL);
    feed(&mut server, control).unwrap();
    assert_eq!(feed(&mut server, client.data(b"there")).unwrap().0, b"there");
    assert_eq!(client.receive(&data(&mut server, b"back")).unwrap(), b"back");
}

#[test]
fn every_record_beside_data_does_to_a_kernels_connection_what_it_does_to_the_agents_own() {
    /// Type, content, what comes of it, the alert that is sent.
    type Row = (u8, &'static [u8], Result<&'static str, Fatal>, Option<Alert>);
    let table: [Row; 17] = [
        (23, b"data", Ok("data"), None),
        (23, b"", Ok("nothing"), None),
        (21, &[1, 0], Ok("closed"), None),
        (21, &[2, 0], Ok("closed"), None),
        (21, &[1, 90], Ok("nothing"), None),
        (21, &[2, 20], Err(Fatal::Alerted(Alert::BadRecordMac)), None),
        (21, &[1, 80], Err(Fatal::Alerted(Alert::InternalError)), None),
        (21, &[2], Err(Fatal::Decode), Some(Alert::DecodeError)),
        (21, &[1, 0, 1, 0], Err(Fatal::Decode), Some(Alert::DecodeError)),
        (21, &[], Err(Fatal::Content(21)), Some(Alert::UnexpectedMessage)),
        (22, &[], Err(Fatal::Content(22)), Some(Alert::UnexpectedMessage)),
        (22, &[24, 0, 0, 1, 0], Ok("keys"), None),
        (22, &[24, 0, 0, 1, 2], Err(Fatal::KeyUpdate(2)), Some(Alert::IllegalParameter)),
        (22, &[24, 0, 0, 1, 0, 0], Err(Fatal::NotLast), Some(Alert::UnexpectedMessage)),
        (22, &[1, 0, 0, 1], Err(Fatal::Message(1)), Some(Alert::UnexpectedMessage)),
        (20, &[1], Err(Fatal::Content(20)), Some(Alert::UnexpectedMessage)),
        (0, &[], Err(Fatal::Content(0)), Some(Alert::UnexpectedMessage)),
    ];
    for (kind, content, expected, alert) in table {
        let mut records = of_kernel(plain_pair().0, true);
        let came = records.handle(kind, content);
        let came = came.map(|brought| match brought {
            Brought::Data => "data",
            Brought::Nothing => "nothing",
            Brought::Closed => "closed",
            Brought::NextKeys(_) => "keys",
        });
        assert_eq!(came, expected, "{kind}: {content:?}");
        let said = records.next_control().map(|record| (record.kind, record.content().to_vec()));
        assert_eq!(said, alert.map(|alert| (ContentType::Alert, vec![2, u8::from(alert)])), "{kind}: {content:?}");
        if let Err(fatal) = expected {
            assert_eq!(records.handle(23, b"more").unwrap_err(), fatal, "nothing comes after it");
            records.may_send().unwrap_err();
        }
    }
}

#[test]
fn a_kernel_that_cannot_change_keys_ends_with_the_peers_key_update() {
    let (client, mut server) = plain_pair();
    let mut client = End::new(client, false);
    let update = forge(&mut server, &[24, 0, 0, 1, 0, 22]);
    assert_eq!(client.receive(&update), Err(Fatal::KeysStay));
    assert_eq!(client.records.may_send(), Err(SealError::Ended(Fatal::KeysStay)));
    let alert = client.control();
    assert_eq!(feed(&mut server, alert), Err(Fatal::Alerted(Alert::InternalError)));
}

#[test]
fn a_kernel_that_cannot_change_keys_is_worn_well_before_it_may_send_no_more() {
    let records = pair(Suite::Aes128Gcm, limits(1000)).0;
    let mut records = of_kernel(records, false);
    let mut worn_after = None;
    let mut sent = 0_u64;
    while records.may_send().is_ok() {
        assert!(!records.has_control(), "it never changes keys");
        records.sent(MAX_CONTENT, true);
        sent += 1;
        if records.is_worn() {
            worn_after.get_or_insert(sent);
        }
    }
    assert_eq!(records.may_send(), Err(SealError::Ended(Fatal::KeysStay)));
    assert_eq!((worn_after, sent), (Some(1000), 2000));
    assert_eq!(records.next_control(), None, "what cannot be sealed cannot be told");
}

#[test]
fn what_comes_wears_a_kernel_that_cannot_change_keys_before_the_peer_changes_them() {
    let mut records = of_kernel(pair(Suite::Aes128Gcm, limits(1000)).0, false);
    for _ in 0..499 {
        records.handle(23, b"data").unwrap();
    }
    assert!(!records.is_worn());
    // Several records in one read count as several.
    records.handle(23, &[0; 2 * MAX_CONTENT]).unwrap();
    assert!(records.is_worn());
    let mut changes = of_kernel(pair(Suite::Aes128Gcm, limits(1)).0, true);
    changes.sent(1, true);
    changes.handle(23, b"data").unwrap();
    assert!(!changes.is_worn(), "it changes them instead");
    assert!(changes.has_control());
    assert_eq!(changes.may_send(), Err(SealError::ControlFirst));
}

#[test]
fn no_fewer_records_are_counted_than_the_kernel_makes_of_what_it_takes() {
    // What is written, how much of it is taken, and how many records have been counted then.
    let table = [
        (1, 1, 1),
        (MAX_CONTENT, MAX_CONTENT, 2),
        (MAX_CONTENT + 1, MAX_CONTENT + 1, 4),
        (50_000, 1, 5),
        (49_999, 49_999, 10),
    ];
    let mut records = of_kernel(plain_pair().0, true);
    let (mut made, mut open) = (0_u64, 0);
    for (written, taken, counted) in table {
        // As Linux makes them: full ones, and the rest at the end of what was written.
        open += taken;
        made += (open / MAX_CONTENT) as u64;
        open %= MAX_CONTENT;
        if taken == written && open > 0 {
            (made, open) = (made + 1, 0);
        }
        records.sent(taken, taken == written);
        assert_eq!(records.counted(), counted, "{written}, {taken}");
        assert!(counted >= made, "{written}, {taken}: {made} were made");
    }
}

#[test]
fn nothing_is_sent_after_a_close_notify() {
    let (client, mut server) = plain_pair();
    let mut client = End::new(client, true);
    client.records.close();
    assert_eq!(client.records.may_send(), Err(SealError::Closed));
    assert!(matches!(feed(&mut server, client.control()).unwrap().1[..], [Received::Closed]));
    assert_eq!(client.records.may_send(), Err(SealError::Closed));
    assert_eq!(client.receive(&data(&mut server, b"back")).unwrap(), b"back", "the other direction goes on");
}

#[derive(Debug, Clone)]
enum Act {
    There(usize),
    Back(usize),
    AskUpdate,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (1_usize..40_000).prop_map(|len| Act::There(len.min(MAX_CONTENT))),
        (1_usize..40_000).prop_map(|len| Act::Back(len.min(MAX_CONTENT))),
        Just(Act::AskUpdate),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_said_and_whoever_changes_keys_all_of_it_arrives(acts in acts(), update_after in 1_u64..20) {
        let (client, mut server) = pair(Suite::Aes128Gcm, limits(update_after));
        let mut client = End::new(client, true);
        for act in acts {
            match act {
                Act::There(len) => {
                    let content = vec![7; len];
                    prop_assert_eq!(feed(&mut server, client.data(&content)).unwrap().0, content);
                }
                Act::Back(len) => {
                    let content = vec![9; len];
                    let mut wire = control(&mut server);
                    wire.extend(data(&mut server, &content));
                    prop_assert_eq!(client.receive(&wire).unwrap(), content);
                }
                Act::AskUpdate => {
                    let mut wire = control(&mut server);
                    wire.extend(forge(&mut server, &[24, 0, 0, 1, 1, 22]));
                    server.directions().0.update().unwrap();
                    prop_assert!(client.receive(&wire).unwrap().is_empty());
                    prop_assert!(client.records.has_control());
                    feed(&mut server, client.control()).unwrap();
                }
            }
        }
    }
}
