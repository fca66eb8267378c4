//! Operations of both ends, and bytes of nobody, in any order: no panic, no content that was not sealed, no end without reason.
#![no_main]

use std::collections::VecDeque;

use agent::transport::record::{HEADER, Limits, Received, Records, SealError, Secret, Side, Suite, TRAILER};
use libfuzzer_sys::fuzz_target;

/// One end, what it has sent that has not arrived, and the content of that.
struct End {
    records: Records,
    wire: Vec<u8>,
    promised: VecDeque<u8>,
}

impl End {
    fn new(suite: Suite, side: Side, update_after: u64) -> Option<Self> {
        let len = if suite == Suite::Aes256Gcm { 48 } else { 32 };
        let secret = |byte| Secret::new(suite, &vec![byte; len]);
        let limits = Limits { update_after, ..Limits::default() };
        let records = Records::new(suite, side, secret(1)?, secret(2)?, limits).ok()?;
        Some(Self { records, wire: Vec::new(), promised: VecDeque::new() })
    }

    fn send(&mut self, content: &[u8]) {
        let mut record = vec![0; HEADER + content.len() + TRAILER];
        record[HEADER..][..content.len()].copy_from_slice(content);
        match self.records.seal(&mut record, content.len()) {
            Ok(len) => {
                assert_eq!(len, record.len());
                self.wire.extend(record);
                self.promised.extend(content);
            }
            Err(SealError::ControlFirst) => assert!(self.records.has_control()),
            Err(SealError::Length) => panic!("there was room"),
            Err(SealError::Closed | SealError::Ended(_)) => {}
        }
    }

    /// Opens what `from` has sent. Only an end that was told nonsense may fail.
    fn receive(&mut self, from: &mut Self) {
        while let Ok(Some(len)) = self.records.parse(&from.wire) {
            if len > from.wire.len() {
                break;
            }
            match self.records.open(&mut from.wire[..len]) {
                Ok(Received::Data(range)) => {
                    let expected: Vec<u8> = from.promised.drain(..range.len()).collect();
                    assert_eq!(from.wire[range], expected);
                }
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) => assert!(from.promised.is_empty()),
                Err(_) => break,
            }
            from.wire.drain(..len);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, mut acts)) = input.split_first() else { return };
    let suite = Suite::ALL[usize::from(first) % 3];
    let update_after = 1 + u64::from(first >> 5);
    let (Some(mut me), Some(mut peer)) =
        (End::new(suite, Side::Client, update_after), End::new(suite, Side::Server, update_after))
    else {
        return;
    };
    let mut honest = true;
    while let Some((&what, rest)) = acts.split_first() {
        acts = rest;
        match what {
            0 => std::mem::swap(&mut me, &mut peer),
            1 => me.records.close(),
            2 => peer.receive(&mut me),
            3..=40 => {
                let mut out = Vec::new();
                assert!(me.records.poll_control(&mut out).is_ok());
                assert!(!me.records.has_control());
                me.wire.extend(out);
            }
            41..=60 => {
                // Somebody on the way.
                if let Some(byte) = me.wire.get_mut(usize::from(what)) {
                    *byte ^= 1;
                    honest = false;
                }
            }
            _ => {
                let (content, rest) = acts.split_at(acts.len().min(usize::from(what) - 61));
                acts = rest;
                me.send(content);
            }
        }
        if honest {
            // Empty records without end are the one thing that an end may be cut off for.
            for end in [&me, &peer] {
                assert!(end.records.fatal().is_none_or(|fatal| {
                    fatal == agent::transport::record::Fatal::Flood || fatal.alert().is_none()
                }));
            }
        }
    }
});
