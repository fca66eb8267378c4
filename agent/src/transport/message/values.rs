//! The values that messages carry, and their way to and from the wire.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use mesh_config::{MeshName, NodeName, ServiceName};
use time::OffsetDateTime;

use super::{MessageError, reason, wire};
use crate::reason::Reason;
use crate::transport::frame::Kind;

/// The longest free text in a message, in bytes.
pub const MAX_DETAIL: usize = 256;
const MAX_CAPABILITIES: usize = 1024;
/// Years 1 to 9999 in microseconds from 1970: what [`OffsetDateTime`] can tell.
const WALL_TIME: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

fn field(kind: Kind, field: &'static str) -> MessageError {
    MessageError::Field { kind, field }
}

/// The protocol versions an end speaks, lowest and highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionRange {
    min: u32,
    max: u32,
}

impl VersionRange {
    /// What this program speaks. The lowest is one below the highest as soon as there are two.
    pub const OURS: Self = Self { min: 1, max: 1 };

    /// A range; `None` unless `1 ≤ min ≤ max`.
    pub fn new(min: u32, max: u32) -> Option<Self> {
        (1 <= min && min <= max).then_some(Self { min, max })
    }

    /// The highest version that both speak.
    pub fn common(self, other: Self) -> Option<u32> {
        let version = self.max.min(other.max);
        (version >= self.min && version >= other.min).then_some(version)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.max) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

/// One run of an agent: a random number that it draws when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// A moment on somebody's wall clock, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// A moment; what lies outside the years 1 to 9999 becomes the nearest that does not.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(*WALL_TIME.start(), *WALL_TIME.end()))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.0
    }
}

impl From<OffsetDateTime> for WallTime {
    fn from(time: OffsetDateTime) -> Self {
        Self::from_micros(i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX))
    }
}

/// Who opens streams on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LaneRole {
    /// The end that dialled.
    #[default]
    Opener,
    /// The end that was dialled.
    Reverse,
}

/// Optional parts of the protocol, one bit each. Both ends must have a bit for it to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features(pub u64);

/// What a node says of itself: words with spaces between, printable ASCII, at most 1024 bytes. Unknown words are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(String);

impl Capabilities {
    /// Takes `text` if it follows the rules.
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.len() <= MAX_CAPABILITIES && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        fits.then(|| Self(text.to_owned()))
    }

    /// The words.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }
}

/// Free text of at most [`MAX_DETAIL`] bytes without control characters, fit for a terminal and a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Detail(String);

impl Detail {
    /// Takes `text`, cut to the limit, with control characters replaced.
    pub fn new(text: &str) -> Self {
        let mut clean = String::new();
        for c in text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }) {
            if clean.len() + c.len_utf8() > MAX_DETAIL {
                break;
            }
            clean.push(c);
        }
        Self(clean)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one application connection in the logs of both agents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// HELLO: who speaks, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The protocol versions the sender speaks.
    pub versions: VersionRange,
    /// The sender's run.
    pub incarnation: Incarnation,
    /// The sender's wall clock when it sent this.
    pub wall_time: WallTime,
    /// The mesh the sender belongs to.
    pub mesh: MeshName,
    /// The version of the mesh document in force at the sender.
    pub mesh_version: u64,
    /// That document's SHA-256.
    pub mesh_digest: [u8; 32],
    /// Who opens, as the dialler says; the acceptor repeats it.
    pub role: LaneRole,
    /// Optional parts of the protocol that the sender can do.
    pub features: Features,
    /// What the sender says of itself.
    pub capabilities: Capabilities,
}

/// What a bench stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bench {
    /// The far side reads and drops everything.
    Sink,
    /// The far side sends until its stream is cut.
    Source,
    /// The far side sends back what it gets.
    Echo,
}

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Carries an application connection to the service.
    Service(ServiceName),
    /// Checks permit and target of the service, then ends: for `explain`.
    Probe(ServiceName),
    /// Measures the path between the agents.
    Bench(Bench),
}

/// OPEN: asks for a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Open {
    /// What for.
    pub purpose: Purpose,
    /// Reserved: the node to pass the stream on to.
    pub relay: Option<NodeName>,
    /// The application's address at the opener, if it has one.
    pub client: Option<SocketAddr>,
    /// The connection's name in logs.
    pub trace: TraceId,
    /// How many bytes more than [`EARLY_CREDIT`](crate::transport::quic::EARLY_CREDIT) the responder may send, on QUIC.
    pub credit: u64,
}

/// OPENED: the stream is served.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Opened {
    /// How many bytes more than [`EARLY_CREDIT`](crate::transport::quic::EARLY_CREDIT) the opener may send, on QUIC.
    pub credit: u64,
    /// The target that was reached, for people.
    pub target: Detail,
}

/// REFUSED: the stream is not served.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// More of it, for people.
    pub detail: Detail,
}

/// CREDIT: changes of how many bytes may be sent. Both numbers are differences, so grants and returns may cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Credit {
    /// How many bytes more the receiver of this frame may send.
    pub granted: u64,
    /// How many bytes less its sender will send: credit it does not need and gives back.
    pub returned: u64,
}

impl From<&Hello> for wire::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            version_min: hello.versions.min,
            version_max: hello.versions.max,
            incarnation: hello.incarnation.0,
            wall_time: hello.wall_time.0,
            mesh: hello.mesh.to_string(),
            mesh_version: hello.mesh_version,
            mesh_digest: hello.mesh_digest.to_vec(),
            role: u32::from(hello.role == LaneRole::Reverse),
            features: hello.features.0,
            capabilities: hello.capabilities.0.clone(),
        }
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = MessageError;

    fn try_from(hello: wire::Hello) -> Result<Self, MessageError> {
        let bad = |name| field(Kind::Hello, name);
        Ok(Self {
            versions: VersionRange::new(hello.version_min, hello.version_max).ok_or(bad("version range"))?,
            incarnation: Incarnation(hello.incarnation),
            wall_time: WallTime::from_micros(hello.wall_time),
            mesh: MeshName::new(&hello.mesh).map_err(|_| bad("mesh name"))?,
            mesh_version: hello.mesh_version,
            mesh_digest: hello.mesh_digest.try_into().map_err(|_| bad("mesh digest"))?,
            role: match hello.role {
                0 => LaneRole::Opener,
                1 => LaneRole::Reverse,
                _ => return Err(bad("role")),
            },
            features: Features(hello.features),
            capabilities: Capabilities::new(&hello.capabilities).ok_or(bad("capabilities"))?,
        })
    }
}

impl From<&Open> for wire::Open {
    fn from(open: &Open) -> Self {
        let (kind, service, bench) = match &open.purpose {
            Purpose::Service(name) => (0, name.to_string(), 0),
            Purpose::Probe(name) => (1, name.to_string(), 0),
            Purpose::Bench(Bench::Sink) => (2, String::new(), 0),
            Purpose::Bench(Bench::Source) => (2, String::new(), 1),
            Purpose::Bench(Bench::Echo) => (2, String::new(), 2),
        };
        let client_ip = match open.client.map(|client| client.ip().to_canonical()) {
            Some(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Some(IpAddr::V6(ip)) => ip.octets().to_vec(),
            None => Vec::new(),
        };
        Self {
            kind,
            service,
            bench,
            relay: open.relay.as_ref().map(ToString::to_string).unwrap_or_default(),
            client_ip,
            client_port: open.client.map_or(0, |client| client.port().into()),
            trace: open.trace.0.to_vec(),
            credit: open.credit,
        }
    }
}

impl TryFrom<wire::Open> for Open {
    type Error = MessageError;

    fn try_from(open: wire::Open) -> Result<Self, MessageError> {
        let bad = |name| field(Kind::Open, name);
        let service = || ServiceName::new(&open.service).map_err(|_| bad("service"));
        let purpose = match (open.kind, open.bench) {
            (0, _) => Purpose::Service(service()?),
            (1, _) => Purpose::Probe(service()?),
            (2, 0) => Purpose::Bench(Bench::Sink),
            (2, 1) => Purpose::Bench(Bench::Source),
            (2, 2) => Purpose::Bench(Bench::Echo),
            _ => return Err(bad("kind")),
        };
        let ip = match open.client_ip.len() {
            0 => None,
            4 => <[u8; 4]>::try_from(&*open.client_ip).ok().map(IpAddr::from),
            _ => Some(<[u8; 16]>::try_from(&*open.client_ip).map_err(|_| bad("client address"))?.into()),
        };
        let port = u16::try_from(open.client_port).map_err(|_| bad("client address"))?;
        let relay = match open.relay.as_str() {
            "" => None,
            name => Some(NodeName::new(name).map_err(|_| bad("relay"))?),
        };
        Ok(Self {
            purpose,
            relay,
            client: ip.map(|ip: IpAddr| SocketAddr::new(ip.to_canonical(), port)),
            trace: TraceId(open.trace.try_into().map_err(|_| bad("trace id"))?),
            credit: open.credit,
        })
    }
}

impl From<&Opened> for wire::Opened {
    fn from(opened: &Opened) -> Self {
        Self { credit: opened.credit, target: opened.target.0.clone() }
    }
}

impl TryFrom<wire::Opened> for Opened {
    type Error = MessageError;

    fn try_from(opened: wire::Opened) -> Result<Self, MessageError> {
        Ok(Self { credit: opened.credit, target: Detail::new(&opened.target) })
    }
}

impl From<&Refused> for wire::Refused {
    fn from(refused: &Refused) -> Self {
        Self { reason: refused.reason.code().into(), detail: refused.detail.0.clone() }
    }
}

impl TryFrom<wire::Refused> for Refused {
    type Error = MessageError;

    fn try_from(refused: wire::Refused) -> Result<Self, MessageError> {
        Ok(Self { reason: reason(refused.reason), detail: Detail::new(&refused.detail) })
    }
}
