//! `adit publish` by a person at a terminal: it shows what changes, asks, and takes nothing but yes for yes.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::Instant;

use adit_tests::binary::{self, Output};
use adit_tests::mesh::SOON;
use adit_tests::suite::{Test, skipped};
use adit_tests::{Agent, Mesh, Service, eventually, tests};
use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

const PROMPT: &str = "[y/N] ";
/// What Ctrl-D sends: at the beginning of a line it is the end of what is read.
const END_OF_INPUT: &str = "\u{4}";

pub(crate) fn tests() -> Vec<Test> {
    tests![new:
        a_publish_at_a_terminal_shows_what_changes_and_goes_on_after_yes_alone,
        a_publish_that_can_ask_nobody_is_refused_and_says_how_to_go_on,
    ]
}

fn app() -> Service {
    Service::new("app", &["alpha"], &["beta"])
}

fn more() -> Service {
    Service::new("more", &["alpha"], &["beta"])
}

/// Alpha's directory has a publisher, and `next.toml`: a mesh file without the service `more`.
fn prepared() -> Result<(Mesh, Agent)> {
    let mesh = Mesh::builder(&["alpha", "beta"]).service(app()).service(more()).build()?;
    let alpha = mesh.start("alpha")?;
    let anna = mesh.publisher("anna")?;
    for file in ["publisher.key", "publisher.pem"] {
        fs::copy(anna.join(file), alpha.directory().join(file))?;
    }
    write_next(&mesh, &[app()])?;
    Ok((mesh, alpha))
}

fn write_next(mesh: &Mesh, services: &[Service]) -> Result<()> {
    let text = mesh.document_of(1, "auto", &[], services);
    Ok(fs::write(mesh.directory("alpha").join("next.toml"), text)?)
}

/// A terminal, and the end of it at which a person sits.
fn terminal() -> Result<(OwnedFd, File)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let person = openpt(flags)?;
    unlockpt(&person)?;
    Ok((ioctl_tiocgptpeer(&person, flags)?, File::from(person)))
}

/// Publishes `next.toml`. Whoever is asked gives this answer.
fn publish(mesh: &Mesh, input: Stdio, arguments: &[&str], answer: Option<(&File, &str)>) -> Result<Output> {
    let (start, directory) = (Instant::now(), mesh.directory("alpha"));
    let mut command = mesh.place("alpha").command(binary::path()?);
    command.arg("--dir").arg(&directory).arg("publish").arg(directory.join("next.toml")).args(arguments);
    let mut child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let told = dialogue(&mut child, answer);
    if told.is_err() {
        child.kill()?;
    }
    let ended = eventually("it ends", SOON, || child.try_wait()?.context("it still runs"))?;
    let (stderr, mut stdout) = (told?, String::new());
    child.stdout.take().context("no pipe")?.read_to_string(&mut stdout)?;
    Ok(Output { code: ended.code(), stdout, stderr, took: start.elapsed() })
}

/// All that it says on standard error, on which it asks.
fn dialogue(child: &mut Child, mut answer: Option<(&File, &str)>) -> Result<String> {
    let mut stderr = child.stderr.take().context("no pipe")?;
    let (end, mut told, mut buffer) = (Instant::now() + binary::BOUND, Vec::new(), [0; 4096]);
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now()))?;
        let ready = poll(&mut [PollFd::new(&stderr, PollFlags::IN)], Some(&left))?;
        ensure!(ready > 0, "it says no more, and does not end: {}", String::from_utf8_lossy(&told));
        let read = stderr.read(&mut buffer)?;
        if read == 0 {
            return Ok(String::from_utf8_lossy(&told).into_owned());
        }
        told.extend_from_slice(&buffer[..read]);
        if String::from_utf8_lossy(&told).contains(PROMPT)
            && let Some((mut person, words)) = answer.take()
        {
            person.write_all(words.as_bytes())?;
        }
    }
}

fn nothing_is_published(alpha: &Agent) -> Result<()> {
    let status = alpha.status()?;
    ensure!(status["mesh_version"] == 1 && status["published"].is_null(), "{status}");
    ensure!(!alpha.directory().join("state/published").exists(), "a signed document is kept");
    Ok(())
}

fn a_publish_at_a_terminal_shows_what_changes_and_goes_on_after_yes_alone() -> Result<()> {
    if let Err(why) = terminal() {
        skipped(
            "a_publish_at_a_terminal_shows_what_changes_and_goes_on_after_yes_alone",
            &format!("there is no pseudo-terminal: {why}"),
        );
        return Ok(());
    }
    let (mesh, alpha) = prepared()?;
    let answered = |answer: &str, version: u64| -> Result<Output> {
        let (terminal, person) = terminal()?;
        let output = publish(&mesh, terminal.into(), &[], Some((&person, answer)))?;
        let question = format!("publish version {version} to mesh lab? {PROMPT}");
        ensure!(output.stdout.contains("service more") && output.stderr.contains(&question), "{answer:?}: {output:?}");
        Ok(output)
    };
    for answer in ["n\n", "\n", END_OF_INPUT, "no\n", "yesterday\n", "publish it\n"] {
        let output = answered(answer, 2)?;
        ensure!(output.code == Some(1), "{answer:?}: {output:?}");
        let told = ["nothing was published", "answer y, or add --yes"];
        ensure!(told.iter().all(|words| output.stderr.contains(words)), "{answer:?}: {output:?}");
        nothing_is_published(&alpha).with_context(|| format!("after {answer:?}"))?;
    }
    for (answer, version) in [("y\n", 2), ("Yes\n", 3)] {
        let output = answered(answer, version)?.success()?;
        ensure!(output.stdout.contains(&format!("published: version {version}")), "{answer:?}: {output:?}");
        alpha.wait_for_version(version, SOON)?;
        write_next(&mesh, &[app(), more()])?;
    }
    Ok(())
}

fn a_publish_that_can_ask_nobody_is_refused_and_says_how_to_go_on() -> Result<()> {
    let (mesh, alpha) = prepared()?;
    // A yes that no person has typed is none.
    let yes = alpha.directory().join("yes");
    fs::write(&yes, "y\n")?;
    for input in [Stdio::null(), File::open(&yes)?.into()] {
        let output = publish(&mesh, input, &[], None)?;
        ensure!(output.code == Some(2) && !output.stderr.contains(PROMPT), "{output:?}");
        ensure!(output.stderr.contains("no terminal") && output.stderr.contains("add --yes"), "{output:?}");
        nothing_is_published(&alpha)?;
    }
    // Nor is a program asked that wants JSON, wherever it runs.
    let input = terminal().ok();
    let stdin: Stdio = match &input {
        Some((terminal, _)) => terminal.try_clone()?.into(),
        None => Stdio::null(),
    };
    let output = publish(&mesh, stdin, &["--json"], None)?;
    let error = output.json()?["error"].clone();
    ensure!(output.code == Some(2) && error["code"] == "no_terminal" && error["hint"] == "add --yes", "{output:?}");
    ensure!(!output.stderr.contains(PROMPT), "{output:?}");
    nothing_is_published(&alpha)
}
