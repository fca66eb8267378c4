//! `adit sim shell`: a look from inside a host.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use netsim::scenario::{Visit, running};

use crate::cli::error::CliError;

/// Starts a shell, or another command, on a host of a scenario that is being run from another terminal.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit sim run lab.toml &              with `lasts = \"1h\"` in it\n  adit sim shell alpha\n  \
                  adit sim shell alpha -- ping -c 3 beta\n\nThe exit status is that of the command."
)]
pub struct ShellArgs {
    /// The host
    #[arg(value_name = "NODE")]
    node: String,
    /// Which scenario, if several are being run that have such a host
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// What to run instead of $SHELL
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Becomes the command.
pub(super) fn run(args: &ShellArgs) -> Result<(), CliError> {
    let all = running().map_err(|error| CliError::failed("simulator", format!("cannot look for runs: {error}")))?;
    let visit = choose(&all, &args.node, args.scenario.as_deref())?;
    visit.enter().map_err(|error| {
        CliError::failed("simulator", format!("cannot enter {} of {}: {error}", visit.host, visit.scenario))
            .hint("the run may just have ended; else be the user who has started it")
    })?;
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let (program, arguments) = args.command.split_first().map_or((&shell, &[][..]), |(first, rest)| (first, rest));
    // It comes back only if that fails.
    let error = Command::new(program).args(arguments).exec();
    Err(CliError::failed("simulator", format!("cannot start {}: {error}", program.display())))
}

fn choose<'v>(all: &'v [Visit], node: &str, scenario: Option<&str>) -> Result<&'v Visit, CliError> {
    let fits = |visit: &&Visit| visit.host == node && scenario.is_none_or(|name| visit.scenario == name);
    let found: Vec<&Visit> = all.iter().filter(fits).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let hosts: Vec<String> = all.iter().map(|visit| format!("{} ({})", visit.host, visit.scenario)).collect();
            let hint = match hosts.len() {
                0 => "nothing is being run by this user: start `adit sim run` in another terminal".to_owned(),
                _ => format!("there is {}", hosts.join(", ")),
            };
            Err(CliError::failed("no_node", format!("no running scenario has a host {}", mesh_config::quote(node)))
                .hint(hint))
        }
        [first, ..] => {
            let names: Vec<&str> = found.iter().map(|visit| visit.scenario.as_str()).collect();
            let message = format!("several running scenarios have a host {}: {}", first.host, names.join(", "));
            Err(CliError::failed("no_node", message).hint("say which by --scenario NAME"))
        }
    }
}
