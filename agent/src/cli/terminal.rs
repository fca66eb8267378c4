//! Where a command that works on files answers to.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::clock::Clock;

/// The options that all commands share, and where they answer to.
pub struct Terminal<'a> {
    /// The agent's directory.
    pub dir: PathBuf,
    /// Answer with one JSON document.
    pub json: bool,
    /// Say nothing but errors and the answer.
    pub quiet: bool,
    /// Wall time.
    pub clock: Clock,
    /// Standard output: the answer.
    pub out: &'a mut dyn Write,
    /// Standard error: everything else.
    pub err: &'a mut dyn Write,
}

impl Terminal<'_> {
    /// Answers: `value` with `--json`, else `text`, which ends with its own line feed.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn answer(&mut self, value: &serde_json::Value, text: &str) -> io::Result<()> {
        if self.json { writeln!(self.out, "{value}") } else { self.out.write_all(text.as_bytes()) }
    }

    /// Tells a person something on standard error, unless they want quiet.
    ///
    /// # Errors
    /// Those of standard error.
    pub fn note(&mut self, kind: &str, text: impl Display) -> io::Result<()> {
        if self.quiet { Ok(()) } else { writeln!(self.err, "{kind}: {text}") }
    }
}
