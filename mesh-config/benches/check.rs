//! How long a great mesh file takes to check, to compare and to ask for one node's peers:
//! `cargo bench -p mesh-config`.
#![expect(clippy::print_stdout, reason = "a benchmark's figures are its output")]

use std::fmt::Write as _;
use std::time::Instant;

use mesh_config::{Diff, Mesh, NodeDiff, NodeName};

/// `nodes` nodes and `services` services: a third open to all, a third to a group, a third to a few nodes by name.
fn document(nodes: usize, services: usize, version: u64) -> String {
    let mut text = format!("[mesh]\nname = \"lab\"\nversion = {version}\n");
    for n in 0..nodes {
        let _infallible = writeln!(text, "[node.n{n}]\naddress = \"10.{}.{}.{}:7443\"", n >> 16, n >> 8 & 255, n & 255);
    }
    text.push_str("[group]\n");
    for g in 0..100 {
        let members: Vec<String> = (g..nodes).step_by(100).map(|n| format!("\"n{n}\"")).collect();
        let _infallible = writeln!(text, "g{g} = [{}]", members.join(", "));
    }
    let all: Vec<String> = (0..100).map(|g| format!("\"@g{g}\"")).collect();
    let _infallible = writeln!(text, "all = [{}]", all.join(", "));
    for s in 0..services {
        let allow = match s % 3 {
            0 => "\"@all\"".to_owned(),
            1 => format!("\"@g{}\"", s % 100),
            _ => format!("\"n{}\", \"n{}\"", (s + 1) % nodes, (s + 2) % nodes),
        };
        let _infallible = writeln!(
            text,
            "[service.s{s}]\non = [\"n{}\"]\ntarget = \"127.0.0.1:5432\"\nlisten = \"127.{}.{}.1:5432\"\nallow = [{allow}]",
            s % nodes,
            s >> 8,
            s & 255
        );
    }
    text
}

fn timed<T>(what: &str, work: impl Fn() -> T) -> T {
    let mut best = f64::INFINITY;
    let mut last = None;
    for _ in 0..5 {
        let start = Instant::now();
        last = Some(work());
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{what:<44} {:>9.1} ms", best * 1_000.0);
    last.expect("five runs")
}

/// A line of a document, listeners on one of three ports of one address.
fn share(line: &str) -> String {
    match line.strip_prefix("listen = \"").and_then(|rest| rest.split('.').nth(2)) {
        Some(last) => format!("listen = \"127.0.0.1:{}\"\n", 5_000 + last.len()),
        None => format!("{line}\n"),
    }
}

fn main() {
    let text = document(10_000, 2_000, 1);
    println!("10,000 nodes, 2,000 services, {} KiB; the best of five", text.len() >> 10);
    let checked = timed("check", || Mesh::check(&text, "mesh.toml")).expect("the document checks");
    assert!(checked.warnings.is_empty());
    let old = checked.mesh;
    // The same again, a node more in a group that a third of the services name.
    let new = document(10_001, 2_000, 2);
    let new = Mesh::check(&new, "mesh.toml").expect("the document checks").mesh;
    let same = Mesh::check(&text, "mesh.toml").expect("the document checks").mesh;
    assert!(timed("difference, nothing changed", || Diff::between(&old, &same)).is_empty());
    let diff = timed("difference, a group one node greater", || Diff::between(&old, &new));
    println!("{:<44} {:>9}", "  services with a new permit", diff.permits.len());
    let busy = NodeName::new("n0").expect("a name");
    println!("{:<44} {:>9}", "  peers of an offerer", timed("peers of an offerer", || old.peers_of(&busy)).len());
    let idle = NodeName::new("n9999").expect("a name");
    println!("{:<44} {:>9}", "  peers of a user", timed("peers of a user", || old.peers_of(&idle)).len());
    timed("one node's view of the change", || NodeDiff::between(&old, &new, &busy));
    // All services on three ports: they are compared node by node, and most collide.
    let shared: String = text.lines().map(share).collect();
    let problems = timed("check, all on three ports of one address", || Mesh::check(&shared, "mesh.toml"))
        .expect_err("they collide");
    println!("{:<44} {:>9}", "  problems told", problems.len());
    timed("write", || old.to_toml());
}
