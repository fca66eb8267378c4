//! `adit mesh …`: the signed documents of the mesh, as this host knows them.

use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mesh_config::Diff;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::context::{Context, with_causes, written};
use super::error::CliError;
use super::publish::of_store;
use super::style::{Paint, Table, Tone, plain};
use crate::admin::timestamp::Timestamp;
use crate::distribution::store::Had;
use crate::identity::Trust;
use crate::identity::published::Published;

/// What changes a line of the log tells.
const SHOWN: usize = 3;

/// The signed documents of the mesh
#[derive(Debug, clap::Subcommand)]
pub enum MeshCommand {
    /// Show the published versions: when, who signed, what changed
    #[command(after_help = "Examples:\n  adit mesh log\n  adit mesh log --json | jq '.documents[0].publisher'\n\n\
                            It is read from DIR/state, whether an agent runs or not; the last 64 documents are kept there.")]
    Log,
    /// Print the mesh file of the signed document in force, or of an earlier version
    #[command(after_help = "Examples:\n  adit mesh show > mesh.toml   take back an edit\n  adit mesh show 7\n  \
                            adit mesh show --signed > /srv/www/mesh.signed   for web servers")]
    Show {
        /// The version; that in force if not given
        version: Option<u64>,
        /// The whole signed document instead, as `[source.https]` fetches it from a web server
        #[arg(long)]
        signed: bool,
    },
}

/// Runs one of the commands.
///
/// # Errors
/// If the mesh is not signed, or the state cannot be read.
pub fn run(command: &MeshCommand, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let now = ctx.clock.now();
    let none = || {
        CliError::failed("not_signed", format!("no signed document is kept in {}", ctx.dir.display()))
            .hint("the first `adit publish` makes a mesh a signed one")
    };
    if !Had::is_there(&ctx.dir) {
        return Err(none());
    }
    let trust = Trust::load(&ctx.dir, now).map_err(|e| CliError::failed("trust", with_causes(&e)).hint(e.hint()))?.0;
    let had = Had::read(&ctx.dir, &trust, None, now).map_err(|e| of_store(&e))?;
    match command {
        MeshCommand::Show { version, signed } => {
            let wanted = |document: &&Arc<Published>| version.is_none_or(|v| document.rank().version.number() == v);
            let found = match version {
                None => had.in_force.as_ref(),
                Some(_) => had.all.iter().find(wanted),
            };
            let found = found.ok_or_else(|| match version {
                None => none(),
                Some(version) => {
                    CliError::failed("unknown_version", format!("version {version} is not kept on this host"))
                        .hint("`adit mesh log` shows those that are")
                }
            })?;
            if ctx.json {
                let mut document = json!({"version": found.rank().version, "text": found.text()});
                if *signed {
                    document["signed"] = json!(BASE64.encode(found.bytes()));
                }
                return ctx.write_json(out, &document);
            }
            if *signed {
                return written(out.write_all(found.bytes()).and_then(|()| out.flush()));
            }
            written(out.write_all(found.text().as_bytes()))
        }
        MeshCommand::Log => {
            let log = Log::of(&had);
            if log.entries.is_empty() {
                return Err(none());
            }
            if ctx.json {
                return ctx.write_json(out, &log.json());
            }
            written(log.render(ctx.paint(), out))
        }
    }
}

/// A document in the log.
struct Entry {
    document: Arc<Published>,
    state: &'static str,
    /// What it changes, a line each; nothing if what it stands on is not kept.
    changes: Option<Vec<String>>,
}

struct Log {
    entries: Vec<Entry>,
    unusable: Vec<String>,
}

impl Log {
    fn of(had: &Had) -> Self {
        let heads = had.heads();
        let forks: Vec<_> = heads.forks().into_iter().map(|header| header.rank()).collect();
        let in_force = had.in_force.as_ref().map(|document| document.rank());
        let entries = had.all.iter().map(|document| {
            let rank = document.rank();
            let state = match rank {
                rank if Some(rank) == in_force => "in_force",
                rank if forks.contains(&rank) => "fork",
                _ => "earlier",
            };
            let below = document.header().parents().first();
            let below = below.and_then(|parent| had.all.iter().find(|other| other.rank() == *parent));
            let changes = below.map(|below| {
                let diff = Diff { version: None, ..Diff::between(below.mesh(), document.mesh()) };
                let told = if diff.is_empty() { String::new() } else { diff.to_string() };
                told.lines().map(str::to_owned).collect()
            });
            Entry { document: document.clone(), state, changes }
        });
        Self { entries: entries.collect(), unusable: had.unusable.clone() }
    }

    fn json(&self) -> Value {
        let documents = self.entries.iter().map(|Entry { document, state, changes }| {
            let (rank, header, signer) = (document.rank(), document.header(), document.signer());
            json!({
                "generation": rank.generation,
                "version": rank.version,
                "id": rank.id,
                "digest": header.document(),
                "published_at": stamp(header.published_at()),
                "refresh_by": stamp(header.refresh_by()),
                "publisher": signer.name,
                "certificate": signer.serial,
                "state": state,
                "parents": header.parents().iter().map(|parent| parent.id).collect::<Vec<_>>(),
                "changes": changes,
            })
        });
        json!({"documents": documents.collect::<Vec<_>>(), "unusable": self.unusable})
    }

    fn render(&self, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["VERSION", "PUBLISHED", "BY", "STATE", "CHANGES"]);
        for Entry { document, state, changes } in &self.entries {
            let rank = document.rank();
            let version = match rank.generation {
                mesh_config::published::Generation::FIRST => rank.version.to_string(),
                generation => format!("{} (generation {generation})", rank.version),
            };
            let (tone, state) = match *state {
                "in_force" => (Tone::Good, "in force"),
                "fork" => (Tone::Bad, "fork"),
                _ => (Tone::Plain, "earlier"),
            };
            let when = stamp(document.header().published_at()).to_string();
            let changes = summary(changes.as_deref());
            table.row([
                plain(version),
                plain(when),
                plain(&document.signer().name),
                (tone, state.into()),
                plain(changes),
            ]);
        }
        table.write(out, paint)?;
        self.unusable
            .iter()
            .try_for_each(|why| writeln!(out, "{}", paint.text(Tone::Warn, &format!("left aside: {why}"))))
    }
}

fn summary(changes: Option<&[String]>) -> String {
    match changes {
        None => "the first that is kept here".to_owned(),
        Some([]) => "nothing: published anew".to_owned(),
        Some(lines) => {
            let mut text = lines.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
            if lines.len() > SHOWN {
                text.push_str(&format!("; and {} more", lines.len() - SHOWN));
            }
            text
        }
    }
}

fn stamp(seconds: u64) -> Timestamp {
    let at = i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    Timestamp::from(at.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}
