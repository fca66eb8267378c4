//! Raw → checked: whether everything in a mesh file holds together.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::diagnostic::{Problem, quote};
use crate::document::{Document, Item, Problems, Source};
use crate::groups::{self, Group, Member, Names, distinct};
use crate::listeners;
use crate::model::{Address, AllowRule, Digest, Mesh, MeshVersion, Node, Override, Protocol, Service, Target};
use crate::name::{NodeName, ServiceName};
use crate::raw::{self, RawMesh, RawOverride, RawService};

/// A mesh that holds together, and what about it was probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The mesh.
    pub mesh: Mesh,
    /// Problems that do not keep it from being used, by place.
    pub warnings: Vec<Problem>,
}

impl Mesh {
    /// Reads and checks the text of a mesh file; `file` is what problems call it. The digest is that of `text`.
    ///
    /// # Errors
    /// Every problem of the file, warnings included, by place: at least one of them is an error.
    pub fn check(text: &str, file: &str) -> Result<Checked, Vec<Problem>> {
        let source = Source::new(file, text);
        let mut problems = Problems::new(&source);
        let document = Document::parse(&source, &mut problems);
        let raw = raw::read(document.root(), &mut problems);
        let mesh = assemble(&raw, Digest::of(text.as_bytes()), &mut problems);
        let warnings = problems.finish()?;
        match mesh {
            Some(mesh) => Ok(Checked { mesh, warnings }),
            // Only an error leaves a mesh without its name or version, so `finish` has returned.
            None => Err(warnings),
        }
    }
}

/// A service with its names resolved.
pub(crate) struct CheckedService<'d> {
    pub(crate) raw: &'d RawService<'d>,
    /// Nodes that offer it, in the order of the file.
    on: Vec<u32>,
    /// Entries of `allow` that exist, in the order of the file.
    allow: Vec<Member>,
    /// Overrides by node.
    pub(crate) at: BTreeMap<u32, &'d RawOverride<'d>>,
}

impl CheckedService<'_> {
    pub(crate) fn name(&self) -> &ServiceName {
        &self.raw.name.value
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.raw.protocol
    }

    /// Whether `node` listens at another place than the rest, by an override.
    pub(crate) fn listens_elsewhere(&self, node: u32) -> bool {
        self.at.get(&node).is_some_and(|changed| changed.listen.is_some())
    }

    /// Whether `node` is allowed and does not offer the service itself.
    pub(crate) fn may_reach(&self, node: u32, groups: &[Group]) -> bool {
        let admits = |member: &Member| match member {
            Member::Node(number) => *number == node,
            Member::Group(at) => groups.get(*at).is_some_and(|group| group.numbers.binary_search(&node).is_ok()),
        };
        !self.on.contains(&node) && self.allow.iter().any(admits)
    }

    /// The nodes that may reach the service; some may come twice.
    pub(crate) fn reachers<'a>(&'a self, groups: &'a [Group]) -> impl Iterator<Item = u32> + 'a {
        let members = self.allow.iter().flat_map(|member| match member {
            Member::Node(number) => std::slice::from_ref(number),
            Member::Group(at) => groups.get(*at).map_or(&[][..], |group| &group.numbers),
        });
        members.copied().filter(|node| !self.on.contains(node))
    }
}

fn assemble(raw: &RawMesh<'_>, digest: Digest, problems: &mut Problems<'_>) -> Option<Mesh> {
    let names = Names::of(raw);
    check_nodes(raw, problems);
    let groups = groups::resolve(&raw.groups, &names, problems);
    let services: Vec<CheckedService<'_>> =
        raw.services.iter().map(|service| resolve(service, &names, problems)).collect();
    if !problems.torn() {
        check_use(raw, &names, problems);
        for service in &services {
            check_reach(service, &groups, &names, problems);
        }
        listeners::check(&services, &raw.nodes, &groups, &names, problems);
    }
    if problems.refused() {
        return None;
    }
    Some(Mesh {
        name: raw.name.as_ref()?.value.clone(),
        version: MeshVersion(raw.version.as_ref()?.value),
        digest,
        transport: raw.transport,
        signed: raw.signed,
        nodes: raw.nodes.iter().map(node).map(|node| (node.name.clone(), node)).collect(),
        groups: raw
            .groups
            .iter()
            .zip(&groups)
            .map(|(raw, group)| (raw.name.value.clone(), group.names.clone()))
            .collect(),
        services: services
            .iter()
            .map(|service| checked(service, raw, &groups, &names).map(|service| (service.name.clone(), service)))
            .collect::<Option<_>>()?,
    })
}

/// Notes groups that no list names.
fn check_use(raw: &RawMesh<'_>, names: &Names<'_>, problems: &mut Problems<'_>) {
    let allowed = raw.services.iter().filter_map(|service| service.allow.as_ref()).flat_map(|list| &list.value);
    let members = raw.groups.iter().flat_map(|group| &group.members);
    let used: HashSet<usize> = allowed.chain(members).filter_map(|text| names.group_meant(text.value)).collect();
    for (at, group) in raw.groups.iter().enumerate() {
        if !used.contains(&at) {
            let name = &group.name.value;
            problems
                .warning(&group.name.span, format!("group `{name}` is never used"))
                .hint(format!("name it in the `allow` of a service, \"@{name}\", or take it out"));
        }
    }
}

fn node(raw: &raw::RawNode) -> Node {
    let mut addresses: Vec<Address> = Vec::with_capacity(raw.addresses.len());
    for address in &raw.addresses {
        if !addresses.contains(&address.value) {
            addresses.push(address.value.clone());
        }
    }
    Node { name: raw.name.value.clone(), addresses, roles: raw.roles.iter().map(|role| role.value).collect() }
}

fn checked(service: &CheckedService<'_>, mesh: &RawMesh<'_>, groups: &[Group], names: &Names<'_>) -> Option<Service> {
    let raw = service.raw;
    let rule = |member: &Member| match member {
        Member::Node(number) => names.node_name(*number).cloned().map(AllowRule::Node),
        Member::Group(at) => {
            Some(AllowRule::Group(mesh.groups.get(*at)?.name.value.clone(), groups.get(*at)?.names.clone()))
        }
    };
    let changed = |(number, raw): (&u32, &&RawOverride<'_>)| {
        let target = raw.target.as_ref().map(|target| target.value.clone());
        Some((names.node_name(*number)?.clone(), Override { target, listen: raw.listen.as_ref().map(|l| l.value) }))
    };
    Some(Service {
        name: raw.name.value.clone(),
        protocol: raw.protocol,
        on: service.on.iter().map(|number| names.node_name(*number).cloned()).collect::<Option<_>>()?,
        target: raw.target.as_ref()?.value.clone(),
        listen: raw.listen.as_ref().map(|listen| listen.value),
        allow: service.allow.iter().map(rule).collect::<Option<_>>()?,
        at: service.at.iter().map(changed).collect::<Option<_>>()?,
    })
}

/// Addresses that two nodes share, and repeated addresses and roles.
fn check_nodes(raw: &RawMesh<'_>, problems: &mut Problems<'_>) {
    if raw.nodes.is_empty() && raw.misnamed.is_empty() && !problems.torn() {
        problems.warning(&(0..0), "the mesh has no nodes").hint("add one: [node.NAME] with address = \"HOST:7443\"");
    }
    let mut holders: HashMap<&Address, &NodeName> = HashMap::new();
    for node in &raw.nodes {
        let name = &node.name.value;
        for Item { value: address, span } in &node.addresses {
            match holders.insert(address, name) {
                Some(holder) if holder == name => problems
                    .warning(span, format!("node `{name}` has the address {address} twice"))
                    .hint("keep one of the two"),
                Some(holder) => problems
                    .error(span, format!("nodes `{holder}` and `{name}` both have the address {address}"))
                    .hint("an address leads to one node: give one of them another port or host"),
                None => {}
            }
        }
        let mut roles = Vec::new();
        for role in &node.roles {
            if roles.contains(&role.value) {
                problems.warning(&role.span, format!("node `{name}` has a role twice")).hint("keep one of the two");
            }
            roles.push(role.value);
        }
    }
}

/// Finds what a service names, and notes what is wrong with it alone.
fn resolve<'d>(raw: &'d RawService<'d>, names: &Names<'_>, problems: &mut Problems<'_>) -> CheckedService<'d> {
    let name = &raw.name.value;
    let mut on = Vec::new();
    if let Some(list) = &raw.on {
        let found = distinct(&list.value, problems, |text, p| names.find_node(text, "`on`", p));
        on = found.into_iter().map(|(node, _)| node).collect();
        if list.value.is_empty() {
            problems
                .error(&list.span, format!("no node offers `{name}`"))
                .hint("name at least one node: on = [\"NODE\"]");
        }
    }
    let mut allow = Vec::new();
    if let Some(list) = &raw.allow {
        let found = distinct(&list.value, problems, |text, p| names.find(text, p));
        allow = found.into_iter().map(|(member, _)| member).collect();
    }
    let targets = raw.at.iter().filter_map(|changed| changed.target.as_ref()).chain(&raw.target);
    for target in targets.filter(|target| matches!(target.value, Target::Unix(_))) {
        if raw.protocol == Protocol::Udp {
            problems
                .error(&target.span, format!("`{name}` carries UDP, and its target is a Unix socket"))
                .hint("give a UDP service a target such as \"127.0.0.1:53\"");
        }
    }
    let mut at = BTreeMap::new();
    for changed in &raw.at {
        if let Some(node) = names.find_node(&changed.node, "`at`", problems) {
            at.insert(node, changed);
        }
    }
    CheckedService { raw, on, allow, at }
}

/// Notes what a service says to no effect: nobody may reach it, nobody listens for it, overrides that change nothing.
fn check_reach(service: &CheckedService<'_>, groups: &[Group], names: &Names<'_>, problems: &mut Problems<'_>) {
    let raw = service.raw;
    let name = &raw.name.value;
    let reached = service.reachers(groups).next().is_some();
    // Entries that do not exist have been noted; whom they would have let in is unknown.
    let all_known = match &raw.allow {
        Some(list) => list.value.is_empty() || !service.allow.is_empty(),
        None => !raw.has_allow,
    };
    if !reached && all_known {
        let everyone_offers = service.allow.iter().any(|member| match member {
            Member::Node(_) => true,
            Member::Group(at) => groups.get(*at).is_some_and(|group| !group.numbers.is_empty()),
        });
        let span = raw.allow.as_ref().map_or(&raw.name.span, |list| &list.span);
        if everyone_offers {
            problems
                .warning(span, format!("`{name}` is allowed only to nodes that offer it"))
                .hint("a node does not reach what it offers itself: name other nodes in `allow`");
        } else {
            problems
                .warning(span, format!("nobody may reach `{name}`"))
                .hint("name nodes or groups: allow = [\"NODE\", \"@GROUP\"]");
        }
    }
    let listens = raw.has_listen || service.at.values().any(|changed| changed.listen.is_some());
    if reached && !listens {
        problems
            .warning(&raw.name.span, format!("no node listens for `{name}`"))
            .hint("add listen = \"127.0.0.1:PORT\" for applications on the allowed nodes, or listen = \"auto\"");
    }
    for (node, changed) in &service.at {
        let Some(node_name) = names.node_name(*node) else { continue };
        let offers = service.on.contains(node);
        if let Some(target) = changed.target.as_ref().filter(|_| !offers && raw.on.is_some()) {
            problems
                .warning(&target.span, format!("node `{node_name}` does not offer `{name}`, so it has no target there"))
                .hint(format!("add {} to `on`, or take this line out", quote(node_name.as_str())));
        }
        if let Some(listen) = &changed.listen {
            if offers {
                problems
                    .warning(&listen.span, format!("node `{node_name}` offers `{name}`, so it does not listen for it"))
                    .hint("applications there use the target: take this line out");
            } else if !service.may_reach(*node, groups) && all_known {
                problems
                    .warning(&listen.span, format!("node `{node_name}` may not reach `{name}`, so it does not listen"))
                    .hint(format!("add {} to `allow`, or take this line out", quote(node_name.as_str())));
            }
        }
    }
}
