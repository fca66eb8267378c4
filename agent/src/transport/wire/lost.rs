//! Why a connection is of no further use.

use std::io;

use crate::transport::record::{Fatal, SealError};

/// The connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The peer has ended it in order (close_notify).
    #[error("the peer closed the lane")]
    Closed,
    /// It has ended without close_notify.
    #[error("the peer closed the lane without close_notify")]
    Truncated,
    /// The network or the kernel.
    #[error("{}", io_text(.0))]
    Io(#[from] io::Error),
    /// The record layer has ended it: the peer broke a rule of TLS and was told so, or has said by an alert that we did.
    #[error("TLS: {0}")]
    Tls(#[from] Fatal),
    /// Anything else.
    #[error("{0}")]
    Broken(String),
}

impl From<SealError> for Lost {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Ended(fatal) => fatal.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the lane was reset".to_owned(),
        io::ErrorKind::TimedOut => "the peer no longer answers".to_owned(),
        _ => error.to_string(),
    }
}
