//! One `adit run` process.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binary::{self, Output};
use crate::place::Place;
use crate::usage::Usage;
use crate::wait::eventually;

/// How long an agent may take to be ready.
const READY: Duration = Duration::from_secs(10);
/// How long two ready agents may take to find each other.
const LINK: Duration = Duration::from_secs(10);

/// A running agent. Dropping it kills it, as `kill -9` does.
#[derive(Debug)]
pub struct Agent {
    name: String,
    place: Place,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Agent {
    /// Starts the agent of `directory` on `place` and waits until it is ready.
    pub fn start(name: &str, place: &Place, directory: &Path, environment: &[(String, String)]) -> Result<Self> {
        let mut agent = Self {
            name: name.to_owned(),
            place: place.clone(),
            directory: directory.to_owned(),
            environment: environment.to_vec(),
            child: None,
        };
        agent.restart()?;
        Ok(agent)
    }

    /// Starts it again after its end, and waits until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        let ready = eventually(&format!("{} is ready", self.name), READY, || {
            if let Err(ended) = self.ensure_running() {
                return Ok(Err(ended));
            }
            let status = self.status()?;
            ensure!(status["state"] == "ready", "its state is {}", status["state"]);
            Ok(Ok(()))
        });
        ready.flatten().with_context(|| self.log_tail())
    }

    /// Starts it again after its end, and waits for nothing.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.place.command(binary::path()?);
        command.arg("--dir").arg(&self.directory).arg("run").envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("start {}", self.name))?);
        Ok(())
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().with_context(|| format!("{} does not run", self.name))?.id())
    }

    /// What it uses now.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid()?)
    }

    /// An error if it has ended by itself.
    pub fn ensure_running(&mut self) -> Result<()> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended: {status}", self.name),
        }
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} does not run", self.name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM and waits for nothing.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends a signal and waits for nothing.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("no process has the number 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until the mesh document of this version is in force.
    pub fn wait_for_version(&self, version: u64, bound: Duration) -> Result<()> {
        eventually(&format!("version {version} is in force at {}", self.name), bound, || {
            let status = self.status()?;
            ensure!(status["mesh_version"] == version, "{}", status["config"]);
            Ok(())
        })
    }

    /// Waits for its end.
    pub fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        let start = Instant::now();
        let status = eventually("the agent ends", bound, || child.try_wait()?.context("it still runs"));
        let status = status.with_context(|| format!("{} after {:?}", self.name, start.elapsed()))?;
        self.child = None;
        Ok(status)
    }

    /// Runs a subcommand of `adit` on the agent's host with its directory.
    pub fn adit(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.place.command(binary::path()?);
        command.arg("--dir").arg(&self.directory).args(arguments);
        binary::run(&mut command, binary::BOUND)
    }

    /// `adit status --json`.
    pub fn status(&self) -> Result<Value> {
        self.adit(&["status", "--json"])?.success()?.json()
    }

    /// What `status` says about a peer.
    pub fn peer(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let peers = status["peers"].as_array().context("status has no peers")?;
        peers.iter().find(|p| p["node"] == name).cloned().with_context(|| format!("no peer {name} in {status}"))
    }

    /// Waits until the link to a peer is up, and returns its path: `lane` or `quic`.
    pub fn wait_for_link(&self, peer: &str) -> Result<String> {
        eventually(&format!("the link from {} to {peer} is up", self.name), LINK, || {
            let peer = self.peer(peer)?;
            ensure!(peer["state"] == "up", "{peer}");
            Ok(peer["path"].as_str().context("a link without a path")?.to_owned())
        })
    }

    /// `adit explain FROM SERVICE --json`, whatever the answer.
    pub fn explain(&self, from: &str, service: &str) -> Result<Value> {
        self.adit(&["explain", from, service, "--json"])?.json()
    }

    /// What was refused lately, newest first.
    pub fn refusals(&self) -> Result<Vec<Value>> {
        Ok(self.status()?["refusals"].as_array().context("status has no refusals")?.clone())
    }

    /// All metrics, from the admin socket.
    pub fn metrics(&self) -> Result<String> {
        let mut socket = UnixStream::connect(self.directory.join("adit.sock")).context("the admin socket")?;
        socket.set_read_timeout(Some(binary::BOUND))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: adit\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
        Ok(text)
    }

    /// The sum of the samples of `metric` that have all `labels`. No such sample: 0.
    pub fn metric(&self, metric: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let wanted: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let mut sum = 0.0;
        for line in self.metrics()?.lines().filter(|l| !l.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, set) = series.split_once('{').unwrap_or((series, ""));
            if name == metric && wanted.iter().all(|w| set.contains(w)) {
                sum += value.parse::<f64>().with_context(|| line.to_owned())?;
            }
        }
        Ok(sum)
    }

    /// All that it has written so far.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.log_path())?).into_owned())
    }

    /// Waits until a line of its log holds all of `words`.
    pub fn wait_for_log(&self, words: &[&str], bound: Duration) -> Result<String> {
        eventually(&format!("a log line of {} with {words:?}", self.name), bound, || {
            let log = self.log()?;
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).context("there is none")
        })
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        format!("{} last wrote: {}", self.name, lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It may have ended by itself, which the test has noticed or does not care about.
            let _ = self.kill();
        }
    }
}
