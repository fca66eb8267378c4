use super::*;
use crate::vocabulary::CongestionName;

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
    let reference = include_str!("../../../docs/agent-file.md");
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
        record_layer = "rustls"
        congestion = "bbr"
        threads = 3
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
    assert_eq!(file.record_layer, RecordLayer::Rustls);
    assert_eq!(file.congestion, Congestion::Named(CongestionName::new("bbr").unwrap()));
    assert_eq!(file.threads, Some(3));
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
    assert_eq!(good("node = \"a\"\ncongestion = \"auto\"").congestion, Congestion::default());
    assert_eq!(good("node = \"a\"\ncongestion = \"system\"").congestion, Congestion::System);
    assert_eq!(good("node = \"a\"").record_layer, RecordLayer::Adit, "the kernel is to be asked for");
    assert_eq!(good("node = \"a\"\nrecord_layer = \"ktls\"").record_layer, RecordLayer::Kernel);
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
        (
            "congestion = \"no such one\"",
            "2:14 `no such one` is not the name of a congestion control | write \"auto\", \"system\", or one of `sysctl net.ipv4.tcp_allowed_congestion_control`",
        ),
        ("threads = 0", "2:11 `threads` is a whole number from 1 to 1024 | -"),
        (
            "record_layer = \"kernel\"",
            "2:16 `kernel` is not a record_layer | it is one of \"adit\", \"rustls\", \"ktls\"",
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

#[test]
fn sources_are_read_with_what_they_need() {
    let file = good("node = \"alpha\"\n");
    assert_eq!(file.sources, Sources::default());
    let file = good(
        r#"
        node = "alpha"
        [source.etcd]
        endpoints = ["https://etcd-1.example.net", "https://[2001:db8::1]:4001", "http://127.0.0.1:2379"]
        prefix = "/fleet/lab"
        ca = "etcd-ca.pem"
        certificate = "/etc/pki/client.pem"
        key = "etcd.key"
        user = "adit"
        password_file = "etcd.password"
        poll = "5m"
        [source.https]
        url = "https://config.example.net/lab/mesh.signed?v=1"
        "#,
    );
    let etcd = file.sources.etcd.unwrap();
    let endpoints: Vec<_> = etcd.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["https://etcd-1.example.net:2379", "https://[2001:db8::1]:4001", "http://127.0.0.1:2379"]);
    assert_eq!((etcd.prefix.as_deref(), etcd.poll.as_secs()), (Some("/fleet/lab/"), 300));
    assert_eq!(etcd.login, Some(("adit".into(), "etcd.password".into())));
    assert_eq!(etcd.tls.client, Some(("/etc/pki/client.pem".into(), "etcd.key".into())));
    let https = file.sources.https.unwrap();
    assert_eq!(
        (https.endpoint.to_string(), &*https.path),
        ("https://config.example.net:443".into(), "/lab/mesh.signed?v=1")
    );
    assert_eq!((https.tls, https.poll.as_secs()), (TlsFiles::default(), 60));
    // Without TLS only if that is said.
    good("node = \"alpha\"\n[source.etcd]\nendpoints = \"http://10.0.0.1:2379\"\nplaintext = true\n");
}

#[test]
fn sources_that_cannot_be_used_are_told_at_their_place() {
    let etcd = |lines: &str| bad(&format!("node = \"alpha\"\n[source.etcd]\n{lines}"));
    let https = |lines: &str| bad(&format!("node = \"alpha\"\n[source.https]\n{lines}"));
    let good = "endpoints = \"https://etcd:2379\"\n";
    for (found, wanted) in [
        (etcd(""), "2:1 [source.etcd] needs `endpoints` | add `endpoints = [\"https://etcd-1.example.net:2379\"]`"),
        (etcd("endpoints = []\n"), "3:13 `endpoints` names no server | name the members of the cluster"),
        (
            etcd("endpoints = \"http://10.0.0.1:2379\"\n"),
            "3:13 http://10.0.0.1:2379 is another host without TLS: whoever is on the way sees and stops what passes | write \
             https://, or add `plaintext = true` if that is meant",
        ),
        (
            etcd("endpoints = \"https://etcd:2379/v3\"\n"),
            "3:13 `https://etcd:2379/v3` has a path, and etcd's API has none | write \"https://etcd:2379\"; where the keys are is \
             `prefix`",
        ),
        (
            etcd("endpoints = \"etcd:2379\"\n"),
            "3:13 `etcd:2379` is not a URL that can be used: it begins with neither https:// nor http:// | write \
             \"https://etcd:2379\"",
        ),
        (
            etcd("endpoints = \"https://adit:secret@etcd\"\n"),
            "3:13 `https://adit:secret@etcd` is not a URL that can be used: it has a user or a password in it, which would show in \
             logs | -",
        ),
        (
            etcd(&format!("{good}prefix = \"/\"\n")),
            "4:10 `/` cannot be the beginning of keys: other keys may begin with it as well | write one such as \"/adit/lab/\"",
        ),
        (
            etcd(&format!("{good}user = \"adit\"\n")),
            "4:8 a user needs a password | add `password_file = \"etcd.password\"`",
        ),
        (etcd(&format!("{good}password_file = \"p\"\n")), "4:17 a password needs a user | add `user = \"NAME\"`"),
        (etcd(&format!("{good}certificate = \"c.pem\"\n")), "4:15 a certificate needs its key | add `key = \"FILE\"`"),
        (etcd(&format!("{good}key = \"k\"\n")), "4:7 a key needs its certificate | add `certificate = \"FILE\"`"),
        (etcd(&format!("{good}poll = \"10ms\"\n")), "4:8 `poll` is from \"1s\" to \"1d\" | -"),
        (https("url = \"http://config/mesh\"\n"), "3:7 `http://config/mesh` is without TLS | write https://"),
        (https(""), "2:1 [source.https] needs `url` | add `url = \"https://config.example.net/lab/mesh.signed\"`"),
    ] {
        assert_eq!(found, [wanted]);
    }
}
