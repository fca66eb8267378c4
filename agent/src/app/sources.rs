//! The sources of mesh documents as the admin API tells them, and how the document in force came.

use super::backend::View;
use crate::admin::timestamp::Timestamp;
use crate::admin::view::{Source as SourceView, SourceError};
use crate::distribution::{Came, Shown};
use crate::sources::Shown as SourceShown;
use crate::vocabulary::SourceKind;

impl View {
    /// Where the document in force came from, for people.
    pub(super) fn provenance(&self) -> String {
        let shown = self.documents.shown();
        let Some(document) = &shown.in_force else { return self.on_disk.path().display().to_string() };
        let place = |kind: SourceKind| {
            let source = self.sources.iter().map(|source| source.borrow().clone()).find(|source| source.kind == kind);
            source.map_or_else(|| kind.name().to_owned(), |source| format!("{} ({})", kind.name(), source.place))
        };
        let came = match &shown.came {
            None | Some(Came::Disk) => "kept on this host's disk".to_owned(),
            Some(Came::Publish) => "published on this host".to_owned(),
            Some(Came::Peer(peer)) => format!("handed on by `{peer}`"),
            Some(Came::Source(kind)) => format!("from {}", place(*kind)),
        };
        format!("signed by {}, {came}", document.signer().name)
    }
}

/// A source as `status` tells it.
pub(super) fn view(source: &SourceShown) -> SourceView {
    let error = source.error.as_ref();
    SourceView {
        kind: source.kind.name().to_owned(),
        place: source.place.clone(),
        state: source.state.name().to_owned(),
        since: Timestamp::from(source.since),
        answered_at: source.answered.map(Timestamp::from),
        mesh_version: source.version,
        failures: source.failures,
        error: error.map(|(reason, message, hint)| SourceError {
            reason: (*reason).to_owned(),
            message: message.clone(),
            hint: hint.clone(),
        }),
    }
}

/// What an operator should know of a source.
pub(super) fn warning(source: &SourceShown, documents: &Shown) -> Option<String> {
    let kind = source.kind.name();
    if let Some((_, message, hint)) = &source.error {
        let since = Timestamp::from(source.since);
        return Some(format!(
            "{kind} gives no newer mesh document since {since}, and what is in force stays: {message}; {hint}"
        ));
    }
    if source.answered.is_some() && source.version.is_none() {
        let command = if source.kind == SourceKind::Etcd {
            "`adit publish FILE --to etcd` puts it there"
        } else {
            "put one there"
        };
        return Some(format!("{kind} ({}) has no mesh document: {command}", source.place));
    }
    let in_force = documents.in_force.as_ref()?.rank().version.number();
    let behind = source.version.is_some_and(|version| version < in_force);
    behind.then(|| {
        let command =
            if source.kind == SourceKind::Etcd { "`adit publish --to etcd`" } else { "`adit mesh show --signed`" };
        format!(
            "{kind} has version {} and version {in_force} is in force: {command} brings it up to date",
            source.version.unwrap_or_default()
        )
    })
}
