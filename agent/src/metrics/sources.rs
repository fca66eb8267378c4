//! What is counted of the sources of mesh documents.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use time::OffsetDateTime;

use super::Metrics;
use super::labels::{SourceFailureLabels, SourceLabels};
use crate::vocabulary::SourceKind;

#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    up: Family<SourceLabels, Gauge>,
    answered: Family<SourceLabels, Gauge>,
    failures: Family<SourceFailureLabels, Counter>,
}

impl Sources {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "mesh_source_up",
            "1 while a source of mesh documents answers and what it has is taken",
            self.up.clone(),
        );
        registry.register_with_unit(
            "mesh_source_answered_timestamp",
            "When a source of mesh documents answered last, in seconds since 1970",
            Unit::Seconds,
            self.answered.clone(),
        );
        registry.register(
            "mesh_source_failures",
            "Times that a source of mesh documents gave nothing, by reason",
            self.failures.clone(),
        );
    }
}

impl Metrics {
    /// Whether a source of mesh documents answers and what it has is taken.
    pub fn mesh_source_up(&self, source: SourceKind, up: bool) {
        self.mesh_sources.up.get_or_create(&SourceLabels { source }).set(i64::from(up));
    }

    /// A source of mesh documents has answered.
    pub fn mesh_source_answered(&self, source: SourceKind, at: OffsetDateTime) {
        self.mesh_sources.answered.get_or_create(&SourceLabels { source }).set(at.unix_timestamp());
    }

    /// A source of mesh documents gave nothing.
    pub fn mesh_source_failed(&self, source: SourceKind, reason: &'static str) {
        self.mesh_sources.failures.get_or_create(&SourceFailureLabels { source, reason }).inc();
    }
}
