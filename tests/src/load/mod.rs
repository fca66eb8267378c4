//! Load: bytes that can be told from wrong ones, connections that end in every way.

pub mod content;
pub mod crowd;
pub mod exchange;
pub mod many;
pub mod memory;
pub mod process;
pub mod server;
pub mod stall;
pub mod steady;
pub mod stream;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

pub use content::{Content, Digest, digest_of};
pub use crowd::Crowd;
pub use exchange::{Received, blast, exchange};
pub use process::Process;
pub use server::Server;
pub use steady::Steady;
pub use stream::{Ending, abort, ending, read_some, round_trip};

/// Does a part of a [`Crowd`] if this process was started for that; how it went. Call it first in `main`.
pub fn part() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(process::LOAD) {
        return None;
    }
    let arguments: Vec<_> = arguments.collect();
    Some(match crowd::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    })
}
