//! `adit sim check` and `adit sim list`: scenarios as documents.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{as_json, files, load, say};
use crate::cli::context::{Context, told, written};
use crate::cli::error::CliError;
use crate::cli::style::{Table, Tone, plain};

/// Checks scenarios without running them. Exits with 2 if there is an error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit sim check split.toml\n  adit sim check tests/scenarios   all that are in a folder"
)]
pub struct CheckArgs {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
}

/// Lists scenarios.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  adit sim list                  this folder\n  adit sim list tests/scenarios")]
pub struct ListArgs {
    /// Folders to look into
    #[arg(default_value = ".", value_name = "FOLDER")]
    folders: Vec<PathBuf>,
}

/// Checks.
pub(super) fn check(args: &CheckArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let mut problems = Vec::new();
    let mut lines = String::new();
    for path in files(&args.scenarios)? {
        match load(&path) {
            Ok(scenario) => {
                let (faults, checks) = scenario.counts();
                let hosts = count(scenario.hosts().count(), "host");
                let (faults, checks) = (count(faults, "fault"), count(checks, "check"));
                let ok = ctx.paint().text(Tone::Good, "ok:");
                lines += &format!("{ok} {}: {hosts}, {faults}, {checks}\n", path.display());
            }
            Err(found) => problems.extend(found),
        }
    }
    if ctx.json {
        ctx.write_json(out, &serde_json::json!({ "problems": as_json(&problems) }))?;
    } else {
        for problem in &problems {
            say(out, &format!("{}\n\n", problem.render(ctx.color)))?;
        }
        say(out, &lines)?;
        if !problems.is_empty() {
            say(out, &format!("{}\n", ctx.paint().text(Tone::Bad, &count(problems.len(), "error"))))?;
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(told(2)) }
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Lists.
pub(super) fn list(args: &ListArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let mut rows = Vec::new();
    for folder in &args.folders {
        let cannot = |error| CliError::usage("document", format!("{}: cannot be read: {error}", folder.display()));
        for path in netsim::scenario::files_in(folder).map_err(cannot)? {
            let path = path.strip_prefix("./").map(Path::to_owned).unwrap_or(path);
            rows.push((load(&path), path));
        }
    }
    if ctx.json {
        let all = rows.iter().map(|(scenario, path)| match scenario {
            Ok(scenario) => {
                let (faults, checks) = scenario.counts();
                serde_json::json!({
                    "file": path, "name": scenario.name(), "about": scenario.about(),
                    "hosts": scenario.hosts().count(), "faults": faults, "checks": checks, "problems": 0,
                })
            }
            Err(problems) => serde_json::json!({ "file": path, "problems": problems.len() }),
        });
        let all: Vec<serde_json::Value> = all.collect();
        return ctx.write_json(out, &serde_json::json!({ "scenarios": all }));
    }
    let mut table = Table::new(&["FILE", "HOSTS", "FAULTS", "CHECKS", "ABOUT"]);
    for (scenario, path) in &rows {
        let file = plain(path.display());
        match scenario {
            Ok(scenario) => {
                let (faults, checks) = scenario.counts();
                let hosts = scenario.hosts().count();
                table.row([file, plain(hosts), plain(faults), plain(checks), plain(scenario.about())]);
            }
            Err(problems) => {
                let told = (Tone::Bad, format!("does not check: {}", count(problems.len(), "error")));
                table.row([file, plain("-"), plain("-"), plain("-"), told]);
            }
        }
    }
    if rows.is_empty() {
        return say(out, "no scenarios here\n");
    }
    written(table.write(out, ctx.paint()))
}
