//! Plays a scenario: makes the network, starts programs, does what the schedule says, looks whether what must hold does,
//! and keeps a record of it.

mod attempts;
mod clocks;
mod exchange;
mod inject;
mod judge;
mod play;
mod probes;
mod services;
mod stage;
mod workdir;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use super::programs::{Step, fill};
use super::{Injection, Scenario, visit};
use crate::backend::tap::DEVICE;
use crate::report::{Check, Curve, Record};
use crate::{Backend, Capture, CaptureLimits, Network, Settings, Tolerance, end_with_this_thread};
use clocks::Clocks;
use exchange::Journal;
use play::Play;
use stage::{Slot, Stage, State, status_text, with_causes};
use workdir::WorkDir;

/// What is shown of a failed step's output.
const LAST_LINES: usize = 12;

/// How a scenario is run.
#[derive(Debug)]
pub struct Options<'a> {
    /// What decides about packets and random faults.
    pub seed: u64,
    /// The faults, instead of those that the scenario has with this seed.
    pub schedule: Option<Vec<Injection>>,
    /// How the wire meets the kernels. None: as the scenario says, or by TAP devices where there are any.
    pub backend: Option<Backend>,
    /// The one command that repeats the run, for the record.
    pub repeat: String,
    /// A folder for `CABLE.pcapng`: what every cable carried, from when time begins.
    pub captures: Option<PathBuf>,
    /// The run ends as soon as this is true.
    pub stop: &'a AtomicBool,
}

/// What is going on, for whoever waits.
#[derive(Debug)]
pub enum Told<'a> {
    /// So many steps of preparation are done before all else.
    Preparing(usize),
    /// The network is there, and programs are being started.
    Made {
        /// Hosts.
        hosts: usize,
        /// Programs.
        programs: usize,
    },
    /// Time begins.
    Begun,
    /// A fault begins or ends.
    Fault {
        /// When.
        at: Duration,
        /// Its kind.
        kind: &'a str,
        /// What it is about.
        on: &'a [String],
        /// It begins; else it ends.
        begins: bool,
    },
    /// A check has been decided.
    Check(&'a Check),
}

/// What a run has come to.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub record: Record,
    /// All faults with their times, as they were played.
    pub schedule: Vec<Injection>,
    /// It was stopped before its end.
    pub interrupted: bool,
}

impl Outcome {
    /// Whether everything held that was checked, to the end.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.interrupted && self.record.passed()
    }
}

/// Why a scenario could not be played.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The network could not be made or changed.
    #[error("the simulated network fails")]
    Network(#[from] crate::Error),
    /// A file of the run could not be made.
    #[error("cannot {what}")]
    Files {
        /// The step.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A step of preparation has failed.
    #[error("preparation: {command} {why}{}", told_text(.told))]
    Prepare {
        /// What was run.
        command: String,
        /// How it failed.
        why: String,
        /// The last lines that it wrote.
        told: String,
    },
    /// A program could not be started.
    #[error("{program} on {on} cannot be started: {why}")]
    NotStarted {
        /// The program.
        program: String,
        /// Its host.
        on: String,
        /// Why.
        why: String,
    },
    /// A program was not ready in time.
    #[error("{program} on {on} {why}{}", told_text(.told))]
    NotReady {
        /// The program.
        program: String,
        /// Its host.
        on: String,
        /// How it failed.
        why: String,
        /// The last lines that it wrote.
        told: String,
    },
}

fn told_text(told: &str) -> String {
    if told.is_empty() { ", and said nothing".to_owned() } else { format!("; it said last:\n{told}") }
}

/// Plays a scenario to its end. Call [`enter()`](crate::enter()) before, while there is one thread. `tell` hears what is
/// going on.
///
/// # Errors
/// When it cannot be played. What does not hold is no error, but in the record.
pub fn run(scenario: &Scenario, options: &Options<'_>, tell: &mut dyn FnMut(&Told<'_>)) -> Result<Outcome, RunError> {
    let start = Instant::now();
    let schedule = options.schedule.clone().unwrap_or_else(|| scenario.schedule(options.seed));
    let mut record = Record::new(scenario.name(), options.seed, scenario.hosts());
    record.repeat.clone_from(&options.repeat);
    record.backend = options.backend.or(scenario.backend).unwrap_or_else(usual_backend);
    let dir = WorkDir::new(scenario)?;
    if !scenario.steps.is_empty() {
        tell(&Told::Preparing(scenario.steps.len()));
    }
    for step in &scenario.steps {
        prepare(step, dir.path(), scenario, options.stop)?;
    }
    let preload = scenario.programs.iter().any(|program| program.preload);
    let clocks = Clocks::new(dir.path(), scenario.hosts(), preload).map_err(|error| match error {
        crate::Error::Kernel { what, source } => RunError::Files { what, source },
        other => other.into(),
    })?;
    dir.furnish(scenario, &scenario.folder)?;
    let settings = Settings {
        congestion_control: scenario.congestion_control.clone(),
        ..Settings::default().seed(options.seed).backend(record.backend)
    };
    let network = Network::start(&scenario.topology, &settings)?;
    let hosts = network.hosts().into_iter().map(|host| {
        let [net, mounts] = host.descriptors();
        (host.name(), net, mounts)
    });
    let what = "note the hosts of the run".to_owned();
    visit::note(dir.path(), scenario.name(), hosts).map_err(|source| RunError::Files { what, source })?;
    tell(&Told::Made { hosts: scenario.directory.hosts.len(), programs: scenario.programs.len() });
    let slots = scenario.programs.iter().map(Slot::new).collect();
    let journal = Journal::new(scenario.clients.iter().map(|client| client.name.clone()));
    let stage = Stage { scenario, network, slots, dir, clocks, journal, over: AtomicBool::new(false) };
    let curves = scenario.directory.cables.iter().flat_map(|cable| {
        let [left, right] = &cable.ends;
        [Curve::new(&cable.name, left, right), Curve::new(&cable.name, right, left)]
    });
    record.curves = curves.collect();
    let played = thread::scope(|scope| {
        // Whatever comes first, an error or the end, threads are told.
        let _over = Over(&stage.over);
        for service in &scenario.services {
            let host = stage.host(&service.on).map_err(|why| not_started(&service.name, &service.on, why))?;
            services::play(scope, service, host, &stage.journal, &stage.over)
                .map_err(|why| not_started(&service.name, &service.on, why))?;
        }
        for slot in stage.slots.iter().filter(|slot| slot.spec.at.is_none()) {
            stage.start(slot).map_err(|why| not_started(&slot.spec.name, &slot.spec.on, why))?;
            stage.wait_ready(slot, options.stop)?;
        }
        let begun = Instant::now();
        let capture = options.captures.as_deref().map(|folder| capture(&stage, folder, begun)).transpose()?;
        stage.journal.begin(begun);
        tell(&Told::Begun);
        let (decided, decisions) = sync_channel(64);
        let mut play = Play { stage: &stage, schedule: &schedule, begun, record: &mut record, options, tell };
        let interrupted = play.finish(scope, &decided, &decisions)?;
        if let Some(capture) = capture {
            capture.finish()?;
        }
        Ok::<bool, RunError>(interrupted)
    });
    let interrupted = played?;
    record.wire = stage.network.report(Tolerance::default())?;
    record.wall = start.elapsed();
    Ok(Outcome { record, schedule, interrupted })
}

/// Captures every cable.
fn capture(stage: &Stage<'_>, folder: &Path, begun: Instant) -> Result<Capture, RunError> {
    let what = format!("make {}", folder.display());
    std::fs::create_dir_all(folder).map_err(|source| RunError::Files { what, source })?;
    let cables = stage.scenario.directory.cables.iter();
    let files = cables.map(|cable| (cable.link, folder.join(format!("{}.pcapng", cable.name))));
    Ok(stage.network.capture(files, CaptureLimits::default(), begun)?)
}

fn not_started(program: &str, on: &str, why: String) -> RunError {
    RunError::NotStarted { program: program.to_owned(), on: on.to_owned(), why }
}

/// Says that all is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn usual_backend() -> Backend {
    let open = std::fs::OpenOptions::new().read(true).write(true).open(DEVICE);
    if open.is_ok() { Backend::Tap } else { Backend::Packet }
}

/// Runs a step of preparation in the working directory of the run, beside all networks.
fn prepare(step: &Step, dir: &Path, scenario: &Scenario, stop: &AtomicBool) -> Result<(), RunError> {
    let fill = |text: &String| fill(text, dir, &scenario.directory).unwrap_or_else(|_| text.clone());
    let log = dir.join("prepare.log");
    let files = |source| RunError::Files { what: format!("write {}", log.display()), source };
    let output = std::fs::File::create(&log).map_err(files)?;
    let mut command = Command::new(&step.run.program);
    command.args(step.run.args.iter().map(fill)).envs(step.run.env.iter().map(|(name, value)| (name, fill(value))));
    command.current_dir(dir).stdin(Stdio::null()).stdout(output.try_clone().map_err(files)?).stderr(output);
    end_with_this_thread(&mut command);
    let failed = |why: String| {
        let told = std::fs::read(&log).unwrap_or_default();
        let told = String::from_utf8_lossy(&told).into_owned();
        let lines: Vec<&str> = told.lines().collect();
        let told = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        let args: Vec<&str> = step.run.args.iter().map(String::as_str).collect();
        let name = step.run.program.file_name().unwrap_or_default().display();
        RunError::Prepare { command: format!("{name} {}", args.join(" ")), why, told }
    };
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(format!("ended with {}", status_text(status)))),
            Ok(None) if start.elapsed() < step.within && !stop.load(Ordering::Relaxed) => {
                thread::sleep(Duration::from_millis(5));
            }
            _ => {
                // It is ended by what comes next in any case.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("has not ended within {:?}", step.within)));
            }
        }
    }
}

/// Whether a program has ended by itself with a status, and what it did else.
fn ended_with(slot: &Slot<'_>, status: i32) -> Result<String, String> {
    match slot.look() {
        State::Ended(ended) if ended.code() == Some(status) => Ok(String::new()),
        State::Ended(ended) => Err(format!("it ended with {}", status_text(ended))),
        State::Running => Err("it still runs".to_owned()),
        State::Killed => Err("it was killed by a fault".to_owned()),
        State::NotStarted => Err("it has not been started".to_owned()),
    }
}

/// An error of the wire in words.
fn told(error: &crate::Error) -> String {
    with_causes(error)
}
