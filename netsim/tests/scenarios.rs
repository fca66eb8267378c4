//! Scenarios that are played, over both backends.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use netsim::Backend;
use netsim::scenario::{Options, Outcome, RunError, Scenario, Surroundings, Told, run};

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

fn a_cut_is_seen_by_every_way_to_reach_and_heals(backend: Backend) -> Result<()> {
    let mut text = "hosts = [\"alpha\", \"beta\"]\n[[fault]]\nat = \"1s\"\nfor = \"2s\"\nkind = \"pair\"\non = [\"alpha\", \"beta\"]\n".to_owned();
    for by in ["tcp", "udp", "ping"] {
        for (at, kind) in [("0s", "reachable"), ("1.2s", "unreachable")] {
            text += &format!("[[check]]\nat = \"{at}\"\nkind = \"{kind}\"\nby = \"{by}\"\ntimeout = \"700ms\"\n");
        }
        text += &format!("[[check]]\nat = \"3s\"\nwithin = \"5s\"\nkind = \"reachable\"\nby = \"{by}\"\n");
    }
    let outcome = play(&text, backend)?;
    holds(outcome.record.checks.len() == 9, &outcome.record.checks)?;
    let [fault] = &outcome.record.faults[..] else { return Err("one fault".into()) };
    let until = fault.until.ok_or("it has ended")?;
    holds(fault.kind == "pair" && fault.on == ["alpha", "beta"], fault)?;
    holds(fault.at >= Duration::from_secs(1) && until >= Duration::from_secs(3), fault)?;
    let carried: u64 =
        outcome.record.curves.iter().filter_map(|curve| curve.samples().last()).map(|sample| sample.packets).sum();
    holds(outcome.record.curves.len() == 4 && carried > 10, carried)
}

fn a_partial_partition_is_just_that(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["alpha", "beta", "gamma"]
[[fault]]
at = "0s"
kind = "partition"
groups = [["alpha"], ["beta"]]
[[check]]
at = "100ms"
kind = "reachable"
except = ["alpha <-> beta"]
by = "tcp"
timeout = "500ms"
[[check]]
at = "100ms"
always = "700ms"
kind = "unreachable"
from = "alpha"
to = "beta"
timeout = "300ms"
"#;
    play(text, backend).map(drop)
}

fn one_way_is_one_way(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["alpha", "beta"]
[[fault]]
at = "500ms"
kind = "one-way"
on = ["alpha", "beta"]
[[check]]
at = "0s"
kind = "reachable"
[[check]]
at = "700ms"
kind = "reachable"
except = ["alpha -> beta"]
by = "udp"
timeout = "500ms"
[[check]]
at = "700ms"
kind = "unreachable"
by = "ping"
timeout = "500ms"
"#;
    play(text, backend).map(drop)
}

fn programs_are_started_in_their_directories_crash_and_come_back(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["alpha", "beta"]
[host.alpha.files]
"sub/greeting" = "beta is {ip.beta}"
[[prepare]]
program = "self"
args = ["play", "prepared", "exit=0"]
[program.server]
on = "alpha"
program = "self"
args = ["play", "file=sub/greeting", "ready {ip.alpha}"]
ready = "ready 10.1.0.1"
[program.client]
on = "beta"
at = "300ms"
program = "self"
args = ["play", "exit=3"]
exit = 3
[[fault]]
at = "500ms"
for = "500ms"
kind = "crash"
on = "alpha"
[[fault]]
at = "1.5s"
for = "300ms"
kind = "pause"
on = "server"
[[fault]]
at = "2s"
kind = "restart"
on = "server"
[[check]]
at = "100ms"
kind = "output"
on = "server"
contains = "beta is 10.1.0.2"
[[check]]
at = "700ms"
kind = "exit"
on = "server"
status = 0
name = "dead"
[[check]]
at = "1s"
within = "2s"
kind = "running"
on = "server"
[[check]]
at = "2.2s"
always = "200ms"
kind = "output"
on = "server"
lacks = "nonsense"
[[check]]
at = "100ms"
kind = "command"
on = "beta"
program = "self"
args = ["play", "said", "exit=7"]
status = 7
contains = "said"
timeout = "10s"
"#;
    let outcome = play_with(text, backend, 1)?;
    for check in &outcome.record.checks {
        // A killed program has not ended by itself.
        holds(check.ok == (check.name != "dead"), check)?;
    }
    let said: Vec<&str> = outcome.record.log.of("alpha").map(|line| &*line.text).collect();
    let begun = said.iter().filter(|line| **line == "ready 10.1.0.1").count();
    holds(begun == 3, &said)?;
    holds(["killed", "halted", "goes on"].iter().all(|text| said.contains(text)), &said)
}

fn what_does_not_hold_is_told(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["alpha", "beta"]
[program.bad]
on = "alpha"
program = "self"
args = ["play", "I give up", "exit=9"]
[[check]]
at = "0s"
kind = "unreachable"
timeout = "200ms"
[[check]]
at = "0s"
within = "300ms"
kind = "output"
on = "bad"
contains = "fine"
"#;
    let outcome = play_with(text, backend, 1)?;
    let told: Vec<(&str, &str)> =
        outcome.record.checks.iter().map(|check| (check.name.as_str(), check.detail.as_str())).collect();
    holds(!outcome.passed() && outcome.record.checks.iter().all(|check| !check.ok), &told)?;
    let expected = [
        ("nobody reaches anybody by UDP", "alpha -> beta: reached, and must not be"),
        ("bad writes `fine` within 300ms", "it has not written that"),
        ("bad does not fail", "ended with status 9"),
    ];
    holds(expected.iter().all(|(name, detail)| told.iter().any(|(n, d)| n == name && d.starts_with(detail))), &told)
}

fn every_kind_of_fault_can_be_played(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["a", "b", "c"]
[router.r]
nat = "port-restricted"
outside = "net"
[network.net]
members = ["a", "b", "r"]
[network.home]
members = ["c", "r"]
[program.p]
on = "a"
program = "self"
args = ["play"]
[[fault]]
at = "0s"
for = "100ms"
kind = "isolate"
on = "a"
reject = true
[[fault]]
at = "50ms"
for = "300ms"
kind = "majorities-ring"
[[fault]]
at = "100ms"
for = "100ms"
kind = "bridge"
on = "b"
groups = [["a"], ["c"]]
[[fault]]
at = "150ms"
for = "100ms"
kind = "unplug"
on = ["a", "net"]
[[fault]]
at = "200ms"
for = "300ms"
kind = "flap"
on = "b@net"
down = "50ms"
up = "50ms"
[[fault]]
at = "250ms"
for = "100ms"
kind = "degrade"
on = "net"
towards = "a"
delay = "20ms"
[[fault]]
at = "260ms"
for = "100ms"
kind = "degrade"
on = "home"
loss = "50%"
[[fault]]
at = "300ms"
for = "200ms"
kind = "slow-then-dead"
on = "c"
dead_after = "100ms"
delay = "10ms"
[[fault]]
at = "310ms"
for = "100ms"
kind = "readdress"
on = "a"
address = "10.1.0.99/24"
[[fault]]
at = "320ms"
kind = "rebind"
on = "r"
[[fault]]
at = "330ms"
for = "100ms"
kind = "nat"
on = "r"
nat = "symmetric"
[[fault]]
at = "340ms"
for = "100ms"
kind = "firewall"
on = "r"
block = ["udp", "tcp"]
[[fault]]
at = "700ms"
for = "100ms"
kind = "hold"
[[fault]]
at = "350ms"
kind = "one-way"
on = ["a", "b"]
down = "50ms"
up = "50ms"
[[check]]
at = "1s"
within = "8s"
kind = "reachable"
from = ["a", "c"]
to = "b"
by = "tcp"
"#;
    let outcome = play(text, backend)?;
    holds(outcome.record.faults.len() == 14, &outcome.record.faults)?;
    let open: Vec<_> = outcome.record.faults.iter().filter(|fault| fault.until.is_none()).map(|f| &*f.kind).collect();
    holds(open == ["rebind", "one-way"], open)
}

fn services_answer_and_links_have_their_rate(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["alpha", "beta"]
[network.net]
delay = "5ms"
rate = "8Mbit"
[service.web]
on = "beta"
kind = "http"
port = 80
text = "hello from beta"
[service.tcp]
on = "beta"
kind = "tcp-echo"
port = 7
[service.udp]
on = "beta"
kind = "udp-echo"
port = 7
[[check]]
at = "0s"
kind = "http"
from = "alpha"
url = "http://{ip.beta}/index.html"
contains = "hello from beta"
[[check]]
at = "0s"
kind = "http"
from = "alpha"
url = "http://beta:80"
[[check]]
at = "0s"
kind = "reachable"
from = "alpha"
to = "beta"
by = "tcp"
port = 7
[[check]]
at = "0s"
kind = "reachable"
from = "alpha"
to = "beta"
port = 7
[[check]]
at = "0s"
kind = "unreachable"
from = "alpha"
to = "beta"
port = 8
[[check]]
at = "1.5s"
kind = "throughput"
from = "alpha"
to = "beta"
at_least = "4Mbit"
at_most = "8Mbit"
"#;
    play(text, backend).map(drop)
}

fn a_router_translates(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["inside", "outside"]
[router.home]
nat = "port-restricted"
outside = "internet"
[network.lan]
members = ["inside", "home"]
[network.internet]
members = ["home", "outside"]
delay = "2ms"
[service.echo]
on = "outside"
kind = "udp-echo"
port = 7
[[check]]
at = "0s"
within = "5s"
kind = "reachable"
from = "inside"
to = "outside"
port = 7
[[check]]
at = "0s"
kind = "unreachable"
from = "outside"
to = "inside"
timeout = "300ms"
"#;
    play(text, backend).map(drop)
}

fn a_random_schedule_is_played_as_it_was_made(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["a", "b", "c"]
[program.p]
on = "a"
program = "self"
args = ["play"]
[random]
faults = 12
longest = "300ms"
healed_by = "1.5s"
[[check]]
at = "1.5s"
within = "8s"
kind = "reachable"
"#;
    let outcome = play_with(text, backend, 5)?;
    holds(outcome.passed(), &outcome.record.checks)?;
    let played: Vec<&str> = outcome.record.faults.iter().map(|fault| &*fault.kind).collect();
    let made = scenario(text)?.schedule(5);
    let planned: Vec<&str> = made.iter().map(|injection| injection.fault.kind()).collect();
    holds(played == planned && outcome.schedule == made, (played, planned))
}

fn a_run_that_is_stopped_ends_soon(backend: Backend) -> Result<()> {
    let text = r#"
hosts = ["alpha", "beta"]
[program.p]
on = "alpha"
program = "self"
args = ["play"]
[[fault]]
at = "0s"
for = "1h"
kind = "pair"
on = ["alpha", "beta"]
[[check]]
at = "0s"
within = "1h"
kind = "reachable"
timeout = "1h"
"#;
    let stop = AtomicBool::new(false);
    let options =
        Options { seed: 1, schedule: None, backend: Some(backend), repeat: String::new(), captures: None, stop: &stop };
    let begun = std::cell::Cell::new(None);
    let mut tell = |told: &Told<'_>| {
        if matches!(told, Told::Fault { .. }) {
            begun.set(Some(Instant::now()));
            stop.store(true, Ordering::Relaxed);
        }
    };
    let outcome = run(&scenario(text)?, &options, &mut tell).map_err(|error| chain(&error))?;
    let took = begun.get().ok_or("the fault has begun")?.elapsed();
    holds(outcome.interrupted && !outcome.passed() && took < Duration::from_secs(10), took)
}

fn what_cannot_be_prepared_or_is_not_ready_says_why(backend: Backend) -> Result<()> {
    let head = "hosts = [\"alpha\"]\n";
    let program = "program = \"self\"\nargs = [\"play\", \"I am lost\", \"exit=5\"]\n";
    let not_ready = format!("{head}[program.p]\non = \"alpha\"\n{program}ready = \"found\"\n");
    let failure = play_with(&not_ready, backend, 1).err().ok_or("it is not ready")?;
    let text = failure.message().unwrap_or_default();
    holds(text.starts_with("p on alpha ended with status 5; it said last:\nI am lost"), text)?;
    let prepare = format!("{head}[[prepare]]\n{program}");
    let failure = play_with(&prepare, backend, 1).err().ok_or("it is not prepared")?;
    let text = failure.message().unwrap_or_default();
    holds(text.contains("I am lost exit=5 ended with status 5; it said last:\nI am lost"), text)?;
    // The type is there to be told apart by callers.
    let _: fn(RunError) -> String = |error| error.to_string();
    Ok(())
}
