//! The log: text for people, one JSON object a line for machines, both on standard error.
//!
//! Whatever a peer sends can appear in a message, so both formats escape every control character themselves: a log line
//! is one line, and a terminal shows text. Lines that a peer can cause at will go through [`log_limited!`] or an
//! [`audit`] function that limits them, so that nobody fills a disk.
//!
//! [`log_limited!`]: crate::log_limited

pub mod audit;
mod escape;
mod format;
mod limited;
mod ratelimit;
mod secret;

use std::io::{self, IsTerminal};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use escape::escape;
pub use limited::{Passed, Who, left_out, permit, permit_member, suppressed_lines, tell_left_out};
pub use ratelimit::{Limits, RateLimiter, Verdict};
pub use secret::Secret;

use crate::clock::Clock;
use format::EventFormat;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What the log shows and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directives of `tracing`'s filter, such as `info` or `warn,agent::transport=debug`. See [`directives`].
    pub directives: String,
    /// How lines look.
    pub format: Format,
    /// Whether text lines carry colours. See [`stderr_color`].
    pub color: bool,
    /// What stamps the lines.
    pub clock: Clock,
}

/// The log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directives do not parse.
    #[error("`{directives}` is not a log level or filter: {why}")]
    Directives {
        /// What was given.
        directives: String,
        /// What the parser says.
        why: String,
    },
    /// The process has a log already.
    #[error("the log has been started before")]
    Started,
}

/// Chooses the directives: `ADIT_LOG` (as `environment`) before the command line's `-q` and `-v`, before the agent
/// file's level, before `info`.
///
/// Audit events stay on at every level but with `-q`, unless the directives speak of `audit` themselves.
pub fn directives(environment: Option<&str>, quiet: bool, verbose: u8, agent_file: Option<&str>) -> String {
    let said = environment.filter(|text| !text.trim().is_empty());
    let chosen = match (said, quiet, verbose) {
        (Some(text), _, _) => text.trim(),
        (None, true, _) => return "error".into(),
        (None, false, 0) => agent_file.unwrap_or("info"),
        (None, false, 1) => "info,agent=debug",
        (None, false, _) => "info,agent=trace",
    };
    if chosen.contains("audit") { chosen.into() } else { format!("{chosen},audit=info") }
}

/// Whether colours suit standard error: it is a terminal, `NO_COLOR` is not set, and `TERM` is not `dumb`.
pub fn stderr_color() -> bool {
    io::stderr().is_terminal() && color_by_environment()
}

/// Whether the environment allows colours: `NO_COLOR` is not set and `TERM` is not `dumb`.
pub fn color_by_environment() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Starts the process' log on standard error.
///
/// # Errors
/// The directives do not parse, or the process has a log already.
pub fn init(options: Options) -> Result<(), LogError> {
    let subscriber = subscriber(options, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)
}

/// A log into a writer of the caller's: for a test or a tool that keeps what is said.
///
/// # Errors
/// The directives do not parse.
pub fn to_writer<W>(options: Options, writer: W) -> Result<impl tracing::Subscriber + Send + Sync, LogError>
where
    W: io::Write + Send + 'static,
{
    subscriber(options, Mutex::new(writer))
}

fn subscriber<W>(options: Options, writer: W) -> Result<impl tracing::Subscriber + Send + Sync, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let Options { directives, format, color, clock } = options;
    let filter =
        EnvFilter::try_new(&directives).map_err(|e| LogError::Directives { directives, why: e.to_string() })?;
    Ok(tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // They would be told on standard error, which is what has just failed, by a macro that panics if that fails.
        .log_internal_errors(false)
        .event_format(EventFormat { format, color, clock })
        .finish())
}

#[cfg(test)]
mod tests;
