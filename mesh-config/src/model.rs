//! The checked mesh: what a mesh file says once everything in it has been found to hold.
//!
//! Values of these types come only out of the checker, so nothing here is checked again elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::name::{GroupName, MeshName, NodeName, ServiceName};

/// The version of a mesh document. It only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct MeshVersion(pub(crate) u64);

impl MeshVersion {
    /// The version of this number: from 1 to the greatest integer of a TOML document.
    pub fn new(number: u64) -> Option<Self> {
        (1..=i64::MAX.unsigned_abs()).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MeshVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 of a mesh document's bytes as they were read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub(crate) [u8; 32]);

impl Digest {
    /// The digest of a document's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        let mut all = [0; 32];
        all.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(all)
    }

    /// The digest with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Which way the links of a mesh run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TLS over TCP where TCP gets through, else QUIC.
    #[default]
    Auto,
    /// TLS 1.3 over TCP alone.
    Tls,
    /// QUIC alone.
    Quic,
}

/// What a node does for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Holds a CA key and issues certificates.
    Ca,
    /// Passes on ciphertext between nodes that cannot reach each other.
    Relay,
}

/// The host part of an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address. IPv4-mapped IPv6 is stored as the IPv4 address that it is.
    Ip(IpAddr),
    /// A DNS name, lower case, without a trailing dot.
    Dns(Arc<str>),
}

/// Where a node can be dialled: a host and a port, the same for TCP and UDP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The host.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Dns(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// What a service carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Byte streams.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// What the offering agent connects to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host and port.
    Address(Address),
    /// A Unix socket's absolute path, written `unix:/run/app.sock`.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(a) => a.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where applications on the allowed nodes reach a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listen {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A loopback address that is the same at every start.
    Auto,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(a) => a.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// One entry of a service's `allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowRule {
    /// A node by name.
    Node(NodeName),
    /// `@group`, with the group's members, groups within it already taken apart.
    Group(GroupName, Arc<BTreeSet<NodeName>>),
}

impl AllowRule {
    /// Whether this entry lets `node` in.
    pub fn admits(&self, node: &NodeName) -> bool {
        match self {
            Self::Node(name) => name == node,
            Self::Group(_, members) => members.contains(node),
        }
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => name.fmt(f),
            Self::Group(name, _) => write!(f, "@{name}"),
        }
    }
}

/// A host of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub(crate) name: NodeName,
    pub(crate) addresses: Vec<Address>,
    pub(crate) roles: BTreeSet<Role>,
}

impl Node {
    /// Its name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Where it can be dialled, in the order of the file; empty for a node that only dials out.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Its optional duties.
    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.roles
    }
}

/// What one node changes about a service: `[service.NAME.at.NODE]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Override {
    pub(crate) target: Option<Target>,
    pub(crate) listen: Option<Listen>,
}

/// A named target that some nodes offer and others reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub(crate) name: ServiceName,
    pub(crate) protocol: Protocol,
    pub(crate) on: Vec<NodeName>,
    pub(crate) target: Target,
    pub(crate) listen: Option<Listen>,
    pub(crate) allow: Vec<AllowRule>,
    pub(crate) at: BTreeMap<NodeName, Override>,
}

impl Service {
    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// What it carries.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The nodes that offer it, in the order of the file.
    pub fn on(&self) -> &[NodeName] {
        &self.on
    }

    /// Whether `node` offers it.
    pub fn offered_by(&self, node: &NodeName) -> bool {
        self.on.contains(node)
    }

    /// What the agent on `node` connects to.
    pub fn target_at(&self, node: &NodeName) -> &Target {
        self.at.get(node).and_then(|o| o.target.as_ref()).unwrap_or(&self.target)
    }

    /// Where the agent on `node` listens for it: nothing if `node` offers it itself, may not reach it, or no address is
    /// given.
    pub fn listen_at(&self, node: &NodeName) -> Option<Listen> {
        if self.offered_by(node) || self.permits(node).is_none() {
            return None;
        }
        self.at.get(node).and_then(|o| o.listen).or(self.listen)
    }

    /// The entries of `allow`, in the order of the file.
    pub fn allow(&self) -> &[AllowRule] {
        &self.allow
    }

    /// The first entry of `allow` that lets `node` reach this service.
    pub fn permits(&self, node: &NodeName) -> Option<&AllowRule> {
        self.allow.iter().find(|rule| rule.admits(node))
    }
}

/// A whole mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    pub(crate) name: MeshName,
    pub(crate) version: MeshVersion,
    pub(crate) digest: Digest,
    pub(crate) transport: Transport,
    pub(crate) signed: bool,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    pub(crate) groups: BTreeMap<GroupName, Arc<BTreeSet<NodeName>>>,
    pub(crate) services: BTreeMap<ServiceName, Service>,
}

impl Mesh {
    /// Its name.
    pub fn name(&self) -> &MeshName {
        &self.name
    }

    /// The document's version.
    pub fn version(&self) -> MeshVersion {
        self.version
    }

    /// The document's digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Which way links run unless something more particular says otherwise.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether the mesh is changed by signed documents alone, which its nodes hand on.
    pub fn signed(&self) -> bool {
        self.signed
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// One node. Takes a [`NodeName`] or a `&str`.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All groups with their members, groups within groups already taken apart.
    pub fn groups(&self) -> &BTreeMap<GroupName, Arc<BTreeSet<NodeName>>> {
        &self.groups
    }

    /// All services, by name.
    pub fn services(&self) -> &BTreeMap<ServiceName, Service> {
        &self.services
    }

    /// One service.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }
}
