//! Mesh → text: the canonical document of a mesh, and the commented one that a new mesh starts from.

use std::fmt::{Display, Write as _};

use crate::model::{Address, Mesh, Protocol, Role, Service, Transport};
use crate::name::{MeshName, NodeName};

/// A writer of TOML that cannot fail, since it writes to a string.
struct Out(String);

impl Out {
    fn line(&mut self, line: impl Display) {
        let _infallible = writeln!(self.0, "{line}");
    }

    fn string(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {}", quoted(&value.to_string())));
    }

    fn strings<T: Display>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        let values: Vec<String> = values.into_iter().map(|value| quoted(&value.to_string())).collect();
        self.line(format_args!("{key} = [{}]", values.join(", ")));
    }

    fn address(&mut self, addresses: &[Address]) {
        match addresses {
            [] => {}
            [one] => self.string("address", one),
            several => self.strings("address", several),
        }
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _infallible = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Role {
    /// The word in the mesh file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Relay => "relay",
        }
    }
}

impl Protocol {
    /// The word in the mesh file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Transport {
    /// The word in the mesh file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tls => "tls",
            Self::Quic => "quic",
        }
    }
}

macro_rules! display_by_word {
    ($($type:ty),*) => {$(
        impl Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    )*};
}
display_by_word!(Role, Protocol, Transport);

impl Mesh {
    /// The mesh as a document in one fixed form, without comments: the same mesh always gives the same text, and
    /// checking the text gives the same mesh with the digest of this text. Groups are written with all their nodes.
    pub fn to_toml(&self) -> String {
        let mut out = Out(String::new());
        out.line("[mesh]");
        out.string("name", &self.name);
        out.line(format_args!("version = {}", self.version));
        if self.transport != Transport::default() {
            out.string("transport", self.transport);
        }
        if self.signed {
            out.line("signed = true");
        }
        for node in self.nodes.values() {
            out.line(format_args!("\n[node.{}]", node.name));
            out.address(&node.addresses);
            if !node.roles.is_empty() {
                out.strings("roles", &node.roles);
            }
        }
        if !self.groups.is_empty() {
            out.line("\n[group]");
        }
        for (name, members) in &self.groups {
            out.strings(name.as_str(), members.iter());
        }
        for service in self.services.values() {
            write_service(&mut out, service);
        }
        out.0
    }

    /// Whether two meshes say the same, whatever their documents look like: all but the digest is equal.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.version == other.version
            && self.transport == other.transport
            && self.signed == other.signed
            && self.nodes == other.nodes
            && self.groups == other.groups
            && self.services == other.services
    }
}

fn write_service(out: &mut Out, service: &Service) {
    out.line(format_args!("\n[service.{}]", service.name));
    if service.protocol != Protocol::default() {
        out.string("protocol", service.protocol);
    }
    out.strings("on", &service.on);
    out.string("target", &service.target);
    if let Some(listen) = service.listen {
        out.string("listen", listen);
    }
    if !service.allow.is_empty() {
        out.strings("allow", &service.allow);
    }
    for (node, changed) in &service.at {
        out.line(format_args!("\n[service.{}.at.{node}]", service.name));
        if let Some(target) = &changed.target {
            out.string("target", target);
        }
        if let Some(listen) = changed.listen {
            out.string("listen", listen);
        }
    }
}

/// The document that a new mesh starts from, with comments that say how to go on. The first of `nodes` holds the CA.
/// Without problems or warnings, whatever the names are, as long as the names and addresses of `nodes` differ and there
/// is at least one.
///
/// ```
/// use mesh_config::{Mesh, MeshName, NodeName, template};
///
/// let alpha = (NodeName::new("alpha")?, vec!["10.0.0.1:7443".parse()?]);
/// let text = template(&MeshName::new("lab")?, &[alpha, (NodeName::new("laptop")?, Vec::new())]);
/// let checked = Mesh::check(&text, "mesh.toml").expect("a template checks");
/// assert!(checked.warnings.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn template(name: &MeshName, nodes: &[(NodeName, Vec<Address>)]) -> String {
    let mut out = Out(String::new());
    out.line("# The mesh file: the same on every node. `adit check mesh.toml` says whether it holds together.");
    out.line("");
    out.line("[mesh]");
    out.string("name", name);
    out.line("version = 1                      # raise it with every change: a lower one never replaces a higher one");
    out.line("");
    out.line("# Nodes: the hosts of the mesh. `address` is where others dial them, on TCP and UDP; a node without one");
    out.line("# dials out. The role \"ca\" marks who holds a CA key.");
    for (at, (node, addresses)) in nodes.iter().enumerate() {
        if at > 0 {
            out.line("");
        }
        out.line(format_args!("[node.{node}]"));
        out.address(addresses);
        if at == 0 {
            out.strings("roles", [Role::Ca]);
        }
    }
    let offerer = nodes.first().map_or("alpha", |(node, _)| node.as_str());
    let user = nodes.get(1).map_or("beta", |(node, _)| node.as_str());
    out.line("");
    out.line("# Groups: names for sets of nodes, written \"@users\" in `allow`.");
    out.line("# [group]");
    out.line(format_args!("# users = [\"{user}\"]"));
    out.line("");
    out.line("# Services: what some nodes offer and others reach. Nobody may reach one unless `allow` says so.");
    out.line("# [service.web]");
    out.line(format_args!("# on = [\"{offerer}\"]                  # who offers it"));
    out.line("# target = \"127.0.0.1:8080\"        # what the agent there connects to");
    out.line("# listen = \"127.0.0.1:18080\"       # where applications on the allowed nodes reach it");
    out.line(format_args!("# allow = [\"{user}\"]"));
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_still_checks_with_its_examples_uncommented() {
        let nodes = [
            (NodeName::new("alpha").unwrap(), vec!["10.0.0.1:7443".parse().unwrap()]),
            (NodeName::new("beta").unwrap(), vec![]),
        ];
        let text = template(&MeshName::new("lab").unwrap(), &nodes);
        let wide: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(example) if example.starts_with('[') || example.contains(" = ") => format!("{example}\n"),
                _ => format!("{line}\n"),
            })
            .map(|line| line.replace("allow = [\"beta\"]", "allow = [\"@users\"]"))
            .collect();
        let checked = Mesh::check(&wide, "mesh.toml").unwrap();
        assert_eq!(checked.warnings, []);
        assert!(checked.mesh.service("web").unwrap().permits(&nodes[1].0).is_some());
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n\u{7f}"), "\"a\\\"b\\\\c\\u000A\\u007F\"");
    }
}
