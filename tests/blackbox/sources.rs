//! Mesh documents from etcd and from web servers: a fleet follows them, survives their absence, and believes only publishers.

mod web;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use adit_tests::documents::{Document, delegate, publish_in};
use adit_tests::etcd::{self, Cluster};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, Place, Service, binary, eventually, scratch, tests};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::web::a_document_on_a_web_server_is_fetched_when_it_changes_and_no_other_answer_is_taken;

const PREFIX: &str = "/adit/lab/";
const HEAD: &str = "/adit/lab/head";

pub(crate) fn tests() -> Vec<Test> {
    tests![new:
        a_fleet_follows_what_is_published_through_etcd_and_outlives_it,
        nothing_that_is_written_into_etcd_changes_a_node_but_what_a_publisher_has_signed,
        a_cluster_that_asks_who_is_there_carries_a_mesh_of_a_thousand_nodes,
        the_loss_of_a_leader_and_of_all_but_one_member_is_survived,
        a_document_on_a_web_server_is_fetched_when_it_changes_and_no_other_answer_is_taken,
        a_source_that_cannot_be_used_is_told_before_the_agent_starts,
    ]
}

/// Nodes without an address and without a service in common: no two of them are ever linked, so nothing comes by gossip.
fn apart(nodes: &[&str]) -> Result<Mesh> {
    let service = Service::new("app", &nodes[..1], &[]);
    let mesh = nodes.iter().fold(Mesh::builder(nodes), |mesh, node| mesh.without_address(node));
    mesh.agent_lines("[log]\nformat = \"json\"\n").service(service).build()
}

fn text(mesh: &Mesh, nodes: &[&str], remark: &str) -> String {
    let unaddressed: Vec<_> = nodes.iter().map(|&node| node.to_owned()).collect();
    format!("# {remark}\n{}", mesh.document(1, "auto", &unaddressed))
}

fn add(directory: &Path, lines: &str) -> Result<()> {
    let path = directory.join("agent.toml");
    let old = fs::read_to_string(&path)?;
    Ok(fs::write(path, format!("{old}{lines}"))?)
}

/// A directory that belongs to no agent, with what a publisher needs.
fn desk(mesh: &Mesh, source: impl FnOnce(&Path) -> Result<String>) -> Result<PathBuf> {
    let desk = scratch::directory()?;
    fs::copy(mesh.root().join("trust.pem"), desk.join("trust.pem"))?;
    fs::write(desk.join("agent.toml"), "node = \"desk\"\n")?;
    let lines = source(&desk)?;
    add(&desk, &lines)?;
    Ok(desk)
}

fn to_etcd(desk: &Path, publisher: &Path, text: &str) -> Result<Value> {
    publish_in(desk, publisher, text, &["--to", "etcd"])?.success()?.json()
}

fn adit(dir: &Path, arguments: &[&str]) -> Result<binary::Output> {
    let mut command = Place::Here.command(binary::path()?);
    binary::run(command.arg("--dir").arg(dir).args(arguments), binary::BOUND)
}

fn source(agent: &Agent) -> Result<Value> {
    Ok(agent.status()?["sources"][0].clone())
}

fn wait_for_source(agent: &Agent, state: &str, reason: Option<&str>) -> Result<Value> {
    eventually(&format!("the source of {} is {state}: {reason:?}", agent.name()), SOON, || {
        let source = source(agent)?;
        ensure!(source["state"] == state && source["error"]["reason"].as_str() == reason, "{source}");
        Ok(source)
    })
}

fn came(agent: &Agent, version: u64, how: &str) -> Result<()> {
    agent.wait_for_version(version, SOON)?;
    let published = agent.status()?["published"].clone();
    ensure!(published["came"] == how && published["version"] == version, "{published}");
    Ok(())
}

/// Waits for the first signed document: the mesh file of before may say its version as well.
fn becomes_signed(agent: &Agent, how: &str) -> Result<()> {
    eventually(&format!("the mesh of {} is a signed one", agent.name()), SOON, || {
        let status = agent.status()?;
        ensure!(status["published"]["came"] == how, "{} {}", status["published"], status["sources"]);
        Ok(())
    })
}

fn a_fleet_follows_what_is_published_through_etcd_and_outlives_it() -> Result<()> {
    if !etcd::is_here("a_fleet_follows_what_is_published_through_etcd_and_outlives_it") {
        return Ok(());
    }
    let nodes = ["alpha", "beta"];
    let (mesh, mut cluster) = (apart(&nodes)?, Cluster::start(1, true)?);
    let anna = mesh.publisher("anna")?;
    let desk = desk(&mesh, |dir| cluster.source(dir, ""))?;
    for node in nodes {
        add(&mesh.directory(node), &cluster.source(&mesh.directory(node), "poll = \"5s\"\n")?)?;
    }
    let mut agents: Vec<Agent> = nodes.iter().map(|node| mesh.start(node)).collect::<Result<_>>()?;
    for agent in &agents {
        let source = wait_for_source(agent, "in_touch", None)?;
        ensure!(source["mesh_version"].is_null() && source["kind"] == "etcd", "{source}");
        let warnings = agent.status()?["warnings"].to_string();
        ensure!(warnings.contains("has no mesh document") && warnings.contains("--to etcd"), "{warnings}");
        ensure!(agent.metric("adit_mesh_source_up", &[("source", "etcd")])? == 1.0);
    }

    // A key for each node and service.
    let answer = to_etcd(&desk, &anna, &text(&mesh, &nodes, "first"))?;
    ensure!(answer["version"] == 1 && answer["first"] == true && answer["to"]["kind"] == "etcd", "{answer}");
    let keys = cluster.keys(PREFIX)?;
    for of in ["node/alpha/", "node/beta/", "service/app/", "mesh/", "index/", "head"] {
        ensure!(keys.iter().filter(|key| key.starts_with(&format!("{PREFIX}{of}"))).count() == 1, "{of}: {keys:?}");
    }
    // The mesh file that every host had says version 1 as well, and is another text: the signed one counts.
    for agent in &agents {
        becomes_signed(agent, "etcd")?;
        let explained = agent.explain("beta", "app")?;
        ensure!(
            explained["steps"][0]["detail"].as_str().is_some_and(|d| d.contains("from etcd (https://")),
            "{explained}"
        );
        agent.wait_for_log(&["mesh.document", "\"taken\"", "etcd", "anna"], SOON)?;
    }
    ensure!(agents[0].adit(&["status"])?.success()?.stdout.contains("came from etcd"));

    // One that sleeps while versions come and are compacted away.
    agents[1].signal(Signal::STOP)?;
    for remark in ["second", "third"] {
        to_etcd(&desk, &anna, &text(&mesh, &nodes, remark))?;
    }
    cluster.compact()?;
    came(&agents[0], 3, "etcd")?;
    agents[1].signal(Signal::CONT)?;
    came(&agents[1], 3, "etcd")?;
    ensure!(cluster.keys(PREFIX)?.len() < 12, "what no document needs is removed: {:?}", cluster.keys(PREFIX)?);

    // etcd is gone: all goes on, and starts, with the last good document.
    cluster.kill(0)?;
    for agent in &agents {
        let source = wait_for_source(agent, "failing", Some("unreachable"))?;
        ensure!(source["error"]["hint"].as_str().is_some_and(|hint| hint.contains("tried again")), "{source}");
        ensure!(agent.metric("adit_mesh_source_up", &[("source", "etcd")])? == 0.0);
        agent.wait_for_log(&["what is in force stays", "the mesh's source gives nothing"], SOON)?;
    }
    agents[0].kill()?;
    agents[0].restart()?;
    came(&agents[0], 3, "disk")?;
    wait_for_source(&agents[0], "failing", Some("unreachable"))?;
    ensure!(agents[0].metric("adit_mesh_source_failures_total", &[("reason", "unreachable")])? >= 1.0);
    let refused = publish_in(&desk, &anna, &text(&mesh, &nodes, "in vain"), &["--to", "etcd"])?;
    ensure!(refused.code == Some(1) && refused.stdout.contains("cannot be reached"), "{refused:?}");

    // It returns, with another version in it.
    cluster.restart(0)?;
    let answer = to_etcd(&desk, &anna, &text(&mesh, &nodes, "fourth"))?;
    ensure!(answer["version"] == 4, "what could not be published took no version: {answer}");
    for agent in &agents {
        came(agent, 4, "etcd")?;
        let source = wait_for_source(agent, "in_touch", None)?;
        ensure!(source["mesh_version"] == 4 && source["failures"] == 0, "{source}");
    }
    agents[1].wait_for_log(&["source is in touch"], SOON)?;
    Ok(())
}

/// A signed document of another mesh of the same name and of another authority, or of another name: as its etcd would have it.
fn elsewhere(name: &str) -> Result<(PathBuf, PathBuf, String)> {
    let root = scratch::directory()?;
    let mut init = Place::Here.command(binary::path()?);
    init.arg("--dir").arg(&root).args(["init", name, "--node", "alpha=127.0.0.1:1"]);
    binary::run(&mut init, binary::BOUND)?.success()?;
    let bert = delegate(&root, "bert")?;
    let text = fs::read_to_string(root.join("mesh.toml"))?;
    Ok((root, bert, text))
}

fn nothing_that_is_written_into_etcd_changes_a_node_but_what_a_publisher_has_signed() -> Result<()> {
    if !etcd::is_here("nothing_that_is_written_into_etcd_changes_a_node_but_what_a_publisher_has_signed") {
        return Ok(());
    }
    let nodes = ["alpha"];
    let (mesh, cluster) = (apart(&nodes)?, Cluster::start(1, false)?);
    let anna = mesh.publisher("anna")?;
    let desk = desk(&mesh, |dir| cluster.source(dir, ""))?;
    let directory = mesh.directory("alpha");
    add(&directory, &cluster.source(&directory, "poll = \"1s\"\n")?)?;
    let alpha = mesh.start("alpha")?;
    to_etcd(&desk, &anna, &text(&mesh, &nodes, "first"))?;
    becomes_signed(&alpha, "etcd")?;
    let old = cluster.get(HEAD)?;
    to_etcd(&desk, &anna, &text(&mesh, &nodes, "second"))?;
    came(&alpha, 2, "etcd")?;
    let good = cluster.get(HEAD)?;

    let refused = |what: &str, reason: &str| -> Result<()> {
        let source = wait_for_source(&alpha, "failing", Some(reason)).with_context(|| what.to_owned())?;
        ensure!(alpha.status()?["mesh_version"] == 2, "{what}: {source}");
        ensure!(source["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{what}: {source}");
        cluster.set(HEAD, &good)?;
        wait_for_source(&alpha, "in_touch", None).with_context(|| format!("after {what}"))?;
        Ok(())
    };
    let counted = |reason: &str| alpha.metric("adit_refusals_total", &[("layer", "document"), ("reason", reason)]);

    cluster.set(HEAD, &old)?;
    refused("a head that was replaced", "older")?;
    ensure!(counted("older")? >= 1.0);
    cluster.set(HEAD, b"nonsense")?;
    refused("a head that is none", "refused")?;
    ensure!(counted("malformed")? >= 1.0);

    // The signature of another document under this one's text.
    let mut head: Value = serde_json::from_slice(&good)?;
    let other: Value = serde_json::from_slice(&old)?;
    head["index"] = other["index"].clone();
    cluster.set(HEAD, &serde_json::to_vec(&head)?)?;
    refused("the text of another version", "forged")?;
    ensure!(counted("forged")? >= 1.0);

    for (name, reason) in [("lab", "unknown_signer"), ("other", "other_mesh")] {
        let (root, bert, text) = elsewhere(name)?;
        fs::write(root.join("agent.toml"), "node = \"alpha\"\n")?;
        let lines = cluster.source(&root, "prefix = \"/elsewhere/\"\n")?;
        add(&root, &lines)?;
        let file = format!("# {name}\n{text}");
        to_etcd(&root, &bert, &file)?;
        for key in cluster.keys("/elsewhere/")?.iter().filter(|key| !key.ends_with("/head")) {
            cluster.set(&key.replace("/elsewhere/", PREFIX), &cluster.get(key)?)?;
        }
        cluster.set(HEAD, &cluster.get("/elsewhere/head")?)?;
        cluster.remove("/elsewhere/head")?;
        refused(name, reason)?;
        ensure!(counted(reason)? >= 1.0);
    }

    // A piece that is gone, and one that is another: found by whoever has not read it before.
    let piece = |of: &str| -> Result<String> {
        let index: Value = serde_json::from_slice(&good)?;
        let index = format!("{PREFIX}index/{}", index["index"][0].as_str().unwrap_or_default());
        let lines = String::from_utf8(cluster.get(&index)?)?;
        let line = lines.lines().find(|line| line.contains(of)).context("no such piece")?;
        Ok(format!("{PREFIX}{}", line.split_once(' ').context("no key")?.1))
    };
    let (key, fresh) = (piece("node/alpha/")?, scratch::directory()?);
    copy_for_another_start(&directory, &fresh)?;
    let value = cluster.get(&key)?;
    cluster.remove(&key)?;
    let another = Agent::start("alpha", &Place::Here, &fresh, &[])?;
    wait_for_source(&another, "failing", Some("incomplete"))?;
    ensure!(another.status()?["published"].is_null(), "half a document was taken");
    cluster.set(&key, b"[node.alpha]\naddress = \"127.0.0.1:9\"\n")?;
    wait_for_source(&another, "failing", Some("refused"))?;
    cluster.set(&key, &value)?;
    becomes_signed(&another, "etcd")?;
    drop(another);

    // One publish mends whatever there is; the document in force can be put there again as it was signed.
    cluster.set(HEAD, b"nonsense")?;
    let again = alpha.adit(&["publish", "--to", "etcd", "--json"])?.success()?.json()?;
    ensure!(again["version"] == 2, "{again}");
    wait_for_source(&alpha, "in_touch", None)?;
    to_etcd(&desk, &anna, &text(&mesh, &nodes, "third"))?;
    came(&alpha, 3, "etcd")?;
    // What is published past etcd is told, and brought there by the same command.
    let answer = publish_in(alpha.directory(), &anna, &text(&mesh, &nodes, "fourth"), &[])?.success()?.json()?;
    ensure!(answer["version"] == 4 && answer["to"].is_null(), "{answer}");
    eventually("it is told that etcd is behind", SOON, || {
        let warnings = alpha.status()?["warnings"].to_string();
        ensure!(warnings.contains("etcd has version 3 and version 4 is in force"), "{warnings}");
        Ok(())
    })?;
    alpha.adit(&["publish", "--to", "etcd"])?.success()?;
    eventually("etcd has it", SOON, || {
        let source = source(&alpha)?;
        ensure!(source["mesh_version"] == 4, "{source}");
        Ok(())
    })?;
    // Where the agent hears of it from etcd before the command has handed it over, nothing is refused.
    for version in 5..8 {
        let text = text(&mesh, &nodes, &format!("version {version}"));
        let answer = publish_in(alpha.directory(), &anna, &text, &["--to", "etcd"])?.success()?.json()?;
        ensure!(answer["version"] == version && answer["in_force"] == true, "{answer}");
        alpha.wait_for_version(version, SOON)?;
    }
    ensure!(counted("replayed")? == 0.0);
    Ok(())
}

/// The directory of an agent as it was before it had a signed document, for another agent beside it.
fn copy_for_another_start(from: &Path, to: &Path) -> Result<()> {
    for file in ["mesh.toml", "agent.toml", "trust.pem", "node.pem", "node.key"] {
        fs::copy(from.join(file), to.join(file))?;
    }
    Ok(())
}

fn a_cluster_that_asks_who_is_there_carries_a_mesh_of_a_thousand_nodes() -> Result<()> {
    if !etcd::is_here("a_cluster_that_asks_who_is_there_carries_a_mesh_of_a_thousand_nodes") {
        return Ok(());
    }
    let nodes = ["alpha"];
    let (mesh, cluster) = (apart(&nodes)?, Cluster::start(1, false)?);
    let anna = mesh.publisher("anna")?;
    let writer = "user = \"root\"\npassword_file = \"etcd.password\"\n";
    let desk = desk(&mesh, |dir| cluster.source(dir, writer))?;
    etcd::password(&desk, "root")?;
    cluster.ask_who("adit", "right", PREFIX)?;
    let directory = mesh.directory("alpha");
    let reader = "poll = \"1s\"\nuser = \"adit\"\npassword_file = \"etcd.password\"\n";
    add(&directory, &cluster.source(&directory, reader)?)?;
    etcd::password(&directory, "wrong")?;
    let alpha = mesh.start("alpha")?;
    let source = wait_for_source(&alpha, "failing", Some("denied"))?;
    ensure!(!source.to_string().contains("wrong"), "a password is told: {source}");

    // The file is read for each try: no restart is needed.
    etcd::password(&directory, "right")?;
    wait_for_source(&alpha, "in_touch", None)?;

    // More than one request can hold in operations (128) and in bytes (1.5 MiB).
    let mut large = text(&mesh, &nodes, "large");
    for node in 0..1_000 {
        write!(large, "\n# {}\n[node.host-{node}]\n", "x".repeat(1_700))?;
    }
    let answer = to_etcd(&desk, &anna, &large)?;
    ensure!(answer["to"]["keys_written"].as_u64().is_some_and(|keys| keys > 1_000), "{}", answer["to"]);
    becomes_signed(&alpha, "etcd")?;
    // One node more is a few keys more.
    large.push_str("\n[node.one-more]\n");
    let answer = to_etcd(&desk, &anna, &large)?;
    ensure!(answer["to"]["keys_written"].as_u64().is_some_and(|keys| keys <= 6), "{}", answer["to"]);
    came(&alpha, 2, "etcd")?;
    // An agent may read, and no more.
    let denied = alpha.adit(&["publish", "--to", "etcd", "--json"])?;
    ensure!(denied.code == Some(0), "the same document is there, so nothing is written: {denied:?}");
    publish_in(&directory, &anna, &format!("{large}# more\n"), &[])?.success()?;
    let denied = alpha.adit(&["publish", "--to", "etcd", "--json"])?;
    ensure!(denied.code == Some(4) && denied.stdout.contains("permission denied"), "{denied:?}");
    Ok(())
}

fn the_loss_of_a_leader_and_of_all_but_one_member_is_survived() -> Result<()> {
    if !etcd::is_here("the_loss_of_a_leader_and_of_all_but_one_member_is_survived") {
        return Ok(());
    }
    let nodes = ["alpha", "beta"];
    let (mesh, mut cluster) = (apart(&nodes)?, Cluster::start(3, false)?);
    let anna = mesh.publisher("anna")?;
    let desk = desk(&mesh, |dir| cluster.source(dir, ""))?;
    for node in nodes {
        add(&mesh.directory(node), &cluster.source(&mesh.directory(node), "poll = \"2s\"\n")?)?;
    }
    let agents: Vec<Agent> = nodes.iter().map(|node| mesh.start(node)).collect::<Result<_>>()?;
    to_etcd(&desk, &anna, &text(&mesh, &nodes, "first"))?;
    to_etcd(&desk, &anna, &text(&mesh, &nodes, "second"))?;
    agents.iter().try_for_each(|agent| came(agent, 2, "etcd"))?;
    // Each member in turn, so that the leader is among them, and whichever the agents are connected to.
    let mut version = 2;
    for member in 0..3 {
        cluster.kill(member)?;
        version += 1;
        eventually("the others take a document", SOON, || {
            to_etcd(&desk, &anna, &text(&mesh, &nodes, &format!("without member {member}")))
        })?;
        agents.iter().try_for_each(|agent| came(agent, version, "etcd"))?;
        cluster.restart(member)?;
    }
    // One of three has no leader: the last good document stays, and it is told.
    cluster.kill(0)?;
    cluster.kill(1)?;
    for agent in &agents {
        eventually("no leader is told", SOON, || {
            let source = source(agent)?;
            ensure!(source["state"] == "failing", "{source}");
            Ok(())
        })?;
        ensure!(agent.status()?["mesh_version"] == version);
    }
    cluster.restart_all()?;
    to_etcd(&desk, &anna, &text(&mesh, &nodes, "whole again"))?;
    agents.iter().try_for_each(|agent| came(agent, version + 1, "etcd"))
}

fn a_source_that_cannot_be_used_is_told_before_the_agent_starts() -> Result<()> {
    let mesh = apart(&["alpha"])?;
    let anna = mesh.publisher("anna")?;
    let directory = mesh.directory("alpha");
    let path = directory.display().to_string();
    let check = || -> Result<(Value, Option<i32>)> {
        let output = adit(&directory, &["check", "--json"])?;
        Ok((output.json()?, output.code))
    };
    publish_in(&directory, &anna, &text(&mesh, &["alpha"], "first"), &[])?.success()?;
    let (found, code) = check()?;
    ensure!(code == Some(0) && found["signed"]["publisher"] == "anna" && found["sources"] == json!([]), "{found}");
    let about = |found: &Value, file: &str| -> Result<Value> {
        let problems = found["problems"].as_array().context("no problems")?;
        let of_file = |p: &&Value| p["file"] == format!("{path}/{file}") && p["line"] != 12;
        Ok(problems.iter().find(of_file).cloned().unwrap_or_default())
    };
    ensure!(about(&found, "mesh.toml")?.is_null(), "{found}");
    // The mesh file was edited beside the signed document.
    let file = directory.join("mesh.toml");
    let signed = fs::read_to_string(&file)?;
    fs::write(&file, format!("{signed}# mine\n"))?;
    let (found, code) = check()?;
    let problem = about(&found, "mesh.toml")?;
    ensure!(code == Some(0) && problem["severity"] == "warning", "{found}");
    ensure!(
        problem["message"].as_str().is_some_and(|m| m.contains("differs from the signed document in force")),
        "{found}"
    );
    fs::write(&file, signed)?;

    add(&directory, "[source.etcd]\nendpoints = \"https://127.0.0.1:2379\"\nca = \"none.pem\"\n")?;
    let (found, code) = check()?;
    ensure!(code == Some(2) && found["sources"][0]["kind"] == "etcd", "{found}");
    ensure!(about(&found, "none.pem")?["hint"].is_string(), "{found}");
    let told = adit(&directory, &["check"])?;
    ensure!(told.stdout.contains("source: etcd at https://127.0.0.1:2379"), "{told:?}");
    // The agent starts all the same, with what it has.
    let alpha = mesh.start("alpha")?;
    let source = wait_for_source(&alpha, "failing", Some("file"))?;
    ensure!(source["error"]["message"].as_str().is_some_and(|m| m.contains("none.pem")), "{source}");
    ensure!(alpha.status()?["published"]["came"] == "disk");
    let document = Document::of(&fs::read(directory.join("state/published"))?)?;
    ensure!(document.text.starts_with(b"# first\n"));
    Ok(())
}
