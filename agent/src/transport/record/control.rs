//! What the two ends of a connection tell each other beside data, whoever seals and opens the records: key updates, tickets,
//! alerts, and in which order they leave.

use rustls::AlertDescription as Alert;

use super::ContentType;
use super::error::{Fatal, SealError};
use super::message::{KEY_UPDATE, KeyUpdate, Messages};
use super::records::Side;

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

/// What a record beside data means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing for the layer above. There may be something to send.
    Nothing,
    /// The peer sends nothing more, in order: close_notify.
    Closed,
    /// What follows it is sealed with the peer's next keys.
    NextKeys,
}

/// What is to be sent before more data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    /// A KeyUpdate; this side goes on with new keys.
    KeyUpdate,
    /// An alert, the last of all.
    Alert(Alert),
}

impl Say {
    /// The type and the content of the record, of which so much counts.
    pub(super) fn content(self) -> (ContentType, [u8; KEY_UPDATE], usize) {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        match self {
            Self::KeyUpdate => (ContentType::Handshake, KeyUpdate::NotRequested.encode(), KEY_UPDATE),
            Self::Alert(alert) => {
                let level = if alert == Alert::CloseNotify { WARNING } else { FATAL };
                (ContentType::Alert, [level, u8::from(alert), 0, 0, 0], 2)
            }
        }
    }
}

/// The state of it.
#[derive(Debug)]
pub(super) struct Control {
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

impl Control {
    /// Nothing has been said. So many records without data may come to `side` in a row.
    pub(super) fn new(side: Side, max_without_data: u8) -> Self {
        Self {
            answer_due: false,
            sending: Sending::Open,
            closed: false,
            fatal: None,
            without_data: 0,
            max_without_data,
            messages: Messages::new(side),
        }
    }

    // ---- receiving

    /// What ended the connection.
    #[inline]
    pub(super) fn fatal(&self) -> Option<Fatal> {
        self.fatal
    }

    /// Whether the peer has closed its direction.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a record of this type and length is data. Else [`handle`](Self::handle) says what it means.
    #[inline]
    pub(super) fn is_data(&mut self, kind: ContentType, len: usize) -> Result<bool, Fatal> {
        if self.messages.pending() && kind != ContentType::Handshake {
            return Err(Fatal::Content(kind as u8));
        }
        let data = kind == ContentType::ApplicationData && len > 0;
        if data {
            self.without_data = 0;
        }
        Ok(data)
    }

    /// What a record that brings no data means.
    #[cold]
    pub(super) fn handle(&mut self, kind: ContentType, content: &[u8]) -> Result<Step, Fatal> {
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
                        return Ok(Step::Closed);
                    }
                    Alert::UserCanceled => {}
                    other => return Err(Fatal::Alerted(other)),
                }
            }
            ContentType::Handshake => {
                if let Some(update) = self.messages.handle(content)? {
                    // Several requests before the answer are answered once (RFC 8446 §4.6.3).
                    self.answer_due |= update == KeyUpdate::Requested;
                    return Ok(Step::NextKeys);
                }
            }
        }
        Ok(Step::Nothing)
    }

    /// Ends everything but the alert that says so.
    #[cold]
    pub(super) fn fail(&mut self, fatal: Fatal) -> Fatal {
        self.fatal = Some(fatal);
        self.answer_due = false;
        self.sending = match (self.sending, fatal.alert()) {
            (Sending::Ended, _) | (_, None) => Sending::Ended,
            (_, Some(alert)) => Sending::Ending(alert),
        };
        fatal
    }

    // ---- sending

    /// Whether data may be sent, as far as the two ends have not closed.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.sending == Sending::Open
    }

    /// Why data may not be sent.
    #[cold]
    pub(super) fn why_not(&self) -> SealError {
        match (self.fatal, self.sending) {
            (Some(fatal), _) => fatal.into(),
            (None, Sending::Open) => SealError::ControlFirst,
            (None, Sending::Ending(_) | Sending::Ended) => SealError::Closed,
        }
    }

    /// What cannot be sealed cannot be told either.
    #[cold]
    pub(super) fn break_off(&mut self, fatal: Fatal) -> SealError {
        self.answer_due = false;
        self.sending = Sending::Ended;
        self.fatal.get_or_insert(fatal);
        fatal.into()
    }

    /// Whether there is something to [say](Self::next); `due`: the sending keys should be changed.
    #[inline]
    pub(super) fn has_to_say(&self, due: bool) -> bool {
        match self.sending {
            Sending::Open => self.answer_due || due,
            Sending::Ending(_) => true,
            Sending::Ended => false,
        }
    }

    /// What is to be said next.
    pub(super) fn next(&self, due: bool) -> Option<Say> {
        match self.sending {
            Sending::Open => (self.answer_due || due).then_some(Say::KeyUpdate),
            // An answer that is owed goes out before a close_notify; after an error there is none.
            Sending::Ending(_) if self.answer_due => Some(Say::KeyUpdate),
            Sending::Ending(alert) => Some(Say::Alert(alert)),
            Sending::Ended => None,
        }
    }

    /// It was said.
    pub(super) fn said(&mut self, said: Say) {
        match said {
            Say::KeyUpdate => self.answer_due = false,
            Say::Alert(_) => self.sending = Sending::Ended,
        }
    }

    /// Closes the sending direction: a close_notify is to be sent, and nothing after it.
    pub(super) fn close(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Ending(Alert::CloseNotify);
        }
    }

    /// Whether nothing can be sent any more.
    pub(super) fn has_ended(&self) -> bool {
        self.sending == Sending::Ended
    }
}
