//! What a mesh file may ask for that this version of the agent does not do.

use mesh_config::document::{Document, Item, Problems, Source, Span};
use mesh_config::{Listen, NodeName, Problem, Protocol, Service, Target};

/// Why a service is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// It carries datagrams.
    Udp,
    /// Its target is a Unix socket.
    UnixTarget,
    /// Its listener is to get an address by itself.
    AutoListen,
}

impl Unsupported {
    /// What keeps the agent on `node` from doing its part for `service`.
    pub fn of(service: &Service, node: &NodeName) -> Option<Self> {
        if service.protocol() == Protocol::Udp {
            Some(Self::Udp)
        } else if service.offered_by(node) && matches!(service.target_at(node), Target::Unix(_)) {
            Some(Self::UnixTarget)
        } else if service.listen_at(node) == Some(Listen::Auto) {
            Some(Self::AutoListen)
        } else {
            None
        }
    }

    /// What it is, for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Udp => "protocol = \"udp\" is not supported by this version of the agent",
            Self::UnixTarget => "unix: targets are not supported by this version of the agent",
            Self::AutoListen => "listen = \"auto\" is not supported by this version of the agent",
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Udp => "only TCP services are carried",
            Self::UnixTarget => "give the target as HOST:PORT",
            Self::AutoListen => "give an address and a port",
        }
    }
}

/// A warning for each place in a mesh file that asks for what the agent does not do. `text` is that of a mesh file that
/// checks; `file` is what the warnings call it.
pub fn warnings(text: &str, file: &str) -> Vec<Problem> {
    let source = Source::new(file, text);
    // What else could be said of the file has been said, so what is noted on the way is left out.
    let mut ignored = Problems::new(&source);
    let mut found = Vec::new();
    let document = Document::parse(&source, &mut ignored);
    for (name, mut service) in document.root().tables("service", &mut ignored) {
        let mut note = |span: &Span, what: Unsupported| found.push((name.value.to_owned(), span.clone(), what));
        if let Some(Item { value: "udp", span }) = service.string("protocol", &mut ignored) {
            // Its targets and listeners are no further obstacle.
            note(&span, Unsupported::Udp);
            continue;
        }
        let overrides = service.tables("at", &mut ignored).into_iter().map(|(_, table)| table);
        for mut table in std::iter::once(service).chain(overrides) {
            if let Some(target) = table.string("target", &mut ignored).filter(|t| t.value.starts_with("unix:")) {
                note(&target.span, Unsupported::UnixTarget);
            }
            if let Some(listen) = table.string("listen", &mut ignored).filter(|l| l.value == "auto") {
                note(&listen.span, Unsupported::AutoListen);
            }
        }
    }
    let mut problems = Problems::new(&source);
    for (service, span, what) in found {
        problems.warning(&span, format!("service `{service}`: {}", what.text())).hint(what.hint());
    }
    // There are warnings alone.
    problems.finish().unwrap_or_else(|all| all)
}

#[cfg(test)]
mod tests {
    use mesh_config::Mesh;

    use super::*;

    const MESH: &str = r#"
[mesh]
name = "lab"
version = 1
[node.a]
address = "10.0.0.1:7443"
[node.b]
address = "10.0.0.2:7443"
[node.c]
[service.web]
on = ["a"]
target = "127.0.0.1:80"
listen = "127.0.0.1:8080"
allow = ["b", "c"]
[service.web.at.c]
listen = "auto"
[service.docker]
on = ["a", "b"]
target = "unix:/run/docker.sock"
allow = ["c"]
listen = "127.0.0.1:8081"
[service.docker.at.b]
target = "127.0.0.1:81"
[service.dns]
protocol = "udp"
on = ["a"]
target = "127.0.0.1:53"
allow = ["b"]
listen = "auto"
"#;

    #[test]
    fn each_node_is_told_what_it_does_not_do() {
        let mesh = Mesh::check(MESH, "mesh.toml").unwrap().mesh;
        let of = |service: &str, node: &str| Unsupported::of(mesh.service(service).unwrap(), &node.parse().unwrap());
        for (service, at_a, at_b, at_c) in [
            ("web", None, None, Some(Unsupported::AutoListen)),
            ("docker", Some(Unsupported::UnixTarget), None, None),
            ("dns", Some(Unsupported::Udp), Some(Unsupported::Udp), Some(Unsupported::Udp)),
        ] {
            assert_eq!([of(service, "a"), of(service, "b"), of(service, "c")], [at_a, at_b, at_c], "{service}");
        }
    }

    #[test]
    fn each_place_in_the_file_gets_a_warning_with_a_hint() {
        let told: Vec<_> = warnings(MESH, "mesh.toml").iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(
            told[0],
            "mesh.toml:16:10: warning: service `web`: listen = \"auto\" is not supported by this version of the agent\n   |\n\
             16 | listen = \"auto\"\n   |          ^^^^^^\n   help: give an address and a port"
        );
        assert!(told[1].starts_with("mesh.toml:19:10: warning: service `docker`: unix: targets"), "{}", told[1]);
        assert!(told[2].starts_with("mesh.toml:25:12: warning: service `dns`: protocol = \"udp\""), "{}", told[2]);
    }

    #[test]
    fn what_the_agent_does_gets_none() {
        let plain = MESH.split("[service.web.at.c]").next().unwrap();
        assert_eq!(warnings(plain, "mesh.toml"), []);
    }
}
