use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

const NODES: usize = 4;

fn mesh(text: &str) -> Mesh {
    Mesh::check(text, "mesh.toml").unwrap_or_else(|problems| panic!("{problems:?}\n{text}")).mesh
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn live(id: u64, service: &str, from: &str, to: Option<&str>) -> LiveConnection {
    LiveConnection { id, service: service.parse().unwrap(), from: node(from), to: to.map(node) }
}

const BEFORE: &str = r#"
[mesh]
name = "lab"
version = 1
[node.a]
address = "10.0.0.1:7443"
[node.b]
address = "10.0.0.2:7443"
[node.c]
[group]
some = ["b", "c"]
[service.web]
on = ["a"]
target = "127.0.0.1:80"
listen = "127.0.0.1:8080"
allow = ["@some"]
[service.db]
on = ["a", "c"]
target = "127.0.0.1:5432"
listen = "127.0.0.1:15432"
allow = ["b"]
"#;

/// What changes about the text, and the connections that are cut with the words that say why.
type Row = (&'static str, &'static str, &'static [(u64, &'static str)]);

#[test]
fn a_connection_is_cut_if_the_mesh_no_longer_permits_it_and_for_no_other_reason() {
    let all = [
        live(1, "web", "b", Some("a")),
        live(2, "web", "c", Some("a")),
        live(3, "db", "b", Some("c")),
        live(4, "db", "b", Some("a")),
        live(5, "db", "b", None),
    ];
    let rows: [Row; 9] = [
        ("version = 1", "version = 2", &[]),
        ("allow = [\"@some\"]", "allow = [\"b\", \"c\"]", &[]),
        ("127.0.0.1:8080", "127.0.0.1:8081", &[]),
        ("127.0.0.1:80\"", "127.0.0.1:81\"", &[]),
        ("10.0.0.1", "10.0.0.9", &[]),
        ("some = [\"b\", \"c\"]", "some = [\"b\"]", &[(2, "names `c` any more; it was let in by \"@some\"")]),
        ("allow = [\"b\"]", "allow = []", &[(3, "\"b\""), (4, "\"b\""), (5, "\"b\"")]),
        ("on = [\"a\", \"c\"]", "on = [\"a\"]", &[(3, "`c` does not offer `db` any more")]),
        ("[service.web]", "[service.www]", &[(1, "no service `web` any more"), (2, "no service `web`")]),
    ];
    let old = mesh(BEFORE);
    for (from, to, expected) in rows {
        let new = mesh(&BEFORE.replace(from, to));
        let cut = cuts(&old, &new, &all);
        let told: Vec<_> = cut.iter().map(|cut| (cut.connection.id, cut.because.as_str())).collect();
        assert_eq!(told.len(), expected.len(), "{to}: {told:?}");
        for ((id, because), (wanted, words)) in told.iter().zip(expected) {
            assert!(id == wanted && because.contains(words), "{to}: {told:?}");
        }
        assert_eq!(cuts(&new, &new, &all).len(), cut.len(), "and said again it is the same");
    }
}

#[test]
fn a_connection_with_a_node_that_goes_by_a_removed_key_is_cut_once() {
    let all = [live(1, "web", "b", Some("a")), live(2, "web", "c", None), live(3, "db", "b", Some("c"))];
    let removed = BTreeSet::from([node("c")]);
    let told =
        |cut: &[Cut]| cuts_of_removed(&removed, &all, cut).iter().map(|cut| cut.connection.id).collect::<Vec<_>>();
    assert_eq!(told(&[]), [2, 3]);
    let before = cuts_of_removed(&removed, &all[2..], &[]);
    assert_eq!(told(&before), [2]);
    assert!(before[0].because.contains("`c`") && cuts_of_removed(&BTreeSet::new(), &all, &[]).is_empty());
}

#[test]
fn listeners_and_links_follow_and_a_moved_peer_keeps_its_link() {
    let old = mesh(BEFORE);
    let b = node("b");
    let running = Running { listeners: listeners(&old, &b), connections: Vec::new() };
    assert!(Plan::between(&old, &old, &b, &running).is_empty());
    // The two services exchange their addresses.
    let text = BEFORE.replace("127.0.0.1:8080", "X").replace("127.0.0.1:15432", "127.0.0.1:8080");
    let plan = Plan::between(&old, &mesh(&text.replace('X', "127.0.0.1:15432")), &b, &running);
    assert_eq!(plan.open.len(), 2);
    assert_eq!(plan.close, running.listeners);
    assert_eq!(plan.open["web".parse::<ServiceName>().unwrap().as_str()].port(), 15432);

    let plan = Plan::between(&old, &mesh(&BEFORE.replace("10.0.0.1", "10.0.0.9")), &b, &running);
    assert_eq!(plan.moved, BTreeSet::from([node("a")]));
    assert_eq!((plan.link.len(), plan.unlink.len(), plan.open.len(), plan.close.len()), (0, 0, 0, 0));

    let plan = Plan::between(&old, &mesh(&BEFORE.replace("on = [\"a\", \"c\"]", "on = [\"a\"]")), &b, &running);
    assert_eq!(plan.unlink, BTreeSet::from([node("c")]));
    let plan = Plan::between(&mesh(&BEFORE.replace("on = [\"a\", \"c\"]", "on = [\"a\"]")), &old, &b, &running);
    assert_eq!(plan.link, BTreeSet::from([node("c")]));
}

#[test]
fn a_listener_that_does_not_run_is_opened_whatever_the_mesh_was() {
    let (mesh, b) = (mesh(BEFORE), node("b"));
    let plan = Plan::between(&mesh, &mesh, &b, &Running::default());
    assert_eq!(plan.open, listeners(&mesh, &b), "so one that failed is tried again by any change");
}

/// A random mesh of nodes n0 to n3; n0 is always there.
fn document() -> impl Strategy<Value = String> {
    let some = || subsequence((0..NODES).collect::<Vec<_>>(), 0..=NODES);
    let on = subsequence((0..NODES).collect::<Vec<_>>(), 1..=2);
    let service = (on, some(), any::<bool>(), 0..4_u16, any::<bool>());
    let services = prop::collection::vec(prop::option::weighted(0.7, service), 4);
    let signed = any::<bool>();
    (1..9_u32, signed, prop::collection::vec(any::<bool>(), NODES), some(), 1..3_u8, services).prop_map(
        |(version, signed, there, group, net, services)| {
            let is_there = |n: &usize| *n == 0 || there[*n];
            let names = |nodes: &[usize]| {
                let names = nodes.iter().filter(|n| is_there(n)).map(|n| format!("\"n{n}\""));
                names.collect::<Vec<_>>().join(", ")
            };
            let mut text = format!("[mesh]\nname = \"lab\"\nversion = {version}\nsigned = {signed}\n");
            for n in (0..NODES).filter(is_there) {
                writeln!(text, "[node.n{n}]\naddress = \"10.0.{net}.{n}:7443\"").unwrap();
            }
            writeln!(text, "[group]\ng = [{}]", names(&group)).unwrap();
            // Services of one mesh listen apart from each other; in the next the addresses go round.
            for (s, (on, allow, by_group, port, udp)) in
                services.into_iter().enumerate().filter_map(|(s, x)| Some((s, x?)))
            {
                let on = on.into_iter().map(|n| if is_there(&n) { n } else { 0 }).collect::<BTreeSet<_>>();
                let on = names(&on.into_iter().collect::<Vec<_>>());
                let mut allow = names(&allow);
                if by_group {
                    allow = format!("{allow}{}\"@g\"", if allow.is_empty() { "" } else { ", " });
                }
                let port = 9000 + (u16::try_from(s).unwrap() + 4 * port) % 16;
                writeln!(text, "[service.s{s}]\non = [{on}]\nallow = [{allow}]\ntarget = \"127.0.0.1:80\"").unwrap();
                writeln!(text, "listen = \"127.0.0.1:{port}\"{}", if udp { "\nprotocol = \"udp\"" } else { "" })
                    .unwrap();
            }
            text
        },
    )
}

/// Who may reach what, where `me` has to do with it.
fn allowed(mesh: &Mesh, me: &NodeName) -> BTreeSet<(ServiceName, NodeName)> {
    let all = mesh
        .services()
        .values()
        .flat_map(|service| permitted(Some(service), me).into_iter().map(|node| (service.name().clone(), node)));
    all.collect()
}

/// Every connection that there could be.
fn possible(mesh: &Mesh) -> Vec<LiveConnection> {
    let mut all = Vec::new();
    for service in mesh.services().values() {
        for from in mesh.nodes().keys() {
            for to in service.on().iter().map(Some).chain([None]) {
                all.push(LiveConnection {
                    id: all.len() as u64,
                    service: service.name().clone(),
                    from: from.clone(),
                    to: to.cloned(),
                });
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn reloads_leave_what_a_fresh_start_with_the_last_document_runs(
        documents in prop::collection::vec(document(), 2..6),
    ) {
        let me = node("n0");
        let meshes: Vec<_> = documents.iter().map(|text| mesh(text)).collect();
        let first = &meshes[0];
        let mut running = Running { listeners: listeners(first, &me), connections: Vec::new() };
        let (mut linked, mut permits) = (links(first, &me), allowed(first, &me));
        for pair in meshes.windows(2) {
            let (old, new) = (&pair[0], &pair[1]);
            running.connections = possible(old);
            running.connections.retain(|c| authz::still(old, &c.from, c.to.as_ref(), &c.service).is_ok());
            let plan = Plan::between(old, new, &me, &running);
            running.listeners.retain(|name, _| !plan.close.contains_key(name));
            running.listeners.extend(plan.open.clone());
            linked = linked.difference(&plan.unlink).chain(&plan.link).cloned().collect();
            for (service, Permits { gained, lost }) in &plan.permits {
                lost.iter().for_each(|node| _ = permits.remove(&(service.clone(), node.clone())));
                permits.extend(gained.iter().map(|node| (service.clone(), node.clone())));
            }
            prop_assert_eq!(&running.listeners, &listeners(new, &me));
            prop_assert_eq!(&linked, &links(new, &me));
            prop_assert_eq!(&permits, &allowed(new, &me));
            for connection in &running.connections {
                let cut = plan.cut.iter().any(|cut| cut.connection == *connection);
                let still = authz::still(new, &connection.from, connection.to.as_ref(), &connection.service);
                prop_assert_eq!(cut, still.is_err());
            }
        }
    }
}

#[test]
fn a_signed_mesh_links_neighbours_that_share_no_service() {
    let text = |signed: &str| {
        let nodes: String = ["alpha", "beta", "gamma", "delta"].iter().map(|n| format!("[node.{n}]\n")).collect();
        format!("[mesh]\nname = \"lab\"\nversion = 1\n{signed}\n{nodes}")
    };
    let check = |text: &str| Mesh::check(text, "mesh.toml").unwrap().mesh;
    let (plain, signed) = (check(&text("")), check(&text("signed = true")));
    let me = NodeName::new("alpha").unwrap();
    assert!(links(&plain, &me).is_empty());
    let linked = links(&signed, &me);
    assert!((2..=3).contains(&linked.len()) && !linked.contains(&me), "{linked:?}");
    for other in &linked {
        assert!(links(&signed, other).contains(&me), "{other} would not keep it");
    }
    let plan = Plan::between(&plain, &signed, &me, &Running::default());
    assert_eq!((plan.link, plan.unlink.len()), (linked, 0));
}
