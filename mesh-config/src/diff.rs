//! What changes between two meshes, as values.
//!
//! Meshes are compared group by group before service by service: where two services name the same groups, only what
//! changed in those groups is looked at, and each pair of groups once, however many services name it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;

use crate::model::{AllowRule, Mesh, MeshVersion, Node, Override, Service, Transport};
use crate::name::{MeshName, NodeName, ServiceName};

/// What was and what is now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change<T> {
    /// Before.
    pub from: T,
    /// After.
    pub to: T,
}

impl<T: PartialEq + Clone> Change<T> {
    fn of(from: &T, to: &T) -> Option<Self> {
        (from != to).then(|| Self { from: from.clone(), to: to.clone() })
    }
}

/// All that changes between two meshes. Names within each list are in order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diff {
    /// The mesh's name, if it changes.
    pub name: Option<Change<MeshName>>,
    /// The document's version, if it changes.
    pub version: Option<Change<MeshVersion>>,
    /// The way links run, if it changes.
    pub transport: Option<Change<Transport>>,
    /// Whether the mesh is changed by signed documents alone, if that changes.
    pub signed: Option<Change<bool>>,
    /// Nodes that are new.
    pub nodes_added: Vec<NodeName>,
    /// Nodes that are gone.
    pub nodes_removed: Vec<NodeName>,
    /// Nodes with other addresses or roles.
    pub nodes_changed: Vec<NodeChange>,
    /// Services that are new.
    pub services_added: Vec<ServiceName>,
    /// Services that are gone.
    pub services_removed: Vec<ServiceName>,
    /// Services that are in both meshes with another target, listener, protocol or other offering nodes.
    pub services_changed: Vec<ServiceChange>,
    /// Who may reach what from now on, and who no more, for services that are in both meshes.
    pub permits: Vec<PermitChange>,
}

/// A node with other addresses or roles.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NodeChange {
    /// Which.
    pub node: NodeName,
    /// Its addresses, if they change.
    pub addresses: Option<Change<Vec<String>>>,
    /// Its roles, if they change.
    pub roles: Option<Change<Vec<String>>>,
}

/// A service with another target, listener, protocol or other offering nodes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ServiceChange {
    /// Which.
    pub service: ServiceName,
    /// What about it, each by its key in the mesh file: `protocol`, `on`, `target`, `listen`, `at.NODE.target`,
    /// `at.NODE.listen`. `none` stands for a key that is not there.
    pub changes: BTreeMap<String, Change<String>>,
}

/// Who may reach a service from now on, and who no more.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PermitChange {
    /// The service.
    pub service: ServiceName,
    /// Nodes that may reach it now.
    pub gained: Vec<NodeName>,
    /// Nodes that may not reach it any more.
    pub lost: Vec<NodeName>,
}

impl Diff {
    /// What changes from `old` to `new`.
    pub fn between(old: &Mesh, new: &Mesh) -> Self {
        let mut groups = GroupDiffs::default();
        let mut services_changed = Vec::new();
        let mut permits = Vec::new();
        for (name, was) in &old.services {
            let Some(is) = new.services.get(name) else { continue };
            let changes = service_changes(was, is);
            if !changes.is_empty() {
                services_changed.push(ServiceChange { service: name.clone(), changes });
            }
            permits.extend(groups.permits(was, is));
        }
        Self {
            name: Change::of(&old.name, &new.name),
            version: Change::of(&old.version, &new.version),
            transport: Change::of(&old.transport, &new.transport),
            signed: Change::of(&old.signed, &new.signed),
            nodes_added: only_in(&new.nodes, &old.nodes),
            nodes_removed: only_in(&old.nodes, &new.nodes),
            nodes_changed: old.nodes.values().filter_map(|was| node_change(was, new.nodes.get(&was.name)?)).collect(),
            services_added: only_in(&new.services, &old.services),
            services_removed: only_in(&old.services, &new.services),
            services_changed,
            permits,
        }
    }

    /// Whether nothing changes, the version aside.
    pub fn is_empty(&self) -> bool {
        let Self { name, version: _, transport, signed, nodes_added, nodes_removed, .. } = self;
        let Self { nodes_changed, services_added, services_removed, services_changed, permits, .. } = self;
        name.is_none()
            && transport.is_none()
            && signed.is_none()
            && nodes_added.is_empty()
            && nodes_removed.is_empty()
            && nodes_changed.is_empty()
            && services_added.is_empty()
            && services_removed.is_empty()
            && services_changed.is_empty()
            && permits.is_empty()
    }
}

fn only_in<K: Ord + Clone, V>(these: &BTreeMap<K, V>, those: &BTreeMap<K, V>) -> Vec<K> {
    these.keys().filter(|key| !those.contains_key(*key)).cloned().collect()
}

fn words<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

fn node_change(was: &Node, is: &Node) -> Option<NodeChange> {
    (was != is).then(|| NodeChange {
        node: is.name.clone(),
        addresses: Change::of(&words(&was.addresses), &words(&is.addresses)),
        roles: Change::of(&words(&was.roles), &words(&is.roles)),
    })
}

fn service_changes(was: &Service, is: &Service) -> BTreeMap<String, Change<String>> {
    let mut changes = BTreeMap::new();
    let mut compare = |key: &str, from: Option<String>, to: Option<String>| {
        if from != to {
            let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
            changes.insert(key.to_owned(), Change { from: text(from), to: text(to) });
        }
    };
    if was.protocol != is.protocol {
        compare("protocol", Some(was.protocol.to_string()), Some(is.protocol.to_string()));
    }
    if was.on != is.on {
        compare("on", Some(words(&was.on).join(", ")), Some(words(&is.on).join(", ")));
    }
    if was.target != is.target {
        compare("target", Some(was.target.to_string()), Some(is.target.to_string()));
    }
    if was.listen != is.listen {
        compare("listen", was.listen.map(|l| l.to_string()), is.listen.map(|l| l.to_string()));
    }
    if was.at != is.at {
        let nothing = Override::default();
        for node in was.at.keys().chain(is.at.keys()) {
            let (from, to) = (was.at.get(node).unwrap_or(&nothing), is.at.get(node).unwrap_or(&nothing));
            let target = |o: &Override| o.target.as_ref().map(ToString::to_string);
            let listen = |o: &Override| o.listen.map(|l| l.to_string());
            compare(&format!("at.{node}.target"), target(from), target(to));
            compare(&format!("at.{node}.listen"), listen(from), listen(to));
        }
    }
    changes
}

/// The nodes that two groups do not share, by the addresses of the two.
#[derive(Default)]
struct GroupDiffs(HashMap<(Members, Members), Rc<Vec<NodeName>>>);

/// A group's address: the same within one comparison.
type Members = *const BTreeSet<NodeName>;

impl GroupDiffs {
    fn between(&mut self, was: &BTreeSet<NodeName>, is: &BTreeSet<NodeName>) -> Rc<Vec<NodeName>> {
        let key = (std::ptr::from_ref(was), std::ptr::from_ref(is));
        self.0.entry(key).or_insert_with(|| Rc::new(was.symmetric_difference(is).cloned().collect())).clone()
    }

    /// Who gained and who lost the way to a service. Only nodes for which something changed are asked about.
    fn permits(&mut self, was: &Service, is: &Service) -> Option<PermitChange> {
        let mut perhaps: BTreeSet<&NodeName> = BTreeSet::new();
        let mut members = Vec::new();
        let rules = |service: &'_ Service| -> BTreeMap<String, usize> {
            service.allow.iter().enumerate().map(|(at, rule)| (rule.to_string(), at)).collect()
        };
        if was.allow.len() == is.allow.len() && was.allow.iter().zip(&is.allow).all(|(a, b)| same_name(a, b)) {
            for pair in was.allow.iter().zip(&is.allow) {
                if let (AllowRule::Group(_, a), AllowRule::Group(_, b)) = pair {
                    members.push(self.between(a, b));
                }
            }
        } else {
            let (old, new) = (rules(was), rules(is));
            for (rule, at) in &old {
                let Some(rule_was) = was.allow.get(*at) else { continue };
                let rule_is = new.get(rule).and_then(|at| is.allow.get(*at));
                match (rule_was, rule_is) {
                    (AllowRule::Group(_, a), Some(AllowRule::Group(_, b))) => members.push(self.between(a, b)),
                    (_, Some(_)) => {}
                    (AllowRule::Node(name), None) => _ = perhaps.insert(name),
                    (AllowRule::Group(_, a), None) => perhaps.extend(a.iter()),
                }
            }
            for (_, at) in new.iter().filter(|(rule, _)| !old.contains_key(*rule)) {
                match is.allow.get(*at) {
                    Some(AllowRule::Node(name)) => _ = perhaps.insert(name),
                    Some(AllowRule::Group(_, b)) => perhaps.extend(b.iter()),
                    None => {}
                }
            }
        }
        perhaps.extend(members.iter().flat_map(|nodes| nodes.iter()));
        if was.on != is.on {
            perhaps.extend(was.on.iter().chain(&is.on));
        }
        let (mut gained, mut lost) = (Vec::new(), Vec::new());
        for node in perhaps {
            match (was.reachable_from(node), is.reachable_from(node)) {
                (false, true) => gained.push(node.clone()),
                (true, false) => lost.push(node.clone()),
                _ => {}
            }
        }
        let changed = !gained.is_empty() || !lost.is_empty();
        changed.then(|| PermitChange { service: is.name.clone(), gained, lost })
    }
}

fn same_name(a: &AllowRule, b: &AllowRule) -> bool {
    match (a, b) {
        (AllowRule::Node(a), AllowRule::Node(b)) => a == b,
        (AllowRule::Group(a, _), AllowRule::Group(b, _)) => a == b,
        _ => false,
    }
}

/// Names of a list that a line for people shows.
const SHOWN: usize = 10;

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, what: &str, names: &[T]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    write!(f, "{what}: {}", shown.join(", "))?;
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => writeln!(f, " and {more} more"),
        _ => writeln!(f),
    }
}

/// What changes, a line each. Lists of more than ten names are cut; the fields have all.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Change { from, to }) = &self.name {
            writeln!(f, "mesh name: {from} → {to}")?;
        }
        if let Some(Change { from, to }) = &self.version {
            writeln!(f, "version: {from} → {to}")?;
        }
        if let Some(Change { from, to }) = &self.transport {
            writeln!(f, "transport: {from} → {to}")?;
        }
        if let Some(Change { from, to }) = &self.signed {
            writeln!(f, "signed: {from} → {to}")?;
        }
        list(f, "nodes added", &self.nodes_added)?;
        list(f, "nodes removed", &self.nodes_removed)?;
        for NodeChange { node, addresses, roles } in &self.nodes_changed {
            for (what, change) in [("addresses", addresses), ("roles", roles)] {
                if let Some(Change { from, to }) = change {
                    writeln!(f, "node {node}: {what}: {} → {}", or_none(from), or_none(to))?;
                }
            }
        }
        list(f, "services added", &self.services_added)?;
        list(f, "services removed", &self.services_removed)?;
        for ServiceChange { service, changes } in &self.services_changed {
            for (key, Change { from, to }) in changes {
                writeln!(f, "service {service}: {key}: {from} → {to}")?;
            }
        }
        for PermitChange { service, gained, lost } in &self.permits {
            list(f, &format!("service {service}: may be reached now by"), gained)?;
            list(f, &format!("service {service}: may no more be reached by"), lost)?;
        }
        if self.is_empty() && self.version.is_none() {
            writeln!(f, "nothing changes")?;
        }
        Ok(())
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
