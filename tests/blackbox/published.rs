//! Signed mesh documents: one publish changes every node, and nothing that is not a publisher's changes any.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use adit_tests::documents::{Document, Gossiper, delegate, kept, publish, publish_in};
use adit_tests::mesh::SOON;
use adit_tests::pki::{Authority, Leaf};
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, Place, Service, binary, eventually, scratch, tests};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

const REFUSED: Option<i32> = Some(4);
const JSON: &str = "[log]\nformat = \"json\"\n";

pub(crate) fn tests() -> Vec<Test> {
    tests![new:
        one_publish_changes_three_agents_and_makes_the_mesh_signed,
        one_publish_reaches_ten_agents_over_a_sparse_graph,
        a_node_that_was_down_gets_what_it_missed_and_starts_from_its_own_without_anybody,
        a_local_edit_is_refused_with_the_way_to_do_it_right,
        a_rollback_is_old_content_under_a_new_version,
        what_no_publisher_has_signed_is_refused_counted_and_named,
        only_a_publisher_can_publish,
        without_an_agent_a_publish_waits_in_the_directory,
        two_who_publish_without_each_other_make_a_fork_until_it_is_merged,
        a_document_without_this_node_leaves_it_with_what_it_had,
    ]
}

fn mesh(nodes: &[&str]) -> Result<Mesh> {
    let last = nodes.last().context("no node")?;
    Mesh::builder(nodes).agent_lines(JSON).service(Service::new("app", &nodes[..1], &[last])).build()
}

fn all(mesh: &Mesh, nodes: &[&str]) -> Result<Vec<Agent>> {
    nodes.iter().map(|node| mesh.start(node)).collect()
}

/// A mesh file of these nodes with a comment, so that each is another text.
fn text(mesh: &Mesh, version: u64, remark: &str) -> String {
    format!("# {remark}\n{}", mesh.document(version, "auto", &[]))
}

fn version(answer: &Value) -> Result<u64> {
    answer["version"].as_u64().with_context(|| answer.to_string())
}

fn mesh_file(agent: &Agent) -> Result<String> {
    Ok(fs::read_to_string(agent.directory().join("mesh.toml"))?)
}

fn follows(agent: &Agent) -> Result<()> {
    let text = String::from_utf8(kept(agent.directory())?.text)?;
    eventually("mesh.toml says what is in force", SOON, || {
        ensure!(mesh_file(agent)? == text);
        let config = agent.status()?["config"].clone();
        ensure!(config["loaded_digest"] == config["on_disk_digest"] && config["error"].is_null(), "{config}");
        Ok(())
    })
}

fn one_publish_changes_three_agents_and_makes_the_mesh_signed() -> Result<()> {
    let nodes = ["alpha", "beta", "gamma"];
    let mesh = mesh(&nodes)?;
    let agents = all(&mesh, &nodes)?;
    ensure!(agents[0].status()?["published"].is_null(), "nothing is signed yet");
    agents[2].wait_for_link("alpha")?;
    let anna = mesh.publisher("anna")?;
    let answer = publish(&agents[0], &anna, &text(&mesh, 1, "first"))?;
    ensure!(answer["first"] == true && answer["in_force"] == true && answer["publisher"] == "anna", "{answer}");
    ensure!(version(&answer)? == 2, "the version is raised by itself: {answer}");
    for agent in &agents {
        agent.wait_for_version(2, SOON)?;
        let published = agent.status()?["published"].clone();
        ensure!(published["id"] == answer["id"] && published["publisher"] == "anna", "{published}");
        ensure!(published["forks"].as_array().is_some_and(Vec::is_empty), "{published}");
        follows(agent)?;
    }
    // Beta shares no service with anybody: it has links now, to hand documents on.
    agents[1].wait_for_link("alpha")?;
    agents[1].wait_for_link("gamma")?;
    // Any agent takes the next one.
    let answer = publish(&agents[1], &anna, &text(&mesh, 2, "second"))?;
    ensure!(version(&answer)? == 3 && answer["first"] == false, "{answer}");
    agents.iter().try_for_each(|agent| agent.wait_for_version(3, SOON))?;
    agents.iter().try_for_each(follows)?;
    let log = agents[2].adit(&["mesh", "log", "--json"])?.success()?.json()?;
    let listed: Vec<_> = log["documents"].as_array().context("no list")?.iter().map(|d| d["version"].clone()).collect();
    ensure!(listed == [3, 2], "{log}");
    ensure!(log["documents"][0]["state"] == "in_force" && log["documents"][0]["publisher"] == "anna", "{log}");
    let told = agents[2].adit(&["mesh", "log"])?.success()?;
    ensure!(told.stdout.contains("in force") && told.stdout.contains("anna"), "{told:?}");
    let shown = agents[2].adit(&["mesh", "show", "2"])?.success()?;
    ensure!(shown.stdout.starts_with("# first\n"), "{shown:?}");
    agents[2].wait_for_log(&["mesh.document", "\"taken\"", "anna"], SOON)?;
    ensure!(agents[2].metric("adit_mesh_refresh_by_timestamp_seconds", &[])? > 0.0);
    Ok(())
}

fn one_publish_reaches_ten_agents_over_a_sparse_graph() -> Result<()> {
    let names: Vec<String> = (0..10).map(|n| format!("node-{n}")).collect();
    let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
    let mesh = mesh(&nodes)?;
    let anna = mesh.publisher("anna")?;
    // Signed before anything runs, so that all know each other as neighbours.
    publish_in(&mesh.directory(nodes[0]), &anna, &text(&mesh, 1, "first"), &[])?.success()?;
    let agents = all(&mesh, &nodes)?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    eventually("every node has its links", SOON, || {
        let links = |agent: &Agent| -> Result<usize> {
            let peers = agent.status()?["peers"].as_array().cloned().unwrap_or_default();
            Ok(peers.iter().filter(|peer| peer["state"] == "up").count())
        };
        let counts = agents.iter().map(links).collect::<Result<Vec<_>>>()?;
        ensure!(counts.iter().all(|count| *count >= 3), "{counts:?}");
        ensure!(counts.iter().sum::<usize>() <= 10 * 6, "not all with all: {counts:?}");
        Ok(())
    })?;
    let start = Instant::now();
    publish(&agents[4], &anna, &text(&mesh, 2, "second"))?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(3, SOON))?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(5), "only after {took:?}");
    agents.iter().try_for_each(follows)
}

fn a_node_that_was_down_gets_what_it_missed_and_starts_from_its_own_without_anybody() -> Result<()> {
    let nodes = ["alpha", "beta", "gamma"];
    let mesh = mesh(&nodes)?;
    let mut agents = all(&mesh, &nodes)?;
    agents[2].wait_for_link("alpha")?;
    let anna = mesh.publisher("anna")?;
    publish(&agents[0], &anna, &text(&mesh, 1, "first"))?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    agents[1].kill()?;
    publish(&agents[0], &anna, &text(&mesh, 2, "second"))?;
    // Whoever publishes before he has heard of the last one makes a fork.
    agents[2].wait_for_version(3, SOON)?;
    publish(&agents[2], &anna, &text(&mesh, 3, "third"))?;
    let start = Instant::now();
    agents[1].restart()?;
    agents[1].wait_for_version(4, SOON)?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(5), "only {took:?} after its start");
    follows(&agents[1])?;
    // One that was cut off and never noticed catches up as well.
    agents[1].signal(Signal::STOP)?;
    publish(&agents[0], &anna, &text(&mesh, 4, "fourth"))?;
    agents[2].wait_for_version(5, SOON)?;
    let start = Instant::now();
    agents[1].signal(Signal::CONT)?;
    agents[1].wait_for_version(5, SOON)?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(2), "only {took:?} after it went on");
    follows(&agents[1])?;
    // With nobody there, and an older mesh file put in its place: the signed one decides.
    agents.iter_mut().try_for_each(Agent::kill)?;
    mesh.replace_document("beta", &mesh.document(1, "auto", &[]))?;
    agents[1].restart()?;
    let status = agents[1].status()?;
    ensure!(status["mesh_version"] == 5 && status["published"]["version"] == 5, "{status}");
    // Nor is there need of one at all.
    agents[1].kill()?;
    fs::remove_file(mesh.directory("beta").join("mesh.toml"))?;
    agents[1].restart()?;
    ensure!(agents[1].status()?["mesh_version"] == 5);
    follows(&agents[1])
}

fn a_local_edit_is_refused_with_the_way_to_do_it_right() -> Result<()> {
    let nodes = ["alpha", "beta"];
    let mesh = mesh(&nodes)?;
    let agents = all(&mesh, &nodes)?;
    agents[1].wait_for_link("alpha")?;
    let anna = mesh.publisher("anna")?;
    publish(&agents[0], &anna, &text(&mesh, 1, "first"))?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    agents.iter().try_for_each(follows)?;
    let alpha = &agents[0];
    let edited = mesh_file(alpha)?.replace("version = 2", "version = 3").replace("# first", "# edited");
    mesh.replace_document("alpha", &edited)?;
    eventually("the edit is refused", SOON, || {
        let error = alpha.status()?["config"]["error"].clone();
        ensure!(error["message"].as_str().is_some_and(|m| m.contains("the mesh is signed")), "{error}");
        ensure!(error["line"] == 4 && error["file"].as_str().is_some_and(|f| f.ends_with("mesh.toml")), "{error}");
        Ok(())
    })?;
    ensure!(alpha.status()?["mesh_version"] == 2, "it was applied all the same");
    ensure!(alpha.metric("adit_mesh_refused", &[])? == 1.0);
    alpha.wait_for_log(&["the mesh is signed", "not applied"], SOON)?;
    let reload = alpha.adit(&["reload"])?;
    ensure!(reload.code == REFUSED && reload.stderr.contains("adit publish"), "{reload:?}");
    // A wrong edit is told at its place.
    mesh.replace_document("alpha", &edited.replace("signed = true", "signed = maybe"))?;
    eventually("the wrong edit is told", SOON, || {
        let error = alpha.status()?["config"]["error"].clone();
        ensure!(error["line"] == 6 && error["column"].is_number(), "{error}");
        Ok(())
    })?;
    // The edit stays while a new version comes, and taking it back ends the matter.
    publish(&agents[1], &anna, &text(&mesh, 2, "second"))?;
    alpha.wait_for_version(3, SOON)?;
    ensure!(mesh_file(alpha)?.contains("maybe"), "somebody's edit was written over");
    let shown = alpha.adit(&["mesh", "show"])?.success()?;
    mesh.replace_document("alpha", &shown.stdout)?;
    follows(alpha)?;
    eventually("nothing is refused any more", SOON, || {
        ensure!(alpha.metric("adit_mesh_refused", &[])? == 0.0);
        Ok(())
    })?;
    // The right way: the directory's own file, published. It then says what was signed.
    mesh.replace_document("alpha", &shown.stdout.replace("# second", "# by the way that is right"))?;
    let file = alpha.directory().join("mesh.toml");
    let publisher = anna.display().to_string();
    let done = alpha.adit(&["publish", &file.display().to_string(), "--yes", "--publisher", &publisher])?.success()?;
    ensure!(done.stdout.contains("published: version 4"), "{done:?}");
    agents.iter().try_for_each(|agent| agent.wait_for_version(4, SOON))?;
    agents.iter().try_for_each(follows)
}

fn a_rollback_is_old_content_under_a_new_version() -> Result<()> {
    let nodes = ["alpha", "beta"];
    let mesh = mesh(&nodes)?;
    let agents = all(&mesh, &nodes)?;
    agents[1].wait_for_link("alpha")?;
    let anna = mesh.publisher("anna")?;
    publish(&agents[0], &anna, &text(&mesh, 1, "good"))?;
    publish(&agents[0], &anna, &text(&mesh, 2, "bad"))?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(3, SOON))?;
    let publisher = anna.display().to_string();
    let rollback = |version: &str| {
        agents[1].adit(&["publish", "--rollback", version, "--yes", "--json", "--publisher", &publisher])
    };
    let unknown = rollback("99")?;
    ensure!(unknown.code == Some(1) && unknown.stdout.contains("these are: 3, 2"), "{unknown:?}");
    let answer = rollback("2")?.success()?.json()?;
    ensure!(version(&answer)? == 4, "{answer}");
    agents.iter().try_for_each(|agent| agent.wait_for_version(4, SOON))?;
    agents.iter().try_for_each(follows)?;
    ensure!(mesh_file(&agents[0])?.starts_with("# good\n"));
    Ok(())
}

/// The document that would come next, signed in a copy of an agent's directory.
fn next_of(agent: &Agent, publisher: &Path, text: &str) -> Result<Document> {
    let copy = scratch::directory()?;
    for file in ["mesh.toml", "trust.pem", "state/published", "state/published.floor"] {
        let to = copy.join(file);
        fs::create_dir_all(to.parent().context("no parent")?)?;
        fs::copy(agent.directory().join(file), to)?;
    }
    publish_in(&copy, publisher, text, &[])?.success()?;
    kept(&copy)
}

fn what_no_publisher_has_signed_is_refused_counted_and_named() -> Result<()> {
    let liars: Vec<String> = (0..7).map(|n| format!("liar-{n}")).collect();
    let mut nodes = vec!["alpha", "beta"];
    nodes.extend(liars.iter().map(String::as_str));
    let authority = Authority::new()?;
    let builder = Mesh::builder(&nodes).agent_lines(JSON).service(Service::new("app", &["alpha"], &["beta"]));
    let mesh = builder.trusting(&authority).build()?;
    let alpha = mesh.start("alpha")?;
    let anna = mesh.publisher("anna")?;
    publish(&alpha, &anna, &text(&mesh, 1, "first"))?;
    alpha.wait_for_version(2, SOON)?;
    let (current, next) = (kept(alpha.directory())?, next_of(&alpha, &anna, &text(&mesh, 2, "next"))?);

    // The same of another authority with the same mesh's name, and of another mesh.
    let elsewhere = |name: &str| -> Result<Document> {
        let root = scratch::directory()?;
        let mut init = Place::Here.command(binary::path()?);
        init.arg("--dir").arg(&root).args(["init", name, "--node", "alpha=127.0.0.1:1"]);
        binary::run(&mut init, binary::BOUND)?.success()?;
        let text = fs::read_to_string(root.join("mesh.toml"))?.replace("version = 1", "version = 3");
        publish_in(&root, &delegate(&root, "anna")?, &text, &[])?.success()?;
        kept(&root)
    };
    let (of_another_root, of_another_mesh) = (elsewhere("lab")?, elsewhere("den")?);
    let node_pem = fs::read_to_string(mesh.directory("beta").join("node.pem"))?;
    let mut node_chain = Vec::new();
    for der in rustls_pki_types::pem::PemObject::pem_slice_iter(node_pem.as_bytes()) {
        let der: rustls_pki_types::CertificateDer<'_> = der.map_err(|e| anyhow::anyhow!("{e:?}"))?;
        node_chain.extend_from_slice(&der);
    }
    let mut forged = next.clone();
    let at = forged.text.iter().position(|b| *b == b'n').context("no n")?;
    forged.text[at] = b'N';
    let by_node = Document { chain: node_chain, ..next.clone() };
    let whole = next.bytes();
    let cut = whole[..whole.len() - 7].to_vec();

    let id = next.id();
    let cases = vec![
        ("forged", id, forged.bytes(), None),
        ("malformed", id, cut, None),
        ("replayed", id, current.bytes(), None),
        ("unknown_signer", of_another_root.id(), of_another_root.bytes(), None),
        ("other_mesh", of_another_mesh.id(), of_another_mesh.bytes(), None),
        ("unauthorised_signer", id, by_node.bytes(), None),
        ("too_large", id, whole[..100].to_vec(), Some(1 << 30)),
    ];
    let mut channels = Vec::new();
    for ((reason, id, bytes, total), liar) in cases.into_iter().zip(&liars) {
        let identity = authority.issue(&Leaf::of(liar))?;
        let to = mesh.place("alpha").connect(mesh.link_address("alpha"), SOON)?;
        let mut channel = Gossiper::dial(to, "alpha.lab", &identity, channels.len() as u64 + 1)?;
        let total = total.unwrap_or(bytes.len() as u64);
        channel.offer(id, 3, &bytes, total).with_context(|| reason.to_owned())?;
        eventually(&format!("it is refused as {reason}"), SOON, || {
            ensure!(alpha.metric("adit_refusals_total", &[("layer", "document"), ("reason", reason)])? == 1.0);
            Ok(())
        })?;
        let told = alpha.refusals()?.into_iter().find(|refusal| refusal["reason"] == reason);
        let told = told.with_context(|| format!("status does not tell {reason}"))?;
        ensure!(told["peer"] == **liar && told["layer"] == "document", "{told}");
        alpha.wait_for_log(&["mesh.document", "\"refused\"", reason, liar], SOON)?;
        let status = alpha.status()?;
        ensure!(status["mesh_version"] == 2 && status["published"]["version"] == 2, "{reason}: {status}");
        channels.push(channel);
    }
    // By the admin socket it is no other, and an older one has nothing to say.
    ensure!(kept(alpha.directory())?.bytes() == current.bytes(), "what is kept is another");
    // Nothing of all this keeps the good one away, whoever brings it.
    let identity = authority.issue(&Leaf::of("beta"))?;
    let to = mesh.place("alpha").connect(mesh.link_address("alpha"), SOON)?;
    let mut honest = Gossiper::dial(to, "alpha.lab", &identity, 77)?;
    honest.offer(id, 3, &whole, whole.len() as u64)?;
    alpha.wait_for_version(3, SOON)
}

fn only_a_publisher_can_publish() -> Result<()> {
    let nodes = ["alpha", "beta"];
    let mesh = mesh(&nodes)?;
    let alpha = mesh.start("alpha")?;
    let anna = mesh.publisher("anna")?;
    let document = text(&mesh, 1, "by a node");
    let none = publish_in(alpha.directory(), Path::new("/nonexistent"), &document, &[])?;
    ensure!(none.code == Some(1), "{none:?}");
    // A node's key and certificate, called a publisher's.
    let node = scratch::directory()?;
    for (from, to) in [("node.key", "publisher.key"), ("node.pem", "publisher.pem")] {
        fs::copy(alpha.directory().join(from), node.join(to))?;
    }
    let refused = publish_in(alpha.directory(), &node, &document, &[])?;
    ensure!(refused.code == REFUSED, "{refused:?}");
    ensure!(refused.json()?["error"]["code"] == "unauthorised_signer", "{refused:?}");
    // A publisher's, called a node's: it does not even start.
    let as_node = mesh.directory("beta");
    for (from, to) in [("publisher.key", "node.key"), ("publisher.pem", "node.pem")] {
        fs::copy(anna.join(from), as_node.join(to))?;
    }
    let mut run = Place::Here.command(binary::path()?);
    let started = binary::run(run.arg("--dir").arg(&as_node).arg("run"), binary::BOUND)?;
    ensure!(started.code == Some(1) && started.stderr.contains("node.pem"), "{started:?}");
    // One of a later generation than the mesh's first.
    let mut later = Place::Here.command(binary::path()?);
    let out = scratch::directory()?;
    later.arg("--dir").arg(mesh.root()).args(["ca", "delegate", "eve", "--generation", "2", "--out"]).arg(&out);
    binary::run(&mut later, binary::BOUND)?.success()?;
    let refused = publish_in(alpha.directory(), &out, &document, &[])?;
    ensure!(refused.code == REFUSED && refused.json()?["error"]["code"] == "other_generation", "{refused:?}");
    // What does not check is told as it always is, and nobody can be asked without a terminal.
    let broken = publish_in(alpha.directory(), &anna, &document.replace("[node.beta]", "[node.BETA]"), &[])?;
    ensure!(broken.code == Some(2) && broken.stdout.contains("BETA"), "{broken:?}");
    let file = alpha.directory().join("to-publish.toml").display().to_string();
    let publisher = anna.display().to_string();
    let unasked = alpha.adit(&["publish", &file, "--publisher", &publisher])?;
    ensure!(unasked.code == Some(2), "{unasked:?}");
    ensure!(alpha.status()?["mesh_version"] == 1 && alpha.status()?["published"].is_null());
    // Then the root opens the next generation, and the first publisher's time is over.
    publish(&alpha, &anna, &document.replace("by a node", "by anna"))?;
    let answer = publish(&alpha, &out, &document.replace("by a node", "by eve"))?;
    ensure!(answer["generation"] == 2 && answer["version"] == 1, "{answer}");
    alpha.wait_for_version(1, SOON)?;
    let over = publish_in(alpha.directory(), &anna, &document, &[])?;
    ensure!(over.code == REFUSED && over.json()?["error"]["code"] == "other_generation", "{over:?}");
    Ok(())
}

fn without_an_agent_a_publish_waits_in_the_directory() -> Result<()> {
    let nodes = ["alpha", "beta"];
    let mesh = mesh(&nodes)?;
    let anna = mesh.publisher("anna")?;
    let alpha = mesh.directory("alpha");
    let answer = publish_in(&alpha, &anna, &text(&mesh, 1, "first"), &[])?.success()?.json()?;
    ensure!(answer["in_force"] == false && answer["version"] == 2, "{answer}");
    let answer = publish_in(&alpha, &anna, &text(&mesh, 1, "second"), &[])?.success()?.json()?;
    ensure!(answer["version"] == 3, "{answer}");
    let agents = all(&mesh, &nodes)?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(3, SOON))?;
    agents.iter().try_for_each(follows)
}

fn two_who_publish_without_each_other_make_a_fork_until_it_is_merged() -> Result<()> {
    let nodes = ["alpha", "beta"];
    let mesh = mesh(&nodes)?;
    let (anna, bert) = (mesh.publisher("anna")?, mesh.publisher("bert")?);
    {
        let agents = all(&mesh, &nodes)?;
        agents[1].wait_for_link("alpha")?;
        publish(&agents[0], &anna, &text(&mesh, 1, "first"))?;
        agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    }
    publish_in(&mesh.directory("alpha"), &anna, &text(&mesh, 3, "by anna"), &[])?.success()?;
    publish_in(&mesh.directory("beta"), &bert, &text(&mesh, 3, "by bert"), &[])?.success()?;
    let agents = all(&mesh, &nodes)?;
    let ids = eventually("both know of both, and agree", SOON, || {
        let published =
            agents.iter().map(|agent| Ok(agent.status()?["published"].clone())).collect::<Result<Vec<_>>>()?;
        ensure!(published[0]["id"] == published[1]["id"] && published[0]["version"] == 3, "{published:?}");
        ensure!(published.iter().all(|p| p["forks"].as_array().is_some_and(|f| f.len() == 1)), "{published:?}");
        Ok(published)
    })?;
    let (winner, loser) = (&ids[0]["publisher"], &ids[0]["forks"][0]["publisher"]);
    ensure!(winner != loser, "{ids:?}");
    for agent in &agents {
        ensure!(agent.metric("adit_mesh_forks", &[])? == 1.0);
        let warnings = agent.status()?["warnings"].to_string();
        ensure!(warnings.contains("fork: version 3"), "{warnings}");
    }
    eventually("the log shows both", SOON, || {
        let log = agents[0].adit(&["mesh", "log", "--json"])?.success()?.json()?;
        let states: Vec<_> = log["documents"].as_array().context("none")?.iter().map(|d| d["state"].clone()).collect();
        ensure!(states == ["in_force", "fork", "earlier"], "{log}");
        Ok(())
    })?;
    publish(&agents[1], &bert, &text(&mesh, 4, "merged"))?;
    for agent in &agents {
        agent.wait_for_version(4, SOON)?;
        eventually("the fork is merged", SOON, || {
            ensure!(agent.metric("adit_mesh_forks", &[])? == 0.0);
            Ok(())
        })?;
    }
    Ok(())
}

fn a_document_without_this_node_leaves_it_with_what_it_had() -> Result<()> {
    let nodes = ["alpha", "beta", "gamma"];
    let mesh = mesh(&nodes)?;
    let agents = all(&mesh, &nodes)?;
    agents[2].wait_for_link("alpha")?;
    let anna = mesh.publisher("anna")?;
    publish(&agents[0], &anna, &text(&mesh, 1, "first"))?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    agents[1].wait_for_link("alpha")?;
    let without = text(&mesh, 2, "without beta");
    let start = without.find("[node.beta]").context("no beta")?;
    let end = without[start..].find("[node.gamma]").context("no gamma")? + start;
    publish(&agents[0], &anna, &format!("{}{}", &without[..start], &without[end..]))?;
    agents[2].wait_for_version(3, SOON)?;
    // It may have lost its links before it was told; then it is told by nobody, and refused by all.
    eventually("alpha has no link to beta any more", SOON, || {
        let peers = agents[0].status()?["peers"].to_string();
        ensure!(!peers.contains("\"beta\""), "{peers}");
        Ok(())
    })?;
    ensure!(agents[1].status()?["mesh_version"] == 2, "beta goes on with what it has");
    Ok(())
}
