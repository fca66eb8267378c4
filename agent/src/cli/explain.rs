//! `adit explain FROM SERVICE`: why does it, or does it not, get through?

use std::io::{self, Write};

use mesh_config::{NodeName, ServiceName};

use super::context::{Context, told, written};
use super::error::CliError;
use super::style::{Paint, Tone};
use crate::admin::view::Explain;

/// Why a node's applications get through to a service, or not: each step from listener to target, run against the live
/// mesh. Exits with 4 if they do not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  adit explain beta web\n  adit explain beta web --json\n\n\
                        Ask on FROM, or on a node that offers the service. Each step is run against the live mesh.\n\
                        Exits with 4 if the connection would not be made.")]
pub struct ExplainArgs {
    /// The node whose application wants to reach the service
    from: NodeName,
    /// The service
    service: ServiceName,
}

/// Runs the command.
///
/// # Errors
/// The agent cannot be asked; exit status 4, after the whole answer, if the connection would not be made.
pub async fn run(args: ExplainArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let ExplainArgs { from, service } = args;
    let explain = ctx.client().explain(&from, &service).await.map_err(|e| ctx.failed(e))?;
    if ctx.json {
        ctx.write_json(out, &explain)?;
    } else {
        written(render(&explain, &from, &service, ctx.paint(), out))?;
    }
    if explain.allowed { Ok(()) } else { Err(told(4)) }
}

fn render(
    explain: &Explain,
    from: &NodeName,
    service: &ServiceName,
    paint: Paint,
    out: &mut dyn Write,
) -> io::Result<()> {
    let width = explain.steps.iter().map(|s| s.check.chars().count()).max().unwrap_or(0);
    for step in &explain.steps {
        let mark = if step.ok { paint.text(Tone::Good, "✓") } else { paint.text(Tone::Bad, "✗") };
        let check = paint.text(Tone::Strong, &format!("{:<width$}", step.check));
        writeln!(out, "{mark} {check}  {}", paint.text(Tone::Plain, &step.detail))?;
    }
    if !explain.steps.is_empty() {
        writeln!(out)?;
    }
    let (tone, verdict) =
        if explain.allowed { (Tone::Good, "gets through to") } else { (Tone::Bad, "does not get through to") };
    let verdict = paint.text(tone, &format!("{from} {verdict} {service}"));
    writeln!(out, "{verdict}: {}", paint.text(Tone::Plain, &explain.because))?;
    match &explain.hint {
        Some(hint) => writeln!(out, "{} {}", paint.text(Tone::Dim, "what to do:"), paint.text(Tone::Plain, hint)),
        None => Ok(()),
    }
}
