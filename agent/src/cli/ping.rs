//! `adit ping NODE`: probes of the control channel to a peer.

use std::io::Write;

use mesh_config::NodeName;

use super::context::{Context, interrupted, told, written};
use super::error::CliError;
use super::style::{Tone, duration};
use crate::admin::client::Stream;
use crate::admin::routes::MAX_PROBES;
use crate::admin::view::{PingSummary, Probe};

/// Probes the link to a node, one probe a second. Exits with 1 if none is answered.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit ping alpha\n  adit ping alpha -c 10\n\nOne probe a second, on the link that is there. Exits with 1 if none is answered."
)]
pub struct PingArgs {
    /// The node to probe
    node: NodeName,
    /// How many probes to send
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PROBES)))]
    count: u32,
}

/// Runs the command.
///
/// # Errors
/// The agent cannot be asked; exit status 1, after the summary, if no probe was answered; 130 after Ctrl-C.
pub async fn run(args: PingArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let client = ctx.client();
    let stream = tokio::select! {
        () = interrupted() => return Err(told(130)),
        stream = client.ping(&args.node, args.count) => stream.map_err(|e| ctx.failed(e))?,
    };
    probe(stream, &args.node, ctx, out, interrupted()).await
}

/// Writes probes as they come, then the summary, also if `stop` is ready before the last.
pub(super) async fn probe(
    mut stream: Stream<Probe>,
    node: &NodeName,
    ctx: &Context,
    out: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> Result<(), CliError> {
    let mut probes = Vec::new();
    let mut stop = std::pin::pin!(stop);
    let ended = loop {
        let next = tokio::select! {
            () = &mut stop => break Err(told(130)),
            next = stream.next() => next,
        };
        match next {
            Ok(Some(probe)) => {
                show(&probe, node, ctx, out)?;
                probes.push(probe);
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(ctx.failed(error)),
        }
    };
    let summary = PingSummary::of(&probes);
    if ctx.json {
        // A stream that failed ends with its error, which the caller writes.
        if ended.as_ref().err().is_none_or(|e| e.message.is_empty()) {
            ctx.write_json(out, &summary)?;
        }
    } else {
        let paint = ctx.paint();
        let counts = format!("{} sent, {} received", summary.sent, summary.received);
        let times = match (summary.min, summary.avg, summary.max) {
            (Some(min), Some(avg), Some(max)) => {
                format!("; min {}, avg {}, max {}", duration(min), duration(avg), duration(max))
            }
            _ => String::new(),
        };
        let tone = if summary.received == summary.sent { Tone::Good } else { Tone::Warn };
        written(writeln!(out, "{}{}", paint.text(tone, &counts), paint.text(Tone::Plain, &times)))?;
    }
    ended?;
    if summary.received > 0 { Ok(()) } else { Err(told(1)) }
}

fn show(probe: &Probe, node: &NodeName, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    if ctx.json {
        return ctx.write_json(out, probe);
    }
    let paint = ctx.paint();
    let line = match (probe.ok, probe.rtt) {
        (true, Some(rtt)) => {
            let path = probe.path.map(|p| format!(" by {}", p.name())).unwrap_or_default();
            paint.text(Tone::Plain, &format!("{:>3}  {node}{path}: {}", probe.seq, duration(rtt)))
        }
        _ => {
            let why = probe.error.as_deref().unwrap_or("no answer");
            paint.text(Tone::Bad, &format!("{:>3}  {node}: {why}", probe.seq))
        }
    };
    written(writeln!(out, "{line}").and_then(|()| out.flush()))
}
