//! `adit demo`: a whole mesh on loopback, every agent a process of its own.

mod checks;
mod mesh;
mod web;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::context::{Context, interrupted, written};
use super::error::CliError;
use super::style::Tone;
use mesh::{Demo, Layout};

/// A whole mesh on this machine, to look at: agents, certificates, a web service behind one of them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit demo                     runs until Ctrl-C\n  adit demo --nodes 5 --keep ./demo\n  \
                        adit demo --once --json       checks everything and exits"
)]
pub struct DemoArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=20))]
    nodes: u8,
    /// Keep everything in DIR (which must not exist) instead of a temporary directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Make requests through every pair, try what must be refused, and exit
    #[arg(long)]
    once: bool,
}

/// What `--once` has found.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Requests through every node that may reach the service.
    pub pairs: Vec<Pair>,
    /// What was refused, as it must be.
    pub refused: Vec<Refused>,
    /// How long everything took.
    pub seconds: f64,
}

/// A request that went through the mesh.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// The node where the application was.
    pub from: String,
    /// The node that offers the service.
    pub to: String,
    /// Bytes that arrived, compared with those that were sent.
    pub bytes: u64,
    /// How they went.
    pub path: String,
    /// The serial of the certificate that the offering node has proven.
    pub peer_certificate: String,
}

/// Something that must not get through and did not.
#[derive(Debug, Serialize)]
pub struct Refused {
    /// What was tried.
    pub case: String,
    /// Why it was refused, by the refusing agent's own record.
    pub reason: String,
}

/// How often the live view is drawn.
const REDRAW: Duration = Duration::from_secs(1);

/// Runs the demo.
///
/// # Errors
/// If the mesh does not come up, or with `--once` if anything is not as it must be.
pub async fn run(args: DemoArgs, ctx: &Context, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    let started = Instant::now();
    let layout = Layout::choose(args.nodes)?;
    if !ctx.quiet && !ctx.json {
        writeln!(err, "making a mesh of {} nodes …", args.nodes)?;
    }
    let mut demo = Demo::prepare(args.keep.as_deref(), layout, ctx, args.once)?;
    let page = web::Page::new(demo.layout().offerer());
    let web = web::serve(demo.layout().target, page.clone()).await?;
    let work = async {
        demo.start(ctx)?;
        demo.wait_ready().await?;
        if args.once {
            let (pairs, refused) = checks::all(&mut demo, &page, ctx).await?;
            let outcome = Outcome { pairs, refused, seconds: started.elapsed().as_secs_f64() };
            return tell_outcome(&outcome, ctx, out);
        }
        introduce(&demo, ctx, out, started)?;
        watch(&mut demo, ctx, out).await
    };
    let result = tokio::select! {
        result = work => result,
        never = web => never,
        () = interrupted() => match args.once {
            true => Err(CliError { exit: super::INTERRUPTED, ..CliError::failed("interrupted", "interrupted") }),
            false => Ok(()),
        },
    };
    demo.stop(result.is_err() && !ctx.quiet, err).await;
    result
}

fn tell_outcome(outcome: &Outcome, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    if ctx.json {
        return ctx.write_json(out, outcome);
    }
    let paint = ctx.paint();
    let mut text = String::new();
    for pair in &outcome.pairs {
        text += &format!(
            "{} {} → {}: {} bytes arrived whole, by {}, certificate {}\n",
            paint.text(Tone::Good, "✓"),
            pair.from,
            pair.to,
            pair.bytes,
            pair.path,
            pair.peer_certificate
        );
    }
    for refused in &outcome.refused {
        text += &format!("{} refused: {} ({})\n", paint.text(Tone::Good, "✓"), refused.case, refused.reason);
    }
    text += &format!("everything as it must be, in {:.1} s\n", outcome.seconds);
    written(out.write_all(text.as_bytes()))
}

fn introduce(demo: &Demo, ctx: &Context, out: &mut dyn Write, started: Instant) -> Result<(), CliError> {
    if ctx.json {
        return ctx.write_json(out, &demo.describe());
    }
    let paint = ctx.paint();
    let layout = demo.layout();
    let offerer = layout.offerer();
    let mut text = format!(
        "\n{} {} agents are up in {:.1} s, each a process with a key and a certificate of its own.\n\n\
         A web server runs beside {offerer}, for {offerer} alone. The other nodes reach it through the mesh:\n\n",
        paint.text(Tone::Good, "●"),
        layout.nodes.len(),
        started.elapsed().as_secs_f64()
    );
    for node in layout.reachers() {
        text += &format!("    curl http://{}/        as an application on {}\n", node.listen, node.name);
    }
    text += &format!(
        "\nAsk the agents, for example:\n\n    adit status --dir {0}\n    adit explain {1} web --dir {0}\n    adit ping {offerer} --dir {0}\n\n\
         Ctrl-C ends the demo{2}.\n\n",
        demo.directory(1).display(),
        layout.nodes[1].name,
        if demo.is_kept() { ", its directories stay" } else { " and removes everything" }
    );
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Draws links and bytes until Ctrl-C.
async fn watch(demo: &mut Demo, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let live = std::io::stdout().is_terminal() && !ctx.json && !ctx.quiet;
    let mut drawn = 0;
    loop {
        demo.all_alive()?;
        if live {
            let view = demo.view().await;
            let up = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
            drawn = view.lines().count();
            written(write!(out, "{up}{view}").and_then(|()| out.flush()))?;
        }
        sleep(REDRAW).await;
    }
}
