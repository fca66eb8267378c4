//! `adit reload`: has the running agent bring into force what its directory says.

use std::io::{self, Write};
use std::path::PathBuf;

use super::context::{Context, told, written};
use super::error::CliError;
use super::style::{Paint, Tone};
use crate::admin::view::{Reload, ReloadRequest};

/// Has the running agent read its files again and apply what changed, and says what that was: listeners, links, permits,
/// connections that were cut. The agent does so by itself soon after a file changes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  adit reload                      apply what changed, and say what that was\n  \
                        adit reload --dry-run new.toml   say what that mesh file would change, live connections included\n  \
                        adit reload --json | jq '.connections_cut[].service'\n\n\
                        Of a signed mesh, --dry-run FILE says what publishing FILE would change on this host.\n\n\
                        Exits with 2 if a file does not check, with 4 if it checks and is refused (a version lower than\n\
                        the running one), with 1 if it is in force but a listener could not be opened, with 3 if the\n\
                        agent is not running. What is refused changes nothing.")]
pub struct ReloadArgs {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: another mesh file in place of the directory's
    #[arg(requires = "dry_run")]
    file: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// The agent cannot be asked, or does not take what lies in its directory; exit status 1, after the whole answer, if a
/// listener could not be opened.
pub async fn run(args: ReloadArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let file = match args.file.map(std::path::absolute).transpose() {
        Ok(file) => file,
        Err(error) => return Err(CliError::usage("file", format!("the file cannot be found: {error}"))),
    };
    let request = ReloadRequest { dry_run: args.dry_run, file };
    let reload = ctx.client().reload(&request).await.map_err(|e| ctx.failed(e))?;
    if ctx.json {
        ctx.write_json(out, &reload)?;
    } else {
        written(render(&reload, ctx.paint(), out))?;
    }
    if reload.listeners.failed.is_empty() { Ok(()) } else { Err(told(1)) }
}

/// Writes each change on a line: `+` comes, `-` goes, `~` becomes different, `!` is to be looked at.
pub(super) fn render(r: &Reload, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let mut lines: Vec<(Tone, &str, String)> = Vec::new();
    let (come, gone) = ((Tone::Good, "+"), (Tone::Bad, "-"));
    if r.mesh.old_digest != r.mesh.digest {
        lines.push((Tone::Warn, "~", format!("mesh version {} → {}", r.mesh.old_version, r.mesh.version)));
    }
    for l in &r.listeners.closed {
        lines.push((gone.0, gone.1, format!("listener {} of {}", l.listen, l.service)));
    }
    for l in &r.listeners.opened {
        lines.push((come.0, come.1, format!("listener {} of {}", l.listen, l.service)));
    }
    lines.extend(r.links.removed.iter().map(|node| (gone.0, gone.1, format!("link to {node}"))));
    lines.extend(r.links.added.iter().map(|node| (come.0, come.1, format!("link to {node}"))));
    let moved = |node| (Tone::Warn, "~", format!("address of {node}; the link stays until the new one answers"));
    lines.extend(r.links.moved.iter().map(moved));
    for p in &r.permits {
        lines.extend(p.lost.iter().map(|node| (gone.0, gone.1, format!("{node} may reach {}", p.service))));
        lines.extend(p.gained.iter().map(|node| (come.0, come.1, format!("{node} may reach {}", p.service))));
    }
    for c in &r.connections_cut {
        let client = c.client.as_ref().map(|client| format!(" ({client})")).unwrap_or_default();
        let to = if c.to.is_empty() { "nobody yet" } else { &c.to };
        let text = format!("connection {} from {}{client} to {} on {to}: {}", c.id, c.from, c.service, c.because);
        lines.push((gone.0, gone.1, text));
    }
    if let Some(c) = &r.certificate {
        lines.push((Tone::Warn, "~", format!("certificate {} → {}, until {}", c.old_serial, c.serial, c.not_after)));
    }
    if r.trust {
        lines.push((Tone::Warn, "~", "accepted roots".to_owned()));
    }
    lines.extend(r.agent.applied.iter().map(|key| (Tone::Warn, "~", format!("agent.toml: {key}"))));
    for f in &r.listeners.failed {
        let text =
            format!("listener {} of {}: {}; it is tried again until it can be opened", f.listen, f.service, f.error);
        lines.push((Tone::Bad, "!", text));
    }
    lines.extend(r.warnings.iter().map(|warning| (Tone::Warn, "!", warning.clone())));
    for (tone, mark, text) in &lines {
        writeln!(out, "{}", paint.text(*tone, &format!("{mark} {text}")))?;
    }
    let verdict = match (r.changed, r.dry_run) {
        (false, true) => "nothing would change",
        (false, false) => "nothing has changed",
        (true, true) if r.mesh.signed && r.mesh.old_digest != r.mesh.digest => {
            "nothing was done: once it is published this would be in force"
        }
        (true, true) => "nothing was done: without --dry-run this would be in force",
        (true, false) => "in force",
    };
    writeln!(out, "{}", paint.text(Tone::Strong, verdict))
}
