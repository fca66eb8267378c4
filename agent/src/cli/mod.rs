//! The command line: arguments to validated commands, answers to people and to `--json`.

pub mod bench;
pub mod ca;
mod changes;
pub mod check;
pub mod connections;
pub mod context;
pub mod demo;
pub mod error;
pub mod explain;
pub mod init;
pub mod ping;
pub mod run;
pub mod status;
mod style;
pub mod terminal;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use context::Context;
use error::CliError;

use crate::agent_file::AgentFile;
use crate::clock::Clock;

/// Straight, mutually authenticated, encrypted ways between the applications of your hosts.
#[derive(Debug, Parser)]
#[command(
    name = "adit",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  adit demo                                   see a whole mesh at work on this machine\n  \
                  adit init lab --node alpha=10.0.0.1:7443 --node beta=10.0.0.2:7443 --bundle\n  adit run                                    \
                  the agent, in the foreground\n  adit explain beta postgres                  why does it (not) get through?"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// When to colour the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Args)]
struct Global {
    /// The agent's directory
    #[arg(long, global = true, env = "ADIT_DIR", value_name = "DIR", help_heading = "Global options")]
    dir: Option<PathBuf>,
    /// One JSON document (or one a line) instead of text for people
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Only errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
    /// More to read; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
    /// Colours
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A whole mesh on this machine, to look at
    Demo(demo::DemoArgs),
    /// A new mesh: mesh file, certificate authority, and this host's certificate
    Init(init::InitArgs),
    /// The agent, in the foreground
    Run(run::RunArgs),
    /// What is wrong with a mesh file, or with this host's directory
    Check(check::CheckArgs),
    /// The certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// How the running agent stands: links, services, recent refusals
    Status(status::StatusArgs),
    /// The application connections that are open now
    Connections(connections::ConnectionsArgs),
    /// Why an application gets through to a service, or why not
    Explain(explain::ExplainArgs),
    /// Round trips to another node
    Ping(ping::PingArgs),
    /// How fast another node is
    Bench(bench::BenchArgs),
}

/// Interrupted by the user.
const INTERRUPTED: u8 = 130;

/// Runs the command line `arguments` (the program's name first) and gives the exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Wrong usage has to be told in JSON as well, before anything is parsed.
    let json = arguments.iter().skip(1).take_while(|a| *a != "--").any(|a| a == "--json");
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let result = match Cli::try_parse_from(&arguments) {
        Ok(cli) => dispatch(cli, &mut out, &mut err),
        Err(error) if !error.use_stderr() => {
            // Help and version, which are answers.
            return if write!(out, "{}", error.render().ansi()).is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        Err(error) if json => Err(usage(&error)),
        Err(error) => {
            // A closed standard error cannot be told about.
            write!(err, "{}", styled(&error)).ok();
            return ExitCode::from(error::USAGE);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.message.is_empty() {
                error.report(json, &mut out, &mut err).ok();
            }
            ExitCode::from(error.exit)
        }
    }
}

fn styled(error: &clap::Error) -> String {
    let rendered = error.render();
    if io::stderr().is_terminal() { rendered.ansi().to_string() } else { rendered.to_string() }
}

/// clap's message as an error of ours.
fn usage(error: &clap::Error) -> CliError {
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    CliError::usage("usage", message).hint("`adit --help` and `adit COMMAND --help` say how")
}

fn dispatch(cli: Cli, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    let Cli { global, command } = cli;
    let clock = Clock::from_environment().map_err(|text| {
        CliError::usage(
            "clock",
            format!("ADIT_CLOCK_OFFSET is {}, not a whole number of seconds", mesh_config::quote(&text)),
        )
    })?;
    let color = match global.color {
        ColorChoice::Auto => io::stdout().is_terminal() && crate::logging::color_by_environment(),
        ColorChoice::Always => true,
        ColorChoice::Never => false,
    };
    let dir = match (&command, global.dir) {
        // They need none of their own.
        (Command::Demo(_), dir) => dir.unwrap_or_default(),
        (Command::Check(args), None) if args.file.is_some() => PathBuf::new(),
        (_, dir) => context::directory(dir)?,
    };
    let configured = AgentFile::load(&dir.join(init::AGENT_FILE)).ok().and_then(|(file, _)| file.admin_socket);
    let context = Context {
        admin_socket: context::admin_socket(&dir, configured.as_deref()),
        dir,
        json: global.json,
        quiet: global.quiet,
        verbose: global.verbose,
        color,
        clock,
    };
    match command {
        Command::Init(args) => init::run(&args, &mut context.terminal(out, err)),
        Command::Ca(command) => ca::run(&command, &mut context.terminal(out, err)),
        Command::Run(args) => run::run(&args, &context, global.color),
        Command::Demo(args) => block_on(demo::run(args, &context, out, err)),
        Command::Check(args) => block_on(check::run(args, &context, out)),
        Command::Status(args) => block_on(status::run(args, &context, out)),
        Command::Connections(args) => block_on(connections::run(args, &context, out)),
        Command::Explain(args) => block_on(explain::run(args, &context, out)),
        Command::Ping(args) => block_on(ping::run(args, &context, out)),
        Command::Bench(args) => block_on(bench::run(args, &context, out)),
    }
}

/// Runs a command's future on this thread.
fn block_on(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::failed("runtime", format!("cannot start: {e}")))?
        .block_on(work)
}
