//! From the document to the values, within their ranges.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_config::document::{Item, Problems, Table};
use mesh_config::{Fault, NodeName, parse_listener, quote};

use super::{AgentFile, Limits, Log, LogFormat, LogLevel, Sources, source};
use crate::vocabulary::{Congestion, CongestionName, RecordLayer};

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
/// More than the cores of a host.
const MOST_THREADS: usize = 1_024;
/// Addresses to listen on; a host has few.
const MOST_LISTENERS: usize = 64;
/// The longest path of a Unix socket, in bytes (unix(7)).
const MOST_PATH: usize = 107;

/// Reads the outermost table.
pub(super) fn root(mut root: Table<'_>, problems: &mut Problems<'_>) -> Option<AgentFile> {
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
    let layers = [("adit", RecordLayer::Adit), ("rustls", RecordLayer::Rustls), ("ktls", RecordLayer::Kernel)];
    let record_layer = root.choice("record_layer", &layers, problems);
    let congestion = root.parsed("congestion", problems, congestion);
    let threads = count(&mut root, "threads", 1, MOST_THREADS, problems);
    let sources = root.table("source", problems).map_or(Sources::default(), |table| source::read(table, problems));
    let log = root.table("log", problems).map_or(Log::default(), |table| read_log(table, problems));
    let limits = root.table("limits", problems).map_or(Limits::default(), |table| read_limits(table, problems));
    root.finish(problems);
    Some(AgentFile {
        node: node?.value,
        listen,
        admin_socket: admin_socket.map(|path| path.value),
        metrics: metrics.map(|address| address.value),
        record_layer: record_layer.map(|layer| layer.value).unwrap_or_default(),
        congestion: congestion.map(|congestion| congestion.value).unwrap_or_default(),
        threads: threads.map(|threads| threads.value),
        sources,
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

fn congestion(text: &str) -> Result<Congestion, Fault> {
    match text {
        "auto" => Ok(Congestion::Auto),
        "system" => Ok(Congestion::System),
        name => CongestionName::new(name).map(Congestion::Named).ok_or_else(|| {
            Fault::new(format!("{} is not the name of a congestion control", quote(text)))
                .hint("write \"auto\", \"system\", or one of `sysctl net.ipv4.tcp_allowed_congestion_control`")
        }),
    }
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
