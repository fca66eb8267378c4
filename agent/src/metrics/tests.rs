use std::collections::{BTreeMap, BTreeSet};

use time::macros::datetime;

use super::*;
use crate::vocabulary::SourceKind;

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn refused(line: usize) -> RefusedPart {
    RefusedPart { part: "mesh", code: "document", file: "mesh.toml".to_owned(), line, column: 7 }
}

/// Metrics in which every family has a series.
fn populated() -> (Metrics, LinkMeter, OpenConnection) {
    let metrics = Metrics::new();
    let mut link = metrics.link(&node("beta"));
    link.state(Some(Path::Lane), PeerState::Up);
    link.ping(Duration::from_micros(240));
    link.skew(-0.25);
    let service = metrics.service(&"postgres".parse().unwrap(), Role::Reach);
    let open = service.open();
    service.received(10);
    service.sent(20);
    metrics.handshake_ok(Direction::Out, "tls", Duration::from_millis(2));
    metrics.handshake_failed(Direction::In, "tls", "certificate_expired");
    metrics.refusal(Layer::Permit, "not_permitted");
    metrics.connected(Duration::from_millis(3));
    metrics.certificate_expires(datetime!(2026-02-07 00:00 UTC));
    metrics.mesh_version(12);
    metrics.mesh_reload(true);
    metrics.config_refused(vec![refused(3)]);
    metrics.mesh_source_up(SourceKind::Etcd, true);
    metrics.mesh_source_answered(SourceKind::Etcd, datetime!(2026-02-01 00:00 UTC));
    metrics.mesh_source_failed(SourceKind::Https, "unreachable");
    (metrics, link, open)
}

/// The rules of the OpenMetrics text format and of Prometheus' naming guide that the exposition can break.
fn lint(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut kinds = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut series = BTreeSet::new();
    if !text.ends_with("# EOF\n") {
        problems.push("no EOF".to_owned());
    }
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            if !helped.insert(name) || help.len() < 5 || !help.ends_with('.') || help.ends_with("..") {
                problems.push(format!("HELP: {line}"));
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
            if kinds.insert(name, kind).is_some() {
                problems.push(format!("two families: {name}"));
            }
            let right_name = name.starts_with("adit_")
                && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && !["_total", "_count", "_sum", "_bucket", "_info"].iter().any(|s| name.ends_with(s));
            let timed = !["duration", "rtt", "skew", "timestamp"].iter().any(|w| name.contains(w));
            let sized = !["memory", "bytes"].iter().any(|w| name.contains(w));
            if !right_name || !(timed || name.ends_with("_seconds")) || !(sized || name.ends_with("_bytes")) {
                problems.push(format!("name: {name}"));
            }
        } else if !line.starts_with('#') {
            let (labelled, value) = line.rsplit_once(' ').unwrap_or((line, ""));
            if value.parse::<f64>().is_err() || !series.insert(labelled) {
                problems.push(format!("sample: {line}"));
            }
            let name = labelled.split('{').next().unwrap_or_default();
            let known = kinds.iter().any(|(family, kind)| {
                name.strip_prefix(family).is_some_and(|suffix| match *kind {
                    "counter" => suffix == "_total",
                    "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
                    "info" => suffix == "_info",
                    _ => suffix.is_empty(),
                })
            });
            if !known {
                problems.push(format!("suffix: {line}"));
            }
        }
    }
    problems.extend(kinds.keys().filter(|name| !helped.contains(*name)).map(|name| format!("no help: {name}")));
    problems
}

#[test]
fn the_exposition_follows_the_naming_rules() {
    let (metrics, _link, _open) = populated();
    assert_eq!(lint(&metrics.text()), Vec::<String>::new());
}

#[test]
fn the_lint_sees_what_it_looks_for() {
    for bad in [
        "# HELP adit_x_seconds_total Some help.\n# TYPE adit_x_seconds_total counter\n# EOF\n",
        "# HELP adit_rtt Some help.\n# TYPE adit_rtt gauge\nadit_rtt 1\n# EOF\n",
        "# HELP adit_x Some help.\n# TYPE adit_x counter\nadit_x 1\n# EOF\n",
        "# HELP adit_x Some help.\n# TYPE adit_x gauge\nadit_x 1\nadit_x 1\n# EOF\n",
        "# TYPE adit_x gauge\n# EOF\n",
        "",
    ] {
        assert_ne!(lint(bad), Vec::<String>::new(), "{bad}");
    }
}

#[tokio::test]
async fn every_family_is_documented_and_every_documented_one_exists() {
    let text = populated().0.text();
    let page = include_str!("../../../docs/metrics.md");
    let exposed: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            Some(match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            })
        })
        .collect();
    let documented: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `adit_")?.split('`').next().map(|name| format!("adit_{name}")))
        .collect();
    assert_eq!(exposed, documented);
}

#[test]
fn values_arrive_where_they_belong() {
    let (metrics, _link, open) = populated();
    let text = metrics.text();
    for line in [
        "adit_links{peer=\"beta\",path=\"lane\",state=\"up\"} 1",
        "adit_link_rtt_seconds{peer=\"beta\"} 0.00024",
        "adit_link_clock_skew_seconds{peer=\"beta\"} -0.25",
        "adit_handshakes_total{direction=\"out\",transport=\"tls\",result=\"ok\"} 1",
        "adit_handshakes_total{direction=\"in\",transport=\"tls\",result=\"failed\",reason=\"certificate_expired\"} 1",
        "adit_connections{service=\"postgres\",role=\"reach\"} 1",
        "adit_connections_opened_total{service=\"postgres\",role=\"reach\"} 1",
        "adit_connection_bytes_total{service=\"postgres\",direction=\"in\"} 10",
        "adit_connection_bytes_total{service=\"postgres\",direction=\"out\"} 20",
        "adit_refusals_total{layer=\"permit\",reason=\"not_permitted\"} 1",
        "adit_certificate_expiry_timestamp_seconds 1770422400",
        "adit_mesh_version 12",
        "adit_connect_duration_seconds_count 1",
        "adit_handshake_duration_seconds_count 1",
        "adit_ping_rtt_seconds_bucket{le=\"0.00025\"} 1",
        &format!("adit_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
    drop(open);
    assert!(metrics.text().contains("adit_connections{service=\"postgres\",role=\"reach\"} 0\n"));
}

#[test]
fn a_peer_has_one_series_that_ends_with_its_link() {
    let (metrics, mut link, _open) = populated();
    link.state(None, PeerState::Down);
    let text = metrics.text();
    assert!(text.contains("adit_links{peer=\"beta\",state=\"down\"} 1\n"), "{text}");
    assert_eq!(text.lines().filter(|l| l.contains("peer=\"beta\"")).count(), 1, "{text}");
    drop(link);
    assert!(!metrics.text().contains("beta"));
}

#[test]
fn the_process_is_measured() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let open = process::open_descriptors().unwrap();
    assert!((4..100_000).contains(&open), "{open}");
    drop(file);
    let resident = process::resident_bytes().unwrap();
    assert!((1 << 20..1 << 36).contains(&resident), "{resident}");
}

#[test]
fn of_refused_files_there_is_a_series_for_each_part_until_it_is_taken() {
    let metrics = Metrics::new();
    let shown = || {
        let text = metrics.text();
        text.lines().filter(|line| line.starts_with("adit_config_refused{")).map(str::to_owned).collect::<Vec<_>>()
    };
    let line =
        |line: &str| format!("adit_config_refused{{part=\"mesh\",code=\"document\",file=\"mesh.toml\"{line}}} 1");
    for number in 1..100 {
        metrics.config_refused(vec![refused(number)]);
        assert_eq!(shown(), [line(&format!(",line=\"{number}\",column=\"7\""))]);
    }
    let without = RefusedPart { line: 0, column: 0, ..refused(1) };
    let other = RefusedPart { part: "agent", ..without.clone() };
    metrics.config_refused(vec![without.clone(), other]);
    assert_eq!(shown().len(), 2);
    metrics.config_refused(vec![without]);
    assert_eq!(shown(), [line("")]);
    metrics.config_refused(Vec::new());
    assert_eq!(shown(), [""; 0]);
}
