//! What a change costs in a large mesh.

use std::fmt::Write as _;
use std::time::Instant;

use adit_tests::load::process::say;
use adit_tests::mesh::SOON;
use adit_tests::{Agent, Mesh};
use anyhow::{Context as _, Result, ensure};

use crate::share;

const NODES: usize = 1_000;
const SERVICES: usize = 1_000;
/// Nodes that may reach each service.
const ALLOWED: usize = 10;
const CHANGES: u64 = 30;

/// The mesh of the pair, with as many nodes and services beside it. One service changes with each version.
fn document(mesh: &Mesh, version: u64) -> String {
    let mut text = mesh.document(version, "auto", &[]);
    let name = |n: usize| if n == 0 { "beta".to_owned() } else { format!("host-{n}") };
    for n in 1..NODES - 1 {
        let (high, low) = (n / 250, n % 250 + 1);
        write!(text, "\n[node.host-{n}]\naddress = \"127.200.{high}.{low}:7443\"\n").ok();
    }
    for s in 1..SERVICES {
        let on = name(1 + s % (NODES - 2));
        let allowed: Vec<_> =
            (0..ALLOWED).map(|k| name((s * 7 + k * 13) % (NODES - 1))).filter(|node| *node != on).collect();
        let target = if s == 500 { 10_000 + version } else { 8_000 };
        let port = 20_000 + s;
        write!(text, "\n[service.web-{s}]\non = [\"{on}\"]\nallow = {allowed:?}\ntarget = \"127.0.0.1:{target}\"\n")
            .ok();
        writeln!(text, "listen = \"127.0.0.1:{port}\"").ok();
    }
    text
}

/// Milliseconds that `adit reload` takes, each after another document.
fn changes(mesh: &Mesh, beta: &Agent, first: u64, text: impl Fn(u64) -> String) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for version in first..first + CHANGES {
        mesh.replace_document("beta", &text(version))?;
        let start = Instant::now();
        let told = beta.adit(&["reload", "--json"])?.success()?.json()?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(told["mesh"]["version"] == version, "{told}");
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

pub(crate) fn large() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let tell = |what: &str, took: &[f64]| -> Result<()> {
        let resident = beta.usage()?.resident as f64 / f64::from(1 << 20);
        let [median, most] = [share(took, 0.5), share(took, 1.0)];
        say(&format!("large: {what}: reload p50 {median:.0} ms, {most:.0} ms at most; resident {resident:.1} MiB"));
        Ok(())
    };
    let small = changes(&mesh, &beta, 2, |version| mesh.document(version, "auto", &[]))?;
    tell("2 nodes, 1 service", &small)?;
    let text = document(&mesh, 2 + CHANGES);
    mesh.replace_document("beta", &text)?;
    beta.wait_for_version(2 + CHANGES, SOON)?;
    let services = beta.status()?["services"].as_array().context("no services")?.len();
    let what = format!("{NODES} nodes, {SERVICES} services, {services} of them its own, {} KiB", text.len() >> 10);
    tell(&what, &changes(&mesh, &beta, 3 + CHANGES, |version| document(&mesh, version))?)
}
