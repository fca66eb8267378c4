//! A change of the mesh file while the agents run: what is still permitted does not notice, the rest happens at once.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::load::{Ending, Server, ending, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::wait::accept;
use adit_tests::{Agent, Mesh, Service, eventually};
use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

/// How soon after a change of the file all of it is in force.
const AT_ONCE: Duration = Duration::from_secs(1);
const RELOADS: u64 = 20;
const JSON: &str = "[log]\nformat = \"json\"\n";

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for transport in ["tls", "quic"] {
        let mut add = |name: &str, body: fn(&str) -> Result<()>| {
            tests.push(Test::new(format!("{name}_over_{transport}"), move || body(transport)));
        };
        add("long_connections_survive_twenty_reloads_while_services_come_and_go", survive);
        add("a_removed_permit_cuts_its_own_connections_alone_at_once_at_both_ends", cut_at_both_ends);
        add("a_permit_that_one_end_has_removed_cuts_at_the_other_end_too", cut_by_one_end);
        add("a_peers_new_address_is_taken_when_it_answers_and_not_before", new_address);
        add("a_renewed_certificate_is_used_for_new_handshakes_and_cuts_nothing", renewed);
    }
    tests.push(Test::new("a_new_service_works_within_a_second_of_the_change_of_the_file", new_service));
    tests.push(Test::new("a_service_that_is_gone_closes_its_listener_and_cuts_its_connections", gone_service));
    tests.push(Test::new("a_listener_that_cannot_be_opened_fails_its_service_alone_and_is_tried_again", taken_port));
    tests.push(Test::new("what_can_change_live_in_the_agent_file_does_and_the_rest_is_told", agent_file));
    tests
}

/// Alpha offers all, and beta reaches them; gamma reaches `app` as well.
fn mesh(transport: &str) -> Result<Mesh> {
    let builder = Mesh::builder(&["alpha", "beta", "gamma"]).transport(transport).agent_lines(JSON);
    let builder = builder.service(app(&["beta", "gamma"]));
    ["one", "two", "three"].into_iter().fold(builder, |b, name| b.service(extra(name))).build()
}

fn app(allow: &[&str]) -> Service {
    Service::new("app", &["alpha"], allow)
}

fn extra(name: &str) -> Service {
    Service::new(name, &["alpha"], &["beta"])
}

fn start(mesh: &Mesh) -> Result<[Agent; 3]> {
    let agents = [mesh.start("alpha")?, mesh.start("beta")?, mesh.start("gamma")?];
    agents[1].wait_for_link("alpha")?;
    agents[2].wait_for_link("alpha")?;
    Ok(agents)
}

/// Both ends of a connection to a service: client first.
fn joined(mesh: &Mesh, server: &TcpListener, service: &str, node: &str) -> Result<(TcpStream, TcpStream)> {
    let client = mesh.reach(service, node)?;
    let served = accept(server, SOON).context("the connection does not arrive at the target")?;
    served.set_nodelay(true)?;
    round_trip(&client, &served, b"hello", SOON)?;
    Ok((client, served))
}

fn survive(transport: &str) -> Result<()> {
    let mesh = mesh(transport)?;
    let agents = start(&mesh)?;
    let server = mesh.serve("app", "alpha")?;
    let extras = ["one", "two", "three"];
    let _echoes = extras.map(|name| Server::echo(&mesh.place("alpha"), mesh.target(name, "alpha")));
    let busy = [joined(&mesh, &server, "app", "beta")?, joined(&mesh, &server, "app", "gamma")?];
    let quiet = joined(&mesh, &server, "app", "beta")?;
    let pids = agents.each_ref().map(Agent::pid);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let loads = busy.each_ref().map(|(client, served)| {
            let over = &over;
            scope.spawn(move || {
                let mut rounds = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    let bytes: Vec<u8> =
                        (0..2_048).flat_map(|at: u64| (at ^ rounds.rotate_left(7)).to_le_bytes()).collect();
                    round_trip(client, served, &bytes, SOON).with_context(|| format!("round {rounds}"))?;
                    rounds += 1;
                }
                Ok::<_, anyhow::Error>(rounds)
            })
        });
        let reloads = (2..2 + RELOADS).try_for_each(|version| {
            // Other services each time, sometimes none.
            let services: Vec<_> = extras.iter().zip(0..).filter(|(_, bit)| version >> bit & 1 == 1).collect();
            let mut all = vec![app(&["beta", "gamma"])];
            all.extend(services.iter().map(|(name, _)| extra(name)));
            mesh.replace_documents(&mesh.document_of(version, transport, &[], &all))?;
            agents.iter().try_for_each(|agent| agent.wait_for_version(version, SOON))?;
            for (name, bit) in extras.iter().zip(0..) {
                let reached = mesh.reach(name, "beta").map(|client| echoes(&client)).and_then(|echo| echo);
                ensure!(reached.is_ok() == (version >> bit & 1 == 1), "version {version}: {name}: {reached:?}");
            }
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        for load in loads {
            let rounds = load.join().map_err(|_| anyhow!("the load panicked"))??;
            ensure!(rounds > RELOADS, "only {rounds} rounds");
        }
        reloads
    })?;
    round_trip(&quiet.0, &quiet.1, b"and the one that said nothing", SOON)?;
    for (agent, pid) in agents.iter().zip(pids) {
        ensure!(agent.pid()? == pid?, "another process");
        let status = agent.status()?;
        ensure!(status["epochs"]["mesh"] == 1 + RELOADS, "{}", status["epochs"]);
        ensure!(status["config"]["loaded_digest"] == status["config"]["on_disk_digest"], "{}", status["config"]);
        let cut = events(agent, "connection.cut")?;
        ensure!(cut.is_empty(), "{cut:?}");
    }
    Ok(())
}

fn echoes(mut client: &TcpStream) -> Result<()> {
    client.write_all(b"echo")?;
    ensure!(adit_tests::load::read_some(client, 4, SOON)? == b"echo");
    Ok(())
}

fn events(agent: &Agent, event: &str) -> Result<Vec<Value>> {
    let log = agent.log()?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["target"] == "audit" && line["event"] == event).collect())
}

fn is_reset(stream: &TcpStream, since: Instant) -> Result<()> {
    let end = ending(stream, SOON)?;
    ensure!(matches!(end, Ending::Reset(_)), "{end:?}");
    ensure!(since.elapsed() <= AT_ONCE, "only {:?} after the change", since.elapsed());
    Ok(())
}

fn cut_at_both_ends(transport: &str) -> Result<()> {
    let mesh = mesh(transport)?;
    let agents = start(&mesh)?;
    let (server, other) = (mesh.serve("app", "alpha")?, mesh.serve("one", "alpha")?);
    let cut = joined(&mesh, &server, "app", "beta")?;
    let stay = [joined(&mesh, &server, "app", "gamma")?, joined(&mesh, &other, "one", "beta")?];
    let services = [app(&["gamma"]), extra("one")];
    let since = Instant::now();
    mesh.replace_documents(&mesh.document_of(2, transport, &[], &services))?;
    is_reset(&cut.0, since).context("at the client")?;
    is_reset(&cut.1, since).context("at the target")?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    for (client, served) in &stay {
        round_trip(client, served, b"untouched", SOON)?;
    }
    let mut rules = 0;
    for agent in &agents[..2] {
        agent.wait_for_log(&["\"connection.close\"", "permit_withdrawn"], SOON)?;
        // The end that was first has cut it, and the other may have found it gone.
        for one in events(agent, "connection.cut")? {
            ensure!(one["rule"] == "beta" && one["from"] == "beta" && one["to"] == "alpha", "{one}");
            ensure!(
                one["service"] == "app" && one["reason"] == "permit_withdrawn" && one["mesh_version"] == 2,
                "{one}"
            );
            rules += 1;
        }
        let closed = events(agent, "connection.close")?;
        ensure!(closed.iter().any(|line| line["reason"] == "permit_withdrawn"), "{}: {closed:?}", agent.name());
    }
    ensure!((1..=2).contains(&rules), "{rules} events name the rule");
    ensure!(events(&agents[2], "connection.cut")?.is_empty());
    // Beta may not open another, and has no listener for it either.
    let refused = mesh.reach("app", "beta");
    ensure!(refused.is_err(), "it is still listened for");
    Ok(())
}

fn cut_by_one_end(transport: &str) -> Result<()> {
    for changed in ["alpha", "beta"] {
        let mesh = mesh(transport)?;
        let agents = start(&mesh)?;
        let server = mesh.serve("app", "alpha")?;
        let cut = joined(&mesh, &server, "app", "beta")?;
        let (here, there) = if changed == "alpha" { (0, 1) } else { (1, 0) };
        let stays = joined(&mesh, &server, "app", "gamma")?;
        let since = Instant::now();
        mesh.replace_document(changed, &mesh.document_of(2, transport, &[], &[app(&["gamma"]), extra("one")]))?;
        is_reset(&cut.0, since).with_context(|| format!("at the client, by {changed}"))?;
        is_reset(&cut.1, since).with_context(|| format!("at the target, by {changed}"))?;
        round_trip(&stays.0, &stays.1, b"untouched", SOON)?;
        let told = agents[here].wait_for_log(&["\"connection.cut\"", "\"app\""], SOON)?;
        let told: Value = serde_json::from_str(&told)?;
        ensure!(told["rule"] == "beta" && told["from"] == "beta" && told["to"] == "alpha", "{told}");
        agents[there].wait_for_log(&["\"connection.close\"", "permit_withdrawn"], SOON)?;
        ensure!(events(&agents[there], "connection.cut")?.is_empty());
    }
    Ok(())
}

fn new_service() -> Result<()> {
    let mesh = mesh("auto")?;
    let few = [app(&["beta", "gamma"])];
    mesh.replace_documents(&mesh.document_of(1, "auto", &[], &few))?;
    let agents = start(&mesh)?;
    let _echo = Server::echo(&mesh.place("alpha"), mesh.target("one", "alpha"))?;
    ensure!(mesh.reach("one", "beta").is_err(), "it is there too early");
    let since = Instant::now();
    mesh.replace_documents(&mesh.document_of(2, "auto", &[], &[app(&["beta", "gamma"]), extra("one")]))?;
    eventually("the new service works", AT_ONCE, || echoes(&mesh.reach("one", "beta")?))?;
    ensure!(since.elapsed() <= AT_ONCE, "only {:?} after the change", since.elapsed());
    let told = agents[1].wait_for_log(&["\"mesh.reload\""], SOON)?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(told["result"] == "applied" && told["old_version"] == 1 && told["version"] == 2, "{told}");
    ensure!(agents[1].metric("adit_mesh_version", &[])? == 2.0);
    ensure!(agents[1].metric("adit_mesh_reloads_total", &[("result", "applied")])? == 1.0);
    Ok(())
}

fn gone_service() -> Result<()> {
    let mesh = mesh("auto")?;
    let agents = start(&mesh)?;
    let server = mesh.serve("one", "alpha")?;
    let cut = joined(&mesh, &server, "one", "beta")?;
    let since = Instant::now();
    mesh.replace_documents(&mesh.document_of(2, "auto", &[], &[app(&["gamma"])]))?;
    is_reset(&cut.0, since)?;
    is_reset(&cut.1, since)?;
    agents.iter().try_for_each(|agent| agent.wait_for_version(2, SOON))?;
    ensure!(mesh.reach("one", "beta").is_err(), "its listener is open");
    // No service joins alpha and beta any more.
    for (agent, peer) in [(&agents[0], "beta"), (&agents[1], "alpha")] {
        eventually("the link has ended", SOON, || {
            let status = agent.status()?;
            let peers = status["peers"].as_array().context("no peers")?;
            // One that came once more before it had the new file is remembered as idle.
            ensure!(!peers.iter().any(|p| p["node"] == peer && p["state"] != "idle"), "{}: {peers:?}", agent.name());
            Ok(())
        })?;
        let down = agent.wait_for_log(&["\"link.down\"", &format!("\"{peer}\"")], SOON)?;
        ensure!(down.contains("no_business") || down.contains("\"bye\""), "{down}");
    }
    mesh.replace_documents(&mesh.document_of(3, "auto", &[], &[app(&["gamma"]), extra("one")]))?;
    agents[1].wait_for_version(3, SOON)?;
    agents[0].wait_for_version(3, SOON)?;
    joined(&mesh, &server, "one", "beta").context("it is back")?;
    Ok(())
}

fn taken_port() -> Result<()> {
    let mesh = mesh("auto")?;
    mesh.replace_documents(&mesh.document_of(1, "auto", &[], &[app(&["beta", "gamma"])]))?;
    let agents = start(&mesh)?;
    let _echo = Server::echo(&mesh.place("alpha"), mesh.target("one", "alpha"))?;
    let _other = Server::echo(&mesh.place("alpha"), mesh.target("two", "alpha"))?;
    let taken = mesh.place("beta").listen(mesh.listener("one", "beta"))?;
    mesh.replace_documents(&mesh.document_of(2, "auto", &[], &[app(&["beta", "gamma"]), extra("one"), extra("two")]))?;
    agents[0].wait_for_version(2, SOON)?;
    agents[1].wait_for_version(2, SOON)?;
    let service = |name: &str| -> Result<Value> {
        let status = agents[1].status()?;
        let services = status["services"].as_array().context("no services")?;
        services.iter().find(|s| s["name"] == name).cloned().with_context(|| format!("no {name}"))
    };
    ensure!(service("one")?["state"] == "failed" && service("two")?["state"] == "ready", "{}", agents[1].status()?);
    agents[1].wait_for_log(&["cannot listen", "one"], SOON)?;
    echoes(&mesh.reach("two", "beta")?)?;
    let told = agents[1].adit(&["reload", "--json"])?;
    ensure!(told.code == Some(1) && told.json()?["listeners"]["failed"][0]["service"] == "one", "{told:?}");
    drop(taken);
    eventually("it is listened for at last", SOON, || {
        ensure!(service("one")?["state"] == "ready", "{}", service("one")?);
        echoes(&mesh.reach("one", "beta")?)
    })
}

fn agent_file() -> Result<()> {
    let mesh = mesh("auto")?;
    let agents = start(&mesh)?;
    let server = mesh.serve("app", "alpha")?;
    let old = joined(&mesh, &server, "app", "beta")?;
    let path = mesh.directory("beta").join("agent.toml");
    let text = std::fs::read_to_string(&path)?;
    let more = "[limits]\nidle = \"1s\"\nconnections = 9000\n";
    std::fs::write(&path, format!("metrics = \"127.0.0.1:1\"\n{text}{more}"))?;
    let told = agents[1].adit(&["reload", "--json"])?.success()?.json()?;
    // The watch may have been first.
    let restart = &told["agent"]["needs_restart"];
    ensure!(restart == &serde_json::json!(["metrics"]), "{told}");
    eventually("status tells of it", SOON, || {
        let warnings = agents[1].status()?["warnings"].to_string();
        ensure!(warnings.contains("restart the agent") && warnings.contains("metrics"), "{warnings}");
        Ok(())
    })?;
    let new = joined(&mesh, &server, "app", "beta")?;
    let end = ending(&new.0, SOON)?;
    ensure!(matches!(end, Ending::Reset(_)), "a new connection is held to the new limit: {end:?}");
    round_trip(&old.0, &old.1, b"an old one to the old", SOON)
}

fn new_address(transport: &str) -> Result<()> {
    // Beta has no address, so it is beta that dials.
    let unaddressed = ["beta".to_owned()];
    let mesh = Mesh::pair(transport).without_address("beta").agent_lines(JSON).build()?;
    let old = mesh.link_address("alpha");
    let new = std::net::SocketAddr::new(old.ip(), old.port() + 1);
    let (alpha, beta, _) = mesh.start_pair()?;
    let agents = [alpha, beta];
    let server = mesh.serve("app", "alpha")?;
    let connection = joined(&mesh, &server, "app", "beta")?;
    // Nobody answers there yet.
    let document =
        |version| mesh.document(version, transport, &unaddressed).replace(&old.to_string(), &new.to_string());
    mesh.replace_document("beta", &document(2))?;
    agents[1].wait_for_version(2, SOON)?;
    eventually("the new address has been tried", SOON, || {
        let peer = agents[1].peer("alpha")?;
        ensure!(peer["error"].as_str().is_some_and(|error| error.contains(&new.to_string())), "{peer}");
        Ok(())
    })?;
    let peer = agents[1].peer("alpha")?;
    ensure!(peer["state"] == "up" && peer["address"] == old.to_string(), "{peer}");
    round_trip(&connection.0, &connection.1, b"over the old one", SOON)?;
    joined(&mesh, &server, "app", "beta").context("a new connection goes over the old one")?;
    // Now alpha listens at both.
    let path = mesh.directory("alpha").join("agent.toml");
    let text = std::fs::read_to_string(&path)?;
    let listen = format!("listen = [\"{old}\", \"{new}\"]");
    std::fs::write(&path, text.replace(&format!("listen = \"{old}\""), &listen))?;
    eventually("the link leads to the new address", SOON * 2, || {
        let peer = agents[1].peer("alpha")?;
        ensure!(peer["state"] == "up" && peer["address"] == new.to_string(), "{peer}");
        Ok(())
    })?;
    round_trip(&connection.0, &connection.1, b"and still the same", SOON)?;
    joined(&mesh, &server, "app", "beta")?;
    ensure!(events(&agents[1], "link.down")?.is_empty(), "the link was down meanwhile");
    Ok(())
}

fn renewed(transport: &str) -> Result<()> {
    let mesh = mesh(transport)?;
    let mut agents = start(&mesh)?;
    let server = mesh.serve("app", "alpha")?;
    let connection = joined(&mesh, &server, "app", "beta")?;
    let before = agents[1].status()?["certificate"]["serial"].clone();
    let directory = mesh.directory("beta");
    let out = directory.to_str().context("a path")?;
    let mut issue = mesh.place("alpha").command(adit_tests::binary::path()?);
    issue.arg("--dir").arg(mesh.root()).args(["ca", "issue", "beta", "--out", out]);
    adit_tests::binary::run(&mut issue, adit_tests::binary::BOUND)?.success()?;
    let after = eventually("the new certificate is in force", SOON, || {
        let status = agents[1].status()?;
        ensure!(status["certificate"]["serial"] != before, "{}", status["certificate"]);
        ensure!(status["epochs"]["identity"] == 2 && status["epochs"]["mesh"] == 1, "{}", status["epochs"]);
        Ok(status["certificate"]["serial"].clone())
    })?;
    agents[1].wait_for_log(&["\"cert.renew\"", after.as_str().context("a serial")?], SOON)?;
    round_trip(&connection.0, &connection.1, b"over what was made before", SOON)?;
    joined(&mesh, &server, "app", "beta")?;
    agents[0].kill()?;
    agents[0].restart()?;
    agents[1].wait_for_link("alpha")?;
    let proven = agents[0].peer("beta")?["certificate"].clone();
    ensure!(proven == after, "alpha was shown {proven}, not {after}");
    joined(&mesh, &server, "app", "beta")?;
    Ok(())
}
