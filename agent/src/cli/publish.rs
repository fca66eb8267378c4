//! `adit publish`: signs a mesh document and hands it to the mesh.

mod to;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_config::published::{Generation, Heads, NextError, Publication};
use mesh_config::{Diff, Digest, Editor, Mesh, MeshVersion, NodeName, read_text};
use serde_json::json;
use time::OffsetDateTime;

use self::to::{Remote, To};
use super::changes;
use super::context::{Context, with_causes, written};
use super::error::{CliError, REFUSED};
use super::init::MESH_FILE;
use super::publisher::{Publisher, enrolled_keys};
use super::style::{Paint, Tone};
use crate::admin::client::ClientError;
use crate::admin::view::Status;
use crate::app;
use crate::distribution::store::{Had, Store, StoreError};
use crate::identity::Trust;
use crate::identity::published::{Occasion, Published, Refused, verify};

/// After how long a document should be followed by another one.
const FRESH: time::Duration = time::Duration::days(90);
/// How long a publisher's certificate should still be valid.
const SOON: time::Duration = time::Duration::days(14);

/// Checks a mesh file, shows what it changes, asks, signs it, and hands it to the mesh: every node gets it from its neighbours,
/// verifies it and applies it as it applies any change. The first publish makes the mesh a signed one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  adit publish mesh.toml           show what changes, ask, and publish\n  \
                        adit publish mesh.toml --yes     without asking\n  \
                        adit publish --rollback 7        the content of version 7 again, under a new version\n  \
                        adit publish mesh.toml --to etcd  also put it into the etcd of [source.etcd] in DIR/agent.toml\n  \
                        adit publish --to etcd           put the document in force there, as it was signed\n\n\
                        It needs a publisher's key, which `adit ca delegate NAME` makes: it is looked for in DIR, then in\n\
                        DIR/publishers. The version is raised by itself. Where no agent runs with DIR, the document is kept\n\
                        in DIR/state and handed on when one does.\n\n\
                        Exits with 2 if the file does not check, with 4 if the publisher or the document is refused, with 1\n\
                        if it was not published or is not in force here.")]
pub struct PublishArgs {
    /// The mesh file
    #[arg(required_unless_present_any = ["rollback", "to"], conflicts_with = "rollback")]
    file: Option<PathBuf>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Publish the content of this earlier version again: `adit mesh log` shows them
    #[arg(long, value_name = "VERSION")]
    rollback: Option<u64>,
    /// The directory with publisher.key and publisher.pem
    #[arg(long, value_name = "DIRECTORY")]
    publisher: Option<PathBuf>,
    /// Put it there as well, where a fleet fetches it; without FILE the document in force, as it was signed
    #[arg(long, value_name = "SOURCE")]
    to: Option<To>,
}

/// What is to be published, and on top of what.
struct Draft {
    text: String,
    mesh: Mesh,
    /// What is in force, as far as it is known here.
    before: Option<Arc<Mesh>>,
    heads: Heads,
    opens: bool,
    first: bool,
}

/// Runs the command.
///
/// # Errors
/// What does not check, who may not sign, or that nobody said yes.
pub async fn run(args: PublishArgs, ctx: &Context, out: &mut dyn Write) -> Result<(), CliError> {
    let now = ctx.clock.now();
    let trust = Trust::load(&ctx.dir, now).map_err(|e| CliError::failed("trust", with_causes(&e)).hint(e.hint()))?.0;
    if args.to.is_some() && args.file.is_none() && args.rollback.is_none() {
        let had = Had::read(&ctx.dir, &trust, None, now).map_err(|e| of_store(&e))?;
        return to::copy(ctx, &had, &trust, out).await;
    }
    let publisher = Publisher::load(&ctx.dir, args.publisher.as_deref(), &trust, now)?;
    let agent = match ctx.client().status().await {
        Ok(status) => Some(status),
        Err(ClientError::NotRunning(_)) => None,
        Err(error) => return Err(ctx.failed(error)),
    };
    let mut had = Had::read(&ctx.dir, &trust, Some(&publisher.signer.mesh), now).map_err(|e| of_store(&e))?;
    let mut remote = match args.to {
        Some(To::Etcd) => Some(Remote::open(ctx, &publisher.signer.mesh, &trust).await?),
        None => None,
    };
    if let Some(remote) = &remote {
        remote.teach(&mut had);
    }
    let source = source(&args, &had)?;
    let draft = draft(&source, ctx, agent.as_ref(), &had, &publisher)?;

    let diff = draft.before.as_ref().map(|before| Diff::between(before, &draft.mesh));
    if !ctx.json {
        written(show(&draft, diff.as_ref(), ctx.paint(), out))?;
    }
    if !args.yes && !confirmed(&draft, ctx)? {
        return Err(
            CliError::failed("not_confirmed", "nothing was published").hint("to go ahead, answer y, or add --yes")
        );
    }

    let document = sign(&draft, &publisher, ctx, now)?;
    let document = verify(document.into(), &trust, Some(&publisher.signer.mesh), now, Occasion::Arrival);
    let document = document.map_err(|why| refused(&why))?;
    let put = match &mut remote {
        Some(remote) => Some(remote.put(&document).await?),
        None => None,
    };
    match &agent {
        Some(_) => drop(ctx.client().publish(document.bytes().to_vec()).await.map_err(|e| ctx.failed(e))?),
        None => keep(&document, &draft, &had, &trust, ctx, now)?,
    }
    follow(&source, &document, ctx)?;

    let header = document.header();
    let time = |seconds: u64| i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let stamp = |seconds| time(seconds).map(crate::admin::timestamp::Timestamp::from);
    if ctx.json {
        return ctx.write_json(
            out,
            &json!({
                "mesh": header.mesh(),
                "generation": header.rank().generation,
                "version": header.rank().version,
                "id": header.rank().id,
                "digest": header.document(),
                "published_at": stamp(header.published_at()),
                "refresh_by": stamp(header.refresh_by()),
                "publisher": document.signer().name,
                "certificate": document.signer().serial,
                "first": draft.first,
                "in_force": agent.is_some(),
                "to": remote.as_ref().zip(put).map(|(remote, put)| to::told(remote, put)),
                "diff": diff,
            }),
        );
    }
    written(conclude(&document, &draft, agent.is_some(), ctx, out))?;
    if let Some((remote, put)) = remote.zip(put) {
        written(writeln!(out, "it is in etcd, in {} keys that are new: {}", put.written, remote.place()))?;
    }
    Ok(())
}

/// Where the text comes from.
struct Source {
    /// What problems call it.
    name: String,
    text: String,
    /// The file, unless it is old content.
    file: Option<PathBuf>,
}

fn source(args: &PublishArgs, had: &Had) -> Result<Source, CliError> {
    let Some(wanted) = args.rollback else {
        let file = args.file.clone().unwrap_or_default();
        let text = read_text(&file).map_err(|problem| vec![*problem])?;
        return Ok(Source { name: file.display().to_string(), text, file: Some(file) });
    };
    let Some(old) = had.all.iter().find(|document| document.rank().version.number() == wanted) else {
        let kept: Vec<_> = had.all.iter().map(|document| document.rank().version.to_string()).collect();
        let message = format!("version {wanted} is not kept on this host");
        let hint = match kept.is_empty() {
            true => "no signed document is kept here: publish a file".to_owned(),
            false => format!("these are: {}", kept.join(", ")),
        };
        return Err(CliError::failed("unknown_version", message).hint(hint));
    };
    Ok(Source { name: format!("version {wanted}"), text: old.text().to_owned(), file: None })
}

/// Checks the text and gives it its version.
fn draft(
    source: &Source,
    ctx: &Context,
    agent: Option<&Status>,
    had: &Had,
    publisher: &Publisher,
) -> Result<Draft, CliError> {
    let told = Mesh::check(&source.text, &source.name)?.mesh;
    let signer = &publisher.signer;
    if *told.name() != signer.mesh {
        let message =
            format!("{} is of mesh `{}`, and publisher {} of `{}`", source.name, told.name(), signer.name, signer.mesh);
        return Err(
            CliError::usage("other_mesh", message).hint("name the mesh file of that mesh, or another --publisher")
        );
    }
    let heads = had.heads();
    let in_force = heads.winner().map(|header| header.rank().generation);
    let opens = in_force.is_some_and(|generation| signer.generation > generation);
    let (generation, needed) = heads.next_place(opens).map_err(cannot)?;
    if generation != signer.generation {
        return Err(other_generation(signer.generation, generation, in_force));
    }

    let local = read_text(&ctx.dir.join(MESH_FILE)).ok().and_then(|text| Mesh::check(&text, MESH_FILE).ok());
    let local = local.map(|checked| checked.mesh).filter(|mesh| match agent {
        // What was edited since is not what is in force.
        Some(status) => mesh.digest().to_string() == status.mesh_digest,
        None => source.file.as_deref().is_none_or(|file| !is_same(file, &ctx.dir.join(MESH_FILE))),
    });
    let before = had.in_force.as_ref().map(|document| document.mesh().clone()).or_else(|| local.map(Arc::new));
    // The first signed version is above those that came before it.
    let plain = match (in_force, agent) {
        (Some(_), _) => 0,
        (None, Some(status)) => status.mesh_version,
        (None, None) => before.as_ref().map_or(0, |mesh| mesh.version().number()),
    };
    let least = needed.max(MeshVersion::new(plain.saturating_add(1)).unwrap_or(needed));
    let version = if source.file.is_some() { least.max(told.version()) } else { least };
    let edited = Editor::new(&source.text).and_then(|editor| editor.signed(version));
    let text = edited.map_err(|fault| CliError {
        hint: fault.hint,
        ..CliError::usage("document", format!("{}: {}", source.name, fault.message))
    })?;
    let mesh = Mesh::check(&text, &source.name)?.mesh;
    Ok(Draft { text, mesh, before, opens, first: in_force.is_none(), heads })
}

fn show(draft: &Draft, diff: Option<&Diff>, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    match diff {
        Some(diff) => changes::render(diff, paint, out)?,
        None => {
            let (mesh, count) =
                (&draft.mesh, |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" }));
            let (nodes, services) = (count(mesh.nodes().len(), "node"), count(mesh.services().len(), "service"));
            let text = format!("+ version {} of mesh {}: {nodes}, {services}", mesh.version(), mesh.name());
            writeln!(out, "{}", paint.text(Tone::Good, &text))?;
        }
    }
    let forks = draft.heads.forks();
    for fork in &forks {
        let text = format!("! fork: version {} is merged by this, and what only it says is lost", fork.rank().version);
        writeln!(out, "{}", paint.text(Tone::Warn, &text))?;
    }
    if draft.opens {
        writeln!(
            out,
            "{}",
            paint.text(Tone::Warn, "~ it opens the next generation: older publishers can sign no more")
        )?;
    }
    if draft.first {
        let text = "~ the mesh becomes a signed one: from then on it is changed by `adit publish` alone";
        writeln!(out, "{}", paint.text(Tone::Warn, text))?;
    }
    out.flush()
}

/// Whether the person says yes.
fn confirmed(draft: &Draft, ctx: &Context) -> Result<bool, CliError> {
    if ctx.json || !io::stdin().is_terminal() {
        let message = "nobody can be asked whether to publish this: standard input is no terminal, or --json is given";
        return Err(CliError::usage("no_terminal", message).hint("add --yes"));
    }
    let mut err = io::stderr().lock();
    write!(err, "publish version {} to mesh {}? [y/N] ", draft.mesh.version(), draft.mesh.name())?;
    err.flush()?;
    let mut answer = String::new();
    // A line of any length is read whole; a terminal gives 4 KiB at most.
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn sign(draft: &Draft, publisher: &Publisher, ctx: &Context, now: OffsetDateTime) -> Result<Vec<u8>, CliError> {
    let removed: Vec<_> = match &draft.before {
        Some(before) => {
            before.nodes().keys().filter(|name| draft.mesh.node(name.as_str()).is_none()).cloned().collect()
        }
        None => Vec::new(),
    };
    let keys = enrolled_keys(&ctx.dir, &removed);
    warn_of_keys(draft, &removed, &keys, ctx)?;
    let seconds = |at: OffsetDateTime| u64::try_from(at.unix_timestamp()).unwrap_or_default();
    let refresh_by = now.saturating_add(FRESH).min(publisher.signer.not_after);
    if publisher.signer.not_after - now < SOON && !ctx.quiet {
        let until = crate::admin::timestamp::Timestamp::from(publisher.signer.not_after);
        writeln!(
            io::stderr(),
            "warning: the publisher's certificate is valid until {until} alone: `adit ca delegate`"
        )?;
    }
    let publication = Publication {
        document: Digest::of(draft.text.as_bytes()),
        version: draft.mesh.version(),
        opens_generation: draft.opens,
        published_at: seconds(now),
        refresh_by: seconds(refresh_by).max(seconds(now) + 1),
        removed: keys,
    };
    let header = draft.heads.next(draft.mesh.name(), publication).map_err(cannot)?;
    publisher.seal(&header, &draft.text)
}

/// Says which nodes are taken out by name alone, because their keys are not known here, and which come back with keys that nobody
/// accepts any more.
fn warn_of_keys(
    draft: &Draft,
    removed: &[NodeName],
    keys: &[(NodeName, Digest)],
    ctx: &Context,
) -> Result<(), CliError> {
    if ctx.quiet {
        return Ok(());
    }
    let list = |nodes: Vec<&NodeName>| nodes.into_iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    let unknown: Vec<_> = removed.iter().filter(|node| !keys.iter().any(|(known, _)| known == *node)).collect();
    if !unknown.is_empty() {
        writeln!(
            io::stderr(),
            "warning: no authority with the keys of {} is here, so they are not refused for good: whoever has them is let in \
             again if the mesh names the node again",
            list(unknown)
        )?;
    }
    let known = enrolled_keys(&ctx.dir, &draft.mesh.nodes().keys().cloned().collect::<Vec<_>>());
    let is_refused = |key: &Digest| draft.heads.tombstones().names(key);
    let named: BTreeSet<_> = known.iter().map(|(node, _)| node).collect();
    let locked =
        named.into_iter().filter(|node| known.iter().filter(|(n, _)| n == *node).all(|(_, key)| is_refused(key)));
    let locked: Vec<_> = locked.collect();
    if !locked.is_empty() {
        writeln!(
            io::stderr(),
            "warning: with the keys that {} had when it was taken out of the mesh nobody lets it in: `adit ca issue NAME --out DIRECTORY`, \
             with a directory that is empty, gives it new ones",
            list(locked)
        )?;
    }
    Ok(())
}

/// Puts the document where the agent of the directory will find it.
fn keep(
    document: &Published,
    draft: &Draft,
    had: &Had,
    trust: &Trust,
    ctx: &Context,
    now: OffsetDateTime,
) -> Result<(), CliError> {
    let _lock = app::lock(&ctx.dir).map_err(|error| {
        CliError::failed("in_use", error.to_string()).hint("an agent has been started meanwhile: try again")
    })?;
    let again = Had::read(&ctx.dir, trust, Some(document.mesh().name()), now).map_err(|e| of_store(&e))?;
    if again.floor != had.floor {
        return Err(CliError::failed("changed", "another document was published meanwhile").hint("try again"));
    }
    let mut store = Store::open(&ctx.dir)?;
    store.keep(document, draft.before.as_ref().map(|mesh| mesh.digest()))?;
    store.remember(document).map_err(|e| of_store(&e))?;
    // The mesh file that nobody has edited follows, as it does where an agent runs.
    let path = ctx.dir.join(MESH_FILE);
    let old = draft.before.as_ref().map(|mesh| mesh.digest());
    if read_text(&path).is_ok_and(|text| Some(Digest::of(text.as_bytes())) == old) {
        write(&path, document.text())?;
    }
    Ok(())
}

/// If the file that was published is the directory's own, it says what was signed from now on.
fn follow(source: &Source, document: &Published, ctx: &Context) -> Result<(), CliError> {
    let path = ctx.dir.join(MESH_FILE);
    let is_own = source.file.as_deref().is_some_and(|file| is_same(file, &path));
    // Unless somebody has gone on editing it.
    if is_own && read_text(&path).is_ok_and(|text| text == source.text) {
        write(&path, document.text())?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Ok(ca::atomic::write(&path, text.as_bytes(), super::edit::mode(&path))?)
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((std::fs::canonicalize(one), std::fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

fn conclude(document: &Published, draft: &Draft, in_force: bool, ctx: &Context, out: &mut dyn Write) -> io::Result<()> {
    let text = format!("published: version {}, signed by {}", document.rank().version, document.signer().name);
    writeln!(out, "{}", ctx.paint().text(Tone::Strong, &text))?;
    let where_to = match in_force {
        true => "it is in force here, and handed on to every node: `adit status` shows who has it".to_owned(),
        false => format!("no agent runs with {}: it is handed on when one does", ctx.dir.display()),
    };
    writeln!(out, "{where_to}")?;
    if draft.first {
        writeln!(
            out,
            "to change the mesh: edit a copy of mesh.toml, then `adit publish` it, on any host with the publisher's key"
        )?;
    }
    Ok(())
}

fn cannot(error: NextError) -> CliError {
    CliError::failed("cannot_publish", error.to_string())
}

fn other_generation(signer: Generation, needed: Generation, in_force: Option<Generation>) -> CliError {
    let message = match in_force {
        Some(in_force) => {
            format!("the mesh is in generation {in_force}, and this publisher may sign generation {signer}")
        }
        None => {
            format!("the first document is of generation {needed}, and this publisher may sign generation {signer}")
        }
    };
    let hint = format!("make a publisher for it: `adit ca delegate NAME --generation {}`", in_force.unwrap_or(needed));
    CliError { exit: REFUSED, ..CliError::failed("other_generation", message) }.hint(hint)
}

/// Why a document or its signer is refused.
pub(super) fn refused(why: &Refused) -> CliError {
    let exit = if matches!(why, Refused::Document(_)) { super::error::USAGE } else { REFUSED };
    CliError { exit, ..CliError::failed(why.name(), format!("it is refused: {why}")) }.hint(why.hint())
}

/// Why the state of the directory cannot be used.
pub(super) fn of_store(error: &StoreError) -> CliError {
    CliError::failed("state", with_causes(error)).hint(error.hint())
}
