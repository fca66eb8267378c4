//! What `adit check` says of a directory whose mesh document comes from elsewhere.

use std::path::Path;

use mesh_config::{Digest, MeshName, Problem, Severity, read_text};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{AGENT_FILE, MESH_FILE, name};
use crate::agent_file::AgentFile;
use crate::distribution::store::Had;
use crate::identity::Trust;
use crate::reconcile::documents::signed_file;
use crate::source::SourceError;
use crate::sources;

/// What was found.
#[derive(Default)]
pub(super) struct Signed {
    /// The documents of this host, if they could be read.
    pub(super) had: Option<Had>,
    pub(super) problems: Vec<Problem>,
}

/// Looks at the signed documents of `dir`, and holds the mesh file against the one in force.
pub(super) fn look(dir: &Path, trust: Option<&Trust>, mesh: Option<&MeshName>, now: OffsetDateTime) -> Signed {
    let mut found = Signed::default();
    let Some(trust) = trust.filter(|_| Had::is_there(dir)) else { return found };
    match Had::read(dir, trust, mesh, now) {
        Ok(had) => {
            found.problems.extend(difference(dir, &had));
            found.had = Some(had);
        }
        Err(error) => {
            let problem = Problem::with_file(Severity::Error, &signed_file(dir), error.to_string());
            found.problems.push(problem.hint(error.hint()));
        }
    }
    found
}

/// How the mesh file differs from the signed document in force.
fn difference(dir: &Path, had: &Had) -> Option<Problem> {
    let signed = had.in_force.as_ref()?;
    let text = read_text(&dir.join(MESH_FILE)).ok()?;
    let digest = Digest::of(text.as_bytes());
    if digest == signed.header().document() {
        return None;
    }
    let (version, signer) = (signed.rank().version, &signed.signer().name);
    let earlier = had.all.iter().find(|document| document.header().document() == digest);
    let (message, hint) = match (earlier, had.before == Some(digest)) {
        (Some(earlier), _) => (
            format!(
                "it says version {}, and version {version}, signed by {signer}, is in force",
                earlier.rank().version
            ),
            "the agent brings it up to date if it may write it; `adit mesh show` prints what is in force",
        ),
        (None, true) => (
            format!("it is the one of before the mesh was signed; version {version}, signed by {signer}, is in force"),
            "the agent brings it up to date if it may write it; `adit mesh show` prints what is in force",
        ),
        (None, false) => (
            format!(
                "it differs from the signed document in force, version {version} by {signer}: an edit on one host is not taken"
            ),
            "publish it, `adit publish FILE`, or take the edit back: `adit mesh show` prints what is in force",
        ),
    };
    Some(Problem::with_file(Severity::Warning, &name(dir, MESH_FILE), message).hint(hint))
}

/// What of the files that the sources need cannot be used.
pub(super) fn of_sources(dir: &Path, file: &AgentFile) -> Vec<Problem> {
    let problem = |error: SourceError| {
        let (file, message) = match &error {
            SourceError::File { path, why } => (path.display().to_string(), why.clone()),
            other => (name(dir, AGENT_FILE), format!("[source]: {other}")),
        };
        Problem::with_file(Severity::Error, &file, message).hint(error.hint())
    };
    sources::check(&file.sources, dir).into_iter().map(problem).collect()
}

/// Where the mesh document comes from: a line each, for people.
pub(super) fn told(had: Option<&Had>, file: Option<&AgentFile>) -> Vec<String> {
    let signed = had.and_then(|had| had.in_force.as_ref());
    let mut lines: Vec<_> = signed
        .map(|document| {
            let (version, signer) = (document.rank().version, &document.signer().name);
            format!("mesh document: version {version}, signed by {signer}")
        })
        .into_iter()
        .collect();
    lines.extend(places(file).into_iter().map(|(kind, place)| format!("source: {kind} at {place}")));
    lines
}

/// The same for programs.
pub(super) fn json(had: Option<&Had>, file: Option<&AgentFile>) -> (Value, Value) {
    let signed = had.and_then(|had| had.in_force.as_ref());
    let signed = signed.map(|document| {
        json!({"version": document.rank().version, "id": document.rank().id, "publisher": document.signer().name})
    });
    let sources: Vec<_> = places(file).into_iter().map(|(kind, place)| json!({"kind": kind, "place": place})).collect();
    (json!(signed), json!(sources))
}

fn places(file: Option<&AgentFile>) -> Vec<(&'static str, String)> {
    let Some(file) = file else { return Vec::new() };
    let etcd = file.sources.etcd.as_ref().map(|etcd| {
        let members: Vec<_> = etcd.endpoints.iter().map(ToString::to_string).collect();
        ("etcd", members.join(", "))
    });
    let https = file.sources.https.as_ref().map(|https| ("https", format!("{}{}", https.endpoint, https.path)));
    etcd.into_iter().chain(https).collect()
}
