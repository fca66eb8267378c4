//! `adit status`: the agent at a glance.

use std::io::{self, Write};

use time::OffsetDateTime;

use super::context::{Context, written};
use super::error::CliError;
use super::style::{Paint, Table, Tone, duration, or_dash, plain};
use crate::admin::timestamp::Timestamp;
use crate::admin::view::{AgentState, Peer, PeerState, Role, ServiceState, Status};
use crate::vocabulary::{Direction, Path};

/// A certificate that expires within so many days is shown as a warning.
const SOON: time::Duration = time::Duration::days(2);

/// A clock that is off by so many seconds is shown as a warning.
const SKEWED: f64 = 60.0;

/// Refusals that are shown without `-v`.
const REFUSALS: usize = 10;

/// The running agent at a glance: peers, services, certificate, what was refused lately.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit status\n  adit status --dir ./beta\n  adit status --json | jq '.peers[] | select(.state != \"up\")'"
)]
pub struct StatusArgs {}

/// Runs the command.
///
/// # Errors
/// The agent cannot be asked.
pub async fn run(_: StatusArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let status = ctx.client().status().await.map_err(|e| ctx.failed(e))?;
    if ctx.json {
        return ctx.write_json(out, &status);
    }
    written(render(&status, ctx.clock.now(), ctx.verbose > 0, ctx.paint(), out))
}

/// Writes the status for people.
pub(super) fn render(s: &Status, now: OffsetDateTime, all: bool, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let name = |text: &str| paint.text(Tone::Dim, &format!("{text:<12}"));
    let state = match s.state {
        AgentState::Ready => paint.text(Tone::Good, "ready"),
        AgentState::Starting => paint.text(Tone::Warn, "starting"),
        AgentState::Draining => paint.text(Tone::Warn, "draining"),
    };
    writeln!(
        out,
        "{}{} in mesh {}",
        name("node"),
        paint.text(Tone::Strong, &s.node),
        paint.text(Tone::Strong, &s.mesh)
    )?;
    let open = format!("{} connection{} open", s.connections, if s.connections == 1 { "" } else { "s" });
    let running = format!("adit {}, pid {}, up {}, {open}", s.version, s.pid, duration(s.uptime));
    writeln!(out, "{}{state}: {}", name("state"), paint.text(Tone::Plain, &running))?;
    let digest = s.mesh_digest.get(..12).unwrap_or(&s.mesh_digest);
    let from = format!(
        "version {} ({digest}), from {} since {}",
        s.mesh_version,
        s.config.source,
        minute(s.config.applied_at)
    );
    writeln!(out, "{}{}", name("mesh file"), paint.text(Tone::Plain, &from))?;
    if let Some(p) = &s.published {
        let came = match (p.came.as_deref(), p.came_from.as_deref()) {
            (None | Some("disk"), _) => String::new(),
            (Some("publish"), _) => ", on this host".to_owned(),
            (Some(_), Some(peer)) => format!(", came from {peer}"),
            (Some(source), None) => format!(", came from {source}"),
        };
        let text = format!(
            "by {} on {}{came}; publish again by {}",
            p.publisher,
            minute(p.published_at),
            minute(p.refresh_by)
        );
        writeln!(out, "{}{}", name("signed"), paint.text(Tone::Plain, &text))?;
    }
    match (&s.config.error, &s.config.on_disk_digest) {
        (Some(error), _) => {
            let place = match (error.line, error.column) {
                (Some(line), Some(column)) => format!("{}:{line}:{column}", error.file),
                _ => error.file.clone(),
            };
            let text = format!("the one on disk is not in force: {place}: {}", error.message);
            writeln!(out, "{}{}", name(""), paint.text(Tone::Bad, &text))?;
        }
        (None, Some(digest)) if *digest != s.config.loaded_digest && s.published.is_some() => {
            let text = "mesh.toml says an earlier version, and could not be rewritten: the signed document counts";
            writeln!(out, "{}{}", name(""), paint.text(Tone::Warn, text))?;
        }
        (None, Some(digest)) if *digest != s.config.loaded_digest => {
            writeln!(out, "{}{}", name(""), paint.text(Tone::Warn, "the one on disk differs and is not in force"))?;
        }
        (None, None) if s.published.is_some() => {}
        (None, None) => writeln!(out, "{}{}", name(""), paint.text(Tone::Warn, "the one on disk cannot be read"))?,
        _ => {}
    }
    for source in &s.sources {
        let version = source.mesh_version.map_or("no document yet".to_owned(), |version| format!("version {version}"));
        let (tone, state) = match (&*source.state, &source.error) {
            ("in_touch", _) => (Tone::Plain, format!("in touch, {version}")),
            (_, Some(error)) => (Tone::Bad, format!("failing since {}: {}", minute(source.since), error.message)),
            (state, None) => (Tone::Warn, state.to_owned()),
        };
        let text = format!("{} at {}: {state}", source.kind, source.place);
        writeln!(out, "{}{}", name("source"), paint.text(tone, &text))?;
    }
    match &s.certificate {
        None => writeln!(out, "{}{}", name("certificate"), paint.text(Tone::Bad, "none"))?,
        Some(c) => {
            let left = c.not_after.moment() - now;
            let (tone, when) = if left.is_negative() {
                (Tone::Bad, format!("EXPIRED {} ago", duration(-left.as_seconds_f64())))
            } else {
                let tone = if left < SOON { Tone::Warn } else { Tone::Plain };
                (tone, format!("expires in {}", duration(left.as_seconds_f64())))
            };
            let rest = format!(", at {}; serial {}, issued by {}", minute(c.not_after), c.serial, c.issuer);
            let (when, rest) = (paint.text(tone, &when), paint.text(Tone::Plain, &rest));
            writeln!(out, "{}{when}{rest}", name("certificate"))?;
        }
    }
    for warning in &s.warnings {
        writeln!(out, "{}{}", name("warning"), paint.text(Tone::Warn, warning))?;
    }
    peers(s, paint, out)?;
    services(s, paint, out)?;
    refusals(s, now, all, paint, out)
}

fn peers(s: &Status, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    if s.peers.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["PEER", "STATE", "PATH", "RTT", "SKEW", "LANES", "MESH", "CONGESTION", "ADDRESS"]);
    for p in &s.peers {
        table.row([
            plain(&p.node),
            (peer_tone(p.state), p.state.name().into()),
            or_dash(path(p)),
            or_dash(p.rtt.map(duration)),
            match p.skew {
                Some(skew) if skew.abs() >= SKEWED => (Tone::Bad, duration(skew)),
                skew => or_dash(skew.map(duration)),
            },
            plain(format!("{} idle, {} busy", p.lanes.idle, p.lanes.busy)),
            match p.mesh_version {
                Some(version) if version != s.mesh_version => (Tone::Warn, version.to_string()),
                version => or_dash(version.map(|v| v.to_string())),
            },
            or_dash(p.congestion.clone()),
            or_dash(p.address.clone()),
        ]);
        if let Some(error) = &p.error {
            table.note(if p.state == PeerState::Up { Tone::Warn } else { Tone::Bad }, error);
        }
    }
    table.write(out, paint)
}

fn peer_tone(state: PeerState) -> Tone {
    match state {
        PeerState::Up => Tone::Good,
        PeerState::Connecting => Tone::Warn,
        PeerState::Down => Tone::Bad,
        PeerState::Idle => Tone::Dim,
    }
}

fn path(p: &Peer) -> Option<String> {
    let name = p.path.map(Path::name)?;
    Some(p.via.as_ref().map_or_else(|| name.to_owned(), |via| format!("{name} via {via}")))
}

fn services(s: &Status, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    if s.services.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["SERVICE", "", "HERE", "STATE", "OPEN", "ON"]);
    for v in &s.services {
        let (word, here) = match v.role {
            Role::Offer => ("offers", v.target.clone()),
            Role::Reach => ("reaches", v.listen.clone()),
        };
        let (tone, state) = match v.state {
            ServiceState::Ready => (Tone::Good, "ready"),
            ServiceState::Starting => (Tone::Warn, "starting"),
            ServiceState::Failed => (Tone::Bad, "failed"),
            ServiceState::Unsupported => (Tone::Bad, "unsupported"),
            ServiceState::Withdrawn => (Tone::Warn, "withdrawn"),
        };
        let here = here.map(|here| if v.protocol == "tcp" { here } else { format!("{here}/{}", v.protocol) });
        let on = v.on.join(", ");
        table.row([
            plain(&v.name),
            plain(word),
            or_dash(here),
            (tone, state.into()),
            plain(v.connections),
            or_dash(Some(on)),
        ]);
        if let Some(error) = &v.error {
            table.note(Tone::Bad, error);
        }
    }
    table.write(out, paint)
}

fn refusals(s: &Status, now: OffsetDateTime, all: bool, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    if s.refusals.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(&["REFUSED OR FAILED", "TIMES", "WHO", "SERVICE", "LAYER", "REASON"]);
    let shown = if all { s.refusals.len() } else { REFUSALS };
    for r in s.refusals.iter().take(shown) {
        let ago = (now - r.at.moment()).as_seconds_f64().max(0.0);
        let arrow = if r.direction == Direction::In { "from" } else { "to" };
        let who = match (&r.peer, &r.address) {
            (Some(peer), Some(address)) => format!("{arrow} {peer} ({address})"),
            (Some(peer), None) => format!("{arrow} {peer}"),
            (None, Some(address)) => format!("{arrow} {address}"),
            (None, None) => "-".into(),
        };
        table.row([
            plain(format!("{} ago", duration(ago.round()))),
            plain(r.count),
            plain(who),
            or_dash(r.service.clone()),
            (Tone::Warn, r.layer.name().into()),
            plain(&r.reason),
        ]);
        if !r.detail.is_empty() {
            table.note(Tone::Plain, &r.detail);
        }
    }
    table.write(out, paint)?;
    if s.refusals.len() > shown {
        let more = format!("and {} more: adit status -v", s.refusals.len() - shown);
        writeln!(out, "{}", paint.text(Tone::Dim, &more))?;
    }
    Ok(())
}

/// `2026-01-31 12:00 UTC`.
fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
}
