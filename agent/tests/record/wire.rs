//! A stream of records made by bytes that nobody has chosen: right ones, wrong ones, and what somebody on the way may do to them.

use agent::transport::record::HEADER;

use crate::forger::Forger;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const USER_CANCELED: u8 = 90;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// What may be in a stream that this record layer and rustls judge differently.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Odd {
    /// A header that is not as it was sealed. The record layer authenticates the header as it came (RFC 8446 §5.2), rustls one of
    /// the type and version that it must have had; but rustls
    /// looks at a header that is not whole yet, and at the version of a record that is not.
    pub(crate) header: bool,
    /// A ticket of wrong form. The record layer, which resumes nothing, does not look into tickets.
    pub(crate) ticket: bool,
    /// A handshake record with nothing in it, which ends a connection (RFC 8446 §5.4), but not one of rustls.
    pub(crate) empty: bool,
    /// A user_canceled that calls itself fatal. The level of an alert says nothing (RFC 8446 §6), but does to rustls.
    pub(crate) fatal_cancel: bool,
}

/// Records in the order in which they arrive.
pub(crate) struct Wire<'a> {
    acts: std::slice::Iter<'a, u8>,
    forger: Forger,
    records: Vec<Vec<u8>>,
    cut: usize,
    odd: Odd,
}

impl<'a> Wire<'a> {
    /// The stream that `acts` describe.
    pub(crate) fn of(acts: &'a [u8], forger: Forger) -> Self {
        let mut wire = Self { acts: acts.iter(), forger, records: Vec::new(), cut: 0, odd: Odd::default() };
        while let Some(&what) = wire.acts.next() {
            wire.act(what);
        }
        wire
    }

    /// All of it, and what is odd in it.
    pub(crate) fn bytes(mut self) -> (Vec<u8>, Odd) {
        let mut bytes = self.records.concat();
        bytes.truncate(bytes.len() - self.cut.min(bytes.len()));
        let mut rest = bytes.len();
        for record in &self.records {
            self.odd.header |= (1..HEADER).contains(&rest);
            rest = rest.saturating_sub(record.len());
        }
        (bytes, self.odd)
    }

    fn next(&mut self) -> u8 {
        self.acts.next().copied().unwrap_or_default()
    }

    fn seal(&mut self, kind: u8, content: &[u8], padding: usize) {
        self.records.push(self.forger.seal(kind, content, padding));
    }

    fn act(&mut self, what: u8) {
        let (number, last) = (self.records.len(), self.records.len().saturating_sub(1));
        let size = usize::from(self.next());
        match what % 24 {
            // Half of all is right: the rest ends most streams.
            0..=6 => self.seal(DATA, &vec![what; size], usize::from(what >> 6) * 5),
            7 => self.seal(DATA, &vec![what; 16_380 + size % 8], size / 100),
            8..=10 => self.key_update(what / 24, size),
            11 => self.ticket(size),
            12 => {
                let kind = [NEW_SESSION_TICKET, KEY_UPDATE, 0, 1, 13, 20, what][size % 7];
                let body = vec![0; size / 16];
                self.odd.ticket |= kind == NEW_SESSION_TICKET;
                self.messages(&message(kind, &body), size);
            }
            13 => {
                let description = [0, USER_CANCELED, 10, 20, 80, 0, USER_CANCELED, self.next()][size % 8];
                let content = [1 + u8::from(size > 200), description, 0];
                self.odd.fatal_cancel |= description == USER_CANCELED && size > 200;
                self.seal(ALERT, &content[..if size % 16 == 7 { size / 64 } else { 2 }], 0);
            }
            14 => {
                let kind = [0, 20, 24, 25, what, HANDSHAKE, ALERT][size % 7];
                self.odd.empty |= kind == HANDSHAKE && size < 8;
                self.seal(kind, &vec![1; size / 8], size % 3);
            }
            15 => {
                let kind = [20, 21, 22, 23, 24, what][size % 6];
                let payload = vec![1; size / 4];
                let record = [&[kind, 3, 3, 0, u8::try_from(payload.len()).unwrap_or_default()], &payload[..]].concat();
                // Too short to be sealed: its head alone says so.
                self.odd.header |= kind == DATA && payload.len() < 17;
                self.records.push(record);
            }
            16 if number > 0 => {
                let record = &mut self.records[last];
                let at = size * 7 % record.len();
                record[at] ^= 1 << (what / 24 % 8);
                self.odd.header |= at < 3;
            }
            17 if number > 0 => self.records.push(self.records[last].clone()),
            18 if number > 1 => self.records.swap(last, last - 1),
            19 => drop(self.records.pop()),
            20 if size < 64 => self.forger.update(),
            21 if number > 0 => {
                self.records[last][1 + size % 2] = what;
                self.odd.header = true;
            }
            22 => self.cut = size,
            _ => {}
        }
    }

    fn key_update(&mut self, how: u8, size: usize) {
        let value = [0, 1, 1, 0, 1, 0, 1, 2][size % 8];
        self.messages(&message(KEY_UPDATE, &[value]), if how > 8 { size } else { 0 });
        if value < 2 {
            self.forger.update();
        }
    }

    /// A ticket as it must be (RFC 8446 §4.6.1), or nearly.
    fn ticket(&mut self, size: usize) {
        let mut body = vec![0, 0, 0, 60, 1, 2, 3, 4, 1, 9, 0, 4, 5, 5, 5, 5, 0, 0];
        if size % 8 == 7 {
            body.truncate(size / 16);
            self.odd.ticket = true;
        }
        self.messages(&message(NEW_SESSION_TICKET, &body), size);
    }

    /// Messages in one record, in two, or with something behind them.
    fn messages(&mut self, bytes: &[u8], how: usize) {
        match how % 5 {
            3 => {
                let (one, two) = bytes.split_at(bytes.len() / 2);
                self.seal(HANDSHAKE, one, 0);
                self.seal(HANDSHAKE, two, 0);
            }
            4 => self.seal(HANDSHAKE, &[bytes, bytes].concat(), 0),
            _ => self.seal(HANDSHAKE, bytes, 0),
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = body.len().to_be_bytes();
    [&[kind, high, middle, low], body].concat()
}
