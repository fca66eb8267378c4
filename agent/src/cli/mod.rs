//! The command line: arguments to validated commands, answers to people and to `--json`.

pub mod bench;
pub mod ca;
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
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use context::Context;
use error::CliError;

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
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN", help_heading = "Global options")]
    color: ColorChoice,
}
