//! How a command fails: for people on standard error, for programs as one JSON document.

use std::error::Error as _;
use std::fmt;
use std::io::{self, Write};

use mesh_config::{MeshName, NameError, NodeName, Problem, Severity};
use serde_json::json;

/// A command failed (exit status 1).
pub const FAILED: u8 = 1;
/// Wrong usage, or a document that does not check (exit status 2).
pub const USAGE: u8 = 2;
/// The agent is not running (exit status 3).
pub const NOT_RUNNING: u8 = 3;
/// Refused by policy or by the peer (exit status 4).
pub const REFUSED: u8 = 4;

/// Why a command failed: what and where, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// A stable word for programs.
    pub code: &'static str,
    /// What failed, where and why; lower case, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit status.
    pub exit: u8,
}

impl CliError {
    /// A failure with exit status 1.
    pub fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, exit: FAILED }
    }

    /// Wrong usage, or a document that does not check: exit status 2.
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::failed(code, message) }
    }

    /// The same with a word on what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells it: with `json` as `{"error": {"code", "message", "hint"}}` on `out`, else as text on `err`.
    ///
    /// # Errors
    /// Those of the two writers.
    pub fn report(&self, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        if json {
            let error = json!({"error": {"code": self.code, "message": self.message, "hint": self.hint}});
            writeln!(out, "{error}")
        } else {
            writeln!(err, "error: {self}")
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  help: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CliError {}

impl From<ca::Error> for CliError {
    fn from(error: ca::Error) -> Self {
        let exit = if matches!(error, ca::Error::Csr(_) | ca::Error::NoValidity) { USAGE } else { FAILED };
        let message = match error.source() {
            // The refusal of a request is told by the message itself.
            Some(cause) if exit == FAILED => format!("{error}: {cause}"),
            _ => error.to_string(),
        };
        Self { code: error.code(), message, hint: error.hint(), exit }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::failed("io", format!("cannot write the answer: {error}"))
    }
}

/// The errors of a document, one after the other; warnings among them are left out.
impl From<Vec<Problem>> for CliError {
    fn from(problems: Vec<Problem>) -> Self {
        let errors: Vec<&Problem> = problems.iter().filter(|p| p.severity == Severity::Error).collect();
        let hint = match errors[..] {
            [only] => only.hint.clone(),
            _ => None,
        };
        let told: Vec<String> =
            errors.iter().map(|p| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.message)).collect();
        Self { hint, ..Self::usage("document", told.join("\n")) }
    }
}

/// Takes an argument as a mesh's name.
///
/// # Errors
/// What is wrong with it, and a name that would do.
pub fn mesh_name(text: &str) -> Result<MeshName, CliError> {
    MeshName::new(text).map_err(|error| bad_name("mesh", text, error))
}

/// Takes an argument as a node's name.
///
/// # Errors
/// What is wrong with it, and a name that would do.
pub fn node_name(text: &str) -> Result<NodeName, CliError> {
    NodeName::new(text).map_err(|error| bad_name("node", text, error))
}

fn bad_name(what: &str, text: &str, error: NameError) -> CliError {
    let like = text.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
    let hint = match NodeName::new(like.trim_matches('-')) {
        Ok(like) if error != NameError::AllDigits => format!("`{like}` would do"),
        _ => {
            "names are a-z, 0-9 and -, begin and end with a letter or digit, and have 63 characters at most".to_owned()
        }
    };
    CliError::usage("name", format!("{} is not a {what} name: {error}", mesh_config::quote(text))).hint(hint)
}
