//! `adit sim run`: one scenario after the other, what is going on to standard error, what came of it to standard output.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netsim::scenario::{Injection, Options, Outcome, RunError, Scenario, Told};
use netsim::{Backend, Verdict};

use super::{enter, load_all, note, say, shell_word};
use crate::cli::context::{Context, interrupted, told, with_causes};
use crate::cli::error::CliError;
use crate::cli::style::{Paint, Tone};

/// Runs scenarios one after the other. Exits with 0 only if everything held that they check.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit sim run split.toml\n  adit sim run tests/scenarios --out results   a folder of them, with reports\n  \
                  adit sim run split.toml --seed 7             other losses, another random schedule\n  \
                  adit sim run split.toml --schedule results/split/schedule.toml\n\n\
                  Needs no root where ordinary users may make namespaces: `adit sim doctor` finds out."
)]
pub struct RunArgs {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
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
    perform(&jobs, &args.how, ctx, out, err)
}

/// Runs scenarios one after the other: beside one another they would take the machine from each other.
pub(super) fn perform(
    jobs: &[Job],
    how: &How,
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
    let mut all = Vec::new();
    for job in jobs {
        let scenario = &job.scenario;
        let own = job.schedule.as_ref().map(|(seed, _)| *seed).or(scenario.seed());
        let seed = how.seed.or(own).unwrap_or(1);
        let player = Player {
            scenario,
            backend: how.backend.map(Into::into),
            captures: how.out.as_ref().map(|folder| folder.join(scenario.name())),
            ctx,
            stop: &stop,
        };
        let repeat = player.repeat(&job.command, seed);
        let injections = job.schedule.as_ref().map(|(_, injections)| injections.clone());
        let played = player.play(seed, injections, &repeat, err);
        if let (Ok(outcome), Some(folder)) = (&played, &how.out) {
            keep(outcome, scenario, &folder.join(scenario.name()))?;
        }
        let interrupted = stop.load(Ordering::Relaxed);
        let result = Played { file: &job.file, scenario, seed, repeat, outcome: played };
        // What could not be done because of Ctrl-C is no error.
        if !ctx.json && (!interrupted || result.outcome.is_ok()) {
            result.tell(ctx.paint(), out, err)?;
        }
        all.push(result);
        if interrupted {
            break;
        }
    }
    if ctx.json {
        let results: Vec<_> = all.iter().map(Played::json).collect();
        ctx.write_json(out, &serde_json::json!({ "scenarios": results }))?;
    }
    if stop.load(Ordering::Relaxed) {
        return Err(told(crate::cli::INTERRUPTED));
    }
    if all.iter().all(Played::passed) { Ok(()) } else { Err(told(1)) }
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

/// What came of one scenario.
struct Played<'a> {
    file: &'a Path,
    scenario: &'a Scenario,
    seed: u64,
    repeat: String,
    outcome: Result<Outcome, RunError>,
}

impl Played<'_> {
    fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Outcome::passed)
    }

    fn json(&self) -> serde_json::Value {
        let head = serde_json::json!({ "file": self.file, "passed": self.passed(), "repeat": self.repeat });
        let rest = match &self.outcome {
            Ok(outcome) => serde_json::from_str(&outcome.record.result_json()).unwrap_or_default(),
            Err(error) => serde_json::json!({
                "scenario": self.scenario.name(), "seed": self.seed,
                "error": {"code": "simulator", "message": with_causes(error), "hint": null},
            }),
        };
        let mut all = head.as_object().cloned().unwrap_or_default();
        all.extend(rest.as_object().cloned().unwrap_or_default());
        all.into()
    }

    fn tell(&self, paint: Paint, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
        let name = self.scenario.name();
        let outcome = match &self.outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // It may show the last lines of a program: several, each escaped.
                let text: Vec<_> =
                    with_causes(error).lines().map(|line| crate::logging::escape(line).into_owned()).collect();
                writeln!(err, "error: {name}: {}", text.join("\n  "))?;
                return say(out, &format!("{} {name}\n", paint.text(Tone::Bad, "FAIL")));
            }
        };
        let record = &outcome.record;
        let failed: Vec<_> = record.checks.iter().filter(|check| !check.ok).collect();
        let word = match (outcome.interrupted, failed.is_empty()) {
            (true, _) => paint.text(Tone::Warn, "interrupted"),
            (false, true) => paint.text(Tone::Good, "ok  "),
            (false, false) => paint.text(Tone::Bad, "FAIL"),
        };
        let held = record.checks.len() - failed.len();
        let mut text = format!(
            "{word} {name}: {held} of {} checks held, {:.1} s, seed {}, {}\n",
            record.checks.len(),
            record.wall.as_secs_f64(),
            self.seed,
            record.verdict(),
        );
        for check in &failed {
            let line = format!("     {:.2} s  {}: {}", check.at.as_secs_f64(), check.name, check.detail);
            text += &format!("{}\n", paint.text(Tone::Bad, &line));
        }
        if !failed.is_empty() {
            text += &format!("     to repeat it: {}\n", paint.text(Tone::Strong, &self.repeat));
        }
        if record.wire.verdict == Verdict::Overloaded {
            let late = format!(
                "     the machine could not keep up (99 of 100 packets at most {:.1} ms late, {} dropped): run less beside it",
                record.wire.late_p99.as_secs_f64() * 1e3,
                record.wire.drops
            );
            text += &format!("{}\n", paint.text(Tone::Warn, &late));
        }
        say(out, &text)
    }
}
