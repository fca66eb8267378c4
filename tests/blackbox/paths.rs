//! Which way a link runs, and what is said when there is none.

use std::time::{Duration, Instant};

use adit_tests::load::{Ending, blast};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::wait::eventually;
use adit_tests::{Agent, Mesh, tests};
use anyhow::{Context as _, Result, ensure};
use netsim::{Answer, Traffic};

const BOTH: [Traffic; 2] = [Traffic::Tcp, Traffic::Udp];
/// The connect limit's default, and time to tell the application.
const CONNECT_LIMIT: Duration = Duration::from_secs(14);

pub(crate) fn tests() -> Vec<Test> {
    tests![in_namespaces:
        auto_takes_lanes_where_udp_is_blocked,
        auto_takes_quic_where_tcp_is_rejected,
        auto_takes_lanes_though_the_peer_starts_later,
        quic_works_whole_with_tcp_blocked,
        tls_does_not_fall_back_to_quic,
        both_blocked_is_told_and_heals,
        both_rejected_is_told_apart_from_blocked,
        links_run_over_ipv4_with_three_hosts_on_a_switch,
        congestion_control_follows_the_path_and_the_agent_file,
        the_quic_connection_ends_with_its_last_stream_when_lanes_are_to_be_had,
    ]
}

fn takes(transport: &str, blocked: Traffic, answer: Answer, path: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).in_namespaces().build()?;
    // Where rejections shall reach beta, its own firewall must not keep them out.
    mesh.block("alpha", &[blocked], answer)?;
    if answer == Answer::Silence {
        mesh.block("beta", &[blocked], answer)?;
    }
    let (_alpha, _beta, taken) = mesh.start_pair()?;
    ensure!(taken == path, "it runs by {taken}");
    let server = mesh.serve("app", "alpha")?;
    blast(&mesh, &server, 16 << 20)
}

fn auto_takes_lanes_where_udp_is_blocked() -> Result<()> {
    takes("auto", Traffic::Udp, Answer::Silence, "lane")
}

fn auto_takes_quic_where_tcp_is_rejected() -> Result<()> {
    takes("auto", Traffic::Tcp, Answer::Rejection, "quic")
}

/// While nobody is there, neither way works; that must not decide which way is taken when somebody is.
fn auto_takes_lanes_though_the_peer_starts_later() -> Result<()> {
    let mesh = Mesh::pair("auto").in_namespaces().build()?;
    let beta = mesh.start("beta")?;
    eventually("beta has found nobody", SOON, || {
        ensure!(beta.peer("alpha")?["error"].is_string());
        Ok(())
    })?;
    // Long enough for the back-off to have grown.
    adit_tests::wait::pass(Duration::from_secs(2));
    let _alpha = mesh.start("alpha")?;
    let path = beta.wait_for_link("alpha")?;
    ensure!(path == "lane", "it runs by {path}");
    Ok(())
}

fn quic_works_whole_with_tcp_blocked() -> Result<()> {
    takes("quic", Traffic::Tcp, Answer::Silence, "quic")
}

fn tls_does_not_fall_back_to_quic() -> Result<()> {
    let mesh = Mesh::pair("tls").in_namespaces().build()?;
    mesh.block_everywhere(&[Traffic::Tcp], Answer::Silence)?;
    let (_alpha, beta) = (mesh.start("alpha")?, mesh.start("beta")?);
    let end = mesh.end_of("app", "beta", CONNECT_LIMIT)?;
    ensure!(end == Ending::Reset(0), "{end:?}");
    ensure!(beta.peer("alpha")?["state"] != "up");
    Ok(())
}

/// Waits until beta says that alpha cannot be reached, and returns how it says it.
fn told(beta: &Agent) -> Result<String> {
    eventually("the lost peer is told", CONNECT_LIMIT, || {
        let peer = beta.peer("alpha")?;
        ensure!(peer["state"] != "up", "{peer}");
        Ok(peer["error"].as_str().with_context(|| format!("no error in {peer}"))?.to_owned())
    })
}

fn explains(beta: &Agent) -> Result<()> {
    let explained = beta.explain("beta", "app")?;
    let steps = explained["steps"].as_array().with_context(|| format!("no steps in {explained}"))?;
    ensure!(steps.iter().any(|s| s["ok"] == false), "every step is well: {explained}");
    Ok(())
}

fn both_blocked_is_told_and_heals() -> Result<()> {
    let mesh = Mesh::pair("auto").in_namespaces().build()?;
    mesh.block_everywhere(&BOTH, Answer::Silence)?;
    let (_alpha, beta) = (mesh.start("alpha")?, mesh.start("beta")?);
    let server = mesh.serve("app", "alpha")?;
    let error = told(&beta)?;
    ensure!(error.contains("no answer"), "it should say that nothing comes back: {error}");
    explains(&beta)?;
    let end = mesh.end_of("app", "beta", CONNECT_LIMIT)?;
    ensure!(end == Ending::Reset(0), "the application should be reset, not {end:?}");
    mesh.block_everywhere(&[], Answer::Silence)?;
    let healed = Instant::now();
    let (client, served) = mesh.joined(&server)?;
    adit_tests::load::round_trip(&client, &served, b"back", SOON)?;
    ensure!(healed.elapsed() < Duration::from_secs(4), "back only after {:?}", healed.elapsed());
    Ok(())
}

fn both_rejected_is_told_apart_from_blocked() -> Result<()> {
    let mesh = Mesh::pair("auto").in_namespaces().build()?;
    // At alpha alone: beta's own firewall would keep out the resets that tell it.
    mesh.block("alpha", &BOTH, Answer::Rejection)?;
    let (_alpha, beta) = (mesh.start("alpha")?, mesh.start("beta")?);
    let error = told(&beta)?;
    ensure!(error.contains("refused"), "it should say that the port is refused: {error}");
    explains(&beta)
}

fn links_run_over_ipv4_with_three_hosts_on_a_switch() -> Result<()> {
    let mesh = Mesh::builder(&["alpha", "beta", "gamma"])
        .service(adit_tests::Service::new("app", &["alpha"], &["beta", "gamma"]))
        .in_namespaces()
        .build()?;
    let (_alpha, _beta, _path) = mesh.start_pair()?;
    let gamma = mesh.start("gamma")?;
    gamma.wait_for_link("alpha")?;
    let server = mesh.serve("app", "alpha")?;
    for node in ["beta", "gamma"] {
        let client = mesh.reach("app", node)?;
        let served = adit_tests::wait::accept(&server, SOON)?;
        adit_tests::load::round_trip(&client, &served, node.as_bytes(), SOON)?;
    }
    Ok(())
}

fn congestion_control_follows_the_path_and_the_agent_file() -> Result<()> {
    for (asked, used) in [("auto", &["cubic", "reno"][..]), ("reno", &["reno"]), ("no_such_one", &["system"])] {
        let lines = format!("congestion = \"{asked}\"\nlog.level = \"debug\"\n");
        let mesh = Mesh::pair("tls").agent_lines(&lines).in_namespaces().build()?;
        let (alpha, beta, _path) = mesh.start_pair()?;
        for agent in [&alpha, &beta] {
            eventually("it says what it has chosen", SOON, || {
                let log = agent.log()?;
                let chosen = |name: &&str| log.contains(&format!("congestion={name}"));
                ensure!(used.iter().any(chosen), "{asked}, {}: {log}", agent.name());
                Ok(())
            })?;
            let warned = agent.status()?["warnings"].to_string().contains("`no_such_one` cannot be used");
            ensure!(warned == (asked == "no_such_one"), "{asked}: {}", agent.status()?);
        }
        let server = mesh.serve("app", "alpha")?;
        let (client, served) = mesh.joined(&server)?;
        adit_tests::load::round_trip(&client, &served, b"whatever was chosen", SOON)?;
    }
    Ok(())
}

fn the_quic_connection_ends_with_its_last_stream_when_lanes_are_to_be_had() -> Result<()> {
    const LEFT: &str = "the retired QUIC connection is left";
    const LOST: &str = "QUIC connection lost";
    let mesh = Mesh::pair("auto").agent_lines("log.level = \"debug\"\n").in_namespaces().build()?;
    mesh.block_everywhere(&[Traffic::Tcp], Answer::Silence)?;
    let (alpha, beta, path) = mesh.start_pair()?;
    ensure!(path == "quic", "it runs by {path}");
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    mesh.block_everywhere(&[], Answer::Silence)?;
    for (agent, peer) in [(&alpha, "beta"), (&beta, "alpha")] {
        eventually("the link runs over lanes", 4 * SOON, || {
            let peer = agent.peer(peer)?;
            ensure!(peer["path"] == "lane", "{peer}");
            Ok(())
        })?;
    }
    // What runs over QUIC goes on, beside what is new.
    let (new, new_served) = mesh.joined(&server)?;
    adit_tests::load::round_trip(&new, &new_served, b"new", SOON)?;
    adit_tests::load::round_trip(&client, &served, b"old", SOON)?;
    for agent in [&alpha, &beta] {
        let log = agent.log()?;
        ensure!(!log.contains(LEFT) && !log.contains(LOST), "{}: {log}", agent.name());
    }
    drop((client, served));
    for agent in [&alpha, &beta] {
        eventually("the connection has ended", SOON, || {
            let log = agent.log()?;
            ensure!(log.contains(LEFT) || log.contains(LOST), "{}: {log}", agent.name());
            Ok(())
        })?;
    }
    adit_tests::load::round_trip(&new, &new_served, b"still", SOON)
}
