//! How what runs stands to what the directory says: for `status`.

use mesh_config::Digest;
use time::OffsetDateTime;

use crate::admin::view::{ConfigError, Service as ServiceView};

/// What the rest of the agent sees of the [`Reloader`](super::Reloader).
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// When the mesh document in force was applied.
    pub applied_at: OffsetDateTime,
    /// The mesh document on disk that was refused although it may well check, by its digest, and why.
    pub refused: Option<(Digest, ConfigError)>,
    /// The services of this node.
    pub services: Vec<ServiceView>,
    /// What an operator should know although the agent runs.
    pub warnings: Vec<String>,
}
