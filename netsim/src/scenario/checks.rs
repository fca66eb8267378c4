//! What must hold, as scenarios write it.

use std::time::Duration;

use super::document::{Item, Table, Value};
use super::names::Names;
use super::problem::quote;
use super::programs::{Invocation, Surroundings, filled, invocation};
use super::units::{duration_text, rate_text};

/// How long one attempt may take, if nothing else is said.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Something that must hold, and when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) at: Duration,
    pub(crate) when: When,
    pub(crate) what: What,
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
}

/// How often something is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Once.
    Once,
    /// Until it holds, for so long.
    Within(Duration),
    /// Again and again for so long, and it must hold every time.
    Always(Duration),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// Each pair of hosts reaches the other, or does not, as it says.
    Reach { pairs: Vec<(String, String, bool)>, by: By, port: Option<u16> },
    /// A program has written a text, or none of it.
    Output { program: String, text: String, there: bool },
    /// A program has ended with this status.
    Exit { program: String, status: i32 },
    /// A program runs.
    Running { program: String },
    /// TCP carries so many bits a second from one host to another.
    Throughput { from: String, to: String, least: Option<u64>, most: Option<u64>, lasts: Duration },
    /// A web server answers with this status and text.
    Http { from: String, url: String, status: u16, contains: Option<String> },
    /// A command on a host ends with this status and has written this text.
    Command { on: String, run: Invocation, status: i32, contains: Option<String> },
}

/// How hosts reach one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Tcp,
    Udp,
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reachable,
    Unreachable,
    Output,
    Exit,
    Running,
    Throughput,
    Http,
    Command,
}

const KINDS: [(&str, Kind); 8] = [
    ("reachable", Kind::Reachable),
    ("unreachable", Kind::Unreachable),
    ("output", Kind::Output),
    ("exit", Kind::Exit),
    ("running", Kind::Running),
    ("throughput", Kind::Throughput),
    ("http", Kind::Http),
    ("command", Kind::Command),
];
const WAYS: [(&str, By); 3] = [("tcp", By::Tcp), ("udp", By::Udp), ("ping", By::Ping)];

impl Check {
    /// When the last attempt begins at the latest.
    pub(crate) fn ends(&self) -> Duration {
        match self.when {
            When::Once => self.at,
            When::Within(time) | When::Always(time) => self.at + time,
        }
    }
}

/// Reads `[[check]]`.
pub(crate) fn read(value: Value<'_>, names: &Names<'_>, around: &Surroundings) -> Option<Check> {
    let mut table = value.table()?.titled("this check");
    let kind = table.need("kind", "kind = \"reachable\"").and_then(|value| value.choice("kind of check", &KINDS))?;
    let word = KINDS.iter().find(|(_, one)| *one == kind.value).map_or("", |(word, _)| word);
    table = table.titled(format!("a check of the kind {word}"));
    let name = table.get("name").and_then(Value::string).map(|name| name.value.to_owned());
    let at = table.need("at", "at = \"1s\"").and_then(Value::duration);
    let within = table.get("within").and_then(Value::duration);
    let always = table.get("always").and_then(Value::duration);
    let when = match (within, always) {
        (None, None) => When::Once,
        (Some(time), None) => When::Within(time.value),
        (None, Some(time)) => When::Always(time.value),
        (Some(_), Some(always)) => {
            let hint = "`within` waits until it holds, `always` sees that it holds all the time".to_owned();
            names.problems().note(&always.span, "a check is either `within` or `always`", Some(hint));
            When::Once
        }
    };
    let timeout = table.get("timeout").and_then(Value::duration).map_or(ATTEMPT, |time| time.value);
    let what = read_what(kind.value, &mut table, names, around);
    table.finish();
    let what = what?;
    Some(Check { name: name.unwrap_or_else(|| describe(&what)), at: at?.value, when, what, timeout })
}

fn read_what(kind: Kind, table: &mut Table<'_>, names: &Names<'_>, around: &Surroundings) -> Option<What> {
    match kind {
        Kind::Reachable | Kind::Unreachable => {
            let pairs = pairs(kind == Kind::Reachable, table, names);
            let by = table.get("by").and_then(|value| value.choice("way", &WAYS)).map_or(By::Udp, |by| by.value);
            let port = table.get("port").and_then(|value| {
                let port = value.clone().integer(1..=65_535);
                if by == By::Ping {
                    value.wrong("a ping has no port", None);
                }
                u16::try_from(port?.value).ok()
            });
            Some(What::Reach { pairs: pairs?, by, port })
        }
        Kind::Output => {
            let program = program(table, names);
            let (contains, lacks) = (table.get("contains"), table.get("lacks"));
            let there = contains.is_some();
            let text = match (contains, lacks) {
                (Some(value), None) | (None, Some(value)) => value.string(),
                _ => {
                    let hint = Some("add `contains = \"text\"` or `lacks = \"text\"`".to_owned());
                    names.problems().note(table.span(), "it needs either `contains` or `lacks`", hint);
                    None
                }
            };
            Some(What::Output { program: program?, text: filled(&text?, names), there })
        }
        Kind::Exit => {
            let program = program(table, names);
            Some(What::Exit { program: program?, status: status(table) })
        }
        Kind::Running => Some(What::Running { program: program(table, names)? }),
        Kind::Throughput => {
            let (from, to) = (host("from", table, names), host("to", table, names));
            let least = table.get("at_least").and_then(Value::rate).map(|rate| rate.value);
            let most = table.get("at_most").and_then(Value::rate).map(|rate| rate.value);
            if least.is_none() && most.is_none() {
                let hint = Some("add `at_least = \"5Mbit\"` or `at_most = \"5Mbit\"`".to_owned());
                names.problems().note(table.span(), "it needs `at_least` or `at_most`", hint);
            }
            let lasts = table.get("lasts").and_then(Value::duration).map_or(Duration::from_secs(2), |time| time.value);
            Some(What::Throughput { from: from?, to: to?, least, most, lasts })
        }
        Kind::Http => {
            let from = host("from", table, names);
            let url = table.need("url", "url = \"http://{ip.beta}:8080/\"").and_then(Value::string);
            let status = table.get("status").and_then(|value| value.integer(100..=599));
            let status = status.and_then(|status| u16::try_from(status.value).ok()).unwrap_or(200);
            let contains = table.get("contains").and_then(Value::string).map(|text| filled(&text, names));
            let url = url?;
            if !url.value.starts_with("http://") {
                let hint = "write \"http://{ip.beta}:8080/\"".to_owned();
                names.problems().note(&url.span, format!("{} is not an http address", quote(url.value)), Some(hint));
            }
            Some(What::Http { from: from?, url: filled(&url, names), status, contains })
        }
        Kind::Command => {
            let on = host("on", table, names);
            let run = invocation(table, names, around);
            let contains = table.get("contains").and_then(Value::string).map(|text| filled(&text, names));
            Some(What::Command { on: on?, run: run?, status: status(table), contains })
        }
    }
}

fn program(table: &mut Table<'_>, names: &Names<'_>) -> Option<String> {
    names.program(&table.need("on", "on = \"PROGRAM\"")?.string()?)
}

fn host(key: &'static str, table: &mut Table<'_>, names: &Names<'_>) -> Option<String> {
    names.host(&table.need(key, &format!("{key} = \"alpha\""))?.string()?)
}

fn status(table: &mut Table<'_>) -> i32 {
    let status = table.get("status").and_then(|value| value.integer(0..=255));
    status.and_then(|status| i32::try_from(status.value).ok()).unwrap_or(0)
}

/// Ordered pairs of `from` and `to`; of those that are named in `except` the opposite must hold.
fn pairs(reachable: bool, table: &mut Table<'_>, names: &Names<'_>) -> Option<Vec<(String, String, bool)>> {
    let mut side = |key| match table.get(key) {
        Some(value) => names.hosts(&value.strings()?),
        None => Some(names.all_hosts()),
    };
    let (from, to) = (side("from"), side("to"));
    let except = table.get("except").and_then(Value::strings).unwrap_or_default();
    let except: Vec<_> = except.iter().map(|text| pair(text, names)).collect();
    let except: Vec<(String, String)> = except.into_iter().collect::<Option<Vec<_>>>()?.concat();
    let (from, to) = (from?, to?);
    let all = from.iter().flat_map(|from| to.iter().map(move |to| (from, to))).filter(|(from, to)| from != to);
    let all: Vec<_> = all
        .map(|(from, to)| {
            let other = except.iter().any(|(one, two)| one == from && two == to);
            (from.clone(), to.clone(), reachable != other)
        })
        .collect();
    if all.is_empty() {
        let hint = Some("`from` and `to` are all hosts if they are not given".to_owned());
        names.problems().note(table.span(), "there is no pair of two hosts", hint);
    }
    Some(all)
}

/// `alpha -> beta`, or `alpha <-> beta` for both.
fn pair(text: &Item<&str>, names: &Names<'_>) -> Option<Vec<(String, String)>> {
    let both = text.value.split_once("<->");
    let Some((one, other)) = both.or_else(|| text.value.split_once("->")) else {
        let hint = "write \"alpha -> beta\", or \"alpha <-> beta\" for both ways".to_owned();
        names.problems().note(&text.span, format!("{} is not a pair", quote(text.value)), Some(hint));
        return None;
    };
    let host = |name: &str| names.host(&Item { value: name.trim(), span: text.span.clone() });
    let (one, other) = (host(one)?, host(other)?);
    let back = both.is_some().then(|| (other.clone(), one.clone()));
    Some([(one, other)].into_iter().chain(back).collect())
}

/// What a check is called that has no name.
fn describe(what: &What) -> String {
    match what {
        What::Reach { pairs, by, port } => {
            let by = match by {
                By::Tcp => "TCP",
                By::Udp => "UDP",
                By::Ping => "ping",
            };
            let port = port.map(|port| format!(" port {port}")).unwrap_or_default();
            let count = pairs.iter().filter(|(_, _, expected)| *expected).count();
            match &pairs[..] {
                [(from, to, true)] => format!("{from} reaches {to} by {by}{port}"),
                [(from, to, false)] => format!("{from} does not reach {to} by {by}{port}"),
                _ if count == pairs.len() => format!("all reach one another by {by}{port}"),
                _ if count == 0 => format!("nobody reaches anybody by {by}{port}"),
                _ => format!("{count} of {} pairs reach one another by {by}{port}", pairs.len()),
            }
        }
        What::Output { program, text, there: true } => format!("{program} writes {}", quote(text)),
        What::Output { program, text, there: false } => format!("{program} does not write {}", quote(text)),
        What::Exit { program, status } => format!("{program} exits with {status}"),
        What::Running { program } => format!("{program} runs"),
        What::Throughput { from, to, least, most, .. } => {
            let least = least.map(|rate| format!(" at least {}", rate_text(rate))).unwrap_or_default();
            let most = most.map(|rate| format!(" at most {}", rate_text(rate))).unwrap_or_default();
            format!("{from} to {to} carries{least}{most}")
        }
        What::Http { from, url, status, .. } => format!("{from} gets {status} from {url}"),
        What::Command { on, run, status, .. } => {
            let name = run.program.file_name().unwrap_or_default();
            format!("{} on {on} exits with {status}", name.display())
        }
    }
}

/// For how long something is looked at, in words.
pub(crate) fn span_text(when: When) -> String {
    match when {
        When::Once => String::new(),
        When::Within(time) => format!(" within {}", duration_text(time)),
        When::Always(time) => format!(" for {}", duration_text(time)),
    }
}
