//! `adit publish --to etcd`: the document also goes to where fleets fetch it.

use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use mesh_config::MeshName;
use serde_json::{Value, json};

use super::refused;
use crate::agent_file::AgentFile;
use crate::cli::context::Context;
use crate::cli::error::{CliError, REFUSED};
use crate::cli::init::AGENT_FILE;
use crate::distribution::store::Had;
use crate::identity::Trust;
use crate::identity::published::{Occasion, Published, Refused, verify};
use crate::source::SourceError;
use crate::sources::etcd::publish::{Found, Publisher, Put};

/// Where else a document goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum To {
    /// The cluster of `[source.etcd]` in DIR/agent.toml.
    Etcd,
}

/// A cluster, and what it has.
pub(super) struct Remote {
    publisher: Publisher,
    /// What a publisher has signed there.
    document: Option<Arc<Published>>,
}

impl Remote {
    /// Looks what the cluster that the agent file names has.
    ///
    /// # Errors
    /// If there is none, or it gives nothing.
    pub(super) async fn open(ctx: &Context, mesh: &MeshName, trust: &Trust) -> Result<Self, CliError> {
        let (file, _) = AgentFile::load(&ctx.dir.join(AGENT_FILE))?;
        let Some(settings) = file.sources.etcd else {
            let message = format!("{} has no [source.etcd]", ctx.dir.join(AGENT_FILE).display());
            return Err(CliError::usage("no_source", message)
                .hint("say there where etcd is: endpoints = [\"https://etcd-1.example.net:2379\"]"));
        };
        let opened = Publisher::open(settings, &ctx.dir, mesh, ctx.clock).await;
        let (publisher, found) = opened.map_err(|error| failed(&error))?;
        let mut this = Self { publisher, document: None };
        match found {
            Found::Nothing => {}
            Found::Broken(error) => this.warn(ctx, &error.to_string())?,
            Found::Document(bytes) => {
                let bytes: Arc<[u8]> = Arc::from(&bytes[..]);
                match verify(bytes, trust, Some(mesh), ctx.clock.now(), Occasion::Kept) {
                    Ok(document) => this.document = Some(Arc::new(document)),
                    Err(why) => this.warn(ctx, &format!("what etcd has is not taken: {why}"))?,
                }
            }
        }
        Ok(this)
    }

    fn warn(&self, ctx: &Context, why: &str) -> io::Result<()> {
        match ctx.quiet {
            true => Ok(()),
            false => writeln!(io::stderr(), "warning: {why}; it is replaced"),
        }
    }

    /// Has what is published stand on the document that is there.
    pub(super) fn teach(&self, had: &mut Had) {
        let Some(document) = &self.document else { return };
        if !had.all.iter().any(|other| other.rank() == document.rank()) {
            had.all.push(document.clone());
            had.all.sort_by_key(|document| std::cmp::Reverse(document.rank()));
        }
        if had.in_force.as_ref().is_none_or(|other| other.rank() < document.rank()) {
            had.in_force = Some(document.clone());
        }
    }

    /// Puts a document there.
    ///
    /// # Errors
    /// If it gives way to a greater one, somebody else has published meanwhile, or etcd does not take it.
    pub(super) async fn put(&mut self, document: &Published) -> Result<Put, CliError> {
        if let Some(there) = self.document.as_ref().filter(|there| there.rank() > document.rank()) {
            return Err(refused(&Refused::Older { rank: document.rank(), floor: there.rank() }));
        }
        let put = self.publisher.put(Bytes::copy_from_slice(document.bytes())).await.map_err(|error| failed(&error))?;
        put.ok_or_else(|| CliError::failed("changed", "another document was put into etcd meanwhile").hint("try again"))
    }

    /// Whether the document is there already, as it is.
    pub(super) fn has(&self, document: &Published) -> bool {
        self.document.as_ref().is_some_and(|there| there.rank() == document.rank())
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        self.publisher.place()
    }
}

/// Puts the document in force there, as it was signed.
///
/// # Errors
/// As [`Remote::put`].
pub(super) async fn copy(ctx: &Context, had: &Had, trust: &Trust, out: &mut dyn io::Write) -> Result<(), CliError> {
    let Some(document) = &had.in_force else {
        return Err(CliError::failed("not_signed", format!("no signed document is kept in {}", ctx.dir.display()))
            .hint("publish a file: `adit publish mesh.toml --to etcd`"));
    };
    let mut remote = Remote::open(ctx, document.mesh().name(), trust).await?;
    let put = if remote.has(document) { Put { written: 0, removed: 0 } } else { remote.put(document).await? };
    let version = document.rank().version;
    if ctx.json {
        return ctx.write_json(out, &json!({"version": version, "id": document.rank().id, "to": told(&remote, put)}));
    }
    let text = match put.written {
        0 => format!("version {version} is there already: {}", remote.place()),
        written => format!(
            "version {version}, signed by {}, is in etcd, in {written} keys: {}",
            document.signer().name,
            remote.place()
        ),
    };
    Ok(writeln!(out, "{text}")?)
}

/// What came of it, for programs.
pub(super) fn told(remote: &Remote, put: Put) -> Value {
    json!({"kind": "etcd", "place": remote.place(), "keys_written": put.written, "keys_removed": put.removed})
}

fn failed(error: &SourceError) -> CliError {
    let exit = if matches!(error, SourceError::Denied { .. }) { REFUSED } else { crate::cli::error::FAILED };
    CliError { exit, ..CliError::failed("etcd", error.to_string()) }.hint(error.hint())
}
