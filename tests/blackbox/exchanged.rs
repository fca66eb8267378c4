//! What is exchanged while the agents run: listeners, roots, certificates. Nobody is restarted, and nobody who connects notices.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use adit_tests::load::{Server, read_some, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::pki::{Authority, Leaf};
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, Service, binary, eventually, hostile, tests};
use anyhow::{Context as _, Result, anyhow, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

const LINES: &str = "[log]\nformat = \"json\"\n[limits]\nlanes_warm = 2\n";
const WARM: u32 = 2;

pub(crate) fn tests() -> Vec<Test> {
    tests![new:
        services_that_exchange_their_listeners_refuse_nobody_and_are_then_reached_at_the_others,
        a_root_and_a_certificate_are_exchanged_on_lanes_made_anew_while_connections_go_on,
        a_certificate_renewed_for_the_same_key_is_what_new_lanes_show_while_connections_go_on,
        a_wrong_agent_file_is_told_by_log_status_and_metrics_until_it_is_mended,
    ]
}

/// Whom a connection to this listener reaches: each service says its name.
fn who(mesh: &Mesh, listener: &str) -> Result<String> {
    let mut client = mesh.reach(listener, "beta")?;
    client.write_all(b"?")?;
    let name = read_some(&client, 3, SOON)?;
    Ok(String::from_utf8(name)?)
}

fn named(mesh: &Mesh, service: &str, name: &'static [u8]) -> Result<Server> {
    Server::start(&mesh.place("alpha"), mesh.target(service, "alpha"), move |mut stream: TcpStream| {
        if read_some(&stream, 1, SOON).is_ok() {
            // Whether it arrives is the client's to notice.
            let _ = stream.write_all(name);
        }
    })
}

fn services_that_exchange_their_listeners_refuse_nobody_and_are_then_reached_at_the_others() -> Result<()> {
    let mesh = Mesh::builder(&["alpha", "beta"]).transport("tls").agent_lines(LINES);
    let mesh = mesh.service(Service::new("one", &["alpha"], &["beta"]));
    let mesh = mesh.service(Service::new("two", &["alpha"], &["beta"])).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let _servers = [named(&mesh, "one", b"one")?, named(&mesh, "two", b"two")?];
    let (one, two) = (mesh.listener("one", "beta").to_string(), mesh.listener("two", "beta").to_string());
    let exchanged = |version: u64| {
        let text = mesh.document(version, "tls", &[]);
        if version % 2 == 1 { text } else { text.replace(&one, "?").replace(&two, &one).replace('?', &two) }
    };
    let over = AtomicBool::new(false);
    let tries = thread::scope(|scope| {
        let clients = ["one", "two"].map(|listener| {
            let (mesh, over) = (&mesh, &over);
            scope.spawn(move || {
                let mut tries = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    let reached = who(mesh, listener).with_context(|| format!("try {tries} at {listener}"))?;
                    ensure!(["one", "two"].contains(&&*reached), "{reached}");
                    tries += 1;
                }
                Ok::<_, anyhow::Error>(tries)
            })
        });
        let changes = (2..=5).try_for_each(|version| {
            mesh.replace_documents(&exchanged(version))?;
            [&alpha, &beta].into_iter().try_for_each(|agent| agent.wait_for_version(version, SOON))?;
            // It is answered when all of the change is done.
            beta.adit(&["reload"])?.success()?;
            let there = if version % 2 == 1 { ["one", "two"] } else { ["two", "one"] };
            for (listener, service) in ["one", "two"].into_iter().zip(there) {
                let reached = who(&mesh, listener)?;
                ensure!(reached == service, "version {version}: {reached} at the listener of {listener}");
            }
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        let tries = clients.map(|client| client.join().map_err(|_| anyhow!("a client panicked"))?);
        changes.map(|()| tries)
    })?;
    for tries in tries {
        let tries = tries?;
        ensure!(tries > 10, "only {tries} tries");
    }
    Ok(())
}

/// Does `change`, and waits until beta has made anew the lanes that it keeps ready.
fn made_anew(beta: &Agent, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let rested = || {
        let lanes = beta.peer("alpha")?["lanes"].clone();
        ensure!(lanes["idle"] == WARM, "{lanes}");
        Ok(())
    };
    let made = || beta.metric("adit_handshakes_total", &[("direction", "out"), ("result", "ok")]);
    eventually("lanes are ready", SOON, rested)?;
    let before = made()?;
    change()?;
    eventually("lanes are made anew", SOON, || {
        let more = made()? - before;
        ensure!(more >= f64::from(WARM), "{more} since then");
        rested()
    })
}

fn put(directory: &Path, name: &str, text: &str) -> Result<()> {
    let new = directory.join("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::metadata(directory.join(name))?.permissions())?;
    Ok(fs::rename(new, directory.join(name))?)
}

fn epoch(agent: &Agent, part: &str, epoch: u64) -> Result<()> {
    eventually(&format!("{part} of epoch {epoch} is in force at {}", agent.name()), SOON, || {
        let status = agent.status()?;
        ensure!(status["epochs"][part].as_u64() >= Some(epoch), "{}: {}", status["epochs"], status["warnings"]);
        Ok(())
    })
}

/// As an operator goes over to another root: all learn the new one, nodes get certificates of it, and the old one is forgotten.
fn a_root_and_a_certificate_are_exchanged_on_lanes_made_anew_while_connections_go_on() -> Result<()> {
    let authority = Authority::new()?;
    let mesh = Mesh::pair("tls").agent_lines(LINES).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let pids = (alpha.pid()?, beta.pid()?);
    let server = mesh.serve("app", "alpha")?;
    let first = mesh.joined(&server)?;
    round_trip(&first.0, &first.1, b"before", SOON)?;
    let (at_alpha, at_beta) = (mesh.directory("alpha"), mesh.directory("beta"));
    let both = fs::read_to_string(at_beta.join("trust.pem"))? + &authority.root_pem();

    made_anew(&beta, || {
        put(&at_beta, "trust.pem", &both)?;
        epoch(&beta, "trust", 2)
    })?;
    beta.wait_for_log(&["other accepted roots are in force"], SOON)?;
    let second = mesh.joined(&server)?;
    round_trip(&second.0, &second.1, b"with two roots", SOON)?;

    let serial = alpha.status()?["certificate"]["serial"].clone();
    let identity = authority.issue(&Leaf::of("alpha"))?;
    made_anew(&beta, || {
        put(&at_alpha, "trust.pem", &both)?;
        put(&at_alpha, "node.key", &identity.key_pem())?;
        put(&at_alpha, "node.pem", identity.chain_pem())?;
        epoch(&alpha, "identity", 2)
    })?;
    ensure!(alpha.status()?["certificate"]["serial"] != serial, "{}", alpha.status()?["certificate"]);
    epoch(&alpha, "trust", 2)?;

    // Only what alpha's new certificate proves counts now.
    made_anew(&beta, || {
        put(&at_beta, "trust.pem", &authority.root_pem())?;
        epoch(&beta, "trust", 3)
    })?;
    let third = mesh.joined(&server)?;
    for (client, served) in [&first, &second, &third] {
        round_trip(client, served, b"untouched", SOON)?;
    }
    ensure!(pids == (alpha.pid()?, beta.pid()?), "another process");
    for agent in [&alpha, &beta] {
        ensure!(!agent.log()?.contains("\"link.down\""), "the link was down meanwhile");
    }
    Ok(())
}

/// What the authority of the mesh has issued.
fn ca(mesh: &Mesh, arguments: &[&str]) -> Result<Value> {
    let mut command = mesh.place("alpha").command(binary::path()?);
    command.arg("--dir").arg(mesh.root()).arg("ca").args(arguments).arg("--json");
    Ok(binary::run(&mut command, binary::BOUND)?.success()?.json()?["certificate"].clone())
}

/// As an operator renews in time: with the key at hand, and then by a request for a key that never leaves its host.
fn a_certificate_renewed_for_the_same_key_is_what_new_lanes_show_while_connections_go_on() -> Result<()> {
    let mesh = Mesh::pair("tls").agent_lines(LINES).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let mut connections = vec![mesh.joined(&server)?];
    let directory = mesh.directory("alpha");
    let file = |name: &str| directory.join(name).display().to_string();
    let key = fs::read_to_string(file("node.key"))?;
    let request = CertificateParams::default().serialize_request(&KeyPair::from_pem(&key)?)?;
    fs::write(file("alpha.csr"), request.pem()?)?;
    let (out, chain, csr) = (directory.display().to_string(), file("node.pem"), file("alpha.csr"));
    let renewals = [
        vec!["issue", "alpha", "--out", &out, "--validity", "2d"],
        vec!["sign", &csr, "--node", "alpha", "--out", &chain, "--validity", "3d"],
    ];
    for (arguments, number) in renewals.iter().zip(2..) {
        let former = alpha.status()?["certificate"].clone();
        let mut issued = Value::Null;
        made_anew(&beta, || {
            issued = ca(&mesh, arguments)?;
            epoch(&alpha, "identity", number)
        })?;
        let own = alpha.status()?["certificate"].clone();
        ensure!(own["serial"] == issued["serial"] && own["serial"] != former["serial"], "{own}, not {issued}");
        let until = |of: &Value| of["not_after"].as_str().and_then(|text| text.get(..19)).map(str::to_owned);
        ensure!(until(&own).is_some() && until(&own) == until(&issued), "{own}, not {issued}");
        let dialled = mesh.place("beta").connect(mesh.link_address("alpha"), SOON)?;
        let shown = hostile::shown(dialled, "alpha.lab", hostile::LANE)?;
        let leaf = CertificateDer::from_pem_slice(&fs::read(&chain)?).map_err(|e| anyhow!("{e:?}"))?;
        ensure!(shown.first() == Some(&leaf), "new lanes show another certificate than node.pem has");
        alpha.wait_for_log(&["\"cert.renew\"", issued["serial"].as_str().context("a serial")?], SOON)?;
        connections.push(mesh.joined(&server)?);
        for (client, served) in &connections {
            round_trip(client, served, b"untouched", SOON)?;
        }
    }
    ensure!(fs::read_to_string(file("node.key"))? == key, "another key");
    for agent in [&alpha, &beta] {
        ensure!(!agent.log()?.contains("\"link.down\""), "the link was down meanwhile");
    }
    Ok(())
}

fn a_wrong_agent_file_is_told_by_log_status_and_metrics_until_it_is_mended() -> Result<()> {
    let mesh = Mesh::pair("tls").agent_lines(LINES).build()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let connection = mesh.joined(&server)?;
    let directory = mesh.directory("beta");
    let good = fs::read_to_string(directory.join("agent.toml"))?;
    put(&directory, "agent.toml", &format!("idel = 1\n{good}"))?;
    beta.wait_for_log(&["not applied", "agent.toml:1:1: ", "idel"], SOON)?;
    let refused = [("part", "agent"), ("code", "document"), ("line", "1"), ("column", "1")];
    eventually("status and metrics say so", SOON, || {
        let warnings = beta.status()?["warnings"].to_string();
        ensure!(warnings.contains("agent.toml:1:1: ") && warnings.contains("idel"), "{warnings}");
        ensure!(beta.metric("adit_config_refused", &refused)? == 1.0);
        Ok(())
    })?;
    ensure!(beta.adit(&["reload"])?.code == Some(2));
    // Of the mesh file it is told beside that.
    mesh.replace_document("beta", "[[[\n")?;
    eventually("both are told", SOON, || {
        ensure!(beta.metric("adit_config_refused", &[("part", "mesh"), ("line", "1")])? == 1.0);
        ensure!(beta.metric("adit_config_refused", &[])? == 2.0);
        Ok(())
    })?;
    put(&directory, "agent.toml", &good)?;
    mesh.replace_document("beta", &mesh.document(2, "tls", &[]))?;
    beta.wait_for_version(2, SOON)?;
    eventually("nothing is told any more", SOON, || {
        let warnings = beta.status()?["warnings"].to_string();
        ensure!(!warnings.contains("agent.toml") && beta.metric("adit_config_refused", &[])? == 0.0, "{warnings}");
        Ok(())
    })?;
    round_trip(&connection.0, &connection.1, b"untouched", SOON)
}
