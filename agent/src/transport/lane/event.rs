//! What a lane tells those around it: what frames and pieces of data mean, and the end of the connection.

use crate::reason::Reason;
use crate::transport::message::{Open, Opened, Refused, WallTime};

/// What a frame from the peer means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The opener asks for a stream: to be answered by [`Lane::accept`](super::machine::Lane::accept) or [`Lane::refuse`](super::machine::Lane::refuse).
    OpenRequested(Box<Open>),
    /// The stream is served; the replay buffer may go.
    Opened(Opened),
    /// The stream is not served and over for the application.
    Refused(Refused),
    /// The far application has closed its sending side.
    Fin,
    /// The far side has cut the stream: a RST for the application.
    Reset(Reason),
    /// Both ends are through with the stream: the lane is idle.
    Idle,
    /// The responder serves no more. If `moved`, the stream that was open was never seen by it and is to be opened on
    /// another lane, with the bytes sent so far; this lane is idle. See [`Lane::may_close`](super::machine::Lane::may_close).
    Bye {
        /// Whether the open stream moves.
        moved: bool,
        /// Why the peer leaves.
        reason: Reason,
    },
    /// The answer to a PING.
    Pong(u64, Option<WallTime>),
}

/// What to do with a piece of DATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Piece {
    /// It is for the application.
    Deliver,
    /// It is late data of a stream that is over: drop it.
    Discard,
}

/// What the end of the connection means for the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Lost {
    /// No application notices: the lane was idle, or its stream was over on this side.
    Unnoticed,
    /// The application is cut with a RST.
    Cut,
}

/// What to do after [`Lane::handle_timeout`](super::machine::Lane::handle_timeout).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Verdict {
    /// Go on.
    Wait,
    /// Abort the TCP connection: RESET is stuck.
    Abort,
}
