//! Faults of a schedule, done to a network and its programs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::stage::Stage;
use super::told;
use crate::scenario::faults::{Fault, Injection, Shape};
use crate::scenario::units::offset_text;
use crate::topology::{HostId, LinkId};
use crate::{Cut, Error, Readdressed, Renamed, Skew, Skewed};

/// A fault that is in force. Those that have a value of their own are over when it is dropped.
#[derive(Debug)]
pub(super) enum Active {
    /// It was over at once.
    Over,
    Wire(Vec<crate::Fault>),
    Readdressed(#[expect(dead_code, reason = "held for its end")] Readdressed),
    Renamed(#[expect(dead_code, reason = "held for its end")] Renamed),
    /// The clocks of these hosts.
    Clock(Vec<String>, Vec<Skewed>),
    Crashed(Vec<String>),
    Paused(Vec<String>),
    Nat(String),
    Firewall(String),
}

impl Active {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}

/// Host, program and what happened there.
type Notes = Vec<(String, String, String)>;

/// Begins a fault.
pub(super) fn begin(
    stage: &Stage<'_>,
    injection: &Injection,
    stop: &AtomicBool,
    notes: &mut Notes,
) -> Result<Active, Error> {
    let network = &stage.network;
    let directory = &stage.scenario.directory;
    let links = |on: &[String]| -> Vec<LinkId> {
        let mut links: Vec<LinkId> =
            on.iter().flat_map(|name| directory.cables(name)).map(|cable| cable.link).collect();
        links.sort_unstable_by_key(|link| link.0);
        links.dedup();
        links
    };
    let wire = |faults: Result<Vec<crate::Fault>, Error>| faults.map(Active::Wire);
    Ok(match &injection.fault {
        Fault::Cut { shape, reject, flaps } => {
            let mut cut = cut(stage, shape)?;
            if *reject {
                cut = cut.rejecting();
            }
            if let Some((down, up)) = flaps {
                cut = cut.flapping(*down, *up);
            }
            wire(network.cut(&cut).map(|fault| vec![fault]))?
        }
        Fault::Unplug { on } => wire(links(on).into_iter().map(|link| network.unplug(link)).collect())?,
        Fault::Flap { on, down, up } => {
            wire(links(on).into_iter().map(|link| network.flap(link, *down, *up)).collect())?
        }
        Fault::Degrade { on, towards: None, conditions } => {
            wire(links(on).into_iter().map(|link| network.degrade(link, conditions.clone())).collect())?
        }
        Fault::Degrade { on, towards: Some(device), conditions } => {
            let cables = on.iter().flat_map(|name| directory.cables(name));
            let ways = cables.filter_map(|cable| Some((cable.link, cable.ends.iter().position(|end| end == device)?)));
            wire(ways.map(|(link, side)| network.degrade_way(link, side == 0, conditions.clone())).collect())?
        }
        Fault::SlowThenDead { on, conditions, dead_after } => {
            let fault = network.slow_then_dead(host(stage, on)?, conditions.clone(), *dead_after);
            wire(fault.map(|fault| vec![fault]))?
        }
        Fault::Readdress { on, interface, addresses } => {
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            notes.push((on.clone(), String::new(), format!("{interface} has {} now", addresses.join(", "))));
            Active::Readdressed(network.readdress(host(stage, on)?, interface, &addresses)?)
        }
        Fault::Rename { on, name, addresses } => {
            let hosts = on.iter().map(|on| host(stage, on)).collect::<Result<Vec<_>, _>>()?;
            Active::Renamed(network.rename(&hosts, name, addresses)?)
        }
        Fault::Clock { on, skew } => {
            let skewed = stage.clocks.skew(on, *skew)?;
            for host in on {
                notes.push((host.clone(), String::new(), clock_text(*skew)));
            }
            Active::Clock(on.clone(), skewed)
        }
        Fault::Crash { on } => {
            let programs = programs(stage, on);
            each(stage, &programs, notes, |slot| Ok(slot.crash()));
            Active::Crashed(programs)
        }
        Fault::Pause { on } => {
            let programs = programs(stage, on);
            each(stage, &programs, notes, |slot| slot.pause());
            Active::Paused(programs)
        }
        Fault::Restart { on } => {
            each(stage, &programs(stage, on), notes, |slot| slot.restart());
            Active::Over
        }
        Fault::Rebind { on } => {
            on.iter().try_for_each(|name| network.rebind(router(stage, name)?.id))?;
            Active::Over
        }
        Fault::Nat { on, nat } => {
            network.set_nat(router(stage, on)?.id, nat.clone())?;
            Active::Nat(on.clone())
        }
        Fault::Firewall { on, firewall } => {
            network.set_firewall(router(stage, on)?.id, firewall.clone())?;
            Active::Firewall(on.clone())
        }
        Fault::Hold => {
            // Whoever holds the wire must not ask it for anything: this thread waits here until it is over.
            let held = network.hold()?;
            let (begun, lasts) = (Instant::now(), injection.lasts.unwrap_or_default());
            while begun.elapsed() < lasts && !stop.load(Ordering::Relaxed) {
                std::thread::sleep((lasts.saturating_sub(begun.elapsed())).min(Duration::from_millis(20)));
            }
            drop(held);
            Active::Over
        }
    })
}

/// Ends a fault. A failure to do so is noted: the run goes on.
pub(super) fn end(stage: &Stage<'_>, active: Active, notes: &mut Notes) {
    match active {
        // Dropping ends them.
        Active::Over | Active::Readdressed(_) | Active::Renamed(_) => {}
        Active::Wire(faults) => {
            let healed = faults.into_iter().map(crate::Fault::heal).fold(Ok(()), Result::and);
            restored_or_noted("the network", healed, notes);
        }
        Active::Clock(on, skewed) => {
            let ended = skewed.into_iter().try_for_each(Skewed::heal);
            on.iter().for_each(|host| notes.push((host.clone(), String::new(), "the clock is right".to_owned())));
            restored_or_noted(&on.join(", "), ended, notes);
        }
        Active::Crashed(programs) => each(stage, &programs, notes, |slot| slot.revive()),
        Active::Paused(programs) => each(stage, &programs, notes, |slot| Ok(slot.go_on())),
        Active::Nat(name) => {
            let restored = router(stage, &name).and_then(|entry| match &entry.nat {
                Some(nat) => stage.network.set_nat(entry.id, nat.clone()),
                None => Ok(()),
            });
            restored_or_noted(&name, restored, notes);
        }
        Active::Firewall(name) => {
            let restored = router(stage, &name);
            let restored = restored.and_then(|entry| stage.network.set_firewall(entry.id, entry.firewall.clone()));
            restored_or_noted(&name, restored, notes);
        }
    }
}

fn clock_text(skew: Skew) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is for people")]
    let rate = 1.0 + skew.gains as f64 / 1e9;
    let rate = if skew.gains == 0 { String::new() } else { format!(", and runs {rate} times as fast") };
    format!("the clock is off by {}{rate}", offset_text(skew.ahead))
}

fn restored_or_noted(name: &str, restored: Result<(), Error>, notes: &mut Notes) {
    if let Err(error) = restored {
        notes.push((name.to_owned(), String::new(), format!("cannot be as it was: {}", told(&error))));
    }
}

fn each(
    stage: &Stage<'_>,
    programs: &[String],
    notes: &mut Notes,
    work: impl Fn(&super::Slot<'_>) -> Result<String, String>,
) {
    for slot in programs.iter().filter_map(|name| stage.slot(name).ok()) {
        let text = work(slot).unwrap_or_else(|why| why);
        notes.push((slot.spec.on.clone(), slot.spec.name.clone(), text));
    }
}

fn programs(stage: &Stage<'_>, on: &[String]) -> Vec<String> {
    let mut programs: Vec<String> =
        on.iter().flat_map(|name| stage.scenario.directory.programs(name)).map(str::to_owned).collect();
    programs.sort_unstable();
    programs.dedup();
    programs
}

fn unknown(name: &str) -> Error {
    Error::Topology(format!("there is no {name}"))
}

fn host(stage: &Stage<'_>, name: &str) -> Result<HostId, Error> {
    stage.scenario.directory.host(name).map(|host| host.id).ok_or_else(|| unknown(name))
}

fn router<'s>(stage: &'s Stage<'_>, name: &str) -> Result<&'s crate::scenario::names::RouterEntry, Error> {
    stage.scenario.directory.router(name).ok_or_else(|| unknown(name))
}

fn cut(stage: &Stage<'_>, shape: &Shape) -> Result<Cut, Error> {
    let one = |name: &String| host(stage, name);
    let all = |names: &[String]| names.iter().map(one).collect::<Result<Vec<_>, _>>();
    Ok(match shape {
        Shape::Pair(left, right) => Cut::pair(one(left)?, one(right)?),
        Shape::OneWay(from, to) => Cut::one_way(one(from)?, one(to)?),
        Shape::Groups(groups) => {
            let groups = groups.iter().map(|group| all(group)).collect::<Result<Vec<_>, _>>()?;
            Cut::groups(&groups.iter().map(Vec::as_slice).collect::<Vec<_>>())
        }
        Shape::Isolate(name) => {
            let others: Vec<HostId> = stage.scenario.directory.hosts.iter().map(|host| host.id).collect();
            Cut::isolate(one(name)?, &others)
        }
        Shape::MajoritiesRing(names) => Cut::majorities_ring(&all(names)?),
        Shape::Bridge(left, bridge, right) => Cut::bridge(&all(left)?, one(bridge)?, &all(right)?),
    })
}
