//! Handshake messages after the handshake (RFC 8446 §4.6), put together out of records without keeping them.

use super::error::Fatal;
use super::records::Side;

/// Length of a KeyUpdate message.
pub(super) const KEY_UPDATE: usize = HEAD + 1;

/// Length of a message's header: type and length.
const HEAD: usize = 4;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE_TYPE: u8 = 24;

/// The longest ticket that is skipped, and how many of them in a connection's life. Agents send none; servers of other
/// makes send a few, longer if they hold the client's certificates.
pub(super) const MAX_TICKET: usize = 1 << 14;
pub(super) const MAX_TICKETS: u8 = 16;

/// The value of a KeyUpdate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum KeyUpdate {
    /// The sender goes on with new keys.
    NotRequested = 0,
    /// And asks the receiver to do likewise.
    Requested = 1,
}

impl KeyUpdate {
    /// The message.
    pub(super) fn encode(self) -> [u8; KEY_UPDATE] {
        [KEY_UPDATE_TYPE, 0, 0, 1, self as u8]
    }
}

/// Where in a message the last record ended.
#[derive(Debug)]
pub(super) struct Messages {
    side: Side,
    tickets: u8,
    state: State,
}

#[derive(Debug)]
enum State {
    /// In its header, of which so much is there. Nothing: between messages.
    Head([u8; HEAD], usize),
    /// In a ticket; so much of it is still to come.
    Ticket(usize),
    /// Before the value of a KeyUpdate.
    KeyUpdate,
}

impl Messages {
    /// Nothing has come yet to `side`.
    pub(super) fn new(side: Side) -> Self {
        Self { side, tickets: 0, state: State::Head([0; HEAD], 0) }
    }

    /// Whether a message has begun and not ended. Nothing but its rest may come then (RFC 8446 §5.1).
    #[inline]
    pub(super) fn pending(&self) -> bool {
        !matches!(self.state, State::Head(_, 0))
    }

    /// Takes a record's content and says whether the peer's keys change after it.
    pub(super) fn handle(&mut self, mut content: &[u8]) -> Result<Option<KeyUpdate>, Fatal> {
        while let Some((&byte, rest)) = content.split_first() {
            match &mut self.state {
                State::Head(head, have) => {
                    head[*have] = byte;
                    *have += 1;
                    content = rest;
                    if let (&mut head, HEAD) = (head, *have) {
                        self.state = self.begin(head)?;
                    }
                }
                State::Ticket(left) => {
                    let skipped = content.len().min(*left);
                    content = &content[skipped..];
                    *left -= skipped;
                    if *left == 0 {
                        self.state = State::Head([0; HEAD], 0);
                    }
                }
                State::KeyUpdate => {
                    if !rest.is_empty() {
                        return Err(Fatal::NotLast);
                    }
                    self.state = State::Head([0; HEAD], 0);
                    return match byte {
                        0 => Ok(Some(KeyUpdate::NotRequested)),
                        1 => Ok(Some(KeyUpdate::Requested)),
                        other => Err(Fatal::KeyUpdate(other)),
                    };
                }
            }
        }
        Ok(None)
    }

    /// What a message's header announces.
    fn begin(&mut self, [kind, a, b, c]: [u8; HEAD]) -> Result<State, Fatal> {
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            KEY_UPDATE_TYPE if len == KEY_UPDATE - HEAD => Ok(State::KeyUpdate),
            KEY_UPDATE_TYPE => Err(Fatal::Decode),
            NEW_SESSION_TICKET if self.side == Side::Client => {
                if len == 0 || len > MAX_TICKET {
                    return Err(Fatal::Decode);
                }
                self.tickets += 1;
                if self.tickets > MAX_TICKETS {
                    return Err(Fatal::Flood);
                }
                Ok(State::Ticket(len))
            }
            other => Err(Fatal::Message(other)),
        }
    }
}
