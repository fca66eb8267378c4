//! What an operator does: ask, drain, try the demo.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use adit_tests::binary;
use adit_tests::load::{Ending, Server, ending, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Mesh, Place, eventually, tests};
use anyhow::{Context as _, Result, ensure};

pub(crate) fn tests() -> Vec<Test> {
    tests![new:
        status_tells_node_links_and_services,
        connections_are_listed_while_they_are_open,
        ping_tells_round_trips,
        bench_tells_throughput,
        explain_goes_step_by_step,
        an_agent_that_does_not_run_is_exit_status_3,
        the_admin_socket_is_its_owners_alone,
        metrics_are_of_this_agent_and_count,
        sigterm_drains_and_ends,
        the_audit_log_tells_the_life_of_a_connection,
        a_node_without_address_reaches_services,
        a_node_without_address_offers_services,
        skew_of_a_peers_clock_is_shown,
        the_demo_carries_bytes_in_ten_seconds,
        the_demo_of_five_nodes_works_too,
    ]
}

fn status_tells_node_links_and_services() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let status = beta.status()?;
    ensure!(status["node"] == "beta" && status["mesh"] == adit_tests::mesh::NAME, "{status}");
    ensure!(status["pid"] == beta.pid()?, "{status}");
    ensure!(status["state"] == "ready" && status["mesh_version"] == 1, "{status}");
    ensure!(status["config"]["error"].is_null(), "{status}");
    ensure!(status["config"]["loaded_digest"] == status["config"]["on_disk_digest"], "{status}");
    ensure!(status["mesh_digest"] == alpha.status()?["mesh_digest"], "{status}");
    ensure!(status["certificate"]["not_after"].as_str().is_some_and(|t| t.ends_with('Z')), "{status}");
    let service = &status["services"][0];
    ensure!(service["name"] == "app" && service["role"] == "reach", "{status}");
    let listen = mesh.listener("app", "beta").to_string();
    ensure!(service["listen"] == listen.as_str(), "{status}");
    // Text for people is not JSON, and says the same.
    let text = beta.adit(&["status"])?.success()?.stdout;
    ensure!(text.contains("alpha") && text.contains("app"), "{text}");
    eventually("a round-trip time", SOON, || {
        let peer = beta.peer("alpha")?;
        ensure!(peer["rtt"].as_f64().is_some_and(|rtt| rtt > 0.0 && rtt < 5.0), "{peer}");
        Ok(())
    })
}

fn connections_are_listed_while_they_are_open() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    round_trip(&client, &served, &[1; 1000], SOON)?;
    let mut traces = Vec::new();
    for agent in [&alpha, &beta] {
        let list = agent.adit(&["connections", "--json"])?.success()?.json_lines()?;
        ensure!(list.len() == 1, "{list:?}");
        let one = &list[0];
        ensure!(one["service"] == "app" && one["from"] == "beta" && one["to"] == "alpha", "{one}");
        ensure!(one["bytes_in"] == 1000 && one["bytes_out"] == 1000, "{one}");
        traces.push(one["trace"].clone());
    }
    ensure!(traces[0].is_string() && traces[0] == traces[1], "not the same at both ends: {traces:?}");
    drop((client, served));
    eventually("no connection is listed", SOON, || {
        let list = beta.adit(&["connections", "--json"])?.success()?.stdout;
        ensure!(list.is_empty(), "{list}");
        Ok(())
    })
}

fn ping_tells_round_trips() -> Result<()> {
    for transport in ["tls", "quic"] {
        let mesh = Mesh::pair(transport).build()?;
        let (_alpha, beta, _) = mesh.start_pair()?;
        let lines = beta.adit(&["ping", "alpha", "-c", "3", "--json"])?.success()?.json_lines()?;
        let summary = lines.last().context("no summary")?;
        ensure!(lines.len() == 4 && summary["sent"] == 3 && summary["received"] == 3, "{lines:?}");
        let [min, avg, max] = ["min", "avg", "max"].map(|k| summary[k].as_f64().unwrap_or(f64::NAN));
        ensure!(0.0 < min && min <= avg && avg <= max && max < 5.0, "{summary}");
        let unknown = beta.adit(&["ping", "nobody", "-c", "1"])?;
        ensure!(unknown.code == Some(1) && unknown.stderr.contains("nobody"), "{unknown:?}");
    }
    Ok(())
}

fn bench_tells_throughput() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    for direction in [&[][..], &["--reverse"]] {
        let arguments = [&["bench", "alpha", "--streams", "2", "--seconds", "1", "--json"][..], direction].concat();
        let bench = beta.adit(&arguments)?.success()?.json()?;
        ensure!(bench["gbit_per_s"].as_f64() > Some(0.01), "{bench}");
        ensure!(bench["bytes"].as_u64() > Some(1_000_000), "{bench}");
    }
    Ok(())
}

fn explain_goes_step_by_step() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let well = beta.explain("beta", "app")?;
    ensure!(well["allowed"] == true, "{well}");
    let steps = well["steps"].as_array().context("no steps")?;
    ensure!(steps.len() >= 3 && steps.iter().all(|s| s["ok"] == true), "{well}");
    // Explaining probes the target; the probe is not for the application below.
    drop(server);
    let no_target = beta.explain("beta", "app")?;
    let steps = no_target["steps"].as_array().context("no steps")?;
    let bad: Vec<_> = steps.iter().filter(|s| s["ok"] == false).collect();
    ensure!(bad.iter().any(|s| s["check"].as_str().is_some_and(|c| c.contains("target"))), "{no_target}");
    let unknown = beta.adit(&["explain", "beta", "nothing"])?;
    ensure!(unknown.code != Some(0) && unknown.stderr.contains("nothing"), "{unknown:?}");
    Ok(())
}

fn an_agent_that_does_not_run_is_exit_status_3() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let mut alpha = mesh.start("alpha")?;
    alpha.kill()?;
    for arguments in [&["status"][..], &["connections"], &["ping", "beta"], &["explain", "beta", "app"]] {
        let output = alpha.adit(arguments)?;
        ensure!(output.code == Some(3) && output.stderr.contains("adit run"), "{arguments:?}: {output:?}");
        let output = alpha.adit(&[arguments, &["--json"]].concat())?;
        ensure!(output.code == Some(3) && output.json()?["error"]["hint"].is_string(), "{arguments:?}: {output:?}");
    }
    Ok(())
}

fn the_admin_socket_is_its_owners_alone() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let alpha = mesh.start("alpha")?;
    let mode = fs::metadata(alpha.directory().join("adit.sock"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    Ok(())
}

fn metrics_are_of_this_agent_and_count() -> Result<()> {
    let mesh = Mesh::pair("tls").build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    for _ in 0..3 {
        let (client, served) = mesh.joined(&server)?;
        round_trip(&client, &served, &[1; 100], SOON)?;
    }
    for agent in [&alpha, &beta] {
        eventually("the connections are counted", SOON, || {
            let opened = agent.metric("adit_connections_opened_total", &[("service", "app")])?;
            let bytes = agent.metric("adit_connection_bytes_total", &[("service", "app")])?;
            ensure!(opened == 3.0 && bytes == 600.0, "{opened} connections, {bytes} bytes");
            ensure!(agent.metric("adit_connections", &[])? == 0.0);
            ensure!(agent.metric("adit_certificate_expiry_timestamp_seconds", &[])? > 1e9);
            ensure!(agent.metric("adit_handshakes_total", &[("result", "ok")])? >= 1.0);
            Ok(())
        })?;
    }
    Ok(())
}

fn sigterm_drains_and_ends() -> Result<()> {
    for transport in ["tls", "quic"] {
        let mesh = Mesh::pair(transport).build()?;
        let (alpha, mut beta, _) = mesh.start_pair()?;
        let server = mesh.serve("app", "alpha")?;
        let (client, served) = mesh.joined(&server)?;
        beta.terminate()?;
        eventually("new connections are refused", SOON, || {
            ensure!(mesh.reach("app", "beta").is_err(), "still accepted");
            Ok(())
        })?;
        // Those that got in before the drain began are over, and the drain does not wait for them.
        server.set_nonblocking(true)?;
        while server.accept().is_ok() {}
        // What is open goes on to its own end.
        round_trip(&client, &served, b"still here", SOON)?;
        drop(client);
        ensure!(ending(&served, SOON)? == Ending::EndOfFile(0));
        drop(served);
        let status = beta.wait(SOON)?;
        ensure!(status.code() == Some(0), "{status}");
        eventually("alpha sees it go", SOON, || {
            let peer = alpha.peer("beta")?;
            ensure!(peer["state"] != "up", "{peer}");
            Ok(())
        })?;
    }
    Ok(())
}

fn the_audit_log_tells_the_life_of_a_connection() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    drop(mesh.joined(&server)?);
    for (agent, peer) in [(&alpha, "beta"), (&beta, "alpha")] {
        agent.wait_for_log(&["audit", "link.up", peer], SOON)?;
        agent.wait_for_log(&["audit", "connection.open", "app"], SOON)?;
        agent.wait_for_log(&["audit", "connection.close", "app"], SOON)?;
    }
    drop(beta);
    alpha.wait_for_log(&["audit", "link.down", "beta"], Duration::from_secs(60))?;
    Ok(())
}

fn a_node_without_address_reaches_services() -> Result<()> {
    let mesh = Mesh::pair("auto").without_address("beta").build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    round_trip(&client, &served, b"hello", SOON)
}

fn a_node_without_address_offers_services() -> Result<()> {
    for transport in ["tls", "quic"] {
        let mesh = Mesh::pair(transport).without_address("alpha").build()?;
        let _agents = mesh.start_pair()?;
        let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
        adit_tests::load::many::echoes(&mesh.place("beta"), mesh.listener("app", "beta"), 20, 10_000)?;
    }
    Ok(())
}

fn skew_of_a_peers_clock_is_shown() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let alpha = mesh.start("alpha")?;
    let ahead = ("ADIT_CLOCK_OFFSET".to_owned(), "100".to_owned());
    let _beta = mesh.start_with("beta", &[ahead])?;
    alpha.wait_for_link("beta")?;
    let peer = alpha.peer("beta")?;
    ensure!(peer["skew"].as_f64().is_some_and(|s| (s - 100.0).abs() < 5.0), "{peer}");
    Ok(())
}

fn the_demo_carries_bytes_in_ten_seconds() -> Result<()> {
    demo(3)
}

fn the_demo_of_five_nodes_works_too() -> Result<()> {
    demo(5)
}

fn demo(nodes: usize) -> Result<()> {
    let mut command = Place::Here.command(binary::path()?);
    command.args(["demo", "--once", "--json", "--nodes", &nodes.to_string()]);
    let output = binary::run(&mut command, Duration::from_secs(30))?.success()?;
    ensure!(output.took < Duration::from_secs(10), "it took {:?}", output.took);
    let document = output.json()?;
    let pairs = document["pairs"].as_array().context("no pairs")?;
    ensure!(pairs.len() == nodes - 1, "{document}");
    for pair in pairs {
        ensure!(pair["bytes"].as_u64() > Some(0), "{pair}");
        ensure!(pair["path"] == "lane" || pair["path"] == "quic", "{pair}");
        ensure!(!pair["peer_certificate"].is_null(), "{pair}");
    }
    let refused = document["refused"].as_array().context("nothing refused")?;
    ensure!(refused.len() >= 2 && refused.iter().all(|r| r["reason"].is_string()), "{document}");
    Ok(())
}
