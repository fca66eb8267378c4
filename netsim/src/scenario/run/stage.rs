//! What a run plays on: the network, and the programs with what they have said.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::RunError;
use super::clocks::Clocks;
use super::exchange::Journal;
use super::workdir::WorkDir;
use crate::report::{Line, Stream};
use crate::scenario::Scenario;
use crate::scenario::programs::{CLOCK, Invocation, ProgramSpec, fill};
use crate::{Host, Launch, Network, Paused, Program};

/// What is kept of a program's output to look for texts in: the last of it.
const MOST_SAID: usize = 4 << 20;
/// A line that does not end is taken for one at this length.
const LONGEST_LINE: usize = 64 << 10;

/// A network with programs.
pub(super) struct Stage<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) network: Network,
    pub(super) slots: Vec<Slot<'a>>,
    pub(super) dir: WorkDir,
    pub(super) clocks: Clocks,
    pub(super) journal: Journal,
    /// Nothing more is to be begun: the run is at its end, or was interrupted.
    pub(super) over: AtomicBool,
}

/// A program's place.
pub(super) struct Slot<'a> {
    pub(super) spec: &'a ProgramSpec,
    inside: Mutex<Inside>,
}

#[derive(Default)]
pub(super) struct Inside {
    program: Option<Program>,
    state: State,
    /// Crashes that are in force.
    down: usize,
    /// Pauses that are in force, and what halts it.
    pauses: usize,
    halted: Option<Paused>,
    streams: [Said; 2],
    lines: Vec<(Stream, String)>,
    /// Why it failed by itself, if it did.
    failure: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    NotStarted,
    Running,
    Ended(ExitStatus),
    Killed,
}

#[derive(Default)]
struct Said {
    read: u64,
    bytes: Vec<u8>,
    line: Vec<u8>,
}

impl<'a> Stage<'a> {
    pub(super) fn host(&self, name: &str) -> Result<&Host, String> {
        self.network.host_named(name).ok_or_else(|| format!("there is no host {name}"))
    }

    pub(super) fn slot(&self, program: &str) -> Result<&Slot<'a>, String> {
        self.slots.iter().find(|slot| slot.spec.name == program).ok_or_else(|| format!("there is no program {program}"))
    }

    /// A text with addresses and the working directory of the run filled in.
    pub(super) fn fill(&self, text: &str) -> Result<String, String> {
        fill(text, self.dir.path(), &self.scenario.directory)
    }

    /// The address that `ADDRESS:PORT` or `HOST:PORT` is for a host; without a port, it is that of the web.
    pub(super) fn socket_address(&self, from: &str, place: &str) -> Result<SocketAddr, String> {
        let found = place.parse::<SocketAddr>().ok().or_else(|| {
            let (name, port) = place.rsplit_once(':').unwrap_or((place, "80"));
            let name = name.trim_start_matches('[').trim_end_matches(']');
            let ip = name.parse().ok().or_else(|| self.scenario.directory.address(from, name))?;
            Some(SocketAddr::new(ip, port.parse().ok()?))
        });
        found.ok_or_else(|| format!("{place} is neither an address nor a host of the scenario"))
    }

    /// What starts an invocation on a host, in the host's working directory.
    pub(super) fn launch(&self, run: &Invocation, host: &str) -> Result<Launch, String> {
        let mut launch = Launch::new(&run.program).dir(self.dir.path().join(host));
        let clock = self.clocks.file(host).display().to_string();
        let fill = |text: &String| Ok::<_, String>(self.fill(text)?.replace(CLOCK, &clock));
        for arg in &run.args {
            launch = launch.arg(fill(arg)?);
        }
        for (name, value) in &run.env {
            launch = launch.env(name, fill(value)?);
        }
        Ok(launch)
    }

    pub(super) fn start(&self, slot: &Slot<'_>) -> Result<(), String> {
        let mut launch = self.launch(&slot.spec.run, &slot.spec.on)?;
        if slot.spec.preload {
            launch = launch.env("LD_PRELOAD", self.clocks.preloaded());
            launch = launch.env("NETSIM_CLOCK", self.clocks.file(&slot.spec.on));
        }
        let program = self.host(&slot.spec.on)?.start(launch).map_err(|error| with_causes(&error))?;
        let mut inside = slot.lock();
        inside.program = Some(program);
        inside.state = State::Running;
        Ok(())
    }

    /// Waits until a program has written what it writes when it is ready.
    pub(super) fn wait_ready(&self, slot: &Slot<'_>, stop: &AtomicBool) -> Result<(), RunError> {
        let Some(ready) = &slot.spec.ready else { return Ok(()) };
        let start = Instant::now();
        loop {
            if slot.has_said(ready) {
                return Ok(());
            }
            let ended = slot.look();
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if start.elapsed() > slot.spec.ready_within || !matches!(ended, State::Running) {
                let why = match ended {
                    State::Ended(status) => format!("ended with {}", status_text(status)),
                    _ => format!("did not write {ready:?} within {:?}", slot.spec.ready_within),
                };
                let told = slot.last_words();
                return Err(RunError::NotReady {
                    program: slot.spec.name.clone(),
                    on: slot.spec.on.clone(),
                    why,
                    told,
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl<'a> Slot<'a> {
    pub(super) fn new(spec: &'a ProgramSpec) -> Self {
        Self { spec, inside: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the program has said since the last look, and whether it still runs.
    pub(super) fn look(&self) -> State {
        let mut inside = self.lock();
        inside.look();
        inside.state
    }

    /// The lines that were said since this was asked last.
    pub(super) fn take_lines(&self, at: Duration) -> Vec<Line> {
        let mut inside = self.lock();
        inside.look();
        let lines = std::mem::take(&mut inside.lines).into_iter();
        lines.map(|(stream, text)| Line::new(at, &*self.spec.on, &*self.spec.name, stream, text)).collect()
    }

    /// What is left of lines without an end.
    pub(super) fn last_lines(&self, at: Duration) -> Vec<Line> {
        self.lock().end_lines();
        self.take_lines(at)
    }

    pub(super) fn has_said(&self, text: &str) -> bool {
        let mut inside = self.lock();
        inside.look();
        let text = text.as_bytes();
        inside.streams.iter().any(|said| text.is_empty() || said.bytes.windows(text.len()).any(|part| part == text))
    }

    fn last_words(&self) -> String {
        let mut inside = self.lock();
        // Its end may be known before its last words have been read.
        if let (State::Ended(_), Some(program)) = (inside.state, &inside.program) {
            program.wait_for_output();
        }
        inside.look();
        let text: Vec<String> =
            inside.streams.iter().map(|said| String::from_utf8_lossy(&said.bytes).into_owned()).collect();
        let text = text.concat();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Why it failed by itself, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Kills it. What it is told about that, in words.
    pub(super) fn crash(&self) -> String {
        let mut inside = self.lock();
        inside.look();
        inside.down += 1;
        inside.kill()
    }

    /// One crash is over: it is started again with the last.
    pub(super) fn revive(&self) -> Result<String, String> {
        let mut inside = self.lock();
        inside.down = inside.down.saturating_sub(1);
        if inside.down > 0 { Ok("stays dead: another crash is in force".to_owned()) } else { inside.begin_again() }
    }

    pub(super) fn restart(&self) -> Result<String, String> {
        let mut inside = self.lock();
        inside.look();
        if inside.down > 0 {
            return Ok("is not restarted: a crash is in force".to_owned());
        }
        inside.kill();
        inside.begin_again()
    }

    pub(super) fn pause(&self) -> Result<String, String> {
        let mut inside = self.lock();
        inside.look();
        inside.pauses += 1;
        if inside.halted.is_none() && inside.state == State::Running {
            let program = inside.program.as_ref().ok_or("was not started")?;
            let halted = program.pause().map_err(|error| with_causes(&error))?;
            inside.halted = Some(halted);
            return Ok("halted".to_owned());
        }
        Ok("is not running, or halted already".to_owned())
    }

    pub(super) fn go_on(&self) -> String {
        let mut inside = self.lock();
        inside.pauses = inside.pauses.saturating_sub(1);
        if inside.pauses > 0 {
            return "stays halted: another pause is in force".to_owned();
        }
        inside.halted = None;
        "goes on".to_owned()
    }
}

impl Inside {
    fn look(&mut self) {
        let Some(program) = &mut self.program else { return };
        // First whether it has ended: what it wrote before that is there then.
        let ended = if self.state == State::Running { program.poll().ok().flatten() } else { None };
        for (number, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let said = &mut self.streams[number];
            let (bytes, read) = program.output_since(number, said.read);
            said.read = read;
            said.bytes.extend(&bytes);
            let excess = said.bytes.len().saturating_sub(MOST_SAID);
            said.bytes.drain(..if excess > 0 { excess.max(MOST_SAID / 2) } else { 0 });
            for byte in bytes {
                if byte != b'\n' {
                    said.line.push(byte);
                }
                if byte == b'\n' || said.line.len() >= LONGEST_LINE {
                    let line = std::mem::take(&mut said.line);
                    self.lines.push((stream, String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()));
                }
            }
        }
        if let Some(status) = ended {
            self.state = State::Ended(status);
            let text = format!("ended with {}", status_text(status));
            if !status.success() && self.failure.is_none() {
                self.failure = Some(text.clone());
            }
            self.lines.push((Stream::Simulator, text));
        }
    }

    fn end_lines(&mut self) {
        self.look();
        for (number, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let line = std::mem::take(&mut self.streams[number].line);
            if !line.is_empty() {
                self.lines.push((stream, String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }

    fn kill(&mut self) -> String {
        self.halted = None;
        let Some(program) = &mut self.program else { return "was not started".to_owned() };
        let text = if self.state == State::Running { "killed" } else { "has ended already" };
        program.crash();
        self.state = State::Killed;
        // What it wrote last.
        self.end_lines();
        text.to_owned()
    }

    fn begin_again(&mut self) -> Result<String, String> {
        let program = self.program.as_mut().ok_or("was not started")?;
        program.restart().map_err(|error| with_causes(&error))?;
        self.streams.iter_mut().for_each(|said| said.read = 0);
        self.state = State::Running;
        Ok("started again".to_owned())
    }
}

/// An exit status in words.
pub(super) fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "an unknown status".to_owned(),
    }
}

/// An error with everything behind it, in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
