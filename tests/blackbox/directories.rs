//! Bad directories and bad mesh files: what a person gets is an exit status and a message that says what is wrong, where,
//! and what to do; never a panic, never an agent that runs anyway.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use adit_tests::binary::{self, Output};
use adit_tests::load::round_trip;
use adit_tests::mesh::{LINK_PORT, NAME, SOON};
use adit_tests::pki::{Authority, Leaf};
use adit_tests::suite::Test;
use adit_tests::{Mesh, tests};
use anyhow::{Context as _, Result, ensure};

/// Harm done to a directory, and words of which the message holds each.
type Case = (&'static str, fn(&Mesh, &Path) -> Result<()>, &'static [&'static str]);

const CASES: &[Case] = &[
    ("a_missing_directory", |_, d| Ok(fs::remove_dir_all(d)?), &[]),
    ("a_missing_agent_file", |_, d| remove(d, "agent.toml"), &["agent.toml"]),
    ("a_missing_mesh_file", |_, d| remove(d, "mesh.toml"), &["mesh.toml"]),
    ("missing_roots", |_, d| remove(d, "trust.pem"), &["trust.pem"]),
    ("a_missing_certificate", |_, d| remove(d, "node.pem"), &["node.pem"]),
    ("a_missing_key", |_, d| remove(d, "node.key"), &["node.key"]),
    ("a_key_of_another_node", foreign_key, &["node.key"]),
    ("a_directory_in_place_of_the_key", directory_for_key, &["node.key"]),
    ("a_world_readable_key", |_, d| mode(d, 0o644), &["node.key", "chmod"]),
    ("a_truncated_key", |_, d| truncate(d, "node.key"), &["node.key"]),
    ("a_truncated_certificate", |_, d| truncate(d, "node.pem"), &["node.pem"]),
    ("truncated_roots", |_, d| truncate(d, "trust.pem"), &["trust.pem"]),
    ("empty_roots", |_, d| write(d, "trust.pem", ""), &["trust.pem"]),
    ("binary_in_place_of_the_certificate", |_, d| garbage(d, "node.pem"), &["node.pem"]),
    ("binary_in_place_of_the_key", |_, d| garbage(d, "node.key"), &["node.key"]),
    ("binary_in_place_of_the_agent_file", |_, d| garbage(d, "agent.toml"), &["agent.toml"]),
    ("binary_in_place_of_the_mesh_file", |_, d| garbage(d, "mesh.toml"), &["mesh.toml"]),
    ("a_certificate_of_another_node", other_nodes_identity, &["node.pem"]),
    ("a_node_that_the_mesh_does_not_name", |_, d| write(d, "agent.toml", "node = \"nobody\"\n"), &["nobody"]),
    ("an_unknown_key_in_the_agent_file", |_, d| append(d, "agent.toml", "lisen = 1\n"), &["agent.toml", "lisen"]),
    ("an_address_that_the_host_does_not_have", strange_address, &["203.0.113.7"]),
    ("an_empty_mesh_file", |_, d| write(d, "mesh.toml", ""), &["mesh.toml"]),
    ("a_mesh_file_that_is_not_toml", |_, d| append(d, "mesh.toml", "[[[\n"), &["mesh.toml:"]),
    ("an_unknown_key_in_the_mesh_file", |_, d| append(d, "mesh.toml", "alow = []\n"), &["mesh.toml:", "alow", "allow"]),
    ("an_unknown_node_in_the_mesh_file", |_, d| service(d, "on = [\"alpah\"]"), &["mesh.toml:", "alpah", "alpha"]),
    ("a_service_on_no_node", |_, d| service(d, "on = []"), &["mesh.toml:"]),
    ("two_services_on_one_listener", same_listener, &["mesh.toml:", "9000"]),
    ("a_bad_name", |_, d| append(d, "mesh.toml", "[node.\"UPPER_case\"]\n"), &["mesh.toml:", "UPPER_case"]),
    ("a_bad_address", |_, d| append(d, "mesh.toml", "[node.x]\naddress = \"10.0.0.1:99999\"\n"), &["mesh.toml:"]),
    ("a_cycle_of_groups", cycle, &["mesh.toml:"]),
];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![new:
        a_good_directory_checks,
        an_unreadable_key_is_told,
        a_port_in_use_is_told,
        two_agents_on_one_directory_are_told,
        every_problem_of_a_mesh_file_is_told_at_once,
        unsupported_services_are_refused_by_name,
        a_service_that_cannot_listen_fails_alone,
        wrong_usage_is_exit_status_2,
    ];
    for &(name, harm, words) in CASES {
        tests.push(Test::new(format!("{name}_is_told"), move || told(name, harm, words)));
    }
    tests
}

fn remove(directory: &Path, file: &str) -> Result<()> {
    Ok(fs::remove_file(directory.join(file))?)
}

fn write(directory: &Path, file: &str, content: impl AsRef<[u8]>) -> Result<()> {
    Ok(fs::write(directory.join(file), content)?)
}

fn append(directory: &Path, file: &str, more: &str) -> Result<()> {
    let path = directory.join(file);
    let content = fs::read_to_string(&path)? + more;
    Ok(fs::write(path, content)?)
}

fn truncate(directory: &Path, file: &str) -> Result<()> {
    let content = fs::read(directory.join(file))?;
    write(directory, file, &content[..content.len() * 2 / 3])
}

fn garbage(directory: &Path, file: &str) -> Result<()> {
    let mut buffer = [0; 2048];
    write(directory, file, adit_tests::load::Content::new(9, 2048).next(&mut buffer))
}

fn mode(directory: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(directory.join("node.key"), fs::Permissions::from_mode(mode))?)
}

fn foreign_key(mesh: &Mesh, directory: &Path) -> Result<()> {
    write(directory, "node.key", fs::read(mesh.directory("beta").join("node.key"))?)
}

fn directory_for_key(_: &Mesh, directory: &Path) -> Result<()> {
    remove(directory, "node.key")?;
    Ok(fs::create_dir(directory.join("node.key"))?)
}

fn foreign_certificate(_: &Mesh, directory: &Path) -> Result<()> {
    let identity = Authority::new()?.issue(&Leaf::of("alpha"))?;
    write(directory, "node.pem", identity.chain_pem())?;
    write(directory, "node.key", identity.key_pem())
}

fn other_nodes_identity(mesh: &Mesh, directory: &Path) -> Result<()> {
    for file in ["node.pem", "node.key"] {
        write(directory, file, fs::read(mesh.directory("beta").join(file))?)?;
    }
    Ok(())
}

/// An address of the documentation's network (RFC 5737), which no host has.
fn strange_address(_: &Mesh, directory: &Path) -> Result<()> {
    write(directory, "agent.toml", format!("node = \"alpha\"\nlisten = \"203.0.113.7:{LINK_PORT}\"\n"))
}

fn service(directory: &Path, on: &str) -> Result<()> {
    let more =
        format!("[service.more]\n{on}\ntarget = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:1111\"\nallow = [\"beta\"]\n");
    append(directory, "mesh.toml", &more)
}

fn same_listener(mesh: &Mesh, directory: &Path) -> Result<()> {
    let listen = mesh.listener("app", "beta");
    let more = format!(
        "[service.more]\non = [\"alpha\"]\ntarget = \"127.0.0.1:1\"\nlisten = \"{listen}\"\nallow = [\"beta\"]\n"
    );
    append(directory, "mesh.toml", &more)
}

fn cycle(_: &Mesh, directory: &Path) -> Result<()> {
    append(directory, "mesh.toml", "[group]\none = [\"@two\"]\ntwo = [\"@one\"]\n")
}

/// The bound within which an agent that cannot run says so and ends.
const BOUND: std::time::Duration = std::time::Duration::from_secs(10);

fn run(mesh: &Mesh, directory: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = mesh.place("alpha").command(binary::path()?);
    command.arg("--dir").arg(directory).args(arguments);
    binary::run(&mut command, BOUND)
}

fn told(name: &str, harm: fn(&Mesh, &Path) -> Result<()>, words: &[&str]) -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let directory = mesh.directory("alpha");
    harm(&mesh, &directory)?;
    expect(&mesh, &directory, words)?;
    // `check` finds everything that lies in the files; an address that the host lacks is found when it is used.
    if !matches!(name, "an_address_that_the_host_does_not_have") {
        let checked = run(&mesh, &directory, &["check"])?;
        ensure!(matches!(checked.code, Some(1 | 2)), "check finds no fault: {checked:?}");
        no_panic(&checked)?;
    }
    Ok(())
}

/// Expects `adit run` to end with 1 or 2 and a message that holds every word, as text and as JSON with a hint.
fn expect(mesh: &Mesh, directory: &Path, words: &[&str]) -> Result<()> {
    let output = run(mesh, directory, &["run"])?;
    ensure!(matches!(output.code, Some(1 | 2)), "{output:?}");
    no_panic(&output)?;
    let shown = directory.to_string_lossy();
    for word in words.iter().copied().chain(words.is_empty().then_some(&*shown)) {
        ensure!(output.stderr.contains(word), "the message lacks {word:?}: {output:?}");
    }
    let output = run(mesh, directory, &["run", "--json"])?;
    ensure!(matches!(output.code, Some(1 | 2)), "{output:?}");
    no_panic(&output)?;
    let document = output.json()?;
    let error = &document["error"];
    for field in ["code", "message", "hint"] {
        let text = error[field].as_str().with_context(|| format!("no {field} in {document}"))?;
        ensure!(!text.is_empty(), "an empty {field} in {document}");
    }
    Ok(())
}

fn no_panic(output: &Output) -> Result<()> {
    ensure!(!output.stderr.contains("panicked"), "{output:?}");
    Ok(())
}

fn a_good_directory_checks() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    for node in ["alpha", "beta"] {
        let output = run(&mesh, &mesh.directory(node), &["check", "--json"])?.success()?;
        let document = output.json()?;
        let problems = document["problems"].as_array().context("no problems")?;
        ensure!(!problems.iter().any(|p| p["severity"] == "error"), "{document}");
    }
    Ok(())
}

/// Root reads everything unless it has lost that right, which the child gives up before it becomes adit.
fn an_unreadable_key_is_told() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let directory = mesh.directory("alpha");
    mode(&directory, 0o000)?;
    for arguments in [&["run"][..], &["check"]] {
        let mut command = mesh.place("alpha").command(binary::path()?);
        command.arg("--dir").arg(&directory).args(arguments);
        #[expect(unsafe_code, reason = "rights have to be given up in the child, between fork and exec")]
        // SAFETY: the closure makes system calls and neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(give_up_reading);
        }
        let output = binary::run(&mut command, BOUND)?;
        ensure!(matches!(output.code, Some(1 | 2)), "{output:?}");
        let told = format!("{}{}", output.stdout, output.stderr);
        ensure!(told.contains("node.key") && told.contains("read"), "{output:?}");
    }
    Ok(())
}

fn give_up_reading() -> std::io::Result<()> {
    use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
    if rustix::process::geteuid().is_root() {
        remove_capability_from_bounding_set(CapabilitySet::DAC_OVERRIDE)?;
        remove_capability_from_bounding_set(CapabilitySet::DAC_READ_SEARCH)?;
    }
    Ok(())
}

fn a_port_in_use_is_told() -> Result<()> {
    for transport in ["tls", "quic"] {
        let mesh = Mesh::pair(transport).build()?;
        let address = mesh.link_address("alpha");
        let port = address.port().to_string();
        let udp = std::net::UdpSocket::bind(address)?;
        let tcp = mesh.place("alpha").listen(address)?;
        expect(&mesh, &mesh.directory("alpha"), &[&address.ip().to_string(), &port])?;
        drop((udp, tcp));
    }
    Ok(())
}

fn two_agents_on_one_directory_are_told() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let mut first = mesh.start("alpha")?;
    expect(&mesh, &mesh.directory("alpha"), &[&first.pid()?.to_string()])?;
    first.ensure_running()?;
    first.status()?;
    Ok(())
}

fn every_problem_of_a_mesh_file_is_told_at_once() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let directory = mesh.directory("alpha");
    service(&directory, "on = [\"alpah\"]\nalow = [\"beta\"]")?;
    append(&directory, "mesh.toml", "[node.\"-\"]\n[group]\nfew = [\"nobody\"]\n")?;
    let file = directory.join("mesh.toml");
    let file = file.to_string_lossy();
    for arguments in [&["check", &file, "--json"][..], &["check", "--json"]] {
        let output = run(&mesh, &directory, arguments)?;
        ensure!(output.code == Some(2), "{output:?}");
        let document = output.json()?;
        let problems = document["problems"].as_array().context("no problems")?;
        for word in ["alpah", "alow", "-", "nobody"] {
            let about = problems.iter().find(|p| p["message"].as_str().is_some_and(|m| m.contains(word)));
            let problem = about.with_context(|| format!("nothing about {word}: {document}"))?;
            ensure!(problem["line"].as_u64() > Some(0) && problem["column"].as_u64() > Some(0), "{problem}");
            ensure!(problem["file"].as_str().is_some_and(|f| f.ends_with("mesh.toml")), "{problem}");
        }
    }
    let text = run(&mesh, &directory, &["check", &file])?;
    ensure!(
        text.code == Some(2) && text.stderr.contains("mesh.toml:") | text.stdout.contains("mesh.toml:"),
        "{text:?}"
    );
    Ok(())
}

/// What parses and is not done yet is refused by name; what the agent can do goes on.
fn unsupported_services_are_refused_by_name() -> Result<()> {
    let unsupported = [
        ("alpha", "protocol = \"udp\"\ntarget = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:1111\""),
        ("beta", "protocol = \"udp\"\ntarget = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:1111\""),
        ("alpha", "target = \"unix:/run/app.sock\"\nlisten = \"127.0.0.1:1111\""),
        ("beta", "target = \"127.0.0.1:1\"\nlisten = \"auto\""),
    ];
    unsupported.into_iter().try_for_each(|(node, lines)| one_service_fails(node, lines, "unsupported", "not supported"))
}

fn a_service_that_cannot_listen_fails_alone() -> Result<()> {
    one_service_fails("beta", "target = \"127.0.0.1:1\"\nlisten = \"203.0.113.7:1111\"", "failed", "203.0.113.7:1111")?;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let address = taken.local_addr()?.to_string();
    one_service_fails("beta", &format!("target = \"127.0.0.1:1\"\nlisten = \"{address}\""), "failed", &address)
}

/// Adds a service with these lines. `node` says in its status and its log that it stands in `state` and why, and the
/// service that was there before works.
fn one_service_fails(node: &str, lines: &str, state: &str, word: &str) -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    for directory in ["alpha", "beta"].map(|node| mesh.directory(node)) {
        let more = format!("[service.more]\non = [\"alpha\"]\nallow = [\"beta\"]\n{lines}\n");
        append(&directory, "mesh.toml", &more)?;
    }
    let (alpha, beta, _) = mesh.start_pair()?;
    let agent = if node == "alpha" { &alpha } else { &beta };
    let status = agent.status()?;
    let services = status["services"].as_array().context("no services")?;
    let more = services.iter().find(|s| s["name"] == "more").with_context(|| format!("it is left out: {status}"))?;
    ensure!(more["state"] == state, "{more}");
    ensure!(more["error"].as_str().is_some_and(|e| e.contains(word)), "{more}");
    agent.wait_for_log(&["more", word], SOON)?;
    let server = mesh.serve("app", "alpha")?;
    let (client, served) = mesh.joined(&server)?;
    round_trip(&client, &served, b"well", SOON)
}

fn wrong_usage_is_exit_status_2() -> Result<()> {
    let mesh = Mesh::pair("auto").build()?;
    let usages = [&["no-such-command"][..], &["status", "--no-such-flag"], &["explain", "beta"], &["init", NAME]];
    for arguments in usages {
        let output = run(&mesh, &mesh.directory("alpha"), arguments)?;
        ensure!(output.code == Some(2), "{arguments:?}: {output:?}");
        ensure!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
    Ok(())
}
