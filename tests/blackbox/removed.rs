//! Nodes that are taken out of a signed mesh: their keys are refused for good, and a host with a new key is welcome.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use adit_tests::documents::{publish, publish_in};
use adit_tests::load::{Ending, ending, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, Place, Service, binary, eventually, tests};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

const JSON: &str = "[log]\nformat = \"json\"\n";
/// How soon a connection with a node that goes by a removed key is cut.
const CUT: Duration = Duration::from_secs(5);

pub(crate) fn tests() -> Vec<Test> {
    tests![new:
        the_key_of_a_node_that_was_taken_out_is_refused_and_a_new_one_is_let_in,
        a_node_that_hears_late_that_another_was_taken_out_cuts_it_although_it_is_named_again,
    ]
}

/// Alpha offers, gamma reaches; the authority is beside alpha and beta. Version 2 is in force, signed.
fn signed() -> Result<(Mesh, std::path::PathBuf, [Agent; 3])> {
    let nodes = ["alpha", "beta", "gamma"];
    let mesh =
        Mesh::builder(&nodes).transport("tls").agent_lines(JSON).service(Service::new("app", &["alpha"], &["gamma"]));
    let mesh = mesh.build()?;
    for node in &nodes[..2] {
        symlink(mesh.root().join("ca"), mesh.directory(node).join("ca"))?;
    }
    let agents = [mesh.start("alpha")?, mesh.start("beta")?, mesh.start("gamma")?];
    agents[2].wait_for_link("alpha")?;
    let anna = mesh.publisher("anna")?;
    publish(&agents[0], &anna, &whole(&mesh))?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    agents[1].wait_for_link("alpha")?;
    Ok((mesh, anna, agents))
}

fn whole(mesh: &Mesh) -> String {
    mesh.document(1, "tls", &[])
}

/// The mesh file without gamma, and without the service that gamma reaches.
fn without_gamma(mesh: &Mesh) -> Result<String> {
    let text = mesh.document_of(1, "tls", &[], &[]);
    let at = text.find("[node.gamma]").context("no gamma")?;
    Ok(text[..at].to_owned())
}

/// Takes gamma out and names it again.
fn out_and_back(mesh: &Mesh, from: &Agent, anna: &Path) -> Result<()> {
    publish(from, anna, &without_gamma(mesh)?)?;
    let back = publish_in(from.directory(), anna, &whole(mesh), &[])?.success()?;
    ensure!(back.stderr.contains("gamma") && back.stderr.contains("nobody lets it in"), "{back:?}");
    Ok(())
}

fn the_key_of_a_node_that_was_taken_out_is_refused_and_a_new_one_is_let_in() -> Result<()> {
    let (mesh, anna, agents) = signed()?;
    let [alpha, _beta, gamma] = &agents;
    let server = mesh.serve("app", "alpha")?;
    out_and_back(&mesh, alpha, &anna)?;
    agents[..2].iter().try_for_each(|agent| agent.wait_for_version(4, SOON))?;
    eventually("gamma is refused by its key", SOON * 2, || {
        let refusals = alpha.refusals()?;
        let taken_out = |detail: &str| detail.contains("taken out of the mesh");
        let told = refusals.iter().any(|line| line["detail"].as_str().is_some_and(taken_out));
        ensure!(told, "{refusals:?}");
        Ok(())
    })?;
    ensure!(gamma.peer("alpha")?["state"] != "up");
    // What it is issued for the same key changes nothing.
    let directory = mesh.directory("gamma");
    issue(&mesh, &directory)?;
    let new = mesh.root().join("new");
    issue(&mesh, &new)?;
    for file in ["node.key", "node.pem"] {
        fs::rename(new.join(file), directory.join(file))?;
    }
    gamma.wait_for_link("alpha")?;
    gamma.wait_for_version(4, SOON)?;
    let client = mesh.reach("app", "gamma")?;
    let served = adit_tests::wait::accept(&server, SOON)?;
    round_trip(&client, &served, b"back with a new key", SOON)
}

fn issue(mesh: &Mesh, out: &Path) -> Result<()> {
    let mut command = Place::Here.command(binary::path()?);
    command.arg("--dir").arg(mesh.root()).args(["ca", "issue", "gamma", "--out"]).arg(out);
    binary::run(&mut command, binary::BOUND)?.success().map(drop)
}

fn a_node_that_hears_late_that_another_was_taken_out_cuts_it_although_it_is_named_again() -> Result<()> {
    let (mesh, anna, agents) = signed()?;
    let [alpha, beta, _gamma] = &agents;
    let server = mesh.serve("app", "alpha")?;
    let client = mesh.reach("app", "gamma")?;
    let served = adit_tests::wait::accept(&server, SOON)?;
    round_trip(&client, &served, b"permitted", SOON)?;
    // Alpha hears of neither before both are there.
    alpha.signal(Signal::STOP)?;
    let published = out_and_back(&mesh, beta, &anna);
    alpha.signal(Signal::CONT)?;
    published?;
    alpha.wait_for_version(4, SOON)?;
    let end = ending(&client, CUT)?;
    ensure!(matches!(end, Ending::Reset(0)), "{end:?}");
    alpha.wait_for_log(&["gamma", "taken out of the mesh"], SOON)?;
    Ok(())
}
