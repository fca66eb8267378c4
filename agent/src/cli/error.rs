//! A command's failure, for people and for machines.

use std::fmt;

/// Why a command failed, and the exit status that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// A stable snake_case name for machines.
    pub code: &'static str,
    /// What failed. Empty if the command has said so itself.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit status: 1 failed, 2 usage, 3 not running, 4 refused, 130 interrupted.
    pub exit: u8,
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}
