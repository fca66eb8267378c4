//! Faults in scenarios: what they cut, and that they end.

use std::time::Duration;

use netsim::Backend;

use super::{Result, holds, play, play_with, scenario};

pub(super) fn a_cut_is_seen_by_every_way_to_reach_and_heals(backend: Backend) -> Result<()> {
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

pub(super) fn a_partial_partition_is_just_that(backend: Backend) -> Result<()> {
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

pub(super) fn one_way_is_one_way(backend: Backend) -> Result<()> {
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

pub(super) fn every_kind_of_fault_can_be_played(backend: Backend) -> Result<()> {
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
    holds(open == ["one-way"], open)
}

pub(super) fn a_random_schedule_is_played_as_it_was_made(backend: Backend) -> Result<()> {
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

pub(super) fn a_router_translates(backend: Backend) -> Result<()> {
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
