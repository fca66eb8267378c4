//! The conditions of links, NAT kinds and firewalls, as scenarios write them.

use std::time::Duration;

use super::document::Table;
use super::problem::{Problems, Span};
use super::units::{duration_text, rate_text};
use crate::wire::conditions::{Conditions, Jitter, Loss, Rate, Reorder};
use crate::wire::firewall::Firewall;
use crate::wire::nat::Nat;
use crate::{Answer, Traffic};

const TRAFFIC: [(&str, Traffic); 3] = [("all", Traffic::All), ("tcp", Traffic::Tcp), ("udp", Traffic::Udp)];
const ANSWERS: [(&str, Answer); 2] = [("drop", Answer::Silence), ("reject", Answer::Rejection)];
/// The longest packet that IPv4 has.
const LONGEST_PACKET: i64 = 65_535;
/// What waits before a bottleneck, if nothing else is said: a tenth of a second, and ten packets at least.
const QUEUE_SECONDS_PART: u64 = 10;
const LEAST_QUEUE: u64 = 15_000;

/// Reads the keys of `table` that are conditions; what it does not set is as in `base`.
pub(crate) fn read(table: &mut Table<'_>, base: &Conditions) -> Conditions {
    let mut all = base.clone();
    if let Some(delay) = table.get("delay").and_then(|value| value.duration()) {
        all.delay = delay.value;
    }
    if let Some(value) = table.get("jitter") {
        let jitter = match value.is_table() {
            true => value.table().and_then(jitter),
            false => value.duration().map(|most| Jitter::Uniform(most.value)),
        };
        all.jitter = jitter.unwrap_or_default();
    }
    if let Some(loss) = table.get("loss").and_then(|value| value.share()) {
        all.loss = if loss > 0.0 { Loss::Independent(loss) } else { Loss::None };
    }
    if let Some(mut bursts) = table.get("burst_loss").and_then(|value| value.table()) {
        let enter = bursts.need("enter", "enter = \"1%\"").and_then(|value| value.share());
        let leave = bursts.need("leave", "leave = \"25%\"").and_then(|value| value.share());
        let good = bursts.get("good").and_then(|value| value.share()).unwrap_or(0.0);
        let bad = bursts.get("bad").and_then(|value| value.share()).unwrap_or(1.0);
        bursts.finish();
        if let (Some(enter), Some(leave)) = (enter, leave) {
            all.loss = Loss::Bursts { enter, leave, good, bad };
        }
    }
    if let Some(mut reorder) = table.get("reorder").and_then(|value| value.table()) {
        let probability = reorder.need("probability", "probability = \"1%\"").and_then(|value| value.share());
        let by = reorder.need("by", "by = \"5ms\"").and_then(|value| value.duration());
        reorder.finish();
        all.reorder = probability.zip(by).map(|(probability, by)| Reorder { probability, by: by.value });
    }
    all.duplicate = table.get("duplicate").and_then(|value| value.share()).unwrap_or(all.duplicate);
    all.corrupt = table.get("corrupt").and_then(|value| value.share()).unwrap_or(all.corrupt);
    let rate = table.get("rate").and_then(|value| {
        let rate = value.clone().rate()?.value;
        if rate == 0 {
            value.wrong("a link of this rate carries nothing", Some("write kind = \"unplug\" for that".to_owned()));
        }
        (rate > 0).then_some(rate)
    });
    let queue = table.get("queue").and_then(|value| Some((value.clone(), value.size()?.value)));
    match (rate, queue) {
        (Some(rate), queue) => {
            let usual = (rate / 8 / QUEUE_SECONDS_PART).max(LEAST_QUEUE);
            all.rate = Some(Rate { bits_per_second: rate, queue: queue.map_or(usual, |(_, bytes)| bytes) });
        }
        (None, Some((value, queue))) => match &mut all.rate {
            Some(rate) => rate.queue = queue,
            None => value.wrong("a queue forms only before a bottleneck", Some("add `rate = \"10Mbit\"`".to_owned())),
        },
        (None, None) => {}
    }
    all.black_hole = length(table, "black_hole").or(all.black_hole);
    for (key, answer) in [("block", Answer::Silence), ("reject", Answer::Rejection)] {
        if let Some(traffic) = table.get(key).and_then(|value| value.choice("kind of traffic", &TRAFFIC)) {
            all.blocked = Some((traffic.value, answer));
        }
    }
    all
}

fn length(table: &mut Table<'_>, key: &'static str) -> Option<u16> {
    u16::try_from(table.get(key)?.integer(68..=LONGEST_PACKET)?.value).ok()
}

/// The MTU of interfaces, if the table sets one.
pub(crate) fn mtu(table: &mut Table<'_>) -> Option<u16> {
    u16::try_from(table.get("mtu")?.integer(576..=LONGEST_PACKET)?.value).ok()
}

fn jitter(mut table: Table<'_>) -> Option<Jitter> {
    let normal = table.get("normal").and_then(|value| value.duration());
    let measured = table.get("table").and_then(|value| {
        let span = value.span.clone();
        let delays: Vec<Duration> = value.list()?.into_iter().filter_map(|one| Some(one.duration()?.value)).collect();
        Some((span, delays))
    });
    let (span, problems) = (table.span().clone(), table.problems());
    table.finish();
    match (normal, measured) {
        (Some(normal), None) => Some(Jitter::Normal(normal.value)),
        (None, Some((span, delays))) => table_of(&span, delays, problems),
        _ => {
            let hint = "write \"2ms\", { normal = \"2ms\" } or { table = [\"0ms\", \"1ms\", \"7ms\"] }";
            problems.note(&span, "jitter is either normal or a table", Some(hint.to_owned()));
            None
        }
    }
}

fn table_of(span: &Span, delays: Vec<Duration>, problems: &Problems<'_>) -> Option<Jitter> {
    if delays.is_empty() || !delays.is_sorted() {
        problems.note(span, "a table of jitter has delays in rising order", None);
        return None;
    }
    Some(Jitter::Table(delays.into()))
}

/// Writes conditions as lines that [`read`] reads.
pub(crate) fn write(conditions: &Conditions) -> Vec<String> {
    let Conditions { delay, jitter, loss, reorder, duplicate, corrupt, rate, black_hole, blocked } = conditions;
    let mut lines = Vec::new();
    if !delay.is_zero() {
        lines.push(format!("delay = \"{}\"", duration_text(*delay)));
    }
    match jitter {
        Jitter::None => {}
        Jitter::Uniform(most) => lines.push(format!("jitter = \"{}\"", duration_text(*most))),
        Jitter::Normal(deviation) => lines.push(format!("jitter = {{ normal = \"{}\" }}", duration_text(*deviation))),
        Jitter::Table(delays) => {
            let delays: Vec<String> = delays.iter().map(|delay| format!("\"{}\"", duration_text(*delay))).collect();
            lines.push(format!("jitter = {{ table = [{}] }}", delays.join(", ")));
        }
    }
    match loss {
        Loss::None => {}
        Loss::Independent(share) => lines.push(format!("loss = {share:?}")),
        Loss::Bursts { enter, leave, good, bad } => lines
            .push(format!("burst_loss = {{ enter = {enter:?}, leave = {leave:?}, good = {good:?}, bad = {bad:?} }}")),
    }
    if let Some(Reorder { probability, by }) = reorder {
        lines.push(format!("reorder = {{ probability = {probability:?}, by = \"{}\" }}", duration_text(*by)));
    }
    for (key, share) in [("duplicate", duplicate), ("corrupt", corrupt)] {
        if *share > 0.0 {
            lines.push(format!("{key} = {share:?}"));
        }
    }
    if let Some(Rate { bits_per_second, queue }) = rate {
        lines.push(format!("rate = \"{}\"", rate_text(*bits_per_second)));
        lines.push(format!("queue = \"{queue}B\""));
    }
    if let Some(most) = black_hole {
        lines.push(format!("black_hole = {most}"));
    }
    if let Some((traffic, answer)) = blocked {
        let key = if *answer == Answer::Silence { "block" } else { "reject" };
        lines.push(format!("{key} = \"{}\"", traffic_name(*traffic)));
    }
    lines
}

fn traffic_name(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::All => "all",
        Traffic::Tcp => "tcp",
        Traffic::Udp => "udp",
    }
}

type Make = fn() -> Nat;
const NATS: [(&str, Make); 5] = [
    ("endpoint-independent", Nat::endpoint_independent),
    ("address-restricted", Nat::address_restricted),
    ("port-restricted", Nat::port_restricted),
    ("symmetric", Nat::symmetric),
    ("carrier-grade", Nat::carrier_grade),
];

/// Reads `nat` and what belongs to it.
pub(crate) fn read_nat(table: &mut Table<'_>) -> Option<Nat> {
    let kind = table.get("nat").and_then(|value| value.choice("kind of NAT", &NATS));
    let hairpin = table.get("hairpin").and_then(|value| value.boolean());
    let udp = table.get("udp_timeout").and_then(|value| value.duration());
    let tcp = table.get("tcp_timeout").and_then(|value| value.duration());
    let ipv6 = table.get("ipv6").and_then(|value| value.boolean());
    let mut nat = (kind?.value)();
    nat.hairpin = hairpin.unwrap_or(nat.hairpin);
    nat.udp_timeout = udp.map_or(nat.udp_timeout, |time| time.value);
    nat.tcp_timeout = tcp.map_or(nat.tcp_timeout, |time| time.value);
    nat.ipv6 = ipv6.unwrap_or(nat.ipv6);
    Some(nat)
}

/// Writes a NAT as lines that [`read_nat`] reads.
pub(crate) fn write_nat(nat: &Nat) -> Vec<String> {
    let same = |make: &Make| {
        let kind = make();
        (kind.mapping, kind.filtering, kind.ports_per_host) == (nat.mapping, nat.filtering, nat.ports_per_host)
    };
    let kind = NATS.iter().find(|(_, make)| same(make)).map_or("port-restricted", |(name, _)| name);
    let (udp, tcp) = (duration_text(nat.udp_timeout), duration_text(nat.tcp_timeout));
    vec![
        format!("nat = \"{kind}\""),
        format!("hairpin = {}", nat.hairpin),
        format!("ipv6 = {}", nat.ipv6),
        format!("udp_timeout = \"{udp}\""),
        format!("tcp_timeout = \"{tcp}\""),
    ]
}

/// Reads the keys of a firewall.
pub(crate) fn read_firewall(table: &mut Table<'_>) -> Firewall {
    let mut firewall = Firewall::open();
    if let Some(answer) = table.get("outbound_only").and_then(|value| value.choice("answer", &ANSWERS)) {
        firewall = firewall.outbound_only(answer.value);
    }
    for (key, answer) in [("block", Answer::Silence), ("reject", Answer::Rejection)] {
        let Some(value) = table.get(key) else { continue };
        let all = if value.is_string() { Some(vec![value]) } else { value.list() };
        for one in all.unwrap_or_default() {
            if let Some(traffic) = one.choice("kind of traffic", &TRAFFIC) {
                firewall = firewall.block(traffic.value, answer);
            }
        }
    }
    firewall.black_hole = length(table, "black_hole");
    firewall
}

/// Writes a firewall as lines that [`read_firewall`] reads.
pub(crate) fn write_firewall(firewall: &Firewall) -> Vec<String> {
    let Firewall { inbound, blocked, black_hole } = firewall;
    let mut lines = Vec::new();
    if let Some(answer) = inbound {
        let (name, _) = ANSWERS.iter().find(|(_, one)| one == answer).unwrap_or(&ANSWERS[0]);
        lines.push(format!("outbound_only = \"{name}\""));
    }
    for (key, answer) in [("block", Answer::Silence), ("reject", Answer::Rejection)] {
        let of = blocked.iter().filter(|(_, one)| *one == answer);
        let all: Vec<String> = of.map(|(traffic, _)| format!("\"{}\"", traffic_name(*traffic))).collect();
        if !all.is_empty() {
            lines.push(format!("{key} = [{}]", all.join(", ")));
        }
    }
    lines.extend(black_hole.map(|most| format!("black_hole = {most}")));
    lines
}
