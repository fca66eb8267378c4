//! Programs on hosts: what they see, how they are handled, and that nothing stays behind.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use netsim::Launch;

use super::*;

pub(super) fn a_program_sees_its_own_names_resolvers_interfaces_environment_and_directory(backend: Backend) -> Outcome {
    let outside = std::fs::read_to_string("/etc/hosts")?;
    let mut topology = Topology::new();
    let (left, right) = (topology.host("left"), topology.host("right"));
    topology.link(left.at("10.1.0.1/24").named("lan"), right.at("10.1.0.2/24"), clean());
    let resolvers = "nameserver 10.1.0.2\n".to_owned();
    let network = Network::start(&topology, &Settings { resolvers, ..Settings::default().backend(backend) })?;
    let script = "cat /etc/hosts; cat /etc/resolv.conf; ls /sys/class/net; echo $GREETING; pwd; echo bad >&2; exit 3";
    let launch = Launch::new("sh").args(["-c", script]).env("GREETING", "hello").dir("/usr/bin");
    let ended = network.host(left).start(launch)?.wait(PATIENCE)?;
    let said = String::from_utf8(ended.stdout)?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(ended.stderr, b"bad\n");
    for line in ["10.1.0.1 left", "10.1.0.2 right", "nameserver 10.1.0.2", "lan", "lo", "hello", "/usr/bin"] {
        assert!(lines.contains(&line), "{line} is missing: {said}");
    }
    assert!(!lines.contains(&"eth0"), "{said}");
    assert_eq!(std::fs::read_to_string("/etc/hosts")?, outside);
    Ok(())
}

/// The state of a process, as `ps` has it; none when it is gone.
fn state(id: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    text.rsplit(')').next()?.trim_start().chars().next()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > PATIENCE {
            return Err(format!("{what}: not in time").into());
        }
        std::thread::park_timeout(ms(5));
    }
    Ok(())
}

pub(super) fn a_program_can_be_paused_crashed_and_started_again(backend: Backend) -> Outcome {
    let pair = Pair::new(backend, clean())?;
    let mut program = pair.left().start(Launch::new("sh").args(["-c", "echo up; sleep 1000 & echo $!; wait"]))?;
    assert!(program.wait_for("up\n", PATIENCE));
    let first = program.id();
    let paused = program.pause()?;
    until("it stops", || state(first) == Some('T'))?;
    drop(paused);
    until("it goes on", || state(first) == Some('S'))?;
    program.crash();
    assert_eq!(program.poll()?.and_then(|status| status.signal()), Some(9));
    assert_eq!(state(first), None);
    assert!(program.stdout().starts_with(b"up\n"), "what it said can still be read");
    assert!(program.pause().is_err());
    program.restart()?;
    assert!(program.wait_for("up\n", PATIENCE));
    let second = program.id();
    assert!(second != first && program.poll()?.is_none());
    drop(program);
    assert_eq!(state(second), None);
    assert!(pair.left().start(Launch::new("/no/such/program")).is_err());
    Ok(())
}

/// Over which backend the simulator runs and how it ends, in a process of its own.
const ENDS: &str = "NETSIM_TEST_ENDS";

/// The other process: makes a network with a program that leaves its group and its parent behind, tells where everything
/// is, and ends as it was told to.
pub(super) fn end(told: &str) -> Outcome {
    let (backend, how) = told.split_once(' ').ok_or("a backend and a way to end")?;
    let backend = if backend == "tap" { Backend::Tap } else { Backend::Packet };
    netsim::enter()?;
    let pair = Pair::new(backend, clean())?;
    let program =
        pair.left().start(Launch::new("sh").args(["-c", "setsid sleep 1000 & sleep 1000 & echo up; wait"]))?;
    assert!(program.wait_for("up\n", PATIENCE));
    let own = std::fs::read_link("/proc/self/ns/net")?;
    let host = pair.left().run(|| std::fs::read_link("/proc/thread-self/ns/net"))??;
    #[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
    {
        println!("{} {}", own.display(), host.display());
    }
    match how {
        "panic" => panic!("as it was told to"),
        "return" => Ok(()),
        _ => loop {
            std::thread::park();
        },
    }
}

/// What the other process is told.
pub(super) fn told_to_end() -> Option<String> {
    std::env::var(ENDS).ok()
}

/// What is in a directory; nothing if it is gone.
fn entries(directory: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_one(namespaces: &[&str], link: impl AsRef<Path>) -> bool {
    std::fs::read_link(link).is_ok_and(|link| namespaces.iter().any(|namespace| Path::new(namespace) == link))
}

fn command_line(process: &Path) -> String {
    std::fs::read_to_string(process.join("cmdline")).unwrap_or_default()
}

/// Processes that are in one of these network namespaces.
fn within(namespaces: &[&str]) -> Vec<String> {
    let all = entries("/proc").filter(|path| is_one(namespaces, path.join("ns/net")));
    all.map(|path| command_line(&path)).collect()
}

/// Other processes that hold one of these network namespaces open. Where nobody does and nobody is within, the namespace
/// is gone, and every interface with it.
fn holding(namespaces: &[&str]) -> Vec<String> {
    let own = PathBuf::from(format!("/proc/{}", std::process::id()));
    let all = entries("/proc").filter(|path| *path != own && path.join("fd").is_dir());
    all.filter(|path| entries(path.join("fd")).any(|link| is_one(namespaces, link)))
        .map(|path| command_line(&path))
        .collect()
}

pub(super) fn nothing_stays_behind_however_the_simulator_ends(backend: Backend) -> Outcome {
    let name = if backend == Backend::Tap { "tap" } else { "packet" };
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    for (how, signal) in [("return", None), ("panic", None), ("signal", Some("INT")), ("signal", Some("KILL"))] {
        let mut simulator = Command::new(std::env::current_exe()?);
        simulator.env(ENDS, format!("{name} {how}")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut simulator = netsim::end_with_this_thread(&mut simulator).spawn()?;
        let mut output = std::io::BufReader::new(simulator.stdout.take().ok_or("no pipe")?);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line)?;
        let namespaces: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(namespaces.len(), 2, "{how}: {line}");
        if let Some(name) = signal {
            // Programs on the host are there: three, a shell and two that sleep.
            until("the programs run", || within(&namespaces[1..]).len() >= 3)?;
            let signal = if name == "INT" { rustix::process::Signal::INT } else { rustix::process::Signal::KILL };
            let id = rustix::process::Pid::from_child(&simulator);
            rustix::process::kill_process(id, signal)?;
        }
        until("the simulator ends", || simulator.try_wait().is_ok_and(|status| status.is_some()))?;
        until(&format!("{how} {signal:?} leaves nothing behind"), || {
            within(&namespaces).is_empty() && holding(&namespaces).is_empty()
        })?;
        assert_eq!(std::fs::read_to_string("/proc/self/mounts")?, mounts);
    }
    Ok(())
}

/// Has this program be the example.
pub(super) const EXAMPLE: &str = "NETSIM_TEST_EXAMPLE";

/// Where nobody is, whom files belong to that belong to nobody else.
const NOBODY: u32 = 65_534;

pub(super) fn an_ordinary_user_runs_the_example_without_path() -> Outcome {
    // Root of the machine can be somebody else; an ordinary user is one already.
    let table = std::fs::read_to_string("/proc/self/uid_map")?;
    let root = rustix::process::geteuid().is_root() && !table.trim_end().ends_with(" 1");
    // What was built may lie where others have no access.
    let folder = std::env::temp_dir().join(format!("netsim-example-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let copy = folder.join("example");
    std::fs::copy(std::env::current_exe()?, &copy)?;
    let open = |path: &Path| std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755));
    open(&folder)?;
    open(&copy)?;
    let mut command = Command::new(&copy);
    command.env_clear().env(EXAMPLE, "1").current_dir("/").stdin(Stdio::null());
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = netsim::end_with_this_thread(&mut command).output();
    std::fs::remove_dir_all(&folder)?;
    let output = output?;
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{told}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("at first: \"hello, 203.0.113.7:"), "{said}");
    assert!(lines[1] == "cut apart: no answer for half a second" && lines[2].starts_with("healed: \"hello"), "{said}");
    Ok(())
}
