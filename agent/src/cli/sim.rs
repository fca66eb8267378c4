//! `adit sim`: simulated networks in which any program runs, adit among them.

mod doctor;
mod from;
mod look;
mod play;
mod played;
mod shell;
mod shrink;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use netsim::scenario::{Problem, Scenario, Surroundings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::context::{Context, told, with_causes, written};
use super::error::CliError;

/// The commands of the simulator.
#[derive(Debug, clap::Subcommand)]
pub enum SimCommand {
    /// Run scenarios: networks, programs, faults, and what must hold
    Run(play::RunArgs),
    /// Simulate a mesh of yours, with what you break in it: who is still served?
    From(from::FromArgs),
    /// Say what is wrong with scenarios, without running them
    Check(look::CheckArgs),
    /// List the scenarios in a folder
    List(look::ListArgs),
    /// A shell on a host of a scenario that is being run
    Shell(shell::ShellArgs),
    /// Find out whether this machine can simulate networks, and what to allow if not
    #[command(after_help = "Examples:\n  adit sim doctor\n  adit sim doctor --json | jq .works")]
    Doctor,
    /// Find the shortest schedule with which a scenario still fails
    Shrink(shrink::ShrinkArgs),
}

/// Runs the command. There is one thread until here, which the simulator needs.
///
/// # Errors
/// Exit status 2 if a scenario does not check; 1 if anything does not hold or cannot be simulated; 130 after Ctrl-C.
pub fn run(command: SimCommand, ctx: &Context, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    match command {
        SimCommand::Run(args) => play::run(&args, ctx, out, err),
        SimCommand::From(args) => from::run(&args, ctx, out, err),
        SimCommand::Check(args) => look::check(&args, ctx, out),
        SimCommand::List(args) => look::list(&args, ctx, out),
        SimCommand::Shell(args) => shell::run(&args),
        SimCommand::Doctor => doctor::run(ctx, out),
        SimCommand::Shrink(args) => shrink::run(&args, ctx, out, err),
    }
}

/// Where a scenario's files are. In it, `adit` is this executable.
fn around(folder: PathBuf) -> Surroundings {
    let this = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    Surroundings { folder, programs: BTreeMap::from([("adit".to_owned(), this)]) }
}

/// Reads a scenario.
fn load(path: &Path) -> Result<Scenario, Vec<Problem>> {
    Scenario::load(path, &around(path.parent().unwrap_or(Path::new("")).to_owned()))
}

/// Reads scenarios; a folder stands for all that are in it.
///
/// # Errors
/// All problems, told already, if there is one in any of them.
fn load_all(
    paths: &[PathBuf],
    ctx: &Context,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Vec<(PathBuf, Scenario)>, CliError> {
    let (mut scenarios, mut problems) = (Vec::new(), Vec::new());
    for path in files(paths)? {
        match load(&path) {
            Ok(scenario) => scenarios.push((path, scenario)),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        return Ok(scenarios);
    }
    if ctx.json {
        let all: Vec<String> =
            problems.iter().map(|p| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.message)).collect();
        ctx.write_json(
            out,
            &serde_json::json!({"error": {
            "code": "document", "message": all.join("\n"), "hint": "`adit sim check --json` says more of each",
        }, "problems": as_json(&problems)}),
        )?;
    } else {
        tell_problems(&problems, crate::logging::stderr_color(), err)?;
    }
    Err(told(2))
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = netsim::scenario::files_in(path)
                .map_err(|error| CliError::usage("document", format!("{}: cannot be read: {error}", path.display())))?;
            if found.is_empty() {
                let message = format!("{}: there is no scenario in this folder", path.display());
                return Err(CliError::usage("document", message).hint("scenarios end in .toml"));
            }
            all.extend(found);
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

fn tell_problems(problems: &[Problem], color: bool, to: &mut dyn Write) -> Result<(), CliError> {
    for problem in problems {
        writeln!(to, "{}\n", problem.render(color))?;
    }
    let count = problems.len();
    Ok(writeln!(to, "{count} error{}; nothing was started", if count == 1 { "" } else { "s" })?)
}

fn as_json(problems: &[Problem]) -> Vec<serde_json::Value> {
    let one = |problem: &Problem| {
        let Problem { file, line, column, message, hint, .. } = problem;
        serde_json::json!({
            "severity": "error", "file": file, "line": line, "column": column, "message": message, "hint": hint,
        })
    };
    problems.iter().map(one).collect()
}

/// Moves this process into a network of its own, in which it may make others.
fn enter() -> Result<(), CliError> {
    // A host takes some descriptors, and there may be hundreds. Less is enough for most.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    netsim::enter().map(drop).map_err(|error| {
        CliError::failed("namespaces", with_causes(&error)).hint("`adit sim doctor` says what to allow on this machine")
    })
}

/// A line for a person on standard error, unless they want quiet.
fn note(ctx: &Context, err: &mut dyn Write, text: &str) {
    if !ctx.quiet {
        // A closed standard error cannot be told about.
        let _ = writeln!(err, "{}", crate::logging::escape(text));
    }
}

/// An answer for a person.
fn say(out: &mut dyn Write, text: &str) -> Result<(), CliError> {
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// A word of a command line, quoted for a shell where it must be.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/=:,+@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
