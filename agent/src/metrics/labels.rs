//! The label sets. Each value comes from a closed set, from the mesh in force, or is a place in the agent's own files.

use std::fmt::{Error, Write as _};

use mesh_config::{NodeName, ServiceName};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelSetEncoder, LabelValueEncoder};

use crate::refusals::Layer;
use crate::vocabulary::{Direction, Role, SourceKind};

/// Writes `key="value"` pairs. A value of `""` is the same as no label in Prometheus' data model, so it is left out.
fn encode(encoder: &mut LabelSetEncoder<'_>, pairs: &[(&str, &str)]) -> Result<(), Error> {
    for &(key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let mut label = encoder.encode_label();
        let mut name = label.encode_label_key()?;
        name.write_str(key)?;
        let mut text = name.encode_label_value()?;
        EncodeLabelValue::encode(&value, &mut text as &mut LabelValueEncoder<'_>)?;
        text.finish()?;
    }
    Ok(())
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty => $text:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub(super) struct $name { $(pub(super) $field: $ty),* }

        impl EncodeLabelSet for $name {
            fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
                let Self { $($field),* } = self;
                encode(encoder, &[$((stringify!($field), $text)),*])
            }
        }
    };
}

labels!(
    /// A peer.
    PeerLabels { peer: NodeName => peer.as_str() }
);
labels!(
    /// A peer's link as it stands.
    LinkLabels { peer: NodeName => peer.as_str(), path: &'static str => path, state: &'static str => state }
);
labels!(
    /// How handshakes went.
    HandshakeLabels {
        direction: Direction => direction.name(),
        transport: &'static str => transport,
        result: &'static str => result,
        reason: &'static str => reason,
    }
);
labels!(
    /// A service on one side.
    ServiceLabels { service: ServiceName => service.as_str(), role: Role => role.name() }
);
labels!(
    /// A service's bytes one way.
    ServiceBytesLabels { service: ServiceName => service.as_str(), direction: Direction => direction.name() }
);
labels!(
    /// A refusal.
    RefusalLabels { layer: Layer => layer.name(), reason: &'static str => reason }
);
labels!(
    /// What became of a mesh document.
    ReloadLabels { result: &'static str => result }
);
/// A part of the directory that is refused, and where its first problem stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RefusedPart {
    /// `mesh`, `agent`, `identity` or `trust`.
    pub part: &'static str,
    /// Why, as a stable name for machines.
    pub code: &'static str,
    /// The file that the problem is in.
    pub file: String,
    /// Its line, from 1; 0 where it has none.
    pub line: usize,
    /// Its column, from 1; 0 where it has none.
    pub column: usize,
}

impl EncodeLabelSet for RefusedPart {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        let number = |number: usize| if number == 0 { String::new() } else { number.to_string() };
        let (line, column) = (number(self.line), number(self.column));
        let pairs =
            [("part", self.part), ("code", self.code), ("file", &self.file), ("line", &line), ("column", &column)];
        encode(encoder, &pairs)
    }
}

labels!(
    /// A source of mesh documents.
    SourceLabels { source: SourceKind => source.name() }
);
labels!(
    /// Why a source of mesh documents gave nothing.
    SourceFailureLabels { source: SourceKind => source.name(), reason: &'static str => reason }
);
