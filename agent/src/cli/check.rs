//! `adit check`: does this mesh file, or this host's directory, hold together? Offline: asks no agent.

mod signed;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_config::document::parse_duration;
use mesh_config::{Diff, Mesh, MeshName, NodeDiff, NodeName, Problem, Severity, read_text};
use time::OffsetDateTime;

use super::changes;
use super::context::{Context, told, with_causes, written};
use super::error::CliError;
use super::style::{Tone, duration};
use crate::agent_file::AgentFile;
use crate::identity::{CERTIFICATE_FILE, Identity, KEY_FILE, LoadError, LoadWarning, TRUST_FILE, Trust};
use crate::services::unsupported;

/// The mesh file's name in the directory.
pub const MESH_FILE: &str = "mesh.toml";

/// The agent file's name in the directory.
pub const AGENT_FILE: &str = "agent.toml";

/// Checks a mesh file, or without one the whole directory: mesh file, agent file, keys and certificates. Exits with 2 if
/// there is an error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit check                       this host's mesh file, agent file, keys and certificates\n  \
                        adit check mesh.toml             that mesh file alone\n  \
                        adit check --diff mesh.new.toml  what would change\n  \
                        adit check --min-validity 2d     fail if the certificate ends within two days\n\n\
                        Asks no running agent. Exits with 2 if there is an error; warnings alone are 0."
)]
pub struct CheckArgs {
    /// A mesh file to check alone; without it, everything in the agent's directory
    pub(super) file: Option<PathBuf>,
    /// Count it as an error if this host's certificate expires within this time, such as 2d
    #[arg(long, value_name = "TIME", value_parser = validity, conflicts_with = "file")]
    min_validity: Option<Duration>,
    /// Another mesh file: check it too, and say what changing to it would do
    #[arg(long, value_name = "FILE")]
    diff: Option<PathBuf>,
}

fn validity(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|_| "a whole number and a unit (m, h, d), such as 14d".to_owned())
}

/// Runs the command.
///
/// # Errors
/// Exit status 2, after the whole answer, if there is an error among the problems.
pub async fn run(args: CheckArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let alone = args.file.is_some();
    let path = args.file.unwrap_or_else(|| ctx.dir.join(MESH_FILE));
    let (mut mesh, mut problems) = load(&path);
    let agent = if alone { None } else { AgentFile::load(&ctx.dir.join(AGENT_FILE)).ok().map(|(file, _)| file) };
    let host = agent.as_ref().map(|file| file.node.clone());
    let mut had = None;
    if !alone {
        let now = ctx.clock.now();
        let trust = Trust::load(&ctx.dir, now).ok().map(|(trust, _)| trust);
        let signed = signed::look(&ctx.dir, trust.as_ref(), mesh.as_ref().map(Mesh::name), now);
        had = signed.had;
        if let Some(in_force) = had.as_ref().and_then(|had| had.in_force.as_ref())
            && path.symlink_metadata().is_err()
        {
            // Beside a signed document there need be no mesh file.
            (mesh, problems) = (Some(in_force.mesh().as_ref().clone()), Vec::new());
        }
        problems.extend(signed.problems);
        problems.extend(directory(&ctx.dir, mesh.as_ref(), args.min_validity, now));
        problems.extend(agent.iter().flat_map(|file| signed::of_sources(&ctx.dir, file)));
    }
    let next = args.diff.map(|path| load(&path));
    let changes = next.map(|(next, found)| {
        problems.extend(found);
        let (old, new) = (mesh.as_ref()?, next.as_ref()?);
        Some((Diff::between(old, new), host.map(|node| NodeDiff::between(old, new, &node))))
    });
    if ctx.json {
        let mut document = serde_json::json!({ "problems": problems });
        if !alone {
            (document["signed"], document["sources"]) = signed::json(had.as_ref(), agent.as_ref());
        }
        if let Some(changes) = &changes {
            document["diff"] = serde_json::json!(changes.as_ref().map(|(diff, _)| diff));
            if let Some(host) = changes.as_ref().and_then(|(_, host)| host.as_ref()) {
                document["host"] = serde_json::json!(host);
            }
        }
        ctx.write_json(out, &document)?;
    } else {
        for line in signed::told(had.as_ref(), agent.as_ref()) {
            written(writeln!(out, "{line}"))?;
        }
        written(render(&problems, mesh.as_ref(), changes.flatten().as_ref(), ctx, out))?;
    }
    if problems.iter().any(Problem::is_error) { Err(told(2)) } else { Ok(()) }
}

fn load(path: &Path) -> (Option<Mesh>, Vec<Problem>) {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(problem) => return (None, vec![*problem]),
    };
    let file = path.display().to_string();
    match Mesh::check(&text, &file) {
        Ok(checked) => {
            let mut problems = checked.warnings;
            problems.extend(unsupported::warnings(&text, &file));
            problems.sort_by_key(|problem| (problem.line, problem.column));
            (Some(checked.mesh), problems)
        }
        Err(problems) => (None, problems),
    }
}

fn render(
    problems: &[Problem],
    mesh: Option<&Mesh>,
    changes: Option<&(Diff, Option<NodeDiff>)>,
    ctx: &Context,
    out: &mut dyn Write,
) -> io::Result<()> {
    let paint = ctx.paint();
    for problem in problems.iter().filter(|p| p.is_error() || !ctx.quiet) {
        writeln!(out, "{}\n", problem.render(ctx.color))?;
    }
    if let Some((diff, host)) = changes {
        changes::render(diff, paint, out)?;
        if let Some(host) = host {
            changes::render_host(host, paint, out)?;
        }
        writeln!(out)?;
    }
    let errors = problems.iter().filter(|p| p.is_error()).count();
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let counts = match (errors, problems.len() - errors) {
        (0, 0) => "no problem".into(),
        (0, warnings) => count(warnings, "warning"),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    if let (0, Some(mesh)) = (errors, mesh) {
        let (nodes, services) = (count(mesh.nodes().len(), "node"), count(mesh.services().len(), "service"));
        let what = format!("mesh {}, version {}: {nodes}, {services}", mesh.name(), mesh.version());
        return writeln!(out, "{} {what}; {counts}", paint.text(Tone::Good, "ok:"));
    }
    writeln!(out, "{}", paint.text(Tone::Bad, &counts))
}

/// What is wrong with this host's own files. `mesh` is nothing if the mesh file does not check; what needs its name is
/// left out then.
fn directory(dir: &Path, mesh: Option<&Mesh>, min_validity: Option<Duration>, now: OffsetDateTime) -> Vec<Problem> {
    let mut problems = Vec::new();
    let node = match AgentFile::load(&dir.join(AGENT_FILE)) {
        Ok((file, warnings)) => {
            problems.extend(warnings);
            Some(file.node)
        }
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    if let (Some(node), Some(mesh)) = (&node, mesh)
        && mesh.node(node.as_str()).is_none()
    {
        let message = format!("this host is to be `{node}`, which the mesh file does not have");
        let hint = format!("add [node.{node}] to {MESH_FILE}, or correct `node`");
        problems.push(Problem::with_file(Severity::Error, &name(dir, AGENT_FILE), message).hint(hint));
    }
    let trust = match Trust::load(dir, now) {
        Ok((trust, warnings)) => {
            problems.extend(warnings.iter().map(|w| of_warning(dir, w)));
            Some(trust)
        }
        Err(error) => {
            problems.push(of_error(dir, &error));
            None
        }
    };
    if let (Some(node), Some(mesh)) = (node, mesh) {
        problems.extend(identity(dir, &node, mesh.name(), trust.as_ref(), min_validity, now));
    }
    problems
}

/// What is wrong with this host's key and certificate.
fn identity(
    dir: &Path,
    node: &NodeName,
    mesh: &MeshName,
    trust: Option<&Trust>,
    min_validity: Option<Duration>,
    now: OffsetDateTime,
) -> Vec<Problem> {
    let (identity, warnings) = match Identity::load(dir, node, mesh, now) {
        Ok(loaded) => loaded,
        Err(error) => return vec![of_error(dir, &error)],
    };
    let mut problems: Vec<_> = warnings.iter().map(|w| of_warning(dir, w)).collect();
    let file = name(dir, CERTIFICATE_FILE);
    if identity.valid_at(now).is_err() {
        return problems;
    }
    if let Some(Err(rejection)) = trust.map(|trust| identity.check_against(trust, now)) {
        let message = format!("peers with this host's {TRUST_FILE} would refuse it: {rejection}");
        problems.push(Problem::with_file(Severity::Error, &file, message).hint(rejection.hint()));
    }
    let left = identity.not_after() - now;
    if let Some(least) = min_validity
        && left < least
    {
        let (left, least) = (duration(left.as_seconds_f64()), duration(least.as_secs_f64()));
        let message = format!("the certificate expires in {left}, and {least} are asked for");
        let hint = format!("issue it again: `adit ca issue {node}` on the host with the CA key");
        problems.push(Problem::with_file(Severity::Error, &file, message).hint(hint));
    }
    problems
}

fn name(dir: &Path, file: &str) -> String {
    dir.join(file).display().to_string()
}

fn of_error(dir: &Path, error: &LoadError) -> Problem {
    of_text(dir, Severity::Error, &with_causes(error), &error.hint())
}

/// A certificate that is not valid now is no reason not to start, since renewal begins from it; to whoever asks whether
/// all is well it is an error.
fn of_warning(dir: &Path, warning: &LoadWarning) -> Problem {
    let severity = match warning {
        LoadWarning::NotValidNow { .. } => Severity::Error,
        _ => Severity::Warning,
    };
    of_text(dir, severity, &warning.to_string(), &warning.hint())
}

/// The identity's texts begin with the file that they are about.
fn of_text(dir: &Path, severity: Severity, text: &str, hint: &str) -> Problem {
    let about = [CERTIFICATE_FILE, KEY_FILE, TRUST_FILE].iter().find_map(|file| {
        let file = name(dir, file);
        text.strip_prefix(&file)?.strip_prefix(": ").map(|rest| (file.clone(), rest))
    });
    let (file, message) = about.unwrap_or_else(|| (dir.display().to_string(), text));
    Problem::with_file(severity, &file, message).hint(hint)
}

#[cfg(test)]
mod tests;
