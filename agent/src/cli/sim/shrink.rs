//! `adit sim shrink`: the shortest schedule with which a scenario still fails.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use netsim::Verdict;
use netsim::scenario::{Injection, minimise};

use super::play::{BackendChoice, Player, stop_when_interrupted};
use super::{enter, load_all, note, say, shell_word};
use crate::cli::context::{Context, told, with_causes};
use crate::cli::error::CliError;

/// Leaves out faults as long as the scenario still fails, and gives what is left: a schedule for `adit sim run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  adit sim shrink storm.toml --seed 7 --to short.toml\n  adit sim run storm.toml --schedule short.toml\n\n\
                  A candidate counts as failing if one of its runs fails in what failed at first. Runs in which the machine\n\
                  could not keep up count for nothing."
)]
pub struct ShrinkArgs {
    /// The scenario file
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// The seed with which it fails
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// How often each candidate is run before it counts as well
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
    /// How many candidates are tried at most
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    attempts: usize,
    /// Write the schedule here instead of to standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// How packets get from the hosts' kernels and back; else what works
    #[arg(long, value_enum, value_name = "BACKEND")]
    backend: Option<BackendChoice>,
}

/// Runs the command.
pub(super) fn run(args: &ShrinkArgs, ctx: &Context, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), CliError> {
    let scenarios = load_all(std::slice::from_ref(&args.scenario), ctx, out, err)?;
    let [(path, scenario)] = &scenarios[..] else {
        return Err(CliError::usage("usage", "one scenario is shrunk at a time: name its file"));
    };
    enter()?;
    let stop = stop_when_interrupted()?;
    let quiet = Context { quiet: true, ..ctx.clone() };
    let player = Player { scenario, backend: args.backend.map(Into::into), captures: None, ctx: &quiet, stop: &stop };
    let all = scenario.schedule(args.seed);
    note(ctx, err, &format!("{}: {} faults with seed {}", scenario.name(), all.len(), args.seed));
    let tries = Tries { player, seed: args.seed, times: args.times };
    let wanted: BTreeSet<String> = tries.failed(&all, None, err)?;
    if stop.load(Ordering::Relaxed) {
        return Err(told(crate::cli::INTERRUPTED));
    }
    if wanted.is_empty() {
        let message = format!("{} does not fail with seed {}", scenario.name(), args.seed);
        return Err(CliError::failed("no_failure", message).hint("raise --times if it fails only now and then"));
    }
    note(ctx, err, &format!("fails: {}", wanted.iter().cloned().collect::<Vec<_>>().join("; ")));
    let mut broken = None;
    let mut number = 0;
    let mut fails = |candidate: &[Injection]| {
        if broken.is_some() || stop.load(Ordering::Relaxed) {
            return false;
        }
        number += 1;
        let fails = match tries.failed(candidate, Some(&wanted), err) {
            Ok(failed) => !failed.is_empty(),
            Err(error) => {
                broken = Some(error);
                false
            }
        };
        let what = if fails { "still fails" } else { "does not fail" };
        note(ctx, err, &format!("{number:4}: with {} of {} faults it {what}", candidate.len(), all.len()));
        fails
    };
    // A scenario that fails by itself needs none of its faults.
    let shrunk = match fails(&[]) {
        true => netsim::scenario::Shrunk { left: Vec::new(), tried: 1, minimal: true },
        false => minimise(&all, args.attempts, &mut fails),
    };
    if stop.load(Ordering::Relaxed) {
        return Err(told(crate::cli::INTERRUPTED));
    }
    if let Some(error) = broken {
        return Err(error);
    }
    if !shrunk.minimal {
        note(ctx, err, "the attempts are used up: a shorter one may be left (--attempts)");
    }
    let text = scenario.write_schedule(&shrunk.left, args.seed);
    let from = shell_word(&path.display().to_string());
    if let Some(to) = &args.to {
        std::fs::write(to, &text)
            .map_err(|error| CliError::failed("output", format!("cannot write {}: {error}", to.display())))?;
        let to = shell_word(&to.display().to_string());
        note(
            ctx,
            err,
            &format!("{} faults are left; to see it fail: adit sim run {from} --schedule {to}", shrunk.left.len()),
        );
    }
    if ctx.json {
        return ctx.write_json(
            out,
            &serde_json::json!({
                "scenario": scenario.name(), "seed": args.seed, "faults": all.len(), "left": shrunk.left.len(),
                "tried": shrunk.tried, "minimal": shrunk.minimal, "fails": wanted, "schedule": text,
            }),
        );
    }
    if args.to.is_none() { say(out, &text) } else { Ok(()) }
}

/// Runs candidates.
struct Tries<'a> {
    player: Player<'a>,
    seed: u64,
    times: u32,
}

impl Tries<'_> {
    /// What fails with these faults, of what is `wanted` if that is given: the first failing one of some runs decides.
    fn failed(
        &self,
        faults: &[Injection],
        wanted: Option<&BTreeSet<String>>,
        err: &mut dyn Write,
    ) -> Result<BTreeSet<String>, CliError> {
        for _ in 0..self.times {
            let outcome = self.player.play(self.seed, Some(faults.to_vec()), "", err);
            let outcome = outcome.map_err(|error| CliError::failed("simulator", with_causes(&error)))?;
            if outcome.interrupted {
                return Ok(BTreeSet::new());
            }
            if outcome.record.wire.verdict == Verdict::Overloaded {
                continue;
            }
            let failed = outcome.record.checks.into_iter().filter(|check| !check.ok).map(|check| check.name);
            let failed: BTreeSet<String> =
                failed.filter(|name| wanted.is_none_or(|some| some.contains(name))).collect();
            if !failed.is_empty() {
                return Ok(failed);
            }
        }
        Ok(BTreeSet::new())
    }
}
