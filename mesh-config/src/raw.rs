//! The mesh file as it is written: every value of the right shape, with its place, nothing compared with anything yet.

use crate::document::{Item, Problems, Strings, Table, choose};
use crate::fault::Fault;
use crate::model::{Address, Listen, Protocol, Role, Target, Transport};
use crate::name::{GroupName, MeshName, NameError, NodeName, ServiceName};

/// The file. What could not be read is left out, and has been noted.
#[derive(Debug, Default)]
pub(crate) struct RawMesh<'d> {
    pub(crate) name: Option<Item<MeshName>>,
    pub(crate) version: Option<Item<u64>>,
    pub(crate) transport: Transport,
    pub(crate) signed: bool,
    pub(crate) nodes: Vec<RawNode>,
    pub(crate) groups: Vec<RawGroup<'d>>,
    pub(crate) services: Vec<RawService<'d>>,
    /// Names that head a table but are no names, so that each is noted once and not again wherever it is used.
    pub(crate) misnamed: Vec<&'d str>,
}

/// `[node.NAME]`.
#[derive(Debug)]
pub(crate) struct RawNode {
    pub(crate) name: Item<NodeName>,
    pub(crate) addresses: Vec<Item<Address>>,
    pub(crate) roles: Vec<Item<Role>>,
}

/// `[group] NAME = [...]`. Members stay text: they are nodes or `@group`.
#[derive(Debug)]
pub(crate) struct RawGroup<'d> {
    pub(crate) name: Item<GroupName>,
    pub(crate) members: Vec<Item<&'d str>>,
}

/// `[service.NAME]`.
#[derive(Debug)]
pub(crate) struct RawService<'d> {
    pub(crate) name: Item<ServiceName>,
    pub(crate) protocol: Protocol,
    pub(crate) on: Option<Strings<'d>>,
    pub(crate) target: Option<Item<Target>>,
    pub(crate) listen: Option<Item<Listen>>,
    /// Whether `listen` is there, good or bad.
    pub(crate) has_listen: bool,
    pub(crate) allow: Option<Strings<'d>>,
    /// Whether `allow` is there, good or bad.
    pub(crate) has_allow: bool,
    pub(crate) at: Vec<RawOverride<'d>>,
}

/// `[service.NAME.at.NODE]`.
#[derive(Debug)]
pub(crate) struct RawOverride<'d> {
    pub(crate) node: Item<&'d str>,
    pub(crate) target: Option<Item<Target>>,
    pub(crate) listen: Option<Item<Listen>>,
}

/// Reads a mesh file's outermost table.
pub(crate) fn read<'d>(mut root: Table<'d>, problems: &mut Problems<'_>) -> RawMesh<'d> {
    let mut raw = RawMesh::default();
    match root.table("mesh", problems) {
        Some(table) => read_mesh(table, &mut raw, problems),
        None => root.require("mesh", "[mesh]", problems),
    }
    for (name, table) in root.tables("node", problems) {
        let node = read_node(&name, table, problems);
        match node {
            Some(node) => raw.nodes.push(node),
            None => raw.misnamed.push(name.value),
        }
    }
    for (name, members) in root.lists("group", problems) {
        match named("group", &name, GroupName::new, problems) {
            Some(group) => raw.groups.push(RawGroup { name: group, members: members.value }),
            None => raw.misnamed.push(name.value),
        }
    }
    for (name, table) in root.tables("service", problems) {
        raw.services.extend(read_service(&name, table, problems));
    }
    root.finish(problems);
    raw
}

fn read_mesh(mut table: Table<'_>, raw: &mut RawMesh<'_>, problems: &mut Problems<'_>) {
    raw.name =
        table.parsed("name", problems, |text| MeshName::new(text).map_err(|error| Fault::of_name("mesh", text, error)));
    raw.version = table.integer("version", 1..=i64::MAX, problems).map(|v| v.map(i64::unsigned_abs));
    let transports = [("auto", Transport::Auto), ("tls", Transport::Tls), ("quic", Transport::Quic)];
    raw.transport = table.choice("transport", &transports, problems).map_or(Transport::default(), |t| t.value);
    raw.signed = table.boolean("signed", problems).is_some_and(|signed| signed.value);
    table.require("name", "name = \"lab\"", problems);
    table.require("version", "version = 1", problems);
    table.finish(problems);
}

/// The name that heads a table, or a note of what is wrong with it.
fn named<T>(
    what: &str,
    name: &Item<&str>,
    parse: impl FnOnce(&str) -> Result<T, NameError>,
    problems: &mut Problems<'_>,
) -> Option<Item<T>> {
    match parse(name.value) {
        Ok(value) => Some(Item { value, span: name.span.clone() }),
        Err(error) => {
            problems.fault(&name.span, &Fault::of_name(what, name.value, error));
            None
        }
    }
}

fn read_node(name: &Item<&str>, mut table: Table<'_>, problems: &mut Problems<'_>) -> Option<RawNode> {
    let name = named("node", name, NodeName::new, problems);
    let mut addresses = Vec::new();
    for text in table.string_or_strings("address", problems).map(|list| list.value).unwrap_or_default() {
        match text.value.parse() {
            Ok(value) => addresses.push(Item { value, span: text.span }),
            Err(fault) => problems.fault(&text.span, &fault),
        }
    }
    let mut roles = Vec::new();
    for text in table.strings("roles", problems).map(|list| list.value).unwrap_or_default() {
        roles.extend(choose("role", &text, &[("ca", Role::Ca), ("relay", Role::Relay)], problems));
    }
    table.finish(problems);
    Some(RawNode { name: name?, addresses, roles })
}

fn read_service<'d>(name: &Item<&str>, mut table: Table<'d>, problems: &mut Problems<'_>) -> Option<RawService<'d>> {
    let name = named("service", name, ServiceName::new, problems);
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let protocol = table.choice("protocol", &protocols, problems).map_or(Protocol::default(), |p| p.value);
    let on = table.strings("on", problems);
    let target = table.parsed("target", problems, str::parse);
    let listen = table.parsed("listen", problems, str::parse);
    let allow = table.strings("allow", problems);
    table.require("on", "on = [\"NODE\"]", problems);
    table.require("target", "target = \"127.0.0.1:PORT\"", problems);
    let mut at = Vec::new();
    for (node, mut table) in table.tables("at", problems) {
        let target = table.parsed("target", problems, str::parse);
        let listen = table.parsed("listen", problems, str::parse);
        table.finish(problems);
        at.push(RawOverride { node, target, listen });
    }
    let (has_listen, has_allow) = (table.has("listen"), table.has("allow"));
    table.finish(problems);
    Some(RawService { name: name?, protocol, on, target, listen, has_listen, allow, has_allow, at })
}
