//! A scenario's outermost table.

use std::path::Path;
use std::time::Duration;

use super::checks::{self, Check, What, When};
use super::clients::{self, ClientSpec};
use super::document::{self, Item, Table, Value};
use super::faults::{self, Fault, Injection};
use super::names::{Names, is_name};
use super::problem::{Problems, Span, quote};
use super::programs::{self, Exit, ProgramSpec, ServiceSpec, Surroundings, filled};
use super::units::duration_text;
use super::{Scenario, layout, random};
use crate::Backend;

const BACKENDS: [(&str, Backend); 2] = [("tap", Backend::Tap), ("packet", Backend::Packet)];

/// Faults and checks of one scenario.
const MOST: usize = 10_000;

/// Reads it all. What comes back is of use only if no problem was noted.
pub(crate) fn read(problems: &Problems<'_>, file: &str, around: &Surroundings) -> Option<Scenario> {
    let document = document::parse(problems);
    // What is torn is not looked at further: half of a scenario is full of what only seems to be missing.
    if problems.any() {
        return None;
    }
    let mut root = Table::root(&document, problems);
    let name = root.get("name").and_then(Value::string);
    if let Some(name) = name.as_ref().filter(|name| !is_name(name.value)) {
        let hint = "its results are kept in a folder of this name: letters, digits, -, . and _".to_owned();
        problems.note(&name.span, format!("{} is not a name", quote(name.value)), Some(hint));
    }
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_name(stem));
    let name = name.map_or(stem.unwrap_or("scenario"), |name| name.value).to_owned();
    let about = root.get("about").and_then(Value::string).map(|text| text.value.to_owned()).unwrap_or_default();
    let seed = root.get("seed").and_then(|value| value.integer(0..=i64::MAX)).map(|seed| seed.value.unsigned_abs());
    let lasts = root.get("lasts").and_then(Value::duration);
    let backend = root.get("backend").and_then(|value| value.choice("backend", &BACKENDS)).map(|one| one.value);
    let congestion_control = root.get("congestion_control").and_then(Value::string).map(|text| text.value.to_owned());
    let layout = layout::read(&mut root);
    let steps = root.get("prepare").and_then(Value::list).unwrap_or_default();
    let programs = root.tables("program");
    let services = root.tables("service");
    let clients = root.tables("client");
    let (faults, checks) = (list(&mut root, "fault"), list(&mut root, "check"));
    let chance = root.get("random").and_then(Value::table);
    root.finish();
    // Without the names of hosts everything below would seem unknown.
    let mut layout = layout?;
    let names = Names::new(&layout.directory, problems);
    let steps = steps.into_iter().filter_map(|step| programs::step(step, &names, around)).collect();
    let programs = programs.into_iter().filter_map(|(name, table)| programs::program(&name, table, &names, around));
    let programs: Vec<ProgramSpec> = programs.collect();
    let services = services.into_iter().filter_map(|(name, table)| programs::service(&name, table, &names));
    let services: Vec<ServiceSpec> = services.collect();
    let clients: Vec<(ClientSpec, Span)> = clients
        .into_iter()
        .filter_map(|(name, table)| Some((clients::read(&name, table, &names, &services)?, name.span)))
        .collect();
    for furnishing in &layout.furnishings {
        if let Some((folder, span)) = &furnishing.copy
            && !around.folder.join(folder).is_dir()
        {
            let hint = "paths begin at the folder of the scenario".to_owned();
            problems.note(span, format!("there is no folder {}", quote(&folder.display().to_string())), Some(hint));
        }
        for (_, text, span) in &furnishing.files {
            filled(&Item { value: text, span: span.clone() }, &names);
        }
    }
    layout.directory.programs = programs.iter().map(|one| (one.name.clone(), one.on.clone())).collect();
    let names = Names::new(&layout.directory, problems);
    let faults: Vec<(Injection, Span)> = faults
        .into_iter()
        .filter_map(|value| {
            let span = value.span.clone();
            Some((faults::read(value, &names)?, span))
        })
        .collect();
    holds_are_alone(&faults, problems);
    clocks_are_seen(&faults, &programs, problems);
    let checks: Vec<(Check, Span)> = checks
        .into_iter()
        .filter_map(|value| {
            let span = value.span.clone();
            Some((checks::read(value, &names, around)?, span))
        })
        .collect();
    let random = chance.and_then(|table| random::read(table, &names));
    if let Some(lasts) = &lasts {
        let ends = faults.iter().map(|(fault, span)| (fault.at, span));
        let late = ends.chain(checks.iter().map(|(check, span)| (check.ends(), span)));
        let late = late.chain(clients.iter().map(|(client, span)| (client.ends(), span)));
        for (_, span) in late.filter(|(at, _)| *at > lasts.value) {
            let message = format!("this is after the end: the scenario lasts {}", duration_text(lasts.value));
            problems.note(span, message, Some("raise `lasts`, or leave it out".to_owned()));
        }
    }
    let faults: Vec<Injection> = faults.into_iter().map(|(fault, _)| fault).collect();
    for (client, span) in &clients {
        clients::see_recovery(client, span, &faults, random.as_ref(), &names);
    }
    let mut checks: Vec<Check> = checks.into_iter().map(|(check, _)| check).collect();
    checks.extend(programs.iter().filter_map(expected_end));
    Some(Scenario {
        name,
        about,
        seed,
        lasts: lasts.map(|lasts| lasts.value),
        backend,
        congestion_control,
        folder: around.folder.clone(),
        topology: layout.topology,
        directory: layout.directory.clone(),
        furnishings: layout.furnishings,
        steps,
        programs,
        services,
        clients: clients.into_iter().map(|(client, _)| client).collect(),
        faults,
        checks,
        random,
    })
}

fn list<'d>(root: &mut Table<'d>, key: &'static str) -> Vec<Value<'d>> {
    let Some(value) = root.get(key) else { return Vec::new() };
    let all = value.clone().list().unwrap_or_default();
    if all.len() > MOST {
        value.wrong(format!("there are more than {MOST} of these"), None);
        return Vec::new();
    }
    all
}

/// A program that is to end has a check of its own.
fn expected_end(program: &ProgramSpec) -> Option<Check> {
    let Exit::With(status) = program.exit else { return None };
    Some(Check {
        name: format!("{} exits with {status}", program.name),
        at: program.at.unwrap_or_default(),
        when: When::Within(program.exit_within),
        what: What::Exit { program: program.name.clone(), status },
        timeout: Duration::from_secs(1),
    })
}

/// While packets are held nothing else can be done to the network.
fn holds_are_alone(faults: &[(Injection, Span)], problems: &Problems<'_>) {
    for (hold, _) in faults.iter().filter(|(injection, _)| injection.fault == Fault::Hold) {
        let until = hold.at + hold.lasts.unwrap_or_default();
        for (other, span) in faults.iter().filter(|(injection, _)| !std::ptr::eq(injection, hold)) {
            let ends = [Some(other.at), other.lasts.map(|lasts| other.at + lasts)];
            if ends.into_iter().flatten().any(|at| (hold.at..until).contains(&at)) {
                let hint = format!("it lasts from {} to {}", duration_text(hold.at), duration_text(until));
                problems.note(span, "nothing else begins or ends while packets are held", Some(hint));
            }
        }
    }
}

/// A wrong clock that no program sees would show nothing.
fn clocks_are_seen(faults: &[(Injection, Span)], programs: &[ProgramSpec], problems: &Problems<'_>) {
    for (injection, span) in faults {
        let Fault::Clock { on, .. } = &injection.fault else { continue };
        let seen = |host: &String| programs.iter().any(|program| program.on == *host && program.follows_clock());
        for host in on.iter().filter(|host| !seen(host)) {
            let message = format!("no program on {host} sees its simulated clock");
            let hint = "give one of them `clock = \"preload\"`, or by {clock} the file that its own clock reads";
            problems.note(span, message, Some(hint.to_owned()));
        }
    }
}

/// Reads a schedule: its seed and its faults, by their time.
pub(crate) fn schedule(problems: &Problems<'_>, names: &Names<'_>) -> (u64, Vec<Injection>) {
    let document = document::parse(problems);
    let mut root = Table::root(&document, problems).titled("the schedule");
    let seed = root.need("seed", "seed = 1").and_then(|value| value.integer(0..=i64::MAX));
    let faults = list(&mut root, "fault");
    root.finish();
    let read = |value: Value<'_>| {
        // The names outlive the document of the schedule, and are borrowed for longer.
        faults::read(value, names)
    };
    let mut faults: Vec<Injection> = faults.into_iter().filter_map(read).collect();
    faults.sort_by_key(|injection| injection.at);
    (seed.map_or(1, |seed| seed.value.unsigned_abs()), faults)
}
