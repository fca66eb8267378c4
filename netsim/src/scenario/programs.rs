//! Programs, steps of preparation and stand-in services, as scenarios write them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{Item, Table, Value};
use super::names::{Directory, Names, check_name};
use super::problem::{nearest, quote};

/// How long a program may take until it is ready, or a step of preparation until it has ended, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// What stands for the file of a host's clock.
pub(crate) const CLOCK: &str = "{clock}";

/// What a scenario is read in: where its files are, and which programs have names of their own.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Where relative paths begin: the folder of the scenario file.
    pub folder: PathBuf,
    /// Programs by names that are neither looked for in `PATH` nor are paths.
    pub programs: BTreeMap<String, PathBuf>,
}

/// A program that runs on a host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProgramSpec {
    pub(crate) name: String,
    pub(crate) on: String,
    pub(crate) run: Invocation,
    /// What it writes when it is ready.
    pub(crate) ready: Option<String>,
    pub(crate) ready_within: Duration,
    /// When it is started; before time begins, if none.
    pub(crate) at: Option<Duration>,
    pub(crate) exit: Exit,
    pub(crate) exit_within: Duration,
    /// It sees its host's clock by a library that is loaded into it.
    pub(crate) preload: bool,
}

impl ProgramSpec {
    /// Whether it can see that its host's clock is wrong.
    pub(crate) fn follows_clock(&self) -> bool {
        let texts = self.run.args.iter().chain(self.run.env.iter().map(|(_, value)| value));
        self.preload || texts.into_iter().any(|text| text.contains(CLOCK))
    }
}

/// What is expected of a program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It does not fail by itself, whether or not it ends.
    Well,
    /// Nothing.
    Any,
    /// It ends by itself with this status.
    With(i32),
}

/// What to run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
}

/// Something that is done before the network is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) run: Invocation,
    pub(crate) within: Duration,
}

/// A service that the simulator plays itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceSpec {
    pub(crate) name: String,
    pub(crate) on: String,
    pub(crate) kind: ServiceKind,
    /// Where it listens; everywhere on the host, if none.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceKind {
    /// Whatever comes goes back.
    TcpEcho,
    /// Every datagram goes back.
    UdpEcho,
    /// Each request gets 200 and the text.
    Http,
    /// What clients of the scenario send is written down and answered.
    Receiver,
}

const SERVICES: [(&str, ServiceKind); 4] = [
    ("tcp-echo", ServiceKind::TcpEcho),
    ("udp-echo", ServiceKind::UdpEcho),
    ("http", ServiceKind::Http),
    ("receiver", ServiceKind::Receiver),
];

/// Reads `program`, `args` and `env`.
pub(crate) fn invocation(table: &mut Table<'_>, names: &Names<'_>, around: &Surroundings) -> Option<Invocation> {
    let program = table.need("program", "program = \"./my-server\"").and_then(Value::string);
    let args = table.get("args").and_then(Value::list).unwrap_or_default().into_iter().filter_map(Value::string);
    let args = args.map(|text| filled(&text, names)).collect();
    let env = table.named("env").into_iter().filter_map(|(name, value)| {
        let text = filled(&value.string()?, names);
        Some((name.value.to_owned(), text))
    });
    let env = env.collect();
    let program = program?;
    let found = find(program.value, around);
    if found.is_none() {
        let hint = nearest(program.value, around.programs.keys().map(String::as_str)).unwrap_or_else(|| match program
            .value
            .contains('/')
        {
            true => "paths begin at the folder of the scenario".to_owned(),
            false => "it is looked for in PATH; write \"./NAME\" for one beside the scenario".to_owned(),
        });
        names.problems().note(&program.span, format!("there is no program {}", quote(program.value)), Some(hint));
    }
    Some(Invocation { program: found?, args, env })
}

fn find(name: &str, around: &Surroundings) -> Option<PathBuf> {
    if let Some(path) = around.programs.get(name) {
        return Some(path.clone());
    }
    let is_program = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let absolute = |path: PathBuf| std::path::absolute(path).ok().filter(|path| is_program(path));
    if name.contains('/') {
        return absolute(around.folder.join(name));
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).find_map(|folder| absolute(folder.join(name)))
}

/// Reads `[[prepare]]`.
pub(crate) fn step(value: Value<'_>, names: &Names<'_>, around: &Surroundings) -> Option<Step> {
    let mut table = value.table()?.titled("a step of preparation");
    let run = invocation(&mut table, names, around);
    let within = table.get("within").and_then(Value::duration).map_or(PATIENCE, |time| time.value);
    table.finish();
    Some(Step { run: run?, within })
}

/// Reads `[program.NAME]`. `names` knows no programs yet.
pub(crate) fn program(
    name: &Item<&str>,
    mut table: Table<'_>,
    names: &Names<'_>,
    around: &Surroundings,
) -> Option<ProgramSpec> {
    check_name(name, names.problems());
    let example = "on = \"alpha\"";
    let on = table.need("on", example).and_then(Value::string).and_then(|host| names.host(&host));
    let run = invocation(&mut table, names, around);
    let ready = table.get("ready").and_then(Value::string).map(|text| filled(&text, names));
    let ready_within = table.get("ready_within").and_then(Value::duration).map_or(PATIENCE, |time| time.value);
    let at = table.get("at").and_then(Value::duration).map(|at| at.value);
    let exit = match table.get("exit") {
        None => Exit::Well,
        Some(value) if value.is_string() => value
            .choice("way to end", &[("any", Exit::Any), ("well", Exit::Well)])
            .map_or(Exit::Well, |exit| exit.value),
        Some(value) => {
            let status = value.integer(0..=255).and_then(|status| i32::try_from(status.value).ok());
            status.map_or(Exit::Well, Exit::With)
        }
    };
    let exit_within = table.get("exit_within").and_then(Value::duration).map_or(PATIENCE, |time| time.value);
    let preload = table.get("clock").and_then(|value| value.choice("way to see a clock", &[("preload", true)]));
    table.finish();
    Some(ProgramSpec {
        name: name.value.to_owned(),
        on: on?,
        run: run?,
        ready,
        ready_within,
        at,
        exit,
        exit_within,
        preload: preload.is_some(),
    })
}

/// Reads `[service.NAME]`.
pub(crate) fn service(name: &Item<&str>, mut table: Table<'_>, names: &Names<'_>) -> Option<ServiceSpec> {
    check_name(name, names.problems());
    let on = table.need("on", "on = \"alpha\"").and_then(Value::string).and_then(|host| names.host(&host));
    let kind = table.need("kind", "kind = \"http\"").and_then(|value| value.choice("kind of service", &SERVICES));
    let port = table.need("port", "port = 8080").and_then(|value| value.integer(1..=65_535));
    let address = table.get("address").and_then(|value| {
        let text = value.clone().string()?;
        let ip = text.value.parse().ok();
        if ip.is_none() {
            value.wrong(format!("{} is not an address", quote(text.value)), Some("write \"127.0.0.1\"".to_owned()));
        }
        ip
    });
    let text = table.get("text").and_then(Value::string);
    let text = text.map_or_else(|| format!("{}\n", name.value), |text| text.value.to_owned());
    table.finish();
    let port = u16::try_from(port?.value).ok()?;
    Some(ServiceSpec { name: name.value.to_owned(), on: on?, kind: kind?.value, address, port, text })
}

/// A text whose `{ip.HOST}` are looked at: those of unknown hosts are noted.
pub(crate) fn filled(text: &Item<&str>, names: &Names<'_>) -> String {
    if let Err(host) = fill(text.value, Path::new(""), names.directory) {
        let hint = nearest(&host, names.directory.host_names());
        names.problems().note(&text.span, format!("there is no host {} for {{ip.{host}}}", quote(&host)), hint);
    }
    text.value.to_owned()
}

/// A text with the address of HOST in place of `{ip.HOST}`, and the working directory of the run in place of `{dir}`.
///
/// # Errors
/// A host that there is not.
pub(crate) fn fill(text: &str, dir: &Path, directory: &Directory) -> Result<String, String> {
    const MARK: &str = "{ip.";
    let text = text.replace("{dir}", &dir.display().to_string());
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(MARK) {
        out.push_str(before);
        match after.split_once('}').filter(|(host, _)| super::names::is_name(host)) {
            Some((host, after)) => {
                let ip = directory.first_address(host).ok_or_else(|| host.to_owned())?;
                out.push_str(&ip.to_string());
                rest = after;
            }
            None => {
                out.push_str(MARK);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}
