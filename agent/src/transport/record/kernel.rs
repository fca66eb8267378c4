//! A connection whose records the kernel seals and opens (kTLS): what is left to be decided.
//!
//! ```text
//!   Records ── hand_over ─┬──▶ TLS_TX, TLS_RX: the keys, once
//!                         └──▶ KernelRecords ◀── type and content of what the kernel has opened
//!                                     │      ◀── how much data it was given to seal
//!                                     └──▶ what to say before more data; the next keys of either direction
//! ```
//!
//! The traffic secrets stay here, since the next ones are made of them (RFC 8446 §7.2); no key does. There is nothing here that
//! seals or opens, so no nonce can be used here and by the kernel.
//!
//! Kernels before Linux 6.14 cannot change the keys of a connection. There the peer's KeyUpdate ends it, and so does what is
//! good for twice as many records as it should be used for; [worn](KernelRecords::is_worn) tells well before.

use super::control::{Control, Say, Step};
use super::crypto_info::CryptoInfo;
use super::error::{Fatal, SealError};
use super::keys::Secret;
use super::message::KEY_UPDATE;
use super::{ContentType, MAX_CONTENT};

/// What the kernel has opened brought.
#[derive(Debug)]
pub enum Brought {
    /// Data, all of it.
    Data,
    /// Nothing for the layer above. There may be something to send.
    Nothing,
    /// The peer sends nothing more, in order: close_notify.
    Closed,
    /// Nothing, but the kernel is to open what follows with these keys.
    NextKeys(CryptoInfo),
}

/// A record that the kernel is to seal before more data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    /// Its type.
    pub kind: ContentType,
    content: [u8; KEY_UPDATE],
    len: usize,
}

impl ControlRecord {
    /// Its content.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content[..self.len]
    }
}

/// A TLS 1.3 connection after its handshake, without what seals and opens: that is the kernel.
///
/// Where it cannot change keys, the peer's KeyUpdate ends the connection, and so do twice as many records as the keys should be
/// used for.
#[derive(Debug)]
pub struct KernelRecords {
    control: Control,
    sending: Secret,
    receiving: Secret,
    /// Records under the sending keys, or a few more than that.
    sent: u64,
    /// The last write has ended amid a record.
    amid: bool,
    /// Records under the receiving keys, or fewer: the kernel does not tell.
    received: u64,
    update_after: u64,
    rekeys: bool,
}

impl KernelRecords {
    /// After so many records each way under these secrets. `rekeys`: whether the kernel can change keys.
    pub(super) fn new(
        control: Control,
        (sending, sent): (Secret, u64),
        (receiving, received): (Secret, u64),
        update_after: u64,
        rekeys: bool,
    ) -> Self {
        Self { control, sending, receiving, sent, amid: false, received, update_after, rekeys }
    }

    /// What `content` means that the kernel has opened, of records of this type.
    ///
    /// # Errors
    /// The connection has ended; the same again ever after. What is left to be sent is one alert.
    pub fn handle(&mut self, kind: u8, content: &[u8]) -> Result<Brought, Fatal> {
        if let Some(fatal) = self.control.fatal() {
            return Err(fatal);
        }
        if self.control.is_closed() {
            return Ok(Brought::Closed);
        }
        self.receive(kind, content).map_err(|fatal| self.control.fail(fatal))
    }

    fn receive(&mut self, kind: u8, content: &[u8]) -> Result<Brought, Fatal> {
        let kind = ContentType::inside(kind)?;
        self.received = self.received.saturating_add((content.len() / MAX_CONTENT).max(1) as u64);
        if self.control.is_data(kind, content.len())? {
            return Ok(Brought::Data);
        }
        match self.control.handle(kind, content)? {
            Step::Nothing => Ok(Brought::Nothing),
            Step::Closed => Ok(Brought::Closed),
            Step::NextKeys if !self.rekeys => Err(Fatal::KeysStay),
            Step::NextKeys => {
                self.receiving = self.receiving.next()?;
                self.received = 0;
                Ok(Brought::NextKeys(CryptoInfo::new(&self.receiving, 0)?))
            }
        }
    }

    /// The kernel could not open what came: it is told what the error means, and ends the connection.
    pub fn fail(&mut self, fatal: Fatal) -> Fatal {
        self.control.fail(fatal)
    }

    /// Whether data may be given to the kernel now.
    ///
    /// # Errors
    /// Why not: [`next_control`](Self::next_control) comes first, the sending direction is closed, or the connection has ended.
    pub fn may_send(&mut self) -> Result<(), SealError> {
        if !self.control.is_open() || self.has_control() {
            return Err(self.control.why_not());
        }
        if self.sent >= self.update_after.saturating_mul(2) {
            return Err(self.control.break_off(Fatal::KeysStay));
        }
        Ok(())
    }

    /// The kernel has taken `len` bytes of data at once, `whole` if that was all it was given.
    pub fn sent(&mut self, len: usize, whole: bool) {
        // It makes full records and one of the rest. What it did not take all of ends amid a record, which the next write may end.
        // Where memory is short it may make a few more; the limits leave room for them.
        let records = len.div_ceil(MAX_CONTENT) as u64 + u64::from(self.amid);
        self.sent = self.sent.saturating_add(records);
        self.amid = !whole;
    }

    /// Whether there is a control record to send. Data waits for it.
    #[must_use]
    pub fn has_control(&self) -> bool {
        self.control.has_to_say(self.due())
    }

    /// The control record that is to be sent next.
    #[must_use]
    pub fn next_control(&self) -> Option<ControlRecord> {
        let (kind, content, len) = self.control.next(self.due())?.content();
        Some(ControlRecord { kind, content, len })
    }

    /// The kernel has taken it. Whatever follows is to be sealed with the keys that this gives, if any.
    ///
    /// # Errors
    /// The crypto library failed; nothing more can be sent.
    pub fn control_sent(&mut self) -> Result<Option<CryptoInfo>, SealError> {
        let Some(say) = self.control.next(self.due()) else { return Ok(None) };
        self.control.said(say);
        if say != Say::KeyUpdate {
            return Ok(None);
        }
        match self.next_sending() {
            Ok(keys) => Ok(Some(keys)),
            Err(fatal) => Err(self.control.break_off(fatal)),
        }
    }

    fn next_sending(&mut self) -> Result<CryptoInfo, Fatal> {
        self.sending = self.sending.next()?;
        self.sent = 0;
        Ok(CryptoInfo::new(&self.sending, 0)?)
    }

    /// Nothing can be sent any more: the kernel has not done what it was told to.
    pub fn break_off(&mut self) -> Fatal {
        self.control.break_off(Fatal::Internal);
        Fatal::Internal
    }

    /// Closes the sending direction: a close_notify is to be sent, and nothing after it.
    pub fn close(&mut self) {
        self.control.close();
    }

    /// Whether its keys should be changed, or soon will be by the peer, and cannot be: it should not be used for more than what
    /// it carries now.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        !self.rekeys && (self.sent >= self.update_after || self.received >= self.update_after / 2)
    }

    #[cfg(test)]
    pub(super) fn counted(&self) -> u64 {
        self.sent
    }

    fn due(&self) -> bool {
        self.rekeys && self.sent >= self.update_after
    }
}
