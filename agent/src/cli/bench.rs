//! `adit bench NODE`: how much the link to a peer carries.

use std::io::{self, IsTerminal, Write};

use mesh_config::NodeName;

use super::context::{Context, interrupted, told, written};
use super::error::CliError;
use super::style::{Paint, Tone, bytes, duration, or_dash, three_digits};
use crate::admin::routes::{MAX_BENCH_SECONDS, MAX_BENCH_STREAMS};
use crate::admin::view::{Bench, BenchOptions};

/// Measures the link to a node between the two agents: throughput, new connections a second, round trips under load.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  adit bench alpha\n  adit bench alpha --streams 8 --seconds 10\n  \
                        adit bench alpha --reverse\n\n\
                        Takes all the link gives, beside your own connections. Both agents must share a service.")]
pub struct BenchArgs {
    /// The node to measure with
    node: NodeName,
    /// How many streams carry data at once, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_BENCH_STREAMS)))]
    streams: u32,
    /// How many seconds to carry data, 0.1 to 60
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Carry data from the far node to this one
    #[arg(long)]
    reverse: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=MAX_BENCH_SECONDS).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("from 0.1 to {MAX_BENCH_SECONDS} seconds"))
    }
}

/// Runs the command.
///
/// # Errors
/// The agent cannot be asked, or there is no link; 130 after Ctrl-C.
pub async fn run(args: BenchArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let BenchArgs { node, streams, seconds, reverse } = args;
    if !ctx.json && !ctx.quiet && io::stderr().is_terminal() {
        // Only to show that something goes on.
        let _ = writeln!(io::stderr(), "measuring for {} …", duration(seconds));
    }
    let client = ctx.client();
    let bench = tokio::select! {
        () = interrupted() => return Err(told(130)),
        bench = client.bench(&node, BenchOptions { streams, seconds, reverse }) => bench.map_err(|e| ctx.failed(e))?,
    };
    if ctx.json {
        return ctx.write_json(out, &bench);
    }
    let (from, to) = if reverse { (node.as_str(), "here") } else { ("here", node.as_str()) };
    let head = format!("{from} → {to}, {streams} stream{}", if streams == 1 { "" } else { "s" });
    written(render(&bench, &head, ctx.paint(), out))
}

fn render(b: &Bench, head: &str, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let line = |name: &str, value: String| format!("{}{value}", paint.text(Tone::Dim, &format!("{name:<13}")));
    writeln!(out, "{}", line("link", paint.text(Tone::Plain, &format!("{head}, by {}", b.path.name()))))?;
    let carried = format!(" ({} in {})", bytes(b.bytes), duration(b.seconds));
    let rate = paint.text(Tone::Strong, &format!("{} Gbit/s", three_digits(b.gbit_per_s)));
    writeln!(out, "{}", line("throughput", rate + &carried))?;
    writeln!(out, "{}", line("connections", format!("{} a second", three_digits(b.connections_per_s))))?;
    let (p50, p99) = (or_dash(b.rtt.p50.map(duration)).1, or_dash(b.rtt.p99.map(duration)).1);
    writeln!(out, "{}", line("round trip", format!("median {p50}, 99th percentile {p99}")))
}
