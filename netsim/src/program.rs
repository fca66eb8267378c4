//! A program that runs on a host, with what it has said.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::Error;
use crate::host::Host;

/// What is kept of a program's output: the last of it.
const MOST_OUTPUT: usize = 16 << 20;

/// How long output is waited for after a program's end.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// A program to be started: what [`Command`] takes, in a form that can be started again.
#[derive(Debug, Clone)]
pub struct Launch {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
}

impl Launch {
    /// Runs `program`, which is looked for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self { program, arguments: Vec::new(), environment: Vec::new(), directory: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment, which otherwise is that of the caller.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The directory it starts in, which otherwise is that of the caller.
    #[must_use]
    pub fn dir(self, directory: impl AsRef<Path>) -> Self {
        Self { directory: Some(directory.as_ref().to_owned()), ..self }
    }

    fn command(&self, host: &Host) -> Command {
        let mut command = host.command(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        // A group of its own, so that what it starts ends with it, and the terminal's signals do not reach it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }
}

/// A program that was started on a host. It and what it has started in its process group are killed when this is
/// dropped, and when the simulator ends in any way.
#[derive(Debug)]
pub struct Program {
    launch: Launch,
    host: Host,
    running: Running,
}

#[derive(Debug)]
struct Running {
    child: Child,
    group: Pid,
    output: [Arc<Captured>; 2],
    /// Nothing of it may be signalled any more: its number may be another's.
    finished: bool,
    status: Option<ExitStatus>,
}

/// What has come out of a pipe so far.
#[derive(Debug, Default)]
struct Captured {
    state: Mutex<Output>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    /// Bytes before these, which are not kept any more.
    dropped: u64,
    ended: bool,
}

/// How a program has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to its standard output: at most the last 16 MiB.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error: at most the last 16 MiB.
    pub stderr: Vec<u8>,
}

impl Program {
    pub(crate) fn start(host: &Host, launch: Launch) -> Result<Self, Error> {
        let running = run(host, &launch)?;
        Ok(Self { launch, host: host.clone(), running })
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running.child.id()
    }

    /// What it has written to its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        self.running.output[0].lock().bytes.clone()
    }

    /// What it has written to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<u8> {
        self.running.output[1].lock().bytes.clone()
    }

    /// What it has written to its standard output (0) or error (1) behind the first `from` bytes, as far as it is kept, and
    /// how many bytes it has written in all.
    pub(crate) fn output_since(&self, stream: usize, from: u64) -> (Vec<u8>, u64) {
        let output = self.running.output[stream].lock();
        let skip = usize::try_from(from.saturating_sub(output.dropped)).unwrap_or(usize::MAX);
        let new = output.bytes.get(skip..).unwrap_or_default().to_vec();
        (new, output.dropped + output.bytes.len() as u64)
    }

    /// Waits until its standard output contains `text`. False if it has closed it, or the time is over.
    #[must_use]
    pub fn wait_for(&self, text: &str, most: Duration) -> bool {
        let captured = &self.running.output[0];
        let found = |output: &Output| output.bytes.windows(text.len()).any(|part| part == text.as_bytes());
        let wait = captured.changed.wait_timeout_while(captured.lock(), most, |output| !found(output) && !output.ended);
        let (output, _) = wait.unwrap_or_else(PoisonError::into_inner);
        found(&output)
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.running.status.is_none() {
            self.running.status = self.running.child.try_wait().map_err(Error::kernel("look for a program's end"))?;
        }
        Ok(self.running.status)
    }

    /// Waits until it has ended, for `most` at the longest, and gives all that it has written.
    ///
    /// # Errors
    /// When it has not ended by then.
    pub fn wait(mut self, most: Duration) -> Result<Ended, Error> {
        let start = Instant::now();
        while self.poll()?.is_none() {
            if start.elapsed() > most {
                let late = Error::kernel(format!("wait for {} to end", self.launch.program.display()));
                return Err(late(std::io::ErrorKind::TimedOut.into()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.running.finish();
        self.wait_for_output();
        let status = self.running.status.unwrap_or_default();
        Ok(Ended { status, stdout: self.stdout(), stderr: self.stderr() })
    }

    /// Waits until all that it wrote has been read, once it has ended.
    pub(crate) fn wait_for_output(&self) {
        self.running.output.iter().for_each(|captured| captured.wait_for_end());
    }

    /// Sends a signal to it and what it has started.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let sent = if self.running.finished || self.running.status.is_some() {
            Err(rustix::io::Errno::SRCH)
        } else {
            kill_process_group(self.running.group, signal)
        };
        sent.map_err(|error| Error::kernel(format!("signal {}", self.launch.program.display()))(error.into()))
    }

    /// Ends it at once, as a crash does, and waits until it is gone. Its output so far can still be read.
    pub fn crash(&mut self) {
        self.running.finish();
    }

    /// Starts it again as it was started first; if it still runs it crashes before. Its output begins anew.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.crash();
        self.running = run(&self.host, &self.launch)?;
        Ok(())
    }

    /// Halts it for as long as the value lives: it keeps its connections and does nothing.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self) -> Result<Paused, Error> {
        self.signal(Signal::STOP)?;
        Ok(Paused { group: self.running.group })
    }
}

/// A program that is halted. It goes on when this is dropped.
#[derive(Debug)]
#[must_use = "the program goes on when this is dropped"]
pub struct Paused {
    group: Pid,
}

impl Drop for Paused {
    fn drop(&mut self) {
        // It may have been killed in the meantime.
        let _ = kill_process_group(self.group, Signal::CONT);
    }
}

impl Running {
    /// Kills what still runs of it and its group, and waits for its end.
    fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        // None of the group may be left; then there is no such group.
        let _ = kill_process_group(self.group, Signal::KILL);
        if self.status.is_none() {
            self.status = self.child.wait().ok().or(Some(ExitStatus::from_raw(9)));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Captured {
    fn lock(&self) -> MutexGuard<'_, Output> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all has been read; not for long where something that the program has left behind holds the pipe.
    fn wait_for_end(&self) {
        drop(self.changed.wait_timeout_while(self.lock(), LEFT_BEHIND, |output| !output.ended));
    }

    fn fill(&self, mut pipe: impl Read) {
        let mut room = [0; 8192];
        loop {
            let length = pipe.read(&mut room).unwrap_or_default();
            let mut output = self.lock();
            output.bytes.extend(&room[..length]);
            let excess = output.bytes.len().saturating_sub(MOST_OUTPUT);
            // Half at once, so that not every read moves everything.
            let excess = if excess > 0 { excess.max(MOST_OUTPUT / 2) } else { 0 };
            output.bytes.drain(..excess);
            output.dropped += excess as u64;
            output.ended = length == 0;
            drop(output);
            self.changed.notify_all();
            if length == 0 {
                return;
            }
        }
    }
}

fn run(host: &Host, launch: &Launch) -> Result<Running, Error> {
    let told = format!("start {} on {}", launch.program.display(), host.name());
    let mut child = host.spawn(launch.command(host)).map_err(Error::kernel(&told))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or_else(|| Error::kernel(&told)(std::io::ErrorKind::NotFound.into()))?;
    let output = [Arc::<Captured>::default(), Arc::<Captured>::default()];
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let copies = output.clone();
    let [out, err] = copies;
    // They end with the last process that holds the pipe. That need not be in the group, but ends with the network.
    stdout.map(|pipe| thread::spawn(move || out.fill(pipe)));
    stderr.map(|pipe| thread::spawn(move || err.fill(pipe)));
    Ok(Running { child, group, output, finished: false, status: None })
}
