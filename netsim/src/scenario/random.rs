//! Random schedules: how they are asked for, and how a seed becomes one.
//!
//! What comes out is plain faults with times, sorted: to replay them no random number is needed.

use std::time::Duration;

use super::document::{Item, Table, Value};
use super::faults::{Fault, Injection, KINDS, Kind, Shape};
use super::names::{Directory, Names};
use super::problem::Span;
use super::units::duration_text;
use crate::wire::conditions::Conditions;
use crate::wire::random::Key;

/// Faults of one random schedule.
const MOST: i64 = 1_000;

/// Kinds of which random ones can be made: all that need nothing but a target.
const RANDOM: [Kind; 14] = [
    Kind::Pair,
    Kind::OneWay,
    Kind::Partition,
    Kind::Isolate,
    Kind::MajoritiesRing,
    Kind::Bridge,
    Kind::Unplug,
    Kind::Flap,
    Kind::Degrade,
    Kind::SlowThenDead,
    Kind::Crash,
    Kind::Pause,
    Kind::Restart,
    Kind::Rebind,
];

/// Bounds of a random schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random {
    pub(crate) count: u32,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) hosts: Vec<String>,
    pub(crate) programs: Vec<String>,
    pub(crate) from: Duration,
    pub(crate) shortest: Duration,
    pub(crate) longest: Duration,
    pub(crate) healed_by: Duration,
}

/// Reads `[random]`.
pub(crate) fn read(mut table: Table<'_>, names: &Names<'_>) -> Option<Random> {
    table = table.titled("[random]");
    let count = table.need("faults", "faults = 5").and_then(|value| value.integer(1..=MOST));
    let from = table.get("from").and_then(Value::duration).map_or(Duration::ZERO, |from| from.value);
    let longest = table.need("longest", "longest = \"3s\"").and_then(Value::duration);
    let shortest = table.get("shortest").and_then(Value::duration);
    let healed_by = table.need("healed_by", "healed_by = \"20s\"").and_then(Value::duration);
    let hosts = match table.get("hosts") {
        Some(value) => names.hosts(&value.strings()?)?,
        None => names.all_hosts(),
    };
    let programs = match table.get("programs") {
        Some(value) => {
            let named: Vec<_> = value.strings()?.iter().map(|name| names.programs(name)).collect();
            named.into_iter().collect::<Option<Vec<_>>>()?.concat()
        }
        None => names.directory.programs.iter().map(|(program, _)| program.clone()).collect(),
    };
    let subject = Subject { directory: names.directory, hosts: &hosts, programs: &programs };
    let kinds = match table.get("kinds") {
        Some(value) => {
            let chosen: Vec<Item<Kind>> =
                value.list()?.into_iter().filter_map(|value| value.choice("kind of fault", &KINDS)).collect();
            for kind in &chosen {
                if let Err(reason) = subject.allows(kind.value) {
                    let message = format!("no random fault of the kind {} can be made here", kind.value.name());
                    names.problems().note(&kind.span, message, Some(reason.to_owned()));
                }
            }
            chosen.into_iter().map(|kind| kind.value).collect()
        }
        None => RANDOM.into_iter().filter(|kind| subject.allows(*kind).is_ok()).collect::<Vec<_>>(),
    };
    let span = table.span().clone();
    table.finish();
    if kinds.is_empty() {
        names.problems().note(&span, "there is no kind of fault to choose from", None);
    }
    let (longest, healed_by) = (longest?, healed_by?);
    let shortest = shortest.map_or(longest.value / 10, |shortest| shortest.value).max(Duration::from_millis(1));
    bounds(shortest, &longest, from, &healed_by, names, &span);
    let count = u32::try_from(count?.value).ok()?;
    Some(Random { count, kinds, hosts, programs, from, shortest, longest: longest.value, healed_by: healed_by.value })
}

fn bounds(
    shortest: Duration,
    longest: &Item<Duration>,
    from: Duration,
    healed_by: &Item<Duration>,
    names: &Names<'_>,
    span: &Span,
) {
    if shortest > longest.value {
        names.problems().note(span, "`shortest` is longer than `longest`", None);
    }
    if from + longest.value > healed_by.value {
        let least = duration_text(from + longest.value);
        let hint = format!("`from` and `longest` need `healed_by = \"{least}\"` at least");
        names.problems().note(&healed_by.span, "the longest fault would not be healed by then", Some(hint));
    }
}

/// What random faults are about.
struct Subject<'a> {
    directory: &'a Directory,
    hosts: &'a [String],
    programs: &'a [String],
}

impl Subject<'_> {
    /// Whether there is something that a kind can be about, or why not.
    fn allows(&self, kind: Kind) -> Result<(), &'static str> {
        let enough = |there: usize, least: usize, why: &'static str| if there >= least { Ok(()) } else { Err(why) };
        match kind {
            _ if !RANDOM.contains(&kind) => Err("it needs more than a target: write it as a [[fault]]"),
            Kind::MajoritiesRing | Kind::Bridge => enough(self.hosts.len(), 3, "it takes three hosts"),
            Kind::Pair | Kind::OneWay | Kind::Partition | Kind::Isolate => {
                enough(self.hosts.len(), 2, "it takes two hosts")
            }
            Kind::Crash | Kind::Pause | Kind::Restart => enough(self.programs.len(), 1, "it takes a program"),
            Kind::Rebind => enough(self.nats().len(), 1, "it takes a router with a NAT"),
            _ => enough(self.hosts.len(), 1, "it takes a host"),
        }
    }

    fn nats(&self) -> Vec<&str> {
        let with = self.directory.routers.iter().filter(|router| router.nat.is_some());
        with.map(|router| &*router.name).collect()
    }
}

/// Numbers that a seed decides.
struct Dice {
    key: Key,
    thrown: u64,
}

impl Dice {
    fn throw(&mut self) -> u64 {
        self.thrown += 1;
        self.key.with(self.thrown).value()
    }

    /// From 0 up to before `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.throw() % end).unwrap_or_default()
    }

    /// A time in whole milliseconds.
    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let span = millis(most.saturating_sub(least)).saturating_add(1);
        least + Duration::from_millis(self.throw() % span)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    fn shuffled(&mut self, of: &[String]) -> Vec<String> {
        let mut all = of.to_vec();
        for end in (1..all.len()).rev() {
            let other = self.below(end + 1);
            all.swap(end, other);
        }
        all
    }
}

/// The faults that a seed makes of the bounds, by their time.
pub(crate) fn expand(random: &Random, directory: &Directory, seed: u64) -> Vec<Injection> {
    // Another key than that of the packets, which the same seed decides.
    let mut dice = Dice { key: Key::new(seed).with(0x7363_6865_6475_6c65), thrown: 0 };
    let mut all: Vec<Injection> = (0..random.count).filter_map(|_| throw(random, directory, &mut dice)).collect();
    all.sort_by_key(|injection| injection.at);
    all
}

fn throw(random: &Random, directory: &Directory, dice: &mut Dice) -> Option<Injection> {
    let kind = *dice.one(&random.kinds)?;
    let lasts = dice.between(random.shortest, random.longest);
    let at = dice.between(random.from, random.healed_by.saturating_sub(lasts));
    let fault = fault(kind, random, directory, lasts, dice)?;
    let lasts = (!fault.is_instant()).then_some(lasts);
    Some(Injection { at, lasts, fault })
}

fn fault(kind: Kind, random: &Random, directory: &Directory, lasts: Duration, dice: &mut Dice) -> Option<Fault> {
    let subject = Subject { directory, hosts: &random.hosts, programs: &random.programs };
    let cut = |shape| Some(Fault::Cut { shape, reject: false, flaps: None });
    let hosts = dice.shuffled(&random.hosts);
    let first = hosts.first().cloned();
    match kind {
        Kind::Pair => cut(Shape::Pair(first?, hosts.get(1)?.clone())),
        Kind::OneWay => cut(Shape::OneWay(first?, hosts.get(1)?.clone())),
        Kind::Isolate => cut(Shape::Isolate(first?)),
        Kind::MajoritiesRing => cut(Shape::MajoritiesRing(hosts)),
        Kind::Partition => {
            let at = 1 + dice.below(hosts.len().checked_sub(1)?);
            let (left, right) = hosts.split_at(at);
            cut(Shape::Groups(vec![left.to_vec(), right.to_vec()]))
        }
        Kind::Bridge => {
            let (bridge, others) = hosts.split_first()?;
            let at = 1 + dice.below(others.len().checked_sub(1)?);
            let (left, right) = others.split_at(at);
            cut(Shape::Bridge(left.to_vec(), bridge.clone(), right.to_vec()))
        }
        Kind::Unplug => Some(Fault::Unplug { on: vec![first?] }),
        Kind::Flap => {
            let (least, most) = (Duration::from_millis(50), Duration::from_millis(500));
            Some(Fault::Flap { on: vec![first?], down: dice.between(least, most), up: dice.between(least, most) })
        }
        Kind::Degrade => Some(Fault::Degrade { on: vec![first?], towards: None, conditions: conditions(dice) }),
        Kind::SlowThenDead => {
            let dead_after = dice.between(lasts / 4, lasts / 2);
            Some(Fault::SlowThenDead { on: first?, conditions: conditions(dice), dead_after })
        }
        Kind::Crash => Some(Fault::Crash { on: vec![dice.one(&random.programs)?.clone()] }),
        Kind::Pause => Some(Fault::Pause { on: vec![dice.one(&random.programs)?.clone()] }),
        Kind::Restart => Some(Fault::Restart { on: vec![dice.one(&random.programs)?.clone()] }),
        Kind::Rebind => {
            let routers = subject.nats();
            Some(Fault::Rebind { on: vec![(*dice.one(&routers)?).to_owned()] })
        }
        Kind::Readdress | Kind::Rename | Kind::Clock | Kind::Nat | Kind::Firewall | Kind::Hold => None,
    }
}

/// Bad ones, but such that something still passes.
fn conditions(dice: &mut Dice) -> Conditions {
    let delay = dice.between(Duration::from_millis(10), Duration::from_millis(200));
    let percent = u32::try_from(1 + dice.below(20)).unwrap_or(1);
    Conditions::clean().delay(delay).loss(f64::from(percent) / 100.0)
}
