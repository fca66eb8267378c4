//! The agent file, `DIR/agent.toml`: what is only this host's business.
//!
//! Everything but `node` has a default. It is read as the mesh file is: every problem at once, each at its place, with a
//! hint. See `docs/agent-file.md` for users.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_config::document::{Document, Item, Problems, Source, Table};
use mesh_config::{Fault, NodeName, Problem, parse_listener, quote, read_text};

/// What one host's agent is told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    /// The node that this host is.
    pub node: NodeName,
    /// Where peers reach this agent, for TCP and UDP. `None`: on all addresses, at the port of the node's own address in
    /// the mesh file; a node without one listens nowhere, and so does one with an empty list here.
    pub listen: Option<Vec<SocketAddr>>,
    /// The admin socket; relative paths are below the agent's directory. `None`: the usual place.
    pub admin_socket: Option<PathBuf>,
    /// Where metrics are served over plain HTTP, besides the admin socket.
    pub metrics: Option<SocketAddr>,
    /// How the agent logs.
    pub log: Log,
    /// What the agent bounds.
    pub limits: Limits,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least severe events that are written.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least severe events that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What may fail soon.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the file, which is also that of log filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[limits]`: nothing waits for ever and nothing grows without bound. Durations that may be `None` are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a target or a peer has answered, and how long an application's connection waits for its link.
    pub connect: Duration,
    /// From the first byte of a TLS or QUIC handshake to the peer's HELLO.
    pub handshake: Duration,
    /// A connection on which neither side has sent anything for so long is cut.
    pub idle: Option<Duration>,
    /// A connection of which one direction is closed and the other has carried nothing for so long is cut.
    pub half_closed: Option<Duration>,
    /// Silence after which the kernel probes a TCP peer.
    pub keepalive: Option<Duration>,
    /// How long connections may go on when the agent stops.
    pub drain: Duration,
    /// Application connections at once, in both directions together.
    pub connections: usize,
    /// Handshakes that peers have begun and not ended, all together.
    pub handshakes_in_flight: usize,
    /// The same from one source address.
    pub handshakes_in_flight_per_source: usize,
    /// Lanes to one peer.
    pub lanes_per_peer: usize,
    /// Lanes to one peer that are kept ready though idle.
    pub lanes_warm: usize,
    /// Application connections that wait for a link at once.
    pub pending_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(8),
            idle: None,
            half_closed: None,
            keepalive: Some(Duration::from_secs(30)),
            drain: Duration::from_secs(30),
            connections: 10_000,
            handshakes_in_flight: 256,
            handshakes_in_flight_per_source: 64,
            lanes_per_peer: 10_000,
            lanes_warm: 2,
            pending_connections: 4_096,
        }
    }
}

/// A shorter wait than this fails on healthy networks.
const LEAST: Duration = Duration::from_millis(100);
/// A TLS handshake that takes longer than ten minutes is an attack.
const HANDSHAKE_MOST: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Linux takes at most 32767 s for TCP_KEEPIDLE (tcp(7)); nine hours are the most whole ones.
const KEEPALIVE_MOST: Duration = Duration::from_secs(9 * 3_600);
/// More connections than a process can have descriptors for, with two a connection (`fs.nr_open` is 2^20).
const MOST_CONNECTIONS: usize = 500_000;
const MOST_HANDSHAKES: usize = 65_536;
const MOST_WARM: usize = 64;
/// Addresses to listen on; a host has few.
const MOST_LISTENERS: usize = 64;
/// The longest path of a Unix socket, in bytes (unix(7)).
const MOST_PATH: usize = 107;

impl AgentFile {
    /// Reads and checks the agent file at `path`. Warnings come along.
    ///
    /// # Errors
    /// Every problem of the file, or the one that keeps it from being read.
    pub fn load(path: &Path) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let text = read_text(path).map_err(|problem| vec![*problem])?;
        Self::check(&text, &path.display().to_string())
    }

    /// Reads and checks the text of an agent file; `file` is what problems call it. Warnings come along.
    ///
    /// # Errors
    /// Every problem of the file, warnings included: at least one is an error.
    pub fn check(text: &str, file: &str) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let source = Source::new(file, text);
        let mut problems = Problems::new(&source);
        let document = Document::parse(&source, &mut problems);
        let read = read(document.root(), &mut problems);
        let warnings = problems.finish()?;
        // Only an error leaves the file without its node, so `finish` has returned.
        match read {
            Some(file) => Ok((file, warnings)),
            None => Err(warnings),
        }
    }
}

fn read(mut root: Table<'_>, problems: &mut Problems<'_>) -> Option<AgentFile> {
    let node = root.parsed("node", problems, |text| {
        NodeName::new(text).map_err(|error| {
            Fault::new(format!("{} is not a node name: {error}", quote(text))).hint("write the name of a [node.NAME]")
        })
    });
    root.require("node", "node = \"NAME\"", problems);
    let listen = read_listen(&mut root, problems);
    let admin_socket = root.parsed("admin_socket", problems, socket_path);
    let metrics = root.parsed("metrics", problems, parse_listener);
    if let (Some(metrics), Some(listen)) = (&metrics, &listen)
        && let Some(taken) = listen.iter().find(|peer| collide(**peer, metrics.value))
    {
        problems
            .error(&metrics.span, format!("metrics cannot be at {}: peers are listened for at {taken}", metrics.value))
            .hint("give metrics another port");
    }
    let log = root.table("log", problems).map_or(Log::default(), |table| read_log(table, problems));
    let limits = root.table("limits", problems).map_or(Limits::default(), |table| read_limits(table, problems));
    root.finish(problems);
    Some(AgentFile {
        node: node?.value,
        listen,
        admin_socket: admin_socket.map(|path| path.value),
        metrics: metrics.map(|address| address.value),
        log,
        limits,
    })
}

fn read_listen(root: &mut Table<'_>, problems: &mut Problems<'_>) -> Option<Vec<SocketAddr>> {
    let list = root.string_or_strings("listen", problems)?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for text in list.value.iter().take(MOST_LISTENERS) {
        match parse_listener(text.value) {
            Ok(address) if addresses.contains(&address) => {
                problems.warning(&text.span, format!("{address} stands in this list twice")).hint("keep one of the two")
            }
            Ok(address) => addresses.push(address),
            Err(fault) => problems.fault(&text.span, &fault),
        }
    }
    if list.value.len() > MOST_LISTENERS {
        problems
            .error(&list.span, format!("`listen` has more than {MOST_LISTENERS} addresses"))
            .hint("listen on all addresses with \"[::]:7443\"");
    }
    Some(addresses)
}

/// Whether two listeners cannot both be: the same port on the same address, or on all of them.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn socket_path(text: &str) -> Result<PathBuf, Fault> {
    let fault = |why: &str| Fault::new(format!("{} is not a socket's path: {why}", quote(text)));
    if text.is_empty() || text.ends_with('/') {
        return Err(fault("it names no file").hint("write a path such as \"/run/adit/adit.sock\""));
    }
    if text.chars().any(char::is_control) {
        return Err(fault("it has a control character"));
    }
    if text.len() > MOST_PATH {
        return Err(fault("it is longer than the 107 bytes that the kernel takes"));
    }
    Ok(PathBuf::from(text))
}

fn read_log(mut table: Table<'_>, problems: &mut Problems<'_>) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let format = table.choice("format", &formats, problems).map(|format| format.value);
    let level = table.choice("level", &levels.map(|level| (level.as_str(), level)), problems).map(|level| level.value);
    table.finish(problems);
    Log { format: format.unwrap_or_default(), level: level.unwrap_or_default() }
}

fn read_limits(mut table: Table<'_>, problems: &mut Problems<'_>) -> Limits {
    let default = Limits::default();
    let or_off = |table: &mut Table<'_>, key, most, default: Option<Duration>, problems: &mut Problems<'_>| {
        table.duration_or_off(key, Duration::from_secs(1)..=most, problems).map_or(default, |found| found.value)
    };
    let connect = table.duration("connect", LEAST..=HOUR, problems);
    let handshake = table.duration("handshake", LEAST..=HANDSHAKE_MOST, problems);
    let idle = or_off(&mut table, "idle", YEAR, default.idle, problems);
    let half_closed = or_off(&mut table, "half_closed", YEAR, default.half_closed, problems);
    let keepalive = or_off(&mut table, "keepalive", KEEPALIVE_MOST, default.keepalive, problems);
    let drain = table.duration("drain", Duration::ZERO..=DAY, problems);
    let connections = count(&mut table, "connections", 1, MOST_CONNECTIONS, problems);
    let handshakes = count(&mut table, "handshakes_in_flight", 1, MOST_HANDSHAKES, problems);
    let per_source = count(&mut table, "handshakes_in_flight_per_source", 1, MOST_HANDSHAKES, problems);
    let lanes = count(&mut table, "lanes_per_peer", 1, MOST_CONNECTIONS, problems);
    let warm = count(&mut table, "lanes_warm", 0, MOST_WARM, problems);
    let pending = count(&mut table, "pending_connections", 1, MOST_CONNECTIONS, problems);
    table.finish(problems);

    let connections = value_or(connections, default.connections);
    let handshakes_in_flight = value_or(handshakes, default.handshakes_in_flight);
    let lanes_per_peer = value_or(lanes, default.lanes_per_peer);
    let per_source = (per_source, default.handshakes_in_flight_per_source);
    Limits {
        connect: connect.map_or(default.connect, |found| found.value),
        handshake: handshake.map_or(default.handshake, |found| found.value),
        idle,
        half_closed,
        keepalive,
        drain: drain.map_or(default.drain, |found| found.value),
        connections,
        handshakes_in_flight,
        handshakes_in_flight_per_source: within(
            per_source,
            "handshakes_in_flight_per_source",
            ("handshakes_in_flight", handshakes_in_flight),
            problems,
        ),
        lanes_per_peer,
        lanes_warm: within((warm, default.lanes_warm), "lanes_warm", ("lanes_per_peer", lanes_per_peer), problems),
        pending_connections: within(
            (pending, default.pending_connections),
            "pending_connections",
            ("connections", connections),
            problems,
        ),
    }
}

fn count(
    table: &mut Table<'_>,
    key: &'static str,
    least: i64,
    most: usize,
    problems: &mut Problems<'_>,
) -> Option<Item<usize>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let found = table.integer(key, least..=most, problems)?;
    usize::try_from(found.value).ok().map(|value| Item { value, span: found.span })
}

fn value_or(found: Option<Item<usize>>, default: usize) -> usize {
    found.map_or(default, |found| found.value)
}

/// A limit that another one bounds: a default gives way to it, a value that was written is an error.
fn within(
    (found, default): (Option<Item<usize>>, usize),
    key: &str,
    (other, bound): (&str, usize),
    problems: &mut Problems<'_>,
) -> usize {
    let Some(found) = found else { return default.min(bound) };
    if found.value > bound {
        problems
            .error(&found.span, format!("`{key}` is greater than `{other}`, which is {bound}"))
            .hint(format!("lower `{key}`, or raise `{other}`"));
    }
    found.value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> AgentFile {
        let (file, warnings) =
            AgentFile::check(text, "agent.toml").unwrap_or_else(|problems| panic!("{text}\n{}", problems[0]));
        assert_eq!(warnings, [], "{text}");
        file
    }

    /// `LINE:COLUMN message | hint` for each problem.
    fn bad(text: &str) -> Vec<String> {
        let problems = AgentFile::check(text, "agent.toml").expect_err(text);
        let hint = |problem: &Problem| problem.hint.clone().unwrap_or("-".into());
        problems.iter().map(|p| format!("{}:{} {} | {}", p.line, p.column, p.message, hint(p))).collect()
    }

    #[test]
    fn everything_but_the_node_has_a_default() {
        let file = good("node = \"alpha\"\n");
        assert_eq!(file.node.as_str(), "alpha");
        assert_eq!((&file.listen, &file.admin_socket, file.metrics), (&None, &None, None));
        assert_eq!((file.log, file.limits), (Log::default(), Limits::default()));
        assert_eq!(bad(""), ["1:1 the file needs `node` | add `node = \"NAME\"`"]);
    }

    #[test]
    fn the_reference_for_users_shows_the_defaults() {
        let reference = include_str!("../../docs/agent-file.md");
        let example = reference.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let file = good(example);
        assert_eq!((file.log, file.limits), (Log::default(), Limits::default()));
        for line in example.lines().filter_map(|line| line.strip_prefix("# ")) {
            good(&format!("node = \"alpha\"\n{line}\n"));
        }
    }

    #[test]
    fn every_key_can_be_set() {
        let file = good(
            r#"
            node = "alpha"
            listen = ["0.0.0.0:7443", "[2001:db8::1]:7443"]
            admin_socket = "run/adit.sock"
            metrics = "127.0.0.1:9100"
            [log]
            format = "json"
            level = "debug"
            [limits]
            connect = "3s"
            handshake = "100ms"
            idle = "1h"
            half_closed = "10m"
            keepalive = "off"
            drain = "0s"
            connections = 20_000
            handshakes_in_flight = 512
            handshakes_in_flight_per_source = 512
            lanes_per_peer = 100
            lanes_warm = 0
            pending_connections = 20000
            "#,
        );
        assert_eq!(file.listen, Some(vec!["0.0.0.0:7443".parse().unwrap(), "[2001:db8::1]:7443".parse().unwrap()]));
        assert_eq!(file.admin_socket, Some("run/adit.sock".into()));
        assert_eq!(file.metrics, Some("127.0.0.1:9100".parse().unwrap()));
        assert_eq!(file.log, Log { format: LogFormat::Json, level: LogLevel::Debug });
        let expected = Limits {
            connect: Duration::from_secs(3),
            handshake: Duration::from_millis(100),
            idle: Some(Duration::from_secs(3_600)),
            half_closed: Some(Duration::from_secs(600)),
            keepalive: None,
            drain: Duration::ZERO,
            connections: 20_000,
            handshakes_in_flight: 512,
            handshakes_in_flight_per_source: 512,
            lanes_per_peer: 100,
            lanes_warm: 0,
            pending_connections: 20_000,
        };
        assert_eq!(file.limits, expected);
        assert_eq!(good("node = \"a\"\nlisten = \"[::]:1\"").listen, Some(vec!["[::]:1".parse().unwrap()]));
        assert_eq!(good("node = \"a\"\nlisten = []").listen, Some(vec![]));
    }

    #[test]
    fn defaults_give_way_to_limits_that_bound_them() {
        let limits =
            good("node = \"a\"\n[limits]\nconnections = 10\nhandshakes_in_flight = 5\nlanes_per_peer = 1\n").limits;
        assert_eq!(limits.pending_connections, 10);
        assert_eq!(limits.handshakes_in_flight_per_source, 5);
        assert_eq!(limits.lanes_warm, 1);
    }

    #[test]
    fn problems_are_told_at_their_place_with_a_hint() {
        for (line, expected) in [
            ("lissen = \"[::]:1\"", "2:1 unknown key `lissen` in the file | did you mean `listen`?"),
            (
                "listen = \"alpha:1\"",
                "2:10 `alpha:1` is not an IP address and a port | listeners are bound to an address of the host, such as \"127.0.0.1:15432\"",
            ),
            (
                "listen = [\"[::]:0\"]",
                "2:11 the port of `[::]:0` is 0, which nobody can connect to | choose a port from 1 to 65535",
            ),
            ("listen = 7443", "2:10 `listen` takes a string or a list of strings, not an integer | -"),
            (
                "admin_socket = \"\"",
                "2:16 `` is not a socket's path: it names no file | write a path such as \"/run/adit/adit.sock\"",
            ),
            ("metrics = 9100", "2:11 `metrics` takes a string, not an integer | put it in quotes: \"9100\""),
            (
                "metrics = \"127.0.0.1:1\"\nlisten = \"0.0.0.0:1\"",
                "2:11 metrics cannot be at 127.0.0.1:1: peers are listened for at 0.0.0.0:1 | give metrics another port",
            ),
            ("log.format = \"jsn\"", "2:14 `jsn` is not a format | did you mean `json`?"),
            (
                "log.level = \"loud\"",
                "2:13 `loud` is not a level | it is one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            ),
            ("limits.conect = \"1s\"", "2:8 unknown key `conect` in [limits] | did you mean `connect`?"),
            (
                "limits.connect = 10",
                "2:18 `connect` takes a duration such as \"10s\", not an integer | say the unit: \"10s\"",
            ),
            (
                "limits.connect = \"off\"",
                "2:18 `off` is not a duration | write a whole number and a unit (ms, s, m, h, d), such as \"10s\"",
            ),
            ("limits.handshake = \"99ms\"", "2:20 `handshake` is from \"100ms\" to \"10m\" | -"),
            ("limits.idle = \"1ms\"", "2:15 `idle` is from \"1s\" to \"365d\", or \"off\" | -"),
            (
                "limits.idle = \"0ff\"",
                "2:15 `0ff` is not a duration | units are ms, s, m, h and d; write a smaller unit instead of a fraction",
            ),
            ("limits.keepalive = \"10h\"", "2:20 `keepalive` is from \"1s\" to \"9h\", or \"off\" | -"),
            ("limits.connections = 0", "2:22 `connections` is a whole number from 1 to 500000 | -"),
            ("limits.connections = -1", "2:22 `connections` is a whole number from 1 to 500000 | -"),
            (
                "limits.connections = \"5\"",
                "2:22 `connections` takes an integer, not a string | write it without quotes: 5",
            ),
            ("limits.lanes_warm = 65", "2:21 `lanes_warm` is a whole number from 0 to 64 | -"),
            (
                "limits.handshakes_in_flight_per_source = 257",
                "2:42 `handshakes_in_flight_per_source` is greater than `handshakes_in_flight`, which is 256 | lower `handshakes_in_flight_per_source`, or raise `handshakes_in_flight`",
            ),
            (
                "limits.pending_connections = 10001",
                "2:30 `pending_connections` is greater than `connections`, which is 10000 | lower `pending_connections`, or raise `connections`",
            ),
        ] {
            assert_eq!(bad(&format!("node = \"a\"\n{line}\n")), [expected], "{line}");
        }
        assert_eq!(
            bad("node = \"A\"\n")[0],
            "1:8 `A` is not a node name: `A` cannot stand in a name: only a-z, 0-9 and - can | write the name of a [node.NAME]"
        );
    }

    #[test]
    fn problems_come_all_at_once() {
        let text = "lissen = 1\n[limits]\nconnect = \"0s\"\nhandshake = 3\n[log]\nformat = \"x\"\n";
        assert_eq!(bad(text).len(), 5, "{:?}", bad(text));
    }

    #[test]
    fn a_repeated_address_is_a_warning() {
        let (file, warnings) = AgentFile::check("node = \"a\"\nlisten = [\"[::]:1\", \"[::]:1\"]\n", "f").unwrap();
        assert_eq!(file.listen.map(|all| all.len()), Some(1));
        assert_eq!((warnings[0].line, warnings[0].column), (2, 21));
    }

    #[test]
    fn a_file_that_is_not_there_is_told() {
        let problems = AgentFile::load(Path::new("/nonexistent/agent.toml")).unwrap_err();
        assert!(problems[0].to_string().starts_with("/nonexistent/agent.toml: error: cannot be read"));
    }
}
