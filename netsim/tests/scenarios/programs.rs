//! Programs, services and checks in scenarios, and what is told when they fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netsim::Backend;
use netsim::scenario::{Options, RunError, Told, run};

use super::{Result, chain, holds, play, play_with, scenario};

pub(super) fn programs_are_started_in_their_directories_crash_and_come_back(backend: Backend) -> Result<()> {
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

pub(super) fn a_clock_is_wrong_and_a_name_stands_for_another_for_a_while(backend: Backend) -> Result<()> {
    let mut text = r#"
hosts = ["alpha", "beta"]
[program.watch]
on = "alpha"
program = "self"
args = ["play", "watch=beta"]
clock = "preload"
ready = "ahead"
[program.other]
on = "beta"
program = "self"
args = ["play", "watch=beta"]
clock = "preload"
ready = "ahead"
[[fault]]
at = "200ms"
for = "600ms"
kind = "clock"
on = "alpha"
offset = "-90d"
[[fault]]
at = "500ms"
for = "600ms"
kind = "clock"
on = "alpha"
offset = "1h"
rate = 100
[[fault]]
at = "1.5s"
for = "500ms"
kind = "rename"
on = "alpha"
name = "beta"
address = "10.1.0.77"
[[check]]
at = "2.3s"
within = "5s"
kind = "output"
on = "watch"
contains = "ahead 0 beta 10.1.0.77\nahead 0 beta 10.1.0.2\n"
"#
    .to_owned();
    // Wrong in one way, in both (with what it has gained), in the other, and right again.
    for said in ["ahead -7776000 beta", "ahead -777239", "ahead 36", "ahead 0 beta 10.1.0.2\nahead"] {
        text += &format!(
            "[[check]]\nat = \"1.2s\"\nwithin = \"5s\"\nkind = \"output\"\non = \"watch\"\ncontains = {said:?}\n"
        );
    }
    for lacks in ["10.1.0.77", "ahead 1", "ahead -"] {
        text += &format!("[[check]]\nat = \"2.3s\"\nkind = \"output\"\non = \"other\"\nlacks = {lacks:?}\n");
    }
    play(&text, backend).map(drop)
}

pub(super) fn what_does_not_hold_is_told(backend: Backend) -> Result<()> {
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

pub(super) fn services_answer_and_links_have_their_rate(backend: Backend) -> Result<()> {
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

pub(super) fn a_run_that_is_stopped_ends_soon(backend: Backend) -> Result<()> {
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

pub(super) fn what_cannot_be_prepared_or_is_not_ready_says_why(backend: Backend) -> Result<()> {
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
