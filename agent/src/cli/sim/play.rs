//! `adit sim run`: scenarios, some at once, what is going on to standard error, what came of it to standard output.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use netsim::Backend;
use netsim::scenario::{Injection, Options, Outcome, RunError, Scenario, Told};

use super::played::Played;
use super::{enter, load_all, note, shell_word};
use crate::cli::context::{Context, interrupted, told, with_causes};
use crate::cli::error::CliError;

/// Runs scenarios, as many at once as there are cores. Exits with 0 only if everything held that they check.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit sim run split.toml\n  adit sim run tests/scenarios --out results   a folder of them, with reports\n  \
                  adit sim run split.toml --seed 7             other losses, another random schedule\n  \
                  adit sim run tests/scenarios --jobs 1        one after the other, told while they run\n  \
                  adit sim run split.toml --schedule results/split/schedule.toml\n\n\
                  Needs no root where ordinary users may make namespaces: `adit sim doctor` finds out."
)]
pub struct RunArgs {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    /// How many are run at once; else as many as there are cores. Those in which the machine could not keep up are run
    /// again, alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    jobs: Option<u16>,
    /// Play these faults, which an earlier run has written, in place of the scenario's
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
}

/// How scenarios are run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct How {
    /// What decides which packets are lost and which random faults there are; else the scenario's own, or 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Write a folder for each scenario: timeline.html, result.json, schedule.toml, logs, and what links carried as pcapng
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How packets get from the hosts' kernels and back; else what works
    #[arg(long, value_enum, value_name = "BACKEND")]
    backend: Option<BackendChoice>,
}

/// How the wire meets the hosts' kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum BackendChoice {
    /// TAP devices
    Tap,
    /// Packet sockets
    Packet,
}

impl From<BackendChoice> for Backend {
    fn from(choice: BackendChoice) -> Self {
        match choice {
            BackendChoice::Tap => Self::Tap,
            BackendChoice::Packet => Self::Packet,
        }
    }
}

/// A scenario that is to be run.
pub(super) struct Job {
    /// The file that it comes from.
    pub(super) file: PathBuf,
    /// The command that runs it, without seed and backend.
    pub(super) command: String,
    pub(super) scenario: Scenario,
    /// The faults, if they are not the scenario's own, with the seed that they were made with.
    pub(super) schedule: Option<(u64, Vec<Injection>)>,
}

/// Runs the command.
pub(super) fn run(args: &RunArgs, ctx: &Context, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    let scenarios = load_all(&args.scenarios, ctx, out, err)?;
    let mut jobs: Vec<Job> = scenarios
        .into_iter()
        .map(|(file, scenario)| {
            let command = format!("adit sim run {}", shell_word(&file.display().to_string()));
            Job { file, command, scenario, schedule: None }
        })
        .collect();
    if let Some(path) = &args.schedule {
        let [job] = &mut jobs[..] else {
            return Err(CliError::usage("usage", "--schedule goes with one scenario"));
        };
        job.schedule = Some(job.scenario.load_schedule(path).map_err(|problems| {
            let told: Vec<String> = problems.iter().map(|problem| problem.render(false)).collect();
            CliError::usage("document", told.join("\n"))
        })?);
        job.command += &format!(" --schedule {}", shell_word(&path.display().to_string()));
    }
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    perform(&jobs, &args.how, args.jobs.map_or_else(cores, usize::from), ctx, out, err)
}

/// Runs scenarios, at most so many at once.
pub(super) fn perform(
    jobs: &[Job],
    how: &How,
    at_once: usize,
    ctx: &Context,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    let mut names = BTreeSet::new();
    if let (Some(_), Some(job)) = (&how.out, jobs.iter().find(|job| !names.insert(job.scenario.name()))) {
        let message = format!("two scenarios are called {}, and would write into one folder", job.scenario.name());
        return Err(CliError::usage("usage", message).hint("give one another `name`, or run them apart"));
    }
    enter()?;
    let stop = stop_when_interrupted()?;
    let run = Run { jobs, how, ctx, stop: &stop };
    let mut all = if at_once.min(jobs.len()) > 1 { run.beside(at_once, out, err)? } else { run.in_turn(out, err)? };
    all.sort_by_key(|played| played.number);
    if ctx.json {
        let results: Vec<_> = all.iter().map(|played| played.json(&jobs[played.number])).collect();
        ctx.write_json(out, &serde_json::json!({ "scenarios": results }))?;
    }
    if stop.load(Ordering::Relaxed) {
        return Err(told(crate::cli::INTERRUPTED));
    }
    if all.iter().all(Played::passed) { Ok(()) } else { Err(told(1)) }
}

/// All that is to be run.
#[derive(Clone, Copy)]
struct Run<'a> {
    jobs: &'a [Job],
    how: &'a How,
    ctx: &'a Context,
    stop: &'a AtomicBool,
}

/// What runs beside one another tell.
enum News {
    Started(usize),
    /// What came of it, and what it has told meanwhile.
    Ended(Box<Played>, Vec<u8>),
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One after the other.
    fn in_turn(&self, out: &mut dyn Write, err: &mut dyn Write) -> Result<Vec<Played>, CliError> {
        let mut all = Vec::new();
        for number in 0..self.jobs.len() {
            let played = self.play(number, err);
            self.finish(&played, out, err)?;
            all.push(played);
            if self.stopped() {
                break;
            }
        }
        Ok(all)
    }

    /// Some at once. What each tells is told in one piece when it has ended. A run in which the machine could not keep up
    /// shows nothing, so it is run again when the others have ended, alone.
    fn beside(&self, at_once: usize, out: &mut dyn Write, err: &mut dyn Write) -> Result<Vec<Played>, CliError> {
        let next = AtomicUsize::new(0);
        let (tell, told) = sync_channel(at_once);
        let (mut all, mut again) = (Vec::new(), Vec::new());
        thread::scope(|scope| {
            for _ in 0..at_once.min(self.jobs.len()) {
                let (tell, next) = (tell.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.jobs.len() || self.stopped() {
                            return;
                        }
                        let mut notes = Vec::new();
                        // Whoever hears it waits for all to end.
                        let _ = tell.send(News::Started(number));
                        let played = self.play(number, &mut notes);
                        let _ = tell.send(News::Ended(Box::new(played), notes));
                    }
                });
            }
            drop(tell);
            let mut told_of = Ok(());
            for news in told {
                let (played, notes) = match news {
                    News::Ended(played, notes) => (*played, notes),
                    News::Started(number) => {
                        let (name, place) = (self.jobs[number].scenario.name(), number + 1);
                        note(self.ctx, err, &format!("{name}: started ({place} of {})", self.jobs.len()));
                        continue;
                    }
                };
                // A closed standard error cannot be told about.
                let _ = err.write_all(&notes);
                if played.is_overloaded() && !self.stopped() {
                    again.push(played.number);
                    continue;
                }
                if told_of.is_ok() {
                    told_of = self.finish(&played, out, err);
                }
                if told_of.is_err() {
                    // Nobody hears any more what comes of the others.
                    self.stop.store(true, Ordering::Relaxed);
                }
                all.push(played);
            }
            told_of
        })?;
        for number in again {
            if self.stopped() {
                break;
            }
            let name = self.jobs[number].scenario.name();
            note(self.ctx, err, &format!("{name}: the machine could not keep up beside others; once more, alone"));
            let played = self.play(number, err);
            self.finish(&played, out, err)?;
            all.push(played);
        }
        Ok(all)
    }

    fn play(&self, number: usize, err: &mut dyn Write) -> Played {
        let job = &self.jobs[number];
        let own = job.schedule.as_ref().map(|(seed, _)| *seed).or(job.scenario.seed());
        let seed = self.how.seed.or(own).unwrap_or(1);
        let player = Player {
            scenario: &job.scenario,
            backend: self.how.backend.map(Into::into),
            captures: self.how.out.as_ref().map(|folder| folder.join(job.scenario.name())),
            ctx: self.ctx,
            stop: self.stop,
        };
        let repeat = player.repeat(&job.command, seed);
        let injections = job.schedule.as_ref().map(|(_, injections)| injections.clone());
        let outcome = player.play(seed, injections, &repeat, err);
        Played { number, seed, repeat, outcome }
    }

    /// Keeps and tells what came of a run.
    fn finish(&self, played: &Played, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
        let job = &self.jobs[played.number];
        if let (Ok(outcome), Some(folder)) = (&played.outcome, &self.how.out) {
            keep(outcome, &job.scenario, &folder.join(job.scenario.name()))?;
        }
        // What could not be done because of Ctrl-C is no error.
        if !self.ctx.json && (!self.stopped() || played.outcome.is_ok()) {
            played.tell(job, self.ctx.paint(), out, err)?;
        }
        Ok(())
    }
}

/// Writes what a run has left.
fn keep(outcome: &Outcome, scenario: &Scenario, folder: &Path) -> Result<(), CliError> {
    outcome.record.write_to(folder).map_err(|error| CliError::failed("output", with_causes(&error)))?;
    let path = folder.join("schedule.toml");
    let text = scenario.write_schedule(&outcome.schedule, outcome.record.seed);
    std::fs::write(&path, text)
        .map_err(|error| CliError::failed("output", format!("cannot write {}: {error}", path.display())))
}

/// True from Ctrl-C on. Everything that runs ends then in order.
pub(super) fn stop_when_interrupted() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::failed("runtime", format!("cannot start: {e}")))?;
    let watch = move || {
        runtime.block_on(interrupted());
        seen.store(true, Ordering::Relaxed);
    };
    let started = thread::Builder::new().name("interrupt".to_owned()).spawn(watch);
    started.map_err(|e| CliError::failed("runtime", format!("cannot start a thread: {e}")))?;
    Ok(stop)
}

/// Plays one scenario.
pub(super) struct Player<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) backend: Option<Backend>,
    /// Where captures go.
    pub(super) captures: Option<PathBuf>,
    pub(super) ctx: &'a Context,
    pub(super) stop: &'a AtomicBool,
}

impl Player<'_> {
    /// The one command that does the same again.
    fn repeat(&self, command: &str, seed: u64) -> String {
        let text = format!("{command} --seed {seed}");
        match self.backend {
            Some(Backend::Tap) => text + " --backend tap",
            Some(Backend::Packet) => text + " --backend packet",
            None => text,
        }
    }

    /// Plays it, telling what is going on.
    pub(super) fn play(
        &self,
        seed: u64,
        schedule: Option<Vec<Injection>>,
        repeat: &str,
        err: &mut dyn Write,
    ) -> Result<Outcome, RunError> {
        let options = Options {
            seed,
            schedule,
            backend: self.backend,
            repeat: repeat.to_owned(),
            captures: self.captures.clone(),
            stop: self.stop,
        };
        let name = self.scenario.name();
        netsim::scenario::run(self.scenario, &options, &mut |told| {
            let text = match told {
                Told::Preparing(steps) => format!("{name}: preparing, {steps} step(s)"),
                Told::Made { hosts, programs } => format!("{name}: {hosts} hosts; starting {programs} programs"),
                Told::Begun => format!("{name}: begun, seed {seed}"),
                Told::Fault { at, kind, on, begins } => {
                    let what = if *begins { "begins" } else { "ends" };
                    format!("{} {kind} {} {what}", seconds(*at), on.join(" "))
                }
                Told::Check(check) => {
                    let mark = if check.ok { "ok  " } else { "FAIL" };
                    let detail = if check.detail.is_empty() { String::new() } else { format!(" ({})", check.detail) };
                    format!("{} {mark} {}{detail}", seconds(check.at), check.name)
                }
            };
            note(self.ctx, err, &text);
        })
    }
}

fn seconds(time: Duration) -> String {
    format!("{:7.2} s ", time.as_secs_f64())
}
