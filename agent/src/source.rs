//! Where mesh documents come from.
//!
//! ```text
//!   mesh.toml ── files (watch, settle) ─────────────────────────────────┐  in a mesh that is not signed
//!                                                                       ▼
//!   peers ──── gossip ─────┐                                      the reload path
//!   etcd ───── follow ─────┼──▶ distribution: verify, keep, pass on ────▲
//!   https ──── follow ─────┘
//!   adit publish ──────────┘
//! ```
//!
//! Four kinds are behind one trait, [`MeshSource`]: it says what it is, waits for what comes next, and is told how that was judged.
//! Who waits for it is the room that has use for its documents.

mod error;

use std::future::Future;

pub use error::SourceError;

use crate::vocabulary::SourceKind;

/// What a source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<D> {
    /// This is what it has, and may be new.
    Document(D),
    /// It is there, and has nothing else than what was judged last.
    Unchanged,
    /// It is there, and has no document.
    Nothing,
}

/// Where mesh documents come from.
pub trait MeshSource {
    /// What it hands over, to be judged before anything else is done with it.
    type Document;

    /// What it is.
    fn kind(&self) -> SourceKind;

    /// Where it is, for people.
    fn place(&self) -> String;

    /// Waits for what it says next. After a failure it may be asked again at once: whoever asks decides on the pause.
    ///
    /// # Errors
    /// [`SourceError`]: it gives nothing now.
    fn next(&mut self) -> impl Future<Output = Result<Heard<Self::Document>, SourceError>> + Send;

    /// The document of before was judged. One that may be judged in another way later (`again`) is handed over again.
    fn judged(&mut self, again: bool) {
        let _ = again;
    }

    /// Others may be believed now than before: what was judged is to be judged again.
    fn forget(&mut self) {}
}
