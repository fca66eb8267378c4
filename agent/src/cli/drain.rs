//! `adit drain`: has the running agent finish what it does and end.

use std::io::{self, Write};

use super::context::{Context, interrupted, told, written};
use super::error::CliError;
use super::style::{Paint, Tone, duration};
use crate::admin::client::Stream;
use crate::admin::routes::MAX_DRAIN_SECONDS;
use crate::admin::view::{DrainRequest, DrainState, Draining};

/// Has the running agent accept nothing new, tell its peers so that new connections go elsewhere, and let those that are open
/// finish; what has not ended in time is cut. Then the agent ends. SIGTERM does the same.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit drain                  connections may go on for `drain` of agent.toml's [limits]\n  \
                        adit drain --timeout 600    or for ten minutes\n  \
                        adit drain --timeout 0      cut what is open\n  \
                        adit drain --json | jq -r '.cut[].service'\n\n\
                        Waits for the end, and exits with 0 also if connections were cut: they are named. Ctrl-C ends the waiting and not\n\
                        the drain. A second drain can only make it shorter. Under systemd the unit is inactive afterwards: start it again\n\
                        with `systemctl start adit`. With --json: one line whenever the number of connections has changed, one at the end."
)]
pub struct DrainArgs {
    /// How long connections may go on, in seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    timeout: Option<f64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|_| "not a number of seconds".to_owned())?;
    match (0.0..=MAX_DRAIN_SECONDS).contains(&seconds) {
        true => Ok(seconds),
        false => Err(format!("not between 0 and {MAX_DRAIN_SECONDS} seconds")),
    }
}

/// Runs the command. Progress goes to `err`.
///
/// # Errors
/// The agent cannot be asked, or ends before it has drained; 130 after Ctrl-C.
pub async fn run(args: DrainArgs, ctx: &Context, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    let stream = ctx.client().drain(&DrainRequest { timeout: args.timeout }).await.map_err(|e| ctx.failed(e))?;
    follow(stream, ctx, out, err, interrupted()).await
}

async fn follow(
    mut stream: Stream<Draining>,
    ctx: &Context,
    out: &mut dyn Write,
    err: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> Result<(), CliError> {
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = tokio::select! {
            () = &mut stop => {
                if !ctx.quiet {
                    // Who has closed standard error wants to hear nothing.
                    writeln!(err, "the agent goes on draining, and then ends").ok();
                }
                return Err(told(130));
            }
            next = stream.next() => next.map_err(|e| ctx.failed(e))?,
        };
        let Some(now) = next else {
            return Err(CliError::failed("agent_stopped", "the agent ended before it had drained")
                .hint("look at the agent's log for why it stopped"));
        };
        if ctx.json {
            ctx.write_json(out, &now)?;
        }
        match now.state {
            DrainState::Draining if !ctx.json && !ctx.quiet => {
                let text = format!("draining: {}, {} left", open(now.connections), duration(now.left.round()));
                writeln!(err, "{text}").ok();
            }
            DrainState::Draining => {}
            DrainState::Drained if ctx.json => return Ok(()),
            DrainState::Drained => return written(render(&now, ctx.paint(), out)),
        }
    }
}

fn open(connections: u64) -> String {
    format!("{connections} connection{} open", if connections == 1 { "" } else { "s" })
}

/// Writes what a drain came to, for people.
fn render(last: &Draining, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    for c in &last.cut {
        let client = c.client.as_ref().map(|client| format!(" ({client})")).unwrap_or_default();
        let to = if c.to.is_empty() { "nobody yet" } else { &c.to };
        let text = format!(
            "- connection {} from {}{client} to {} on {to}: cut, the agent is stopping",
            c.id, c.from, c.service
        );
        writeln!(out, "{}", paint.text(Tone::Bad, &text))?;
    }
    let cut = match last.cut.len() {
        0 => "no connection was cut".to_owned(),
        1 => "1 connection was cut".to_owned(),
        n => format!("{n} connections were cut"),
    };
    writeln!(
        out,
        "{}",
        paint.text(Tone::Strong, &format!("drained in {}: {cut}; the agent ends", duration(last.seconds)))
    )
}
