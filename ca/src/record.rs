//! What is remembered of a certificate that was issued.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_config::NodeName;
use time::OffsetDateTime;

use crate::pem;
use crate::serial::Serial;

/// A certificate that this authority issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub(crate) serial: Serial,
    pub(crate) node: NodeName,
    pub(crate) publisher: bool,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) issuer: String,
    pub(crate) revoked: Option<OffsetDateTime>,
    pub(crate) der: Vec<u8>,
}

/// Whether a certificate can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can, if its life has begun.
    Valid,
    /// Its life is over.
    Expired,
    /// It was taken back. This outlasts its expiry.
    Revoked,
}

impl Record {
    /// Its serial number.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The node or the publisher that it names.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Whether it is for signing mesh documents, rather than a node's.
    pub fn publisher(&self) -> bool {
        self.publisher
    }

    /// The first second of its life.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The last second of its life.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// The subject of the certificate that signed it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When it was taken back.
    pub fn revoked(&self) -> Option<OffsetDateTime> {
        self.revoked
    }

    /// The certificate itself.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate itself, in PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der).to_string()
    }

    /// Whether it can be used at `now`. Its last second is part of its life (RFC 5280 §4.1.2.5).
    pub fn state(&self, now: OffsetDateTime) -> State {
        if self.revoked.is_some() {
            State::Revoked
        } else if now.unix_timestamp() > self.not_after.unix_timestamp() {
            State::Expired
        } else {
            State::Valid
        }
    }
}

/// One entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Issued(Record),
    Revoked { serial: Serial, at: OffsetDateTime },
}

/// An event as it stands in the index; times are seconds since 1970.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Issued {
        serial: String,
        node: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        publisher: bool,
        not_before: i64,
        not_after: i64,
        issuer: String,
        certificate: String,
    },
    Revoked {
        serial: String,
        at: i64,
    },
}

impl Event {
    pub(crate) fn to_json(&self) -> String {
        let line = match self {
            Self::Issued(r) => Line::Issued {
                serial: r.serial.to_string(),
                node: r.node.to_string(),
                publisher: r.publisher,
                not_before: r.not_before.unix_timestamp(),
                not_after: r.not_after.unix_timestamp(),
                issuer: r.issuer.clone(),
                certificate: STANDARD.encode(&r.der),
            },
            Self::Revoked { serial, at } => Line::Revoked { serial: serial.to_string(), at: at.unix_timestamp() },
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    pub(crate) fn from_json(text: &str) -> Option<Self> {
        let time = |t| OffsetDateTime::from_unix_timestamp(t).ok();
        Some(match serde_json::from_str(text).ok()? {
            Line::Issued { serial, node, publisher, not_before, not_after, issuer, certificate } => {
                Self::Issued(Record {
                    serial: serial.parse().ok()?,
                    node: NodeName::new(&node).ok()?,
                    publisher,
                    not_before: time(not_before)?,
                    not_after: time(not_after)?,
                    issuer,
                    revoked: None,
                    der: STANDARD.decode(certificate).ok()?,
                })
            }
            Line::Revoked { serial, at } => Self::Revoked { serial: serial.parse().ok()?, at: time(at)? },
        })
    }
}
