//! Scenarios that are played, over both backends.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::{Arguments, Failed, Trial};
use netsim::Backend;
use netsim::scenario::{Options, Outcome, Scenario, Surroundings, files_in, run};

mod clients;
mod faults;
mod programs;

use clients::*;
use faults::*;
use programs::*;

type Result<T> = std::result::Result<T, Failed>;
type Test = (&'static str, fn(Backend) -> Result<()>);

/// Makes tests of functions: the function's name is the test's.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => { [$((stringify!($name), $name as fn(Backend) -> Result<()>)),+] };
}

#[expect(clippy::print_stderr, reason = "a test that cannot run here says so")]
fn main() -> ExitCode {
    if let Some(status) = played() {
        return ExitCode::from(status);
    }
    let entered = netsim::enter();
    let mut arguments = Arguments::from_args();
    // Each has a thread that must run in time.
    arguments.test_threads.get_or_insert(2);
    if let Err(reason) = &entered {
        eprintln!("SKIPPED: every test of scenarios: {reason}");
    }
    let tap = std::fs::File::open("/dev/net/tun").is_ok();
    if entered.is_ok() && !tap {
        eprintln!("SKIPPED: every test over TAP devices: /dev/net/tun cannot be opened");
    }
    let tests: Vec<Test> = tests![
        a_cut_is_seen_by_every_way_to_reach_and_heals,
        a_partial_partition_is_just_that,
        one_way_is_one_way,
        programs_are_started_in_their_directories_crash_and_come_back,
        what_does_not_hold_is_told,
        every_kind_of_fault_can_be_played,
        services_answer_and_links_have_their_rate,
        a_router_translates,
        a_random_schedule_is_played_as_it_was_made,
        clients_are_served_again_after_a_cut,
        what_a_relay_does_wrong_is_found,
        a_clock_is_wrong_and_a_name_stands_for_another_for_a_while,
        a_run_that_is_stopped_ends_soon,
        what_cannot_be_prepared_or_is_not_ready_says_why,
    ]
    .to_vec();
    let mut trials = Vec::new();
    for (backend, name, works) in [(Backend::Tap, "tap", tap), (Backend::Packet, "packet", true)] {
        let all = tests.iter().map(|&(test, run)| {
            Trial::test(format!("{name}::{test}"), move || run(backend)).with_ignored_flag(entered.is_err() || !works)
        });
        trials.extend(all);
    }
    trials.push(Trial::test("every_example_is_a_scenario", every_example_is_a_scenario));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The part of a program in a scenario: says what it is told to, and ends with the status that it is told, or waits.
fn played() -> Option<u8> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("play") {
        return None;
    }
    let mut out = std::io::stdout();
    for word in arguments {
        if let Some(name) = word.strip_prefix("watch=") {
            watch(name);
        }
        if let Some(how) = word.strip_prefix("relay=") {
            clients::relay(how);
        }
        if let Some(status) = word.strip_prefix("exit=") {
            return status.parse().ok();
        }
        let text = match word.strip_prefix("file=") {
            Some(file) => std::fs::read_to_string(file).unwrap_or_else(|error| format!("{file}: {error}")),
            None => word,
        };
        // Whoever reads it may be gone.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
    loop {
        std::thread::park();
    }
}

/// Examples call programs that need not be on this machine.
fn every_example_is_a_scenario() -> Result<()> {
    let this = std::env::current_exe()?;
    let programs = ["iperf3", "python3", "etcd", "etcdctl", "sh"].map(|name| (name.to_owned(), this.clone()));
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
    let around = Surroundings { folder: folder.clone(), programs: BTreeMap::from(programs) };
    let mut names = Vec::new();
    for path in files_in(&folder)? {
        let scenario = Scenario::load(&path, &around).map_err(|problems| {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            told.join("\n")
        })?;
        names.push(scenario.name().to_owned());
    }
    names.sort();
    holds(names == ["etcd", "lossy-link", "split", "web-behind-nat"], names)
}

/// Says how far the wall clock is ahead of what it was to be, in seconds, and what a name stands for, whenever it changes.
#[expect(clippy::disallowed_methods, reason = "the wall clock of this process is what is looked at")]
fn watch(name: &str) {
    let (begun, wall) = (Instant::now(), SystemTime::now());
    let mut said = String::new();
    loop {
        let (passed, now) = (begun.elapsed().as_secs_f64(), SystemTime::now());
        let shown =
            now.duration_since(wall).map_or_else(|behind| -behind.duration().as_secs_f64(), |time| time.as_secs_f64());
        let found =
            (name, 1).to_socket_addrs().map(|all| all.map(|address| address.ip().to_string()).collect::<Vec<_>>());
        // Never a negative zero.
        let ahead = (shown - passed).round() + 0.0;
        let text = format!("ahead {ahead:.0} {name} {}", found.unwrap_or_default().join(" "));
        if text != said {
            // Whoever reads it may be gone.
            let _ = writeln!(std::io::stdout(), "{text}");
            said = text;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn around() -> Surroundings {
    let this = std::env::current_exe().unwrap_or_default();
    Surroundings { folder: PathBuf::from("/"), programs: BTreeMap::from([("self".to_owned(), this)]) }
}

fn scenario(text: &str) -> Result<Scenario> {
    Scenario::parse(text, "test.toml", &around()).map_err(|problems| {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        told.join("\n").into()
    })
}

fn play_with(text: &str, backend: Backend, seed: u64) -> Result<Outcome> {
    static NEVER: AtomicBool = AtomicBool::new(false);
    let options =
        Options { seed, schedule: None, backend: Some(backend), repeat: String::new(), captures: None, stop: &NEVER };
    run(&scenario(text)?, &options, &mut |_| ()).map_err(|error| chain(&error).into())
}

/// Plays a scenario in which all must hold.
fn play(text: &str, backend: Backend) -> Result<Outcome> {
    let outcome = play_with(text, backend, 1)?;
    match outcome.record.checks.iter().find(|check| !check.ok) {
        Some(check) => Err(format!("{}: {}\n{:#?}", check.name, check.detail, outcome.record.checks).into()),
        None => Ok(outcome),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn holds(what: bool, why: impl std::fmt::Debug) -> Result<()> {
    if what { Ok(()) } else { Err(format!("{why:#?}").into()) }
}
