//! `adit connections`: the application connections that are open now, or each as it opens and ends.

use std::io::{self, Write};

use time::OffsetDateTime;

use super::context::{Context, interrupted, told, written};
use super::error::CliError;
use super::style::{Paint, Table, Tone, bytes, duration, or_dash, plain};
use crate::admin::client::Stream;
use crate::admin::view::{Connection, ConnectionState};
use crate::vocabulary::Path;

/// The application connections that are open now.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit connections\n  adit connections --follow --json | jq -c '{service, from, state}'"
)]
pub struct ConnectionsArgs {
    /// Go on: one line whenever a connection opens or ends, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// Runs the command.
///
/// # Errors
/// The agent cannot be asked, or stops meanwhile; 130 after Ctrl-C.
pub async fn run(args: ConnectionsArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let client = ctx.client();
    if args.follow {
        let stream = client.follow().await.map_err(|e| ctx.failed(e))?;
        return follow(stream, ctx, out, interrupted()).await;
    }
    let mut stream = client.connections().await.map_err(|e| ctx.failed(e))?;
    let mut all = Vec::new();
    while let Some(connection) = stream.next().await.map_err(|e| ctx.failed(e))? {
        if ctx.json {
            ctx.write_json(out, &connection)?;
        } else {
            all.push(connection);
        }
    }
    if ctx.json { Ok(()) } else { written(render(&all, ctx.clock.now(), ctx.paint(), out)) }
}

/// Writes connections as they come, until the stream ends or `stop` is ready.
pub(super) async fn follow(
    mut stream: Stream<Connection>,
    ctx: &Context,
    out: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> Result<(), CliError> {
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = tokio::select! {
            () = &mut stop => return Err(told(130)),
            next = stream.next() => next,
        };
        match next.map_err(|e| ctx.failed(e))? {
            None => return Ok(()),
            Some(connection) if ctx.json => ctx.write_json(out, &connection)?,
            Some(connection) => written(event(&connection, ctx.paint(), out).and_then(|()| out.flush()))?,
        }
    }
}

pub(super) fn render(all: &[Connection], now: OffsetDateTime, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    if all.is_empty() {
        return writeln!(out, "{}", paint.text(Tone::Dim, "no connection is open"));
    }
    let mut table = Table::new(&["ID", "SERVICE", "FROM", "TO", "PATH", "AGE", "IN", "OUT", "STATE", "CLIENT"]);
    for c in all {
        let (tone, state) = state(c.state);
        table.row([
            plain(c.id),
            plain(&c.service),
            plain(&c.from),
            plain(&c.to),
            or_dash(c.path.map(|p| Path::name(p).to_owned())),
            plain(duration((now - c.opened.moment()).as_seconds_f64().max(0.0).round())),
            plain(bytes(c.bytes_in)),
            plain(bytes(c.bytes_out)),
            (tone, state.into()),
            or_dash(c.client.clone()),
        ]);
    }
    table.write(out, paint)
}

fn event(c: &Connection, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let (tone, state) = state(c.state);
    let state = paint.text(tone, &format!("{state:<11}"));
    let what = format!("#{} {} {} → {}", c.id, c.service, c.from, c.to);
    let mut rest = format!(", {} in, {} out", bytes(c.bytes_in), bytes(c.bytes_out));
    if let Some(reason) = &c.reason {
        rest.push_str(": ");
        rest.push_str(reason);
    }
    writeln!(out, "{state} {}{}", paint.text(Tone::Plain, &what), paint.text(Tone::Plain, &rest))
}

fn state(state: ConnectionState) -> (Tone, &'static str) {
    match state {
        ConnectionState::Opening => (Tone::Warn, "opening"),
        ConnectionState::Open => (Tone::Good, "open"),
        ConnectionState::HalfClosed => (Tone::Plain, "half-closed"),
        ConnectionState::Closed => (Tone::Dim, "closed"),
        ConnectionState::Reset => (Tone::Bad, "reset"),
        ConnectionState::Refused => (Tone::Bad, "refused"),
    }
}
