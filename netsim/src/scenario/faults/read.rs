//! Faults, read.

use std::time::Duration;

use super::{Fault, Injection, KINDS, Kind, Shape};
use crate::Skew;
use crate::link::parse;
use crate::scenario::conditions;
use crate::scenario::document::{Item, Table, Value};
use crate::scenario::names::Names;
use crate::scenario::problem::quote;
use crate::wire::conditions::Conditions;

/// Reads `[[fault]]`.
pub(crate) fn read(value: Value<'_>, names: &Names<'_>) -> Option<Injection> {
    let mut table = value.table()?.titled("this fault");
    let at = table.need("at", "at = \"2s\"").and_then(Value::duration);
    let kind = table.need("kind", "kind = \"partition\"").and_then(|value| value.choice("kind of fault", &KINDS));
    let Some(kind) = kind else {
        // What else it takes depends on the kind.
        return None;
    };
    table = table.titled(format!("a fault of the kind {}", kind.value.name()));
    let fault = read_fault(kind.value, &mut table, names);
    let lasts = match fault.as_ref().is_some_and(Fault::is_instant) {
        true => None,
        false => table.get("for").and_then(Value::duration),
    };
    if let Some(lasts) = lasts.as_ref().filter(|lasts| lasts.value.is_zero()) {
        names.problems().note(&lasts.span, "a fault lasts longer than nothing", None);
    }
    if kind.value == Kind::Hold && lasts.is_none() {
        let hint = Some("add `for = \"1s\"`".to_owned());
        names.problems().note(&kind.span, "a fault of the kind hold needs `for`", hint);
    }
    table.finish();
    Some(Injection { at: at?.value, lasts: lasts.map(|lasts| lasts.value), fault: fault? })
}

fn read_fault(kind: Kind, table: &mut Table<'_>, names: &Names<'_>) -> Option<Fault> {
    match kind {
        Kind::Pair | Kind::OneWay | Kind::Partition | Kind::Isolate | Kind::MajoritiesRing | Kind::Bridge => {
            let shape = read_shape(kind, table, names);
            let reject = table.get("reject").and_then(Value::boolean).unwrap_or_default();
            let flaps = read_flaps(table);
            Some(Fault::Cut { shape: shape?, reject, flaps: flaps? })
        }
        Kind::Unplug => Some(Fault::Unplug { on: cables(table, names)? }),
        Kind::Flap => {
            let on = cables(table, names);
            table.need("down", "down = \"200ms\"");
            table.need("up", "up = \"500ms\"");
            let (down, up) = read_flaps(table)??;
            Some(Fault::Flap { on: on?, down, up })
        }
        Kind::Degrade => {
            let on = cables(table, names);
            let towards = match table.get("towards") {
                Some(value) => Some(names.device(&value.string()?)?),
                None => None,
            };
            Some(Fault::Degrade { conditions: conditions::read(table, &Conditions::clean()), on: on?, towards })
        }
        Kind::SlowThenDead => {
            let on = one(table, "alpha").and_then(|name| names.host(&name));
            let after = table.need("dead_after", "dead_after = \"3s\"").and_then(Value::duration);
            let conditions = conditions::read(table, &Conditions::clean());
            Some(Fault::SlowThenDead { on: on?, conditions, dead_after: after?.value })
        }
        Kind::Crash => Some(Fault::Crash { on: programs(table, names)? }),
        Kind::Pause => Some(Fault::Pause { on: programs(table, names)? }),
        Kind::Restart => Some(Fault::Restart { on: programs(table, names)? }),
        Kind::Readdress => {
            let on = one(table, "alpha").and_then(|name| names.host(&name));
            let interface = table.get("interface").and_then(Value::string).map_or("eth0", |name| name.value).to_owned();
            let addresses = table.need("address", "address = \"10.1.0.77/24\"").and_then(Value::strings)?;
            for address in addresses.iter().filter(|address| parse(address.value).is_none()) {
                let message = format!("{} is not an address with its prefix length", quote(address.value));
                names.problems().note(&address.span, message, Some("write \"10.1.0.77/24\"".to_owned()));
            }
            if let Some(host) = &on
                && !names.interfaces(host).contains(&interface)
            {
                let message = format!("{host} has no interface {}", quote(&interface));
                names.problems().note(
                    table.span(),
                    message,
                    Some(format!("it has {}", names.interfaces(host).join(", "))),
                );
            }
            Some(Fault::Readdress { on: on?, interface, addresses: texts(addresses) })
        }
        Kind::Rename => {
            let on = match table.get("on") {
                Some(value) => names.hosts(&value.strings()?),
                None => Some(names.all_hosts()),
            };
            let name =
                table.need("name", "name = \"beta\"").and_then(Value::string).filter(|name| is_dns_name(name, names));
            let texts = table.need("address", "address = \"10.1.0.77\"").and_then(Value::strings)?;
            let addresses = texts.iter().map(|text| {
                let ip = text.value.parse().ok();
                if ip.is_none() {
                    let message = format!("{} is not an address", quote(text.value));
                    names.problems().note(&text.span, message, Some("write \"10.1.0.77\"".to_owned()));
                }
                ip
            });
            let addresses: Vec<_> = addresses.collect();
            let addresses = addresses.into_iter().collect::<Option<_>>()?;
            Some(Fault::Rename { on: on?, name: name?.value.to_owned(), addresses })
        }
        Kind::Clock => {
            let on = table.need("on", "on = \"alpha\"").and_then(Value::strings)?;
            let on = names.hosts(&on);
            let ahead = table.get("offset").map(Value::offset);
            let rate = table.get("rate").map(|value| value.number(0.0..=1_000.0));
            if ahead.is_none() && rate.is_none() {
                let hint = Some("add `offset = \"-1h\"` or `rate = 1.01`".to_owned());
                names.problems().note(table.span(), "it needs `offset` or `rate`", hint);
            }
            let ahead = ahead.map_or(Some(0), |offset| Some(offset?.value))?;
            #[expect(clippy::cast_possible_truncation, reason = "it is a thousand times a billion at most")]
            let gains = rate.map_or(Some(0), |rate| Some(((rate?.value - 1.0) * 1e9).round() as i64))?;
            Some(Fault::Clock { on: on?, skew: Skew { ahead, gains } })
        }
        Kind::Rebind => {
            let on = table.need("on", "on = \"home\"").and_then(Value::strings)?;
            let on = on.iter().map(|name| names.router(name, true)).collect::<Option<_>>()?;
            Some(Fault::Rebind { on })
        }
        Kind::Nat => {
            let on = one(table, "home").and_then(|name| names.router(&name, true));
            table.need("nat", "nat = \"symmetric\"");
            Some(Fault::Nat { nat: conditions::read_nat(table)?, on: on? })
        }
        Kind::Firewall => {
            let on = one(table, "home").and_then(|name| names.router(&name, false));
            Some(Fault::Firewall { firewall: conditions::read_firewall(table), on: on? })
        }
        Kind::Hold => Some(Fault::Hold),
    }
}

/// Whether a text can be a name in `/etc/hosts`; notes it if not.
fn is_dns_name(name: &Item<&str>, names: &Names<'_>) -> bool {
    let well = (1..=253).contains(&name.value.len())
        && name.value.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if !well {
        names.problems().note(&name.span, format!("{} is not a name", quote(name.value)), None);
    }
    well
}

fn read_shape(kind: Kind, table: &mut Table<'_>, names: &Names<'_>) -> Option<Shape> {
    match kind {
        Kind::Pair | Kind::OneWay => {
            let example = if kind == Kind::Pair { "on = [\"alpha\", \"beta\"]" } else { "on = [\"from\", \"to\"]" };
            let value = table.need("on", example)?;
            let span = value.span.clone();
            let hosts = value.strings()?;
            let found = names.hosts(&hosts)?;
            match &found[..] {
                [one, other] if one != other => Some(match kind {
                    Kind::Pair => Shape::Pair(one.clone(), other.clone()),
                    _ => Shape::OneWay(one.clone(), other.clone()),
                }),
                _ => {
                    names.problems().note(&span, "it takes two different hosts", Some(format!("write `{example}`")));
                    None
                }
            }
        }
        Kind::Isolate => Some(Shape::Isolate(names.host(&one(table, "alpha")?)?)),
        Kind::MajoritiesRing => {
            let hosts = match table.get("on") {
                Some(value) => names.hosts(&value.strings()?)?,
                None => names.all_hosts(),
            };
            if hosts.len() < 3 {
                names.problems().note(table.span(), "a ring of majorities takes three hosts at least", None);
            }
            Some(Shape::MajoritiesRing(hosts))
        }
        Kind::Bridge => {
            let bridge = one(table, "gamma").and_then(|name| names.host(&name));
            let [left, right] = <[_; 2]>::try_from(groups(table, names, 2..=2)?).ok()?;
            Some(Shape::Bridge(left, bridge?, right))
        }
        _ => Some(Shape::Groups(groups(table, names, 2..=1_000)?)),
    }
}

fn groups(
    table: &mut Table<'_>,
    names: &Names<'_>,
    count: std::ops::RangeInclusive<usize>,
) -> Option<Vec<Vec<String>>> {
    let value = table.need("groups", "groups = [[\"alpha\"], [\"beta\", \"gamma\"]]")?;
    let span = value.span.clone();
    let groups: Vec<Option<Vec<String>>> =
        value.list()?.into_iter().map(|group| names.hosts(&group.strings()?)).collect();
    let groups: Vec<Vec<String>> = groups.into_iter().collect::<Option<_>>()?;
    let mut all = groups.concat();
    all.sort_unstable();
    let hint = Some("write `groups = [[\"alpha\"], [\"beta\", \"gamma\"]]`".to_owned());
    if !count.contains(&groups.len()) || groups.iter().any(Vec::is_empty) {
        names.problems().note(&span, "it takes two groups of hosts", hint);
        return None;
    }
    if let Some(pair) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        names.problems().note(&span, format!("{} is in two groups", quote(&pair[0])), None);
        return None;
    }
    Some(groups)
}

/// Nothing at all where it is wrong; an inner nothing where the table says nothing of it.
#[expect(clippy::option_option, reason = "wrong, absent and there are three things")]
fn read_flaps(table: &mut Table<'_>) -> Option<Option<(Duration, Duration)>> {
    let (down, up) = (table.get("down"), table.get("up"));
    if down.is_some() != up.is_some() {
        let hint = Some("write `down = \"200ms\"` and `up = \"500ms\"`".to_owned());
        let value = down.or(up)?;
        value.wrong("what comes and goes needs `down` and `up`", hint);
        return None;
    }
    let Some((down, up)) = down.zip(up) else { return Some(None) };
    let (down, up) = (down.duration()?, up.duration()?);
    if down.value.is_zero() || up.value.is_zero() {
        table.problems().note(&down.span, "`down` and `up` are longer than nothing", None);
        return None;
    }
    Some(Some((down.value, up.value)))
}

fn one<'d>(table: &mut Table<'d>, example: &str) -> Option<Item<&'d str>> {
    table.need("on", &format!("on = \"{example}\"")).and_then(Value::string)
}

fn cables(table: &mut Table<'_>, names: &Names<'_>) -> Option<Vec<String>> {
    let on = table.need("on", "on = \"alpha\"").and_then(Value::strings)?;
    let all: Vec<_> = on.iter().map(|name| names.cables(name).map(|_| name.value.to_owned())).collect();
    all.into_iter().collect()
}

fn programs(table: &mut Table<'_>, names: &Names<'_>) -> Option<Vec<String>> {
    let on = table.need("on", "on = \"alpha\"").and_then(Value::strings)?;
    let all: Vec<_> = on.iter().map(|name| names.programs(name).map(|_| name.value.to_owned())).collect();
    all.into_iter().collect()
}

fn texts(items: Vec<Item<&str>>) -> Vec<String> {
    items.into_iter().map(|item| item.value.to_owned()).collect()
}
