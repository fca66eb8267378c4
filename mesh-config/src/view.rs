//! What a change of the mesh means for one node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{Listen, Mesh, Protocol, Target};
use crate::name::{NodeName, ServiceName};
use crate::peers::Business;

/// A listener of a node's agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listener {
    /// The service that applications reach there.
    pub service: ServiceName,
    /// What it carries.
    pub protocol: Protocol,
    /// Where it listens.
    pub listen: Listen,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.service, self.protocol, self.listen)
    }
}

impl serde::Serialize for Listener {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut out = s.serialize_struct("Listener", 3)?;
        out.serialize_field("service", &self.service)?;
        out.serialize_field("protocol", &self.protocol)?;
        out.serialize_field("listen", &self.listen.to_string())?;
        out.end()
    }
}

impl Mesh {
    /// Everywhere the agent on `node` listens for applications, by service.
    pub fn listeners_on(&self, node: &NodeName) -> Vec<Listener> {
        let listener =
            |listen, service: &ServiceName, protocol| Listener { service: service.clone(), protocol, listen };
        self.services
            .values()
            .filter_map(|service| {
                service.listen_at(node).map(|listen| listener(listen, &service.name, service.protocol))
            })
            .collect()
    }

    /// What the agent on `node` offers and where it connects to for it, by service.
    pub fn targets_on(&self, node: &NodeName) -> BTreeMap<&ServiceName, &Target> {
        let offered = self.services.values().filter(|service| service.offered_by(node));
        offered.map(|service| (&service.name, service.target_at(node))).collect()
    }
}

/// What the agent on one node does when a mesh takes another's place. Lists are by service or node name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NodeDiff {
    /// The node.
    pub node: NodeName,
    /// Listeners that stay as they are.
    pub keep: Vec<Listener>,
    /// Listeners to open.
    pub open: Vec<Listener>,
    /// Listeners to close. One may hand its address to one of `open`.
    pub close: Vec<Listener>,
    /// Peers to link with from now on, and which way there is business.
    pub peers_added: BTreeMap<NodeName, Business>,
    /// Peers with which there is no business any more.
    pub peers_removed: BTreeSet<NodeName>,
}

impl NodeDiff {
    /// What changes on `node` from `old` to `new`.
    pub fn between(old: &Mesh, new: &Mesh, node: &NodeName) -> Self {
        let (was, is) = (old.listeners_on(node), new.listeners_on(node));
        let here: BTreeMap<&ServiceName, &Listener> = was.iter().map(|l| (&l.service, l)).collect();
        let (keep, open): (Vec<_>, Vec<_>) = is.iter().cloned().partition(|l| here.get(&l.service) == Some(&l));
        let kept: BTreeSet<&ServiceName> = keep.iter().map(|l| &l.service).collect();
        let close = was.iter().filter(|l| !kept.contains(&l.service)).cloned().collect();
        let (before, mut after) = (old.peers_of(node), new.peers_of(node));
        let peers_removed = before.keys().filter(|peer| !after.contains_key(*peer)).cloned().collect();
        after.retain(|peer, _| !before.contains_key(peer));
        Self { node: node.clone(), keep, open, close, peers_added: after, peers_removed }
    }

    /// Whether nothing is opened, closed, linked or unlinked.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.close.is_empty() && self.peers_added.is_empty() && self.peers_removed.is_empty()
    }
}

impl fmt::Display for NodeDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.close.iter().try_for_each(|listener| writeln!(f, "node {}: close {listener}", self.node))?;
        self.open.iter().try_for_each(|listener| writeln!(f, "node {}: open {listener}", self.node))?;
        self.peers_removed.iter().try_for_each(|peer| writeln!(f, "node {}: unlink {peer}", self.node))?;
        self.peers_added.keys().try_for_each(|peer| writeln!(f, "node {}: link {peer}", self.node))?;
        if self.is_empty() { writeln!(f, "node {}: nothing changes", self.node) } else { Ok(()) }
    }
}
