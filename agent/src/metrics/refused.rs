//! Which parts of the directory are not in force because they were refused, and where what is wrong with them stands.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
pub use super::labels::RefusedPart;

/// A series for each part that is refused: there are four.
#[derive(Debug, Clone, Default)]
pub(super) struct RefusedParts {
    series: Family<RefusedPart, Gauge>,
    shown: Arc<Mutex<Vec<RefusedPart>>>,
}

impl RefusedParts {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "config_refused",
            "1 while a part of the directory is not in force because it was refused, with the place of its first problem",
            self.series.clone(),
        );
    }
}

impl Metrics {
    /// These parts are refused now, and no others.
    pub fn config_refused(&self, refused: Vec<RefusedPart>) {
        let RefusedParts { series, shown } = &self.refused_parts;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        for part in &refused {
            series.get_or_create(part).set(1);
        }
        for gone in shown.iter().filter(|gone| !refused.contains(gone)) {
            series.remove(gone);
        }
        *shown = refused;
    }
}
