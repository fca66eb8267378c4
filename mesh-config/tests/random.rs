//! Random meshes and random damage: what is written reads back, what is damaged is answered, and a difference leads from
//! one mesh to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mesh_config::{Diff, Listener, Mesh, NodeDiff, NodeName};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

const NODES: usize = 6;

/// What a random mesh is made of; [`Sketch::text`] writes it.
#[derive(Debug, Clone)]
struct Sketch {
    version: u32,
    transport: Option<&'static str>,
    /// For each node: whether it is there, how many addresses it has, whether it is a CA and a relay.
    nodes: Vec<(bool, usize, bool, bool)>,
    /// For each group its members, and whether it holds the group before it.
    groups: Vec<(Vec<usize>, bool)>,
    services: Vec<ServiceSketch>,
}

#[derive(Debug, Clone)]
struct ServiceSketch {
    on: Vec<usize>,
    allow_nodes: Vec<usize>,
    allow_groups: Vec<usize>,
    udp: bool,
    unix: bool,
    listen: u8,
    overrides: Vec<(usize, u8)>,
}

fn some_of(range: usize) -> impl Strategy<Value = Vec<usize>> {
    subsequence((0..range).collect::<Vec<_>>(), 0..=range).prop_shuffle()
}

fn service() -> impl Strategy<Value = ServiceSketch> {
    let on = subsequence((0..NODES).collect::<Vec<_>>(), 1..=3).prop_shuffle();
    let flags = (any::<bool>(), any::<bool>(), 0_u8..4);
    (on, some_of(NODES), some_of(3), flags, prop::collection::vec((0..NODES, 0_u8..4), 0..3)).prop_map(
        |(on, allow_nodes, allow_groups, (udp, unix, listen), overrides)| ServiceSketch {
            on,
            allow_nodes,
            allow_groups,
            udp,
            unix: unix && !udp,
            listen,
            overrides,
        },
    )
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let node = (prop::bool::weighted(0.8), 0_usize..3, any::<bool>(), any::<bool>());
    (
        1..u32::MAX,
        prop::option::of(prop::sample::select(vec!["auto", "tls", "quic"])),
        prop::collection::vec(node, NODES),
        prop::collection::vec((some_of(NODES), any::<bool>()), 3),
        prop::collection::vec(service(), 0..5),
    )
        .prop_map(|(version, transport, mut nodes, groups, services)| {
            // One node is always there, to offer what the missing ones would have offered.
            if let Some(first) = nodes.first_mut() {
                first.0 = true;
            }
            Sketch { version, transport, nodes, groups, services }
        })
}

fn quoted<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

impl Sketch {
    /// Nodes that are there; one that is not is replaced by the first.
    fn existing(&self, nodes: &[usize]) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let real = nodes.iter().map(|n| if self.nodes[*n].0 { *n } else { 0 });
        real.filter(|n| seen.insert(*n)).map(|n| format!("n{n}")).collect()
    }

    fn text(&self) -> String {
        let mut out = format!("[mesh]\nname = \"lab\"\nversion = {}\n", self.version);
        let mut line = |text: String| writeln!(out, "{text}").expect("a string takes all");
        if let Some(transport) = self.transport {
            line(format!("transport = \"{transport}\""));
        }
        for (n, (there, addresses, ca, relay)) in self.nodes.iter().enumerate() {
            if *there {
                let kinds = [format!("10.0.0.{n}:7443"), format!("[2001:db8::{n}]:7443"), format!("n{n}.example:1")];
                let roles = [("ca", *ca), ("relay", *relay)];
                line(format!("[node.n{n}]\naddress = [{}]", quoted(&kinds[..*addresses])));
                line(format!("roles = [{}]", quoted(roles.iter().filter(|r| r.1).map(|r| r.0))));
            }
        }
        line("[group]".to_owned());
        for (g, (members, nested)) in self.groups.iter().enumerate() {
            let mut all = self.existing(members);
            all.extend((*nested && g > 0).then(|| format!("@g{}", g - 1)));
            line(format!("g{g} = [{}]", quoted(all)));
        }
        for (s, service) in self.services.iter().enumerate() {
            let port = 2_000 + s;
            let listen = |kind: u8| match kind {
                0 => None,
                1 => Some("auto".to_owned()),
                2 => Some(format!("127.0.0.1:{port}")),
                _ => Some(format!("[::]:{port}")),
            };
            let target = if service.unix { format!("unix:/run/s{s}.sock") } else { format!("db.example:{port}") };
            let mut allow = self.existing(&service.allow_nodes);
            allow.extend(service.allow_groups.iter().map(|g| format!("@g{g}")));
            line(format!("[service.s{s}]\non = [{}]", quoted(self.existing(&service.on))));
            line(format!("target = \"{target}\"\nallow = [{}]", quoted(allow)));
            line(if service.udp { "protocol = \"udp\"".to_owned() } else { String::new() });
            line(listen(service.listen).map(|l| format!("listen = \"{l}\"")).unwrap_or_default());
            let overrides: BTreeMap<String, u8> = service
                .overrides
                .iter()
                .flat_map(|(n, kind)| self.existing(&[*n]).pop().map(|name| (name, *kind)))
                .collect();
            for (node, kind) in overrides {
                line(format!("[service.s{s}.at.{node}]\ntarget = \"127.0.0.1:{}\"", port + 100));
                line(listen(kind).map(|l| format!("listen = \"{l}\"")).unwrap_or_default());
            }
        }
        out
    }

    fn mesh(&self) -> Mesh {
        let text = self.text();
        match Mesh::check(&text, "mesh.toml") {
            Ok(checked) => checked.mesh,
            Err(problems) => panic!("{}\n{text}", problems[0]),
        }
    }
}

/// Every (service, node) pair that is permitted, the plain way.
fn permitted(mesh: &Mesh) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for service in mesh.services().values() {
        for node in mesh.nodes().keys() {
            if !service.on().contains(node) && service.allow().iter().any(|rule| rule.admits(node)) {
                all.insert((service.name().to_string(), node.to_string()));
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mesh_that_is_written_reads_back_as_itself(sketch in sketch()) {
        let mesh = sketch.mesh();
        let text = mesh.to_toml();
        let again = Mesh::check(&text, "mesh.toml").map_err(|p| TestCaseError::fail(format!("{}\n{text}", p[0])))?.mesh;
        prop_assert!(mesh.says_the_same_as(&again), "{text}");
        prop_assert_eq!(again.to_toml(), text);
    }

    #[test]
    fn a_mesh_does_not_differ_from_itself(sketch in sketch()) {
        let mesh = sketch.mesh();
        let again = sketch.mesh();
        prop_assert!(Diff::between(&mesh, &again).is_empty());
        for node in mesh.nodes().keys() {
            let diff = NodeDiff::between(&mesh, &again, node);
            prop_assert!(diff.is_empty(), "{diff}");
            prop_assert_eq!(diff.keep, mesh.listeners_on(node));
        }
    }

    #[test]
    fn a_difference_leads_from_one_mesh_to_the_other(a in sketch(), b in sketch()) {
        let (a, b) = (a.mesh(), b.mesh());
        let diff = Diff::between(&a, &b);
        prop_assert_eq!(diff.is_empty(), Diff::between(&b, &a).is_empty());
        // Permits: what was, less the lost, more the gained, and services that are new or gone.
        let mut pairs = permitted(&a);
        for change in &diff.permits {
            for node in &change.lost {
                prop_assert!(pairs.remove(&(change.service.to_string(), node.to_string())));
            }
            for node in &change.gained {
                prop_assert!(pairs.insert((change.service.to_string(), node.to_string())));
            }
        }
        pairs.retain(|(service, _)| !diff.services_removed.iter().any(|name| name.as_str() == service));
        let new = permitted(&b);
        pairs.extend(new.iter().filter(|(s, _)| diff.services_added.iter().any(|n| n.as_str() == s)).cloned());
        prop_assert_eq!(pairs, new);
        // Nodes.
        let mut nodes: BTreeSet<&NodeName> = a.nodes().keys().collect();
        nodes.retain(|node| !diff.nodes_removed.contains(node));
        nodes.extend(&diff.nodes_added);
        prop_assert!(nodes.into_iter().eq(b.nodes().keys()));
        // Each node's own view.
        for node in a.nodes().keys().chain(b.nodes().keys()) {
            let view = NodeDiff::between(&a, &b, node);
            let by_service = |list: Vec<Listener>| -> BTreeMap<String, String> {
                list.into_iter().map(|l| (l.service.to_string(), l.to_string())).collect()
            };
            let after = by_service(view.keep.iter().chain(&view.open).cloned().collect());
            let before = by_service(view.keep.iter().chain(&view.close).cloned().collect());
            prop_assert_eq!(after, by_service(b.listeners_on(node)));
            prop_assert_eq!(before, by_service(a.listeners_on(node)));
            let mut peers: BTreeSet<NodeName> = a.peers_of(node).into_keys().collect();
            peers.retain(|peer| !view.peers_removed.contains(peer));
            peers.extend(view.peers_added.keys().cloned());
            prop_assert!(peers.iter().eq(b.peers_of(node).keys()));
        }
    }

    #[test]
    fn peers_are_found_as_by_asking_for_every_pair(sketch in sketch()) {
        let mesh = sketch.mesh();
        for node in mesh.nodes().keys() {
            let mut plain: BTreeMap<NodeName, (bool, bool)> = BTreeMap::new();
            for service in mesh.services().values() {
                for peer in mesh.nodes().keys() {
                    let reaches = service.reachable_from(node) && service.offered_by(peer);
                    let reached_by = service.offered_by(node) && service.reachable_from(peer);
                    if reaches || reached_by {
                        let entry = plain.entry(peer.clone()).or_default();
                        *entry = (entry.0 | reaches, entry.1 | reached_by);
                    }
                }
            }
            let found: BTreeMap<_, _> =
                mesh.peers_of(node).into_iter().map(|(peer, b)| (peer, (b.reaches, b.reached_by))).collect();
            prop_assert_eq!(found, plain);
        }
    }

    #[test]
    fn a_damaged_document_is_answered(sketch in sketch(), damage in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4), 1..8)) {
        let mut bytes = sketch.text().into_bytes();
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => _ = bytes.remove(at),
                2 => bytes.insert(at.min(bytes.len()), byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        answered(bytes)?;
    }

    #[test]
    fn random_text_is_answered(text in "(\\[(mesh|node|group|service)(\\.[a-z\"é]{1,3}){0,4}\\]\n|[a-z]{1,6} ?= ?[\\[{\"'0-9a-z@:.,\\]}#]{0,12}\r?\n|\\PC{0,4}){0,12}") {
        answered(text.into_bytes())?;
    }
}

/// No panic; an error at least, or a mesh; every place inside the text; nothing dangerous shown.
fn answered(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let text = match mesh_config::decode(bytes, "mesh.toml") {
        Ok(text) => text,
        Err(problem) => {
            prop_assert!(problem.is_error() && problem.line > 0);
            return Ok(());
        }
    };
    let problems = match Mesh::check(&text, "mesh.toml") {
        Ok(checked) => {
            prop_assert!(checked.warnings.iter().all(|problem| !problem.is_error()));
            checked.warnings
        }
        Err(problems) => {
            prop_assert!(problems.iter().any(mesh_config::Problem::is_error));
            problems
        }
    };
    for problem in problems {
        prop_assert!(problem.line <= text.split('\n').count());
        prop_assert!(problem.column <= text.chars().count() + 1);
        prop_assert!(!problem.to_string().chars().any(|c| c.is_control() && c != '\n'), "{problem:?}");
    }
    Ok(())
}
