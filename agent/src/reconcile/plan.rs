//! What to do when another mesh comes into force: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use mesh_config::{Listen, Mesh, NodeName, Service, ServiceName};

use crate::services::authz;
use crate::services::authz::Denied;
use crate::services::unsupported::Unsupported;
use crate::snapshot::ring;

/// A connection that is live, as far as the mesh decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveConnection {
    /// Its number.
    pub id: u64,
    /// The service.
    pub service: ServiceName,
    /// The node whose application opened it.
    pub from: NodeName,
    /// The node that offers the service, once it is chosen.
    pub to: Option<NodeName>,
}

/// What runs on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// Where it listens for applications.
    pub listeners: BTreeMap<ServiceName, SocketAddr>,
    /// The application connections.
    pub connections: Vec<LiveConnection>,
}

/// Who may reach a service from now on, and who no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permits {
    /// Nodes that may reach it now.
    pub gained: BTreeSet<NodeName>,
    /// Nodes that may not reach it any more.
    pub lost: BTreeSet<NodeName>,
}

/// A connection that the mesh no longer permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The connection.
    pub connection: LiveConnection,
    /// The entry of `allow` that had let it in.
    pub rule: Option<String>,
    /// Why it is no longer permitted.
    pub because: String,
}

/// All that is to be done on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Listeners to open. An address may be that of one of `close`.
    pub open: BTreeMap<ServiceName, SocketAddr>,
    /// Listeners to close.
    pub close: BTreeMap<ServiceName, SocketAddr>,
    /// Nodes to link with from now on.
    pub link: BTreeSet<NodeName>,
    /// Nodes whose links end.
    pub unlink: BTreeSet<NodeName>,
    /// Nodes to which there is and stays a link, with other addresses.
    pub moved: BTreeSet<NodeName>,
    /// Who may reach what, where this node has to do with it.
    pub permits: BTreeMap<ServiceName, Permits>,
    /// Connections to cut.
    pub cut: Vec<Cut>,
}

/// Where the agent on `me` listens for applications.
pub fn listeners(mesh: &Mesh, me: &NodeName) -> BTreeMap<ServiceName, SocketAddr> {
    let wanted = mesh.services().values().filter_map(|service| match service.listen_at(me) {
        Some(Listen::Socket(address)) if Unsupported::of(service, me).is_none() => {
            Some((service.name().clone(), address))
        }
        _ => None,
    });
    wanted.collect()
}

/// The nodes with which the agent on `me` keeps a link.
pub fn links(mesh: &Mesh, me: &NodeName) -> BTreeSet<NodeName> {
    let mut links: BTreeSet<NodeName> = mesh.peers_of(me).into_keys().collect();
    links.append(&mut ring(mesh, me));
    links
}

impl Plan {
    /// What leads from `old` and what runs by it on `me` to what a fresh start with `new` would run.
    pub fn between(old: &Mesh, new: &Mesh, me: &NodeName, running: &Running) -> Self {
        let wanted = listeners(new, me);
        let differs = |these: &BTreeMap<ServiceName, SocketAddr>, those: &BTreeMap<ServiceName, SocketAddr>| {
            these
                .iter()
                .filter(|(name, address)| those.get(*name) != Some(address))
                .map(|(n, a)| (n.clone(), *a))
                .collect()
        };
        let (before, after) = (links(old, me), links(new, me));
        let addresses = |mesh: &Mesh, node: &NodeName| mesh.node(node.as_str()).map(|n| n.addresses().to_vec());
        Self {
            open: differs(&wanted, &running.listeners),
            close: differs(&running.listeners, &wanted),
            link: after.difference(&before).cloned().collect(),
            unlink: before.difference(&after).cloned().collect(),
            moved: before
                .intersection(&after)
                .filter(|node| addresses(old, node) != addresses(new, node))
                .cloned()
                .collect(),
            permits: permits(old, new, me),
            cut: cuts(old, new, &running.connections),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let Self { open, close, link, unlink, moved, permits, cut } = self;
        open.is_empty()
            && close.is_empty()
            && link.is_empty()
            && unlink.is_empty()
            && moved.is_empty()
            && permits.is_empty()
            && cut.is_empty()
    }
}

/// Who may reach a service, as far as `me` has to do with it: all who may if `me` offers it, else `me` alone if it may.
pub fn permitted(service: Option<&Service>, me: &NodeName) -> BTreeSet<NodeName> {
    match service {
        Some(service) if service.offered_by(me) => service.reachers(),
        Some(service) if service.reachable_from(me) => BTreeSet::from([me.clone()]),
        _ => BTreeSet::new(),
    }
}

fn permits(old: &Mesh, new: &Mesh, me: &NodeName) -> BTreeMap<ServiceName, Permits> {
    let names: BTreeSet<_> = old.services().keys().chain(new.services().keys()).collect();
    let changes = names.into_iter().filter_map(|name| {
        let (was, is) = (old.service(name.as_str()), new.service(name.as_str()));
        if was == is {
            return None;
        }
        let (was, is) = (permitted(was, me), permitted(is, me));
        let permits =
            Permits { gained: is.difference(&was).cloned().collect(), lost: was.difference(&is).cloned().collect() };
        (was != is).then(|| (name.clone(), permits))
    });
    changes.collect()
}

/// The connections that `new` does not permit, by the rules of `old` that let them in.
pub fn cuts(old: &Mesh, new: &Mesh, connections: &[LiveConnection]) -> Vec<Cut> {
    connections.iter().filter_map(|connection| cut(old, new, connection)).collect()
}

/// The connections with nodes that go by keys of nodes that were `removed`, but for those that are `cut` anyhow.
pub fn cuts_of_removed(removed: &BTreeSet<NodeName>, connections: &[LiveConnection], cut: &[Cut]) -> Vec<Cut> {
    let is_cut = |connection: &LiveConnection| cut.iter().any(|cut| cut.connection.id == connection.id);
    let with = |c: &LiveConnection| {
        [Some(&c.from), c.to.as_ref()].into_iter().flatten().find(|n| removed.contains(*n)).cloned()
    };
    let left = connections.iter().filter(|connection| !is_cut(connection));
    let cuts = left.filter_map(|connection| {
        let node = with(connection)?;
        let because = format!("`{node}` goes by a key with which it was taken out of the mesh: it needs another");
        Some(Cut { connection: connection.clone(), rule: None, because })
    });
    cuts.collect()
}

/// Whether a connection is to be cut, and why.
fn cut(old: &Mesh, new: &Mesh, connection: &LiveConnection) -> Option<Cut> {
    let LiveConnection { service, from, to, .. } = connection;
    let denied = authz::still(new, from, to.as_ref(), service).err()?;
    let rule = old.service(service.as_str()).and_then(|s| s.permits(from)).map(ToString::to_string);
    let let_in = rule.as_ref().map(|rule| format!("; it was let in by \"{rule}\"")).unwrap_or_default();
    let because = match &denied {
        Denied::Unknown(_) => format!("the mesh has no service `{service}` any more"),
        Denied::NotOffered(_) => match to {
            Some(to) => format!("`{to}` does not offer `{service}` any more"),
            None => format!("nobody offers `{service}` any more"),
        },
        Denied::NotAllowed { .. } => format!("no `allow` of service `{service}` names `{from}` any more{let_in}"),
        Denied::NotTcp(_) => format!("service `{service}` carries datagrams now"),
    };
    Some(Cut { connection: connection.clone(), rule, because })
}

#[cfg(test)]
mod tests;
