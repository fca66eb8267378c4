//! What can be wrong: with what the peer sends, and with what the local side asks for.

use crate::transport::frame::Kind;

/// A rule of the lane that the peer broke. The connection is to be aborted; its stream is cut, never ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// A frame that has no place on a lane after HELLO.
    #[error("{0} has no place on a lane")]
    Unexpected(Kind),
    /// A frame that only the other end may send: an OPEN from the responder, an answer or a BYE from the opener.
    #[error("{0} from the wrong end of the lane")]
    WrongEnd(Kind),
    /// Streams are numbered from 1, one higher each time.
    #[error("OPEN {n} after stream {last}")]
    OutOfOrder {
        /// The number in OPEN.
        n: u32,
        /// The last stream's.
        last: u32,
    },
    /// OPEN before both DONEs of the stream before.
    #[error("OPEN {n} before DONE of stream {last} was received")]
    OpenWhileBusy {
        /// The number in OPEN.
        n: u32,
        /// The stream that is not over.
        last: u32,
    },
    /// A frame of a stream that is not the lane's current one.
    #[error("{kind} of stream {n}, which is not open")]
    WrongStream {
        /// The frame's kind.
        kind: Kind,
        /// Its number.
        n: u32,
    },
    /// DATA while no stream is open.
    #[error("DATA while no stream is open")]
    DataOutsideStream,
    /// DATA or a second FIN after FIN.
    #[error("{kind} after FIN {n}")]
    AfterFin {
        /// The frame's kind.
        kind: Kind,
        /// The stream's number.
        n: u32,
    },
    /// The responder sends on a stream that it has neither accepted nor refused.
    #[error("{kind} before OPENED {n}")]
    BeforeAnswer {
        /// The frame's kind.
        kind: Kind,
        /// The stream's number.
        n: u32,
    },
    /// A second answer to one OPEN.
    #[error("stream {0} was answered twice")]
    AnsweredTwice(u32),
    /// More DATA before the answer than [`EARLY_DATA`](super::machine::EARLY_DATA).
    #[error("too much DATA before OPENED {0}")]
    TooMuchEarlyData(u32),
    /// DONE while the stream is open in one direction at least.
    #[error("DONE {0} before the stream was over")]
    DoneTooSoon(u32),
    /// BYE m with an m that does not fit the streams opened and served, or a second BYE.
    #[error("BYE {m} after stream {last}")]
    WrongBye {
        /// The number in BYE.
        m: u32,
        /// The last stream opened.
        last: u32,
    },
}

/// Why a local request cannot be met now. The lane is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotNow {
    /// Only the other end of a lane does this.
    #[error("only the other end of the lane does this")]
    WrongEnd,
    /// A stream is on the lane.
    #[error("the lane carries a stream")]
    Busy,
    /// The lane takes no further streams.
    #[error("the lane is retiring")]
    Retiring,
    /// 2³² − 1 streams were carried.
    #[error("the lane's stream numbers are used up")]
    NumbersUsedUp,
    /// There is no stream, or it is past this on this side.
    #[error("the stream is over or does not send")]
    NoStream,
    /// The stream has to be accepted or refused.
    #[error("the stream is not answered yet")]
    Unanswered,
    /// What [`poll_transmit`](super::machine::Lane::poll_transmit) holds goes first.
    #[error("queued frames go first")]
    QueuedFirst,
    /// Not a length that may be sent now.
    #[error("not a length that may be sent now")]
    Length,
}
