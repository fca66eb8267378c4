//! Lanes whose records the kernel makes, where it has kTLS; elsewhere the agent says that it has not, and makes them itself.

use std::fs;
use std::path::PathBuf;

use adit_tests::load::{Server, blast, many};
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, tests};
use anyhow::{Context as _, Result, ensure};

const MIB: u64 = 1 << 20;
/// Two hundred handshakes at once take a busy machine longer than an application would wait.
const PATIENT: &str = "[limits]\nconnect = \"60s\"\nhandshake = \"60s\"\n";
/// What an agent says that wanted the kernel and cannot have it.
const MISSING: &str = "record layer `ktls` cannot be used";

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![new: lanes_by_the_kernel_carry_every_byte_and_where_it_cannot_the_agent_says_so];
    for node in ["alpha", "beta"] {
        tests.push(Test::new(
            format!("{node}_by_the_kernel_and_its_peer_by_the_agent_understand_each_other"),
            move || mixed(node),
        ));
    }
    tests
}

/// How many connections the kernel has sealed or opened so far where the agent runs: `TlsTxSw` and `TlsRxSw`, or with the help
/// of a network card. `None`: it has no kTLS.
fn by_the_kernel(agent: &Agent) -> Result<Option<[u64; 2]>> {
    let path = PathBuf::from(format!("/proc/{}/net/tls_stat", agent.pid()?));
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path)?;
    let count = |names: [&str; 2]| -> Result<u64> {
        let mut sum = 0;
        for line in text.lines() {
            if let Some((name, number)) = line.split_once(char::is_whitespace)
                && names.contains(&name)
            {
                sum += number.trim().parse::<u64>().with_context(|| line.to_owned())?;
            }
        }
        Ok(sum)
    };
    Ok(Some([count(["TlsTxSw", "TlsTxDevice"])?, count(["TlsRxSw", "TlsRxDevice"])?]))
}

/// An agent that wants the kernel either has it, or says once in its log and in its status that it has not, and what to do. Prints
/// which it is.
#[expect(clippy::print_stdout, reason = "who reads the result should know which way was tested")]
fn has_it_or_says_so(agent: &Agent) -> Result<bool> {
    let status = agent.status()?["warnings"].to_string();
    let lines = agent.log()?.matches(MISSING).count();
    let told = status.contains(MISSING) && status.contains("modprobe tls") && status.contains("CONFIG_TLS");
    // The module may be there and the agent not allowed to use it: then it says so as well.
    let has_it = by_the_kernel(agent)?.is_some_and(|[tx, rx]| tx > 0 && rx > 0);
    if has_it {
        ensure!(!status.contains(MISSING) && lines == 0, "{}: the kernel has it, and it warns: {status}", agent.name());
    } else {
        ensure!(told && lines == 1, "{}: it must warn, once in the log ({lines}): {status}", agent.name());
    }
    let way = if has_it { "by the kernel" } else { "by the agent, since the kernel cannot" };
    println!("{}: {way}", agent.name());
    Ok(has_it)
}

/// Bytes cross both ways and are compared by their hashes, over one long connection and over many short ones.
fn carries(mesh: &Mesh) -> Result<()> {
    let server = mesh.serve("app", "alpha")?;
    blast(mesh, &server, 64 * MIB)?;
    drop(server);
    let _server = Server::echo(&mesh.place("alpha"), mesh.target("app", "alpha"))?;
    many::echoes(&mesh.place("beta"), mesh.listener("app", "beta"), 200, 64 * 1024)
}

fn lanes_by_the_kernel_carry_every_byte_and_where_it_cannot_the_agent_says_so() -> Result<()> {
    let mesh = Mesh::pair(Mesh::KERNEL).agent_lines(PATIENT).build()?;
    let (alpha, beta, path) = mesh.start_pair()?;
    ensure!(path == "lane", "it runs by {path}");
    let before = by_the_kernel(&alpha)?;
    for agent in [&alpha, &beta] {
        has_it_or_says_so(agent)?;
    }
    carries(&mesh)?;
    if has_it_or_says_so(&alpha)? {
        let (before, after) = (before.unwrap_or_default(), by_the_kernel(&alpha)?.unwrap_or_default());
        // Two hundred connections at once need as many lanes, with two ends each; others beside these tests use the kernel too.
        ensure!(after[0] > before[0] + 100 && after[1] > before[1] + 100, "from {before:?} to {after:?}");
    }
    Ok(())
}

fn mixed(node: &str) -> Result<()> {
    let mesh = Mesh::pair(Mesh::OWN).agent_lines(PATIENT).build()?;
    mesh.record_layer(node, Mesh::KERNEL)?;
    let (alpha, beta, _path) = mesh.start_pair()?;
    let (with, without) = if node == "alpha" { (&alpha, &beta) } else { (&beta, &alpha) };
    has_it_or_says_so(with)?;
    ensure!(!without.log()?.contains(MISSING), "{} has not asked for it", without.name());
    carries(&mesh)
}
