//! Both directions of a connection, and what its two ends tell each other beside data.

use std::ops::Range;

use rustls::AlertDescription as Alert;

use super::cipher::{Opener, Sealer};
use super::error::{Fatal, SealError};
use super::keys::{KeyError, Secret, Suite};
use super::message::{KeyUpdate, Messages};
use super::{ContentType, HEADER, MAX_CONTROL};

/// How many data records more are sealed when the sending keys should have been changed.
const OVERDUE: u64 = 16;

/// Which end of the handshake this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It sent the ClientHello.
    Client,
    /// It was dialled.
    Server,
}

/// When keys are changed, and what is put up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The sending keys are changed after so many records. AES-GCM is good for 2^24.5 full ones (RFC 8446 §5.5).
    pub update_after: u64,
    /// So many records without data may come in a row: key updates, tickets, empty ones.
    pub without_data: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { update_after: 1 << 23, without_data: 32 }
    }
}

/// What a record brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Data, in this range of the record; never an empty one.
    Data(Range<usize>),
    /// Nothing for the layer above. There may be something to send.
    Nothing,
    /// The peer sends nothing more, in order: close_notify.
    Closed,
}

/// Where the sending direction is in its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// It may be used.
    Open,
    /// This alert is to be sent, then nothing.
    Ending(Alert),
    /// Nothing can be sent any more.
    Ended,
}

/// A TLS 1.3 connection after its handshake: see the [module](super).
#[derive(Debug)]
pub struct Records {
    sealer: Sealer,
    opener: Opener,
    /// The peer has asked for a KeyUpdate.
    answer_due: bool,
    sending: Sending,
    closed: bool,
    fatal: Option<Fatal>,
    /// Records in a row that brought no data.
    without_data: u8,
    max_without_data: u8,
    messages: Messages,
}

impl Records {
    /// The connection of `side`, with the application traffic secrets of both directions, neither used yet.
    ///
    /// # Errors
    /// A secret is not of `suite`, or the crypto library failed.
    pub fn new(suite: Suite, side: Side, client: Secret, server: Secret, limits: Limits) -> Result<Self, KeyError> {
        if client.suite() != suite || server.suite() != suite {
            return Err(KeyError);
        }
        let (mine, theirs) = match side {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        Ok(Self {
            sealer: Sealer::new(mine, limits.update_after)?,
            opener: Opener::new(theirs)?,
            answer_due: false,
            sending: Sending::Open,
            closed: false,
            fatal: None,
            without_data: 0,
            max_without_data: limits.without_data,
            messages: Messages::new(side),
        })
    }

    /// The cipher suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.sealer.suite()
    }

    // ---- receiving

    /// [`parse`](super::parse) for the record at the head of `bytes`. Nothing is one after a close_notify.
    ///
    /// # Errors
    /// As there; it ends the connection.
    #[inline]
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fatal> {
        if let Some(fatal) = self.fatal {
            return Err(fatal);
        }
        if self.closed {
            return Ok(None);
        }
        super::parse(bytes).map_err(|fatal| self.fail(fatal))
    }

    /// Opens the one whole record that `record` is, in place. After [`Received::Closed`] everything is answered so, as what
    /// follows a close_notify is ignored.
    ///
    /// # Errors
    /// The connection has ended; the same again ever after. What is left to be sent is one alert, by
    /// [`poll_control`](Records::poll_control).
    #[inline]
    pub fn open(&mut self, record: &mut [u8]) -> Result<Received, Fatal> {
        if let Some(fatal) = self.fatal {
            return Err(fatal);
        }
        if self.closed {
            return Ok(Received::Closed);
        }
        match self.receive(record) {
            Ok(received) => Ok(received),
            Err(fatal) => Err(self.fail(fatal)),
        }
    }

    #[inline]
    fn receive(&mut self, record: &mut [u8]) -> Result<Received, Fatal> {
        if super::parse(record)? != Some(record.len()) {
            return Err(Fatal::BadRecord);
        }
        let (kind, len) = self.opener.open(record)?;
        if self.messages.pending() && kind != ContentType::Handshake {
            return Err(Fatal::Content(kind as u8));
        }
        if kind == ContentType::ApplicationData && len > 0 {
            self.without_data = 0;
            return Ok(Received::Data(HEADER..HEADER + len));
        }
        self.receive_control(kind, &record[HEADER..HEADER + len])
    }

    #[cold]
    fn receive_control(&mut self, kind: ContentType, content: &[u8]) -> Result<Received, Fatal> {
        if self.without_data == self.max_without_data {
            return Err(Fatal::Flood);
        }
        self.without_data += 1;
        match kind {
            ContentType::ApplicationData => {}
            // RFC 8446 §5.4.
            ContentType::Alert | ContentType::Handshake if content.is_empty() => {
                return Err(Fatal::Content(kind as u8));
            }
            ContentType::Alert => {
                // One alert is one record (RFC 8446 §5.1), and its level says nothing (§6).
                let &[_level, description] = content else { return Err(Fatal::Decode) };
                match Alert::from(description) {
                    Alert::CloseNotify => {
                        self.closed = true;
                        return Ok(Received::Closed);
                    }
                    Alert::UserCanceled => {}
                    other => return Err(Fatal::Alerted(other)),
                }
            }
            ContentType::Handshake => match self.messages.handle(content)? {
                None => {}
                Some(update) => {
                    self.opener.update()?;
                    // Several requests before the answer are answered once (RFC 8446 §4.6.3).
                    if update == KeyUpdate::Requested {
                        self.answer_due = true;
                    }
                }
            },
        }
        Ok(Received::Nothing)
    }

    /// Ends everything but the alert that says so.
    #[cold]
    fn fail(&mut self, fatal: Fatal) -> Fatal {
        self.fatal = Some(fatal);
        self.answer_due = false;
        self.sending = match (self.sending, fatal.alert()) {
            (Sending::Ended, _) | (_, None) => Sending::Ended,
            (_, Some(alert)) => Sending::Ending(alert),
        };
        fatal
    }

    /// Whether the peer has closed its direction by close_notify. Without it the end of the stream is a truncation.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What ended the connection.
    #[must_use]
    pub fn fatal(&self) -> Option<Fatal> {
        self.fatal
    }

    // ---- sending

    /// Seals `record[HEADER..][..content]` in place as data and says how long the record is.
    ///
    /// A record that was begun may still be sealed when a control record has become due, but no more than 16.
    ///
    /// # Errors
    /// [`SealError`]. Nothing was sealed. After [`SealError::ControlFirst`] it works once
    /// [`poll_control`](Records::poll_control) was asked.
    #[inline]
    pub fn seal(&mut self, record: &mut [u8], content: usize) -> Result<usize, SealError> {
        if self.sealer.overdue(OVERDUE) || self.sending != Sending::Open {
            return Err(self.why_not());
        }
        match self.sealer.seal(record, content, ContentType::ApplicationData) {
            Err(SealError::Ended(fatal)) => Err(self.break_off(fatal)),
            other => other,
        }
    }

    #[cold]
    fn why_not(&self) -> SealError {
        match (self.fatal, self.sending) {
            (Some(fatal), _) => fatal.into(),
            (None, Sending::Open) => SealError::ControlFirst,
            (None, Sending::Ending(_) | Sending::Ended) => SealError::Closed,
        }
    }

    /// What cannot be sealed cannot be told either.
    #[cold]
    fn break_off(&mut self, fatal: Fatal) -> SealError {
        self.answer_due = false;
        self.sending = Sending::Ended;
        self.fatal.get_or_insert(fatal);
        fatal.into()
    }

    /// Whether there are control records to send: the answer to a key update, new keys of this side, an alert. Data waits for
    /// them.
    #[inline]
    #[must_use]
    pub fn has_control(&self) -> bool {
        match self.sending {
            Sending::Open => self.answer_due || self.sealer.due(),
            Sending::Ending(_) => true,
            Sending::Ended => false,
        }
    }

    /// Seals the next control record into `record`, which needs room for [`MAX_CONTROL`] bytes, and says how long it is;
    /// `None` if there is none.
    ///
    /// # Errors
    /// [`SealError::Length`]: the room is less. [`SealError::Ended`]: it cannot be sealed, nor can anything else.
    pub fn seal_control(&mut self, record: &mut [u8]) -> Result<Option<usize>, SealError> {
        if !self.has_control() {
            return Ok(None);
        }
        if record.len() < MAX_CONTROL {
            return Err(SealError::Length);
        }
        // An answer that is owed goes out before a close_notify; after an error there is none.
        let update = self.answer_due || self.sending == Sending::Open;
        let sealed = if update { self.seal_key_update(record) } else { self.seal_alert(record) };
        match sealed {
            Ok(len) => Ok(Some(len)),
            Err(SealError::Ended(fatal)) => Err(self.break_off(fatal)),
            Err(other) => Err(other),
        }
    }

    fn seal_key_update(&mut self, record: &mut [u8]) -> Result<usize, SealError> {
        let message = KeyUpdate::NotRequested.encode();
        record[HEADER..][..message.len()].copy_from_slice(&message);
        let len = self.sealer.seal(record, message.len(), ContentType::Handshake)?;
        self.sealer.update().map_err(Fatal::from)?;
        self.answer_due = false;
        Ok(len)
    }

    fn seal_alert(&mut self, record: &mut [u8]) -> Result<usize, SealError> {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        let Sending::Ending(alert) = self.sending else { return Err(SealError::Closed) };
        let level = if alert == Alert::CloseNotify { WARNING } else { FATAL };
        record[HEADER..][..2].copy_from_slice(&[level, u8::from(alert)]);
        self.sending = Sending::Ended;
        self.sealer.seal(record, 2, ContentType::Alert)
    }

    /// Appends every control record that is to be sent to `out` and says whether there was one.
    ///
    /// # Errors
    /// [`SealError::Ended`]: one of them cannot be sealed. Those before it are in `out`.
    pub fn poll_control(&mut self, out: &mut Vec<u8>) -> Result<bool, SealError> {
        let before = out.len();
        let mut record = [0; MAX_CONTROL];
        while let Some(len) = self.seal_control(&mut record)? {
            out.extend_from_slice(&record[..len]);
        }
        Ok(out.len() > before)
    }

    /// Closes the sending direction: a close_notify is to be sent, and nothing after it. The receiving direction goes on.
    pub fn close(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Ending(Alert::CloseNotify);
        }
    }

    /// Whether nothing can be sent any more, now that the last alert was sealed or cannot be.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.sending == Sending::Ended
    }

    #[cfg(test)]
    pub(super) fn directions(&mut self) -> (&mut Sealer, &mut Opener) {
        (&mut self.sealer, &mut self.opener)
    }
}
