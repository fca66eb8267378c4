//! The command line: arguments to validated commands, answers to people and to `--json`.

pub mod bench;
pub mod ca;
mod changes;
pub mod check;
pub mod connections;
pub mod context;
pub mod demo;
pub mod drain;
pub mod edit;
pub mod error;
pub mod explain;
pub mod init;
pub mod mesh;
pub mod ping;
pub mod publish;
mod publisher;
pub mod reload;
pub mod run;
pub mod sim;
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

/// Encrypted, mutually authenticated tunnels between the applications of your hosts, without a VPN.
#[derive(Debug, Parser)]
#[command(
    name = "adit",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  adit demo                    see a whole mesh at work on this machine\n  \
                  adit init lab --node alpha=10.0.0.1:7443 --node beta=10.0.0.2:7443 --bundle\n  \
                  adit run --dir ./beta        the agent, in the foreground\n  \
                  adit explain beta web        does it get through, and if not, why?\n\n\
                  Exit status: 0 done; 1 it failed; 2 wrong usage, or a document that does not check;\n\
                  3 the agent is not running; 4 refused; 130 interrupted."
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
    /// The agent's directory; if not given, /etc/adit for root, else $XDG_CONFIG_HOME/adit (~/.config/adit)
    #[arg(long, global = true, env = "ADIT_DIR", value_name = "DIR", help_heading = "Global options")]
    dir: Option<PathBuf>,
    /// Answer with one JSON document (or one a line) instead of text, errors included
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Say nothing but the answer and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
    /// Say more; -vv says everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
    /// When to colour the output
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
    /// Run a whole mesh on this machine, to look at
    Demo(demo::DemoArgs),
    /// Make a new mesh: its mesh file, its certificate authority, and this host's certificate
    Init(init::InitArgs),
    /// Run the agent, in the foreground
    Run(run::RunArgs),
    /// Say what is wrong with a mesh file, or with everything in this host's directory
    Check(check::CheckArgs),
    /// Issue and look at certificates: the certificate authority on this host
    #[command(
        subcommand,
        after_help = "Examples:\n  adit ca list\n  adit ca issue beta           a key and a certificate for beta, in DIR/nodes/beta\n  \
                      adit ca issue alpha --out .  a new certificate for the key in this directory"
    )]
    Ca(ca::CaCommand),
    /// Add and remove nodes in the mesh file, comments kept
    #[command(subcommand, after_help = "Examples:\n  adit node add gamma=10.0.0.3:7443\n  adit node rm gamma")]
    Node(edit::NodeCommand),
    /// Add, remove, allow and deny services in the mesh file, comments kept
    #[command(
        subcommand,
        after_help = "Examples:\n  adit service add web --on alpha --target 127.0.0.1:8080 --listen 127.0.0.1:18080\n  \
                      adit service allow web beta\n  adit service rm web"
    )]
    Service(edit::ServiceCommand),
    /// Sign the mesh file and hand it to the mesh: every node gets it and applies it
    Publish(publish::PublishArgs),
    /// Show the signed documents of the mesh: what was published when, by whom
    #[command(
        subcommand,
        after_help = "Examples:\n  adit mesh log                what was published when, by whom\n  adit mesh show > mesh.toml   the mesh file in force"
    )]
    Mesh(mesh::MeshCommand),
    /// Show the running agent: its links, services, certificate, recent refusals
    Status(status::StatusArgs),
    /// Have the running agent apply what changed in its files, and say what that was
    Reload(reload::ReloadArgs),
    /// Have the running agent accept nothing new, let its connections finish, and end
    Drain(drain::DrainArgs),
    /// Show the application connections that are open now
    Connections(connections::ConnectionsArgs),
    /// Say why a node's applications get through to a service, or why not
    Explain(explain::ExplainArgs),
    /// Measure round trips to another node
    Ping(ping::PingArgs),
    /// Measure throughput and new connections a second to another node
    Bench(bench::BenchArgs),
    /// Simulate networks that hurt, with any program in them: partitions, loss, NAT, without root
    #[command(
        subcommand,
        after_help = "Examples:\n  adit sim doctor               can this machine do it?\n  \
                      adit sim run split.toml       exits with 0 only if everything held that it checks\n  \
                      adit sim run split.toml --seed 7 --out results\n  \
                      adit sim shrink storm.toml --seed 7"
    )]
    Sim(sim::SimCommand),
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
            let color = io::stdout().is_terminal() && crate::logging::color_by_environment();
            return if write!(out, "{}", styled(&error, color)).is_ok() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        Err(error) if json => Err(usage(&error)),
        Err(error) => {
            // A closed standard error cannot be told about.
            write!(err, "{}", styled(&error, crate::logging::stderr_color())).ok();
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

fn styled(error: &clap::Error, color: bool) -> String {
    let rendered = error.render();
    if color { rendered.ansi().to_string() } else { rendered.to_string() }
}

/// clap's message as an error of ours.
fn usage(error: &clap::Error) -> CliError {
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    CliError::usage("usage", message).hint("`adit --help` and `adit COMMAND --help` say how")
}

fn dispatch(cli: Cli, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    let Cli { global, command } = cli;
    let clock = Clock::from_environment().map_err(|error| CliError::usage("clock", error.to_string()))?;
    let color = match global.color {
        ColorChoice::Auto => io::stdout().is_terminal() && crate::logging::color_by_environment(),
        ColorChoice::Always => true,
        ColorChoice::Never => false,
    };
    let dir = match (&command, global.dir) {
        // They need none of their own.
        (Command::Demo(_) | Command::Sim(_), dir) => dir.unwrap_or_default(),
        (Command::Check(args), None) if args.file.is_some() => PathBuf::new(),
        (_, dir) => context::directory(dir)?,
    };
    let configured = AgentFile::load(&dir.join(init::AGENT_FILE)).ok().and_then(|(file, _)| file.admin_socket);
    let context = Context {
        admin_socket: crate::admin::socket::place(&dir, configured.as_deref()),
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
        Command::Node(command) => edit::node(&command, color, &mut context.terminal(out, err)),
        Command::Service(command) => edit::service(&command, color, &mut context.terminal(out, err)),
        Command::Sim(command) => sim::run(command, &context, out, err),
        Command::Publish(args) => block_on(publish::run(args, &context, out)),
        Command::Mesh(command) => mesh::run(&command, &context, out),
        Command::Run(args) => run::run(&args, &context, global.color),
        Command::Demo(args) => block_on(demo::run(args, &context, out, err)),
        Command::Check(args) => block_on(check::run(args, &context, out)),
        Command::Status(args) => block_on(status::run(args, &context, out)),
        Command::Reload(args) => block_on(reload::run(args, &context, out)),
        Command::Drain(args) => block_on(drain::run(args, &context, out, err)),
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
