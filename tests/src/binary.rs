//! The program under test.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

/// How long a command may take that has no reason to wait.
pub const BOUND: Duration = Duration::from_secs(20);

/// The `adit` binary: `ADIT_BIN`, or the one that was built beside this test program.
pub fn path() -> Result<&'static Path> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PATH.get_or_init(|| {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("adit"));
        std::env::var_os("ADIT_BIN").map(PathBuf::from).or_else(beside).filter(|p| p.is_file())
    });
    found.as_deref().context("no adit binary: run `cargo build --release`, or set ADIT_BIN to one")
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Output {
    /// The one JSON document on standard output.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not one JSON document: {self:?}"))
    }

    /// The JSON documents on standard output, one a line.
    pub fn json_lines(&self) -> Result<Vec<Value>> {
        let lines = self.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        lines.with_context(|| format!("not one JSON document a line: {self:?}"))
    }

    /// This output, if the exit status was 0.
    pub fn success(self) -> Result<Self> {
        if self.code == Some(0) { Ok(self) } else { bail!("{self:?}") }
    }
}

/// Runs a command to its end. If that does not come within `bound` it is killed, which is an error.
pub fn run(command: &mut Command, bound: Duration) -> Result<Output> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stdout = scope.spawn(|| read_all(stdout));
        let stderr = scope.spawn(|| read_all(stderr));
        let in_time = ends(&child, bound)?;
        if !in_time {
            child.kill()?;
        }
        let ended = Some(child.wait()?).filter(|_| in_time);
        let output = Output {
            code: ended.and_then(|status| status.code()),
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
            took: start.elapsed(),
        };
        if ended.is_none() {
            bail!("{command:?} still ran after {bound:?}: {output:?}");
        }
        Ok(output)
    })
}

/// Whether a process ends within `bound`.
fn ends(child: &Child, bound: Duration) -> Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    Ok(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&Timespec::try_from(bound)?))? > 0)
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What came before a failed read is what there is to show.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
