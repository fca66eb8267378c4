//! Faults, written.

use std::time::Duration;

use super::{Fault, Injection, Shape};
use crate::scenario::conditions;
use crate::scenario::units::{duration_text, offset_text};

/// A fault with its time as a `[[fault]]` that [`read`](super::read()) reads.
pub(crate) fn write(injection: &Injection) -> String {
    let Injection { at, lasts, fault } = injection;
    let mut lines = vec!["[[fault]]".to_owned(), format!("at = \"{}\"", duration_text(*at))];
    lines.extend(lasts.map(|lasts| format!("for = \"{}\"", duration_text(lasts))));
    lines.push(format!("kind = \"{}\"", fault.kind()));
    // Of a partition and a bridge, the groups say it.
    let on = |lines: &mut Vec<String>, on: &[String]| lines.push(format!("on = {on:?}"));
    let single = |lines: &mut Vec<String>, on: &str| lines.push(format!("on = {on:?}"));
    match fault {
        Fault::Cut { shape, reject, flaps } => {
            match shape {
                Shape::Groups(groups) => lines.push(format!("groups = {groups:?}")),
                Shape::Bridge(left, bridge, right) => {
                    single(&mut lines, bridge);
                    lines.push(format!("groups = {:?}", [left, right]));
                }
                Shape::Isolate(host) => single(&mut lines, host),
                _ => on(&mut lines, &fault.on()),
            }
            if *reject {
                lines.push("reject = true".to_owned());
            }
            if let Some((down, up)) = flaps {
                lines.extend(write_flaps(*down, *up));
            }
        }
        Fault::Flap { on: cables, down, up } => {
            on(&mut lines, cables);
            lines.extend(write_flaps(*down, *up));
        }
        Fault::Degrade { on: cables, towards, conditions } => {
            on(&mut lines, cables);
            lines.extend(towards.as_ref().map(|device| format!("towards = {device:?}")));
            lines.extend(conditions::write(conditions));
        }
        Fault::SlowThenDead { on: host, conditions, dead_after } => {
            single(&mut lines, host);
            lines.push(format!("dead_after = \"{}\"", duration_text(*dead_after)));
            lines.extend(conditions::write(conditions));
        }
        Fault::Readdress { on: host, interface, addresses } => {
            single(&mut lines, host);
            lines.push(format!("interface = {interface:?}"));
            lines.push(format!("address = {addresses:?}"));
        }
        Fault::Rename { on: hosts, name, addresses } => {
            on(&mut lines, hosts);
            lines.push(format!("name = {name:?}"));
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            lines.push(format!("address = {addresses:?}"));
        }
        Fault::Clock { on: hosts, skew } => {
            on(&mut lines, hosts);
            lines.push(format!("offset = \"{}\"", offset_text(skew.ahead)));
            #[expect(clippy::cast_precision_loss, reason = "it is a thousand times a billion at most")]
            let rate = 1.0 + skew.gains as f64 / 1e9;
            lines.push(format!("rate = {rate:?}"));
        }
        Fault::Nat { on: router, nat } => {
            single(&mut lines, router);
            lines.extend(conditions::write_nat(nat));
        }
        Fault::Firewall { on: router, firewall } => {
            single(&mut lines, router);
            lines.extend(conditions::write_firewall(firewall));
        }
        Fault::Unplug { .. }
        | Fault::Crash { .. }
        | Fault::Pause { .. }
        | Fault::Restart { .. }
        | Fault::Rebind { .. } => {
            on(&mut lines, &fault.on());
        }
        Fault::Hold => {}
    }
    lines.join("\n") + "\n"
}

fn write_flaps(down: Duration, up: Duration) -> [String; 2] {
    [format!("down = \"{}\"", duration_text(down)), format!("up = \"{}\"", duration_text(up))]
}
