//! Whom a node has business with.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::{AllowRule, Mesh, Service};
use crate::name::NodeName;

/// Which way two nodes have business: at least one is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
pub struct Business {
    /// The node itself may reach a service that the peer offers.
    pub reaches: bool,
    /// The peer may reach a service that the node itself offers.
    pub reached_by: bool,
}

impl Service {
    /// Whether `node` may use this service through the mesh: `allow` names it, and it does not offer the service itself.
    pub fn reachable_from(&self, node: &NodeName) -> bool {
        !self.offered_by(node) && self.permits(node).is_some()
    }

    /// The nodes that may use this service through the mesh.
    pub fn reachers(&self) -> BTreeSet<NodeName> {
        let mut all = BTreeSet::new();
        for rule in &self.allow {
            match rule {
                AllowRule::Node(name) => _ = all.insert(name.clone()),
                AllowRule::Group(_, members) => all.extend(members.iter().cloned()),
            }
        }
        all.retain(|node| !self.offered_by(node));
        all
    }
}

impl Mesh {
    /// The nodes with which `node` shares a permitted service, and which way: those to keep links with. Nothing for a
    /// node that is not of this mesh.
    ///
    /// Each group is gone through once, however many services name it.
    pub fn peers_of(&self, node: &NodeName) -> BTreeMap<NodeName, Business> {
        let mut peers = Peers::default();
        for service in self.services.values() {
            if service.offered_by(node) {
                peers.reached_by(service);
            } else if service.permits(node).is_some() {
                for offerer in &service.on {
                    peers.found.entry(offerer.clone()).or_default().reaches = true;
                }
            }
        }
        peers.found.remove(node);
        peers.found
    }
}

/// The peers of a node as they are found.
#[derive(Default)]
struct Peers<'m> {
    found: BTreeMap<NodeName, Business>,
    /// Members of groups that have been gone through but did not count, since they offered the service themselves. By
    /// the address of the group.
    left_out: HashMap<*const BTreeSet<NodeName>, Vec<&'m NodeName>>,
}

impl<'m> Peers<'m> {
    /// All that may reach a service which the node offers.
    fn reached_by(&mut self, service: &'m Service) {
        for rule in &service.allow {
            match rule {
                AllowRule::Node(name) => self.count(service, name),
                AllowRule::Group(_, members) => {
                    let again = self.left_out.remove(&Arc::as_ptr(members));
                    let left: Vec<&NodeName> = match again {
                        Some(left) => left.into_iter().filter(|name| !self.counted(service, name)).collect(),
                        None => members.iter().filter(|name| !self.counted(service, name)).collect(),
                    };
                    self.left_out.insert(Arc::as_ptr(members), left);
                }
            }
        }
    }

    fn counted(&mut self, service: &Service, name: &NodeName) -> bool {
        let counts = !service.offered_by(name);
        if counts {
            self.count(service, name);
        }
        counts
    }

    fn count(&mut self, service: &Service, name: &NodeName) {
        if !service.offered_by(name) {
            self.found.entry(name.clone()).or_default().reached_by = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [mesh]
        name = "lab"
        version = 1
        [node.alpha]
        [node.beta]
        [node.gamma]
        [node.delta]
        [node.idle]
        [group]
        all = ["alpha", "beta", "gamma"]
        [service.one]
        on = ["alpha", "beta"]
        target = "127.0.0.1:1"
        listen = "auto"
        allow = ["@all"]
        [service.two]
        on = ["gamma"]
        target = "127.0.0.1:2"
        listen = "auto"
        allow = ["alpha", "delta"]
    "#;

    fn peers(node: &str) -> Vec<(String, bool, bool)> {
        let mesh = Mesh::check(TEXT, "mesh.toml").unwrap().mesh;
        let found = mesh.peers_of(&NodeName::new(node).unwrap());
        found.into_iter().map(|(name, b)| (name.to_string(), b.reaches, b.reached_by)).collect()
    }

    #[test]
    fn peers_are_those_that_share_a_permitted_service() {
        let peer = |name: &str, reaches, reached_by| (name.to_owned(), reaches, reached_by);
        // Two that offer the same service have no business over it, though the group names both.
        assert_eq!(peers("alpha"), [peer("gamma", true, true)]);
        assert_eq!(peers("beta"), [peer("gamma", false, true)]);
        assert_eq!(peers("gamma"), [peer("alpha", true, true), peer("beta", true, false), peer("delta", false, true)]);
        assert_eq!(peers("delta"), [peer("gamma", true, false)]);
        assert_eq!(peers("idle"), []);
        assert_eq!(peers("nobody"), []);
    }

    #[test]
    fn a_group_counts_whole_once_another_service_of_the_node_names_it() {
        let text =
            TEXT.to_owned() + "[service.three]\non = [\"alpha\"]\ntarget = \"127.0.0.1:3\"\nallow = [\"@all\"]\n";
        let mesh = Mesh::check(&text, "mesh.toml").unwrap().mesh;
        let found = mesh.peers_of(&NodeName::new("alpha").unwrap());
        assert!(found.get("beta").unwrap().reached_by);
        let found = mesh.peers_of(&NodeName::new("beta").unwrap());
        assert_eq!(found.get("alpha").copied(), Some(Business { reaches: true, reached_by: false }));
    }
}
