//! Running commands in tests: what they answer, as programs see it.

use std::path::Path;

use serde_json::Value;

use super::error::CliError;
use super::terminal::Terminal;
use crate::clock::Clock;

fn run(
    dir: &Path,
    json: bool,
    command: impl FnOnce(&mut Terminal<'_>) -> Result<(), CliError>,
) -> (Result<(), CliError>, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut context =
        Terminal { dir: dir.to_owned(), json, quiet: false, clock: Clock::default(), out: &mut out, err: &mut err };
    let result = command(&mut context);
    (result, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// The one JSON document on standard output, and standard error, of a command that succeeds.
pub(crate) fn ask(dir: &Path, command: impl FnOnce(&mut Terminal<'_>) -> Result<(), CliError>) -> (Value, String) {
    let (result, out, err) = run(dir, true, command);
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(out.lines().count(), 1, "{out}");
    (serde_json::from_str(&out).unwrap(), err)
}

/// Standard output for a person, of a command that succeeds.
pub(crate) fn read(dir: &Path, command: impl FnOnce(&mut Terminal<'_>) -> Result<(), CliError>) -> String {
    let (result, out, _) = run(dir, false, command);
    result.unwrap_or_else(|error| panic!("{error}"));
    out
}

/// The error of a command that fails, which then has answered nothing.
pub(crate) fn fail(dir: &Path, command: impl FnOnce(&mut Terminal<'_>) -> Result<(), CliError>) -> CliError {
    let (result, out, _) = run(dir, true, command);
    assert_eq!(out, "");
    result.unwrap_err()
}
