//! What must not have happened.

use std::fmt;
use std::time::Duration;

/// Something that must not have happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// So many attempts and receipts did not fit into the history: what is missing in it cannot be told from what did not
    /// happen.
    Incomplete {
        /// How many.
        left_out: u64,
    },
    /// Two attempts had one number: the clients are at fault.
    NumberedTwice {
        /// The number.
        id: u64,
    },
    /// Something arrived that nobody sent.
    NobodySent {
        /// Its number.
        id: u64,
        /// Where.
        node: String,
        /// When.
        at: Duration,
    },
    /// Something had arrived before its sender began.
    BeforeItWasSent {
        /// Its number.
        id: u64,
        /// When it arrived.
        at: Duration,
    },
    /// Something arrived where it was not sent to.
    WrongPlace {
        /// Its number.
        id: u64,
        /// Where it was sent to.
        to: String,
        /// Where it arrived.
        node: String,
        /// When.
        at: Duration,
    },
    /// Other bytes arrived than were sent.
    WrongBytes {
        /// Its number.
        id: u64,
        /// Where.
        node: String,
        /// When.
        at: Duration,
    },
    /// Only the first part of something arrived, and then an orderly end.
    CutShort {
        /// Its number.
        id: u64,
        /// Where.
        node: String,
        /// When.
        at: Duration,
    },
    /// Something arrived more than once.
    Duplicate {
        /// Its number.
        id: u64,
        /// How often.
        times: usize,
    },
    /// The client was told that nothing will be delivered, and it was.
    RefusedAndReceived {
        /// Its number.
        id: u64,
        /// When it arrived first.
        at: Duration,
    },
    /// The client was told that everything has arrived, and nothing has.
    ConfirmedAndLost {
        /// Its number.
        id: u64,
        /// When the client was told.
        at: Duration,
    },
    /// Something got from one to another that must not.
    Forbidden {
        /// Its number.
        id: u64,
        /// From where.
        from: String,
        /// To where.
        to: String,
        /// When it arrived first, or the client was told that it had.
        at: Duration,
    },
    /// After a fault, nothing was delivered in time.
    LateRecovery {
        /// From where.
        from: String,
        /// To where.
        to: String,
        /// When the fault ended.
        healed: Duration,
        /// How long it should have taken at most.
        within: Duration,
        /// How long it took; none if nothing was delivered any more.
        took: Option<Duration>,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete { left_out } => write!(f, "{left_out} attempts and receipts did not fit into the history"),
            Self::NumberedTwice { id } => write!(f, "two attempts have the number {id}"),
            Self::NobodySent { id, node, at } => {
                write!(f, "nobody sent {id}, which {node} received at {}", Seconds(*at))
            }
            Self::BeforeItWasSent { id, at } => {
                write!(f, "{id} was received at {}, before it was sent", Seconds(*at))
            }
            Self::WrongPlace { id, to, node, at } => {
                write!(f, "{id} was sent to {to}, and {node} received it at {}", Seconds(*at))
            }
            Self::WrongBytes { id, node, at } => {
                write!(f, "{node} received other bytes than were sent as {id} at {}", Seconds(*at))
            }
            Self::CutShort { id, node, at } => {
                write!(f, "{node} received {id} in part, with an orderly end at {}", Seconds(*at))
            }
            Self::Duplicate { id, times } => write!(f, "{id} was received {times} times"),
            Self::RefusedAndReceived { id, at } => {
                write!(f, "{id} was refused, and was received at {}", Seconds(*at))
            }
            Self::ConfirmedAndLost { id, at } => {
                write!(f, "{id} was confirmed at {}, and was never received", Seconds(*at))
            }
            Self::Forbidden { id, from, to, at } => {
                write!(f, "{from} must not reach {to}, and did with {id} at {}", Seconds(*at))
            }
            Self::LateRecovery { from, to, healed, within, took } => {
                write!(f, "after the fault ended at {}, ", Seconds(*healed))?;
                match took {
                    Some(took) => {
                        write!(f, "{from} reached {to} only {} later, not within {}", Seconds(*took), Seconds(*within))
                    }
                    None => {
                        write!(f, "{from} never reached {to} again, which was to take {} at most", Seconds(*within))
                    }
                }
            }
        }
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0.as_secs_f64())
    }
}
