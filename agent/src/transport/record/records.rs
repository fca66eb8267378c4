//! Both directions of a connection, and what its two ends tell each other beside data.

use std::ops::Range;

use super::cipher::{Opener, Sealer};
use super::control::{Control, Say, Step};
use super::crypto_info::CryptoInfo;
use super::error::{Fatal, SealError};
use super::kernel::KernelRecords;
use super::keys::{KeyError, Secret, Suite};
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

/// What has become of a connection that was to be handed over.
#[derive(Debug)]
pub enum HandedOver<E> {
    /// Somebody else seals and opens.
    Over(KernelRecords),
    /// It was refused, and why; all is as it was.
    Back(Box<Records>, E),
}

/// A TLS 1.3 connection after its handshake: see the [module](super).
#[derive(Debug)]
pub struct Records {
    sealer: Sealer,
    opener: Opener,
    control: Control,
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
            control: Control::new(side, limits.without_data),
        })
    }

    /// The cipher suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.sealer.suite()
    }

    /// Nothing is to be opened for the time being, and nothing sealed unless it `sends`. Where many connections keep keys, memory is
    /// saved; either works on at any time.
    #[inline]
    pub fn rest(&mut self, sends: bool) {
        self.opener.rest();
        if !sends {
            self.sealer.rest();
        }
    }

    // ---- receiving

    /// [`parse`](super::parse) for the record at the head of `bytes`. Nothing is one after a close_notify.
    ///
    /// # Errors
    /// As there; it ends the connection.
    #[inline]
    pub fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fatal> {
        if let Some(fatal) = self.control.fatal() {
            return Err(fatal);
        }
        if self.control.is_closed() {
            return Ok(None);
        }
        super::parse(bytes).map_err(|fatal| self.control.fail(fatal))
    }

    /// Opens the one whole record that `record` is, in place. After [`Received::Closed`] everything is answered so, as what
    /// follows a close_notify is ignored.
    ///
    /// # Errors
    /// The connection has ended; the same again ever after. What is left to be sent is one alert, by
    /// [`poll_control`](Records::poll_control).
    #[inline]
    pub fn open(&mut self, record: &mut [u8]) -> Result<Received, Fatal> {
        if let Some(fatal) = self.control.fatal() {
            return Err(fatal);
        }
        if self.control.is_closed() {
            return Ok(Received::Closed);
        }
        match self.receive(record) {
            Ok(received) => Ok(received),
            Err(fatal) => Err(self.control.fail(fatal)),
        }
    }

    #[inline]
    fn receive(&mut self, record: &mut [u8]) -> Result<Received, Fatal> {
        if super::parse(record)? != Some(record.len()) {
            return Err(Fatal::BadRecord);
        }
        let (kind, len) = self.opener.open(record)?;
        if self.control.is_data(kind, len)? {
            return Ok(Received::Data(HEADER..HEADER + len));
        }
        match self.control.handle(kind, &record[HEADER..HEADER + len])? {
            Step::Nothing => Ok(Received::Nothing),
            Step::Closed => Ok(Received::Closed),
            Step::NextKeys => {
                self.opener.update()?;
                Ok(Received::Nothing)
            }
        }
    }

    /// Whether the peer has closed its direction by close_notify. Without it the end of the stream is a truncation.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.control.is_closed()
    }

    /// What ended the connection.
    #[must_use]
    pub fn fatal(&self) -> Option<Fatal> {
        self.control.fatal()
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
        if self.sealer.overdue(OVERDUE) || !self.control.is_open() {
            return Err(self.control.why_not());
        }
        match self.sealer.seal(record, content, ContentType::ApplicationData) {
            Err(SealError::Ended(fatal)) => Err(self.control.break_off(fatal)),
            other => other,
        }
    }

    /// Whether there are control records to send: the answer to a key update, new keys of this side, an alert. Data waits for
    /// them.
    #[inline]
    #[must_use]
    pub fn has_control(&self) -> bool {
        self.control.has_to_say(self.sealer.due())
    }

    /// Seals the next control record into `record`, which needs room for [`MAX_CONTROL`] bytes, and says how long it is;
    /// `None` if there is none.
    ///
    /// # Errors
    /// [`SealError::Length`]: the room is less. [`SealError::Ended`]: it cannot be sealed, nor can anything else.
    pub fn seal_control(&mut self, record: &mut [u8]) -> Result<Option<usize>, SealError> {
        let Some(say) = self.control.next(self.sealer.due()) else { return Ok(None) };
        if record.len() < MAX_CONTROL {
            return Err(SealError::Length);
        }
        match self.seal_said(record, say) {
            Ok(len) => Ok(Some(len)),
            Err(SealError::Ended(fatal)) => Err(self.control.break_off(fatal)),
            Err(other) => Err(other),
        }
    }

    fn seal_said(&mut self, record: &mut [u8], say: Say) -> Result<usize, SealError> {
        let (kind, content, len) = say.content();
        record[HEADER..][..len].copy_from_slice(&content[..len]);
        let sealed = self.sealer.seal(record, len, kind)?;
        if say == Say::KeyUpdate {
            self.sealer.update().map_err(Fatal::from)?;
        }
        self.control.said(say);
        Ok(sealed)
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
        self.control.close();
    }

    /// Whether nothing can be sent any more, now that the last alert was sealed or cannot be.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.control.has_ended()
    }

    // ---- giving up

    /// Hands the connection over to somebody else, such as the kernel, who goes on where this stands: `sending` and `receiving` are
    /// given the keys of their direction, once. What is left here has no key any more. If `sending` fails, and so has taken nothing,
    /// all is as it was. `rekeys`: whether the keys can be changed there.
    ///
    /// # Errors
    /// That of `receiving`, or the crypto library failed: the connection is of no further use.
    pub fn hand_over<E: From<KeyError>>(
        self: Box<Self>,
        rekeys: bool,
        sending: impl FnOnce(CryptoInfo) -> Result<(), E>,
        receiving: impl FnOnce(CryptoInfo) -> Result<(), E>,
    ) -> Result<HandedOver<E>, E> {
        let keys = (self.sealer.crypto_info()?, self.opener.crypto_info()?);
        if let Err(error) = sending(keys.0) {
            return Ok(HandedOver::Back(self, error));
        }
        receiving(keys.1)?;
        let Self { sealer, opener, control } = *self;
        let (sending, update_after) = sealer.into_secret();
        Ok(HandedOver::Over(KernelRecords::new(control, sending, opener.into_secret(), update_after, rekeys)))
    }

    #[cfg(test)]
    pub(super) fn directions(&mut self) -> (&mut Sealer, &mut Opener) {
        (&mut self.sealer, &mut self.opener)
    }
}
