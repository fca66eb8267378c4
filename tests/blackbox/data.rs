//! Every byte arrives, whichever way the link runs.

use adit_tests::load::exchange::{receive, send};
use adit_tests::load::{Content, Server, blast, digest_of, many, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::wait::{accept, eventually};
use adit_tests::{Agent, Mesh};
use anyhow::{Context as _, Result, ensure};
use netsim::{Answer, Traffic};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// What a frame, a record, several of them, a buffer, what may go before the answer, or credit ends at, in bytes.
const BORDERS: [u64; 13] =
    [1, 1 << 10, 4 << 10, 16_380, 16 << 10, 16_406, 20_566, 32_760, 64 << 10, 4 * 16_380, 4 * 16_406, 69_784, 4 << 20];
/// What is sent at once in one piece, and answered so, without half of it being taken meanwhile.
const AT_ONCE: u64 = 72_000;

/// A way for a link to run.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    transport: &'static str,
    blocked: Option<Traffic>,
    path: &'static str,
}

const WAYS: [Way; 3] = [
    Way { name: "lanes", transport: "auto", blocked: None, path: "lane" },
    Way { name: "lanes_by_rustls", transport: Mesh::REFERENCE, blocked: None, path: "lane" },
    Way { name: "quic", transport: "quic", blocked: None, path: "quic" },
];

/// Those that are taken because the other is blocked run as these do, and what has to be seen is that they run.
const BLOCKED: [Way; 2] = [
    Way { name: "lanes_with_udp_blocked", transport: "tls", blocked: Some(Traffic::Udp), path: "lane" },
    Way { name: "quic_because_tcp_is_blocked", transport: "auto", blocked: Some(Traffic::Tcp), path: "quic" },
];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for way in WAYS {
        let name = way.name;
        tests.push(Test::in_namespaces(format!("a_gibibyte_crosses_each_way_at_once_over_{name}"), move || {
            bulk(way, GIB)
        }));
        tests.push(Test::in_namespaces(format!("two_thousand_connections_at_once_over_{name}"), move || {
            connections(way, 2000)
        }));
    }
    for way in BLOCKED {
        let name = way.name;
        tests.push(Test::in_namespaces(format!("bulk_and_many_connections_cross_over_{name}"), move || {
            bulk(way, GIB / 16)?;
            connections(way, 200)
        }));
    }
    for reference in ["alpha", "beta"] {
        tests.push(Test::new(format!("{reference}_by_rustls_and_its_peer_understand_each_other"), move || {
            mixed(reference)
        }));
    }
    for transport in Mesh::WAYS {
        tests.push(Test::new(format!("every_size_around_every_border_arrives_over_{transport}"), move || {
            around_borders(transport)
        }));
        tests.push(Test::new(format!("single_bytes_are_not_held_back_over_{transport}"), move || {
            single_bytes(transport)
        }));
        tests
            .push(Test::new(format!("bytes_sent_before_the_target_has_answered_arrive_over_{transport}"), move || {
                early_bytes(transport)
            }));
        tests.push(Test::new(format!("connections_one_after_another_keep_apart_over_{transport}"), move || {
            one_after_another(transport)
        }));
    }
    tests
}

fn linked(way: Way) -> Result<(Mesh, Agent, Agent)> {
    // Two thousand handshakes at once take a busy machine longer than an application would wait.
    let mesh = Mesh::pair(way.transport).agent_lines("[limits]\nconnect = \"60s\"\n").in_namespaces().build()?;
    mesh.block_everywhere(way.blocked.as_slice(), Answer::Silence)?;
    let (alpha, beta, path) = mesh.start_pair()?;
    ensure!(path == way.path, "the link runs by {path}, not by {}", way.path);
    Ok((mesh, alpha, beta))
}

/// One end's records are made by the agent, the other's by rustls.
fn mixed(reference: &str) -> Result<()> {
    let mesh = Mesh::pair(Mesh::OWN).build()?;
    mesh.record_layer(reference, Mesh::REFERENCE)?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    blast(&mesh, &server, 64 << 20)?;
    drop(server);
    let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
    many::echoes(&mesh.place("beta"), mesh.listener("app", "beta"), 200, 64 * 1024)
}

fn bulk(way: Way, bytes: u64) -> Result<()> {
    let (mesh, alpha, beta) = linked(way)?;
    let server = mesh.serve("app", "alpha")?;
    blast(&mesh, &server, bytes)?;
    for agent in [&alpha, &beta] {
        let resident = agent.usage()?.resident;
        ensure!(resident < 256 << 20, "{} holds {} MiB", agent.name(), resident >> 20);
    }
    Ok(())
}

fn connections(way: Way, count: usize) -> Result<()> {
    let (mesh, alpha, _beta) = linked(way)?;
    let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
    many::echoes(&mesh.place("beta"), mesh.listener("app", "beta"), count, 64 * 1024)?;
    eventually("no connection is left", SOON, || {
        let left = alpha.status()?["connections"].clone();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
}

/// As all that a connection carries, both ways at once, and as one of many pieces.
fn around_borders(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    let mut buffer = vec![0; 128 * 1024];
    for size in BORDERS.into_iter().flat_map(|border| border - 1..=border + 1) {
        blast(&mesh, &server, size).with_context(|| format!("all of {size} bytes"))?;
        if size <= AT_ONCE {
            let piece = Content::new(size, size).next(&mut buffer);
            round_trip(&client, &served, piece, SOON).with_context(|| format!("a piece of {size} bytes"))?;
        }
    }
    Ok(())
}

fn single_bytes(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    (0..=255).try_for_each(|byte| round_trip(&client, &served, &[byte], SOON))
}

/// A client that sends much at once and then waits, as most that upload do: the agents hold back what comes before the
/// target has answered, and must go on by themselves when it has.
fn early_bytes(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    for seed in 0..100 {
        let client = mesh.reach("app", "beta")?;
        let received = std::thread::scope(|scope| {
            scope.spawn(|| send(&client, Content::new(seed, MIB)));
            let served = accept(&server, SOON)?;
            receive(&served)
        })?;
        ensure!(received.bytes == MIB && received.digest == digest_of(seed, MIB), "connection {seed}");
    }
    Ok(())
}

/// A lane carries many connections in turn: what one left unread must not reach the next.
fn one_after_another(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    for number in 0..200_u32 {
        let (client, served) = mesh.joined(&server)?;
        round_trip(&client, &served, &number.to_be_bytes(), SOON)?;
        match number % 4 {
            0 => adit_tests::load::abort(client)?,
            1 => adit_tests::load::abort(served)?,
            2 => std::io::Write::write_all(&mut &client, &[0xee; 3000])?,
            _ => {}
        }
    }
    Ok(())
}
