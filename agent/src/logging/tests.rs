use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;
use crate::log_limited;
use crate::refusals::{Layer, Refusal};
use crate::vocabulary::{Direction, Path};

/// Everything that was written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: Format, directives: &str, say: impl FnOnce()) -> String {
    let kept = Kept::default();
    let options = Options { directives: directives.into(), format, color: false, clock: Clock::default() };
    tracing::subscriber::with_default(to_writer(options, kept.clone()).unwrap(), say);
    String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
}

fn json(say: impl FnOnce()) -> Value {
    let text = logged(Format::Json, "trace", say);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

const HOSTILE: &str =
    "x\n2026-01-01T00:00:00.000Z INFO audit link.up peer=root\r\n\u{1b}[2J\u{202e}\",\"event\":\"link.up";

#[test]
fn text_of_a_peer_cannot_start_a_line_or_drive_a_terminal() {
    for format in [Format::Text, Format::Json] {
        let text = logged(format, "trace", || {
            tracing::warn!(detail = HOSTILE, shown = %HOSTILE, debug = ?HOSTILE, "{HOSTILE}");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.trim_end_matches('\n').chars().all(|c| !c.is_control()), "{text:?}");
        if format == Format::Json {
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["detail"], HOSTILE);
            assert_eq!(value["event"], Value::Null);
        } else {
            assert!(!text.contains('\u{202e}'));
        }
    }
}

#[test]
fn a_long_value_is_cut() {
    let text = logged(Format::Text, "trace", || tracing::warn!(detail = "é".repeat(1 << 20), "m"));
    assert!(text.len() < 5000, "{}", text.len());
}

#[test]
fn a_line_for_people_reads_from_time_to_fields() {
    let text = logged(Format::Text, "trace", || {
        tracing::info!(target: "audit", event = "link.up", peer = "beta", rtt = 0.5, why = "two words", n = 3, "said");
    });
    let (time, rest) = text.split_once(' ').unwrap();
    assert_eq!((time.len(), rest), (24, "INFO  audit link.up said peer=beta rtt=0.5 why=\"two words\" n=3\n"));
}

#[test]
fn a_secret_is_in_no_line() {
    const SENTINEL: &str = "5e471e1-do-not-tell";
    #[derive(Debug)]
    struct Token {
        #[expect(dead_code, reason = "read by Debug")]
        secret: Secret<String>,
    }
    let secret = Secret::new(SENTINEL.to_owned());
    assert_eq!(secret.expose(), SENTINEL);
    for format in [Format::Text, Format::Json] {
        let text = logged(format, "trace", || {
            let token = Token { secret: secret.clone() };
            tracing::error!(?token, shown = %secret, "{secret:?} {secret} {token:#?}");
        });
        assert!(!text.contains(SENTINEL), "{text}");
        assert!(text.contains("[secret]"), "{text}");
    }
}

#[test]
fn audit_events_have_stable_names_and_fields() {
    let (alpha, beta) = ("alpha".parse().unwrap(), "beta".parse().unwrap());
    let service = "postgres".parse().unwrap();
    let connection = audit::Connection {
        id: 7,
        trace: &"00ff",
        service: &service,
        from: &beta,
        to: Some(&alpha),
        client: Some(&"127.0.0.1:4000"),
        path: Some(Path::Lane),
    };
    let refusal = Refusal {
        direction: Direction::In,
        peer: Some("audit-test-peer".parse().unwrap()),
        address: Some("10.0.0.9:1234".parse().unwrap()),
        service: Some("postgres".parse().unwrap()),
        layer: Layer::Permit,
        reason: "not_permitted",
        detail: HOSTILE.into(),
    };
    let cases: [(&str, &str, Value); 9] = [
        (
            "connection.open",
            "client event from id level path service target timestamp to trace",
            json(|| assert!(audit::connection_open(&connection, &beta))),
        ),
        (
            "connection.close",
            "bytes_in bytes_out client event from id level path reason seconds service target timestamp to trace",
            json(|| {
                let reason = Some(crate::reason::Reason::LinkLost);
                audit::connection_close(&connection, 1, 2, std::time::Duration::from_millis(1500), reason);
            }),
        ),
        (
            "connection.refused",
            "address detail direction event layer level peer reason service target timestamp",
            json(|| audit::connection_refused(&refusal)),
        ),
        (
            "link.up",
            "address certificate direction event level path peer target timestamp",
            json(|| audit::link_up(&beta, Direction::Out, Path::Quic, &"10.0.0.2:7443", &"0a")),
        ),
        (
            "link.down",
            "detail event level path peer reason target timestamp",
            json(|| audit::link_down(&beta, Path::Quic, "link_lost", "timed out")),
        ),
        (
            "log.suppressed",
            "cause event level peer suppressed target timestamp",
            json(|| audit::log_suppressed(&(Some((Who::from(&beta), "link.up")), 7))),
        ),
        (
            "mesh.reload",
            "detail event level old_version result source target timestamp version",
            json(|| audit::mesh_reload("mesh.toml", Some(12), Some(11), Some("a lower version"))),
        ),
        (
            "cert.issue",
            "event level node not_after serial target timestamp",
            json(|| audit::cert_issue(&beta, &"0a", &"2026-02-07T00:00:00Z")),
        ),
        (
            "admin.call",
            "client_pid event level method path status target timestamp uid",
            json(|| audit::admin_call("POST", "/v1/ping", 200, 0, Some(1))),
        ),
    ];
    let page = include_str!("../../../docs/logging.md");
    for (event, fields, value) in cases {
        assert_eq!((&value["event"], &value["target"]), (&Value::from(event), &Value::from("audit")));
        let names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.join(" "), fields, "{event}");
        assert!(page.contains(&format!("| `{event}` |")), "{event} is not in docs/logging.md");
    }
}

#[test]
fn a_flood_of_one_cause_is_a_few_lines_and_a_count() {
    let before = suppressed_lines();
    let refusal = Refusal {
        direction: Direction::In,
        peer: Some("flooding-peer".parse().unwrap()),
        address: None,
        service: None,
        layer: Layer::Identity,
        reason: "certificate_expired",
        detail: "x".repeat(400),
    };
    let text = logged(Format::Json, "trace", || {
        for _ in 0..100_000 {
            audit::connection_refused(&refusal);
            log_limited!(warn, Who::Peer("flooding-peer".parse().unwrap()), "flood", "again");
        }
    });
    assert!((2..=8).contains(&text.lines().count()), "{text}");
    assert!(suppressed_lines() - before > 199_000);
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_last_is_told_though_nothing_follows() {
    let kept = Kept::default();
    let options = Options { directives: "trace".into(), format: Format::Text, color: false, clock: Clock::default() };
    let _log = tracing::subscriber::set_default(to_writer(options, kept.clone()).unwrap());
    let limiter = Mutex::new(RateLimiter::new(Limits::default()));
    let key = (Who::Peer("flapping-peer".parse().unwrap()), "expired");
    let start = tokio::time::Instant::now();
    for _ in 0..5 {
        limiter.lock().unwrap().handle(key.clone(), start.into_std());
    }
    let lines = || String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    for (seconds, told) in [(29, false), (45, true), (3_600, true)] {
        let until = start + std::time::Duration::from_secs(seconds);
        tokio::time::timeout_at(until, limited::tell([&limiter])).await.unwrap_err();
        let said = "INFO  audit log.suppressed peer=flapping-peer cause=expired suppressed=2\n";
        assert_eq!(lines().matches(said).count(), usize::from(told), "{}", lines());
        assert_eq!(lines().lines().count(), usize::from(told));
    }
}

#[test]
fn a_member_in_a_loop_is_a_bounded_log_in_which_every_open_has_its_close() {
    let (looping, alpha) = ("looping-peer".parse().unwrap(), "alpha".parse().unwrap());
    let service = "web".parse().unwrap();
    let connection = |id| audit::Connection {
        id,
        trace: &"00ff",
        service: &service,
        from: &looping,
        to: Some(&alpha),
        client: None,
        path: Some(Path::Quic),
    };
    let before = suppressed_lines();
    let text = logged(Format::Json, "trace", || {
        for id in 0..20_000 {
            if audit::connection_open(&connection(id), &looping) {
                audit::connection_close(&connection(id), 1, 1, std::time::Duration::ZERO, None);
            }
            audit::link_up(&looping, Direction::In, Path::Lane, &"10.0.0.2:7443", &"0a");
            audit::link_down(&looping, Path::Lane, "link_lost", "again");
        }
    });
    let count = |event: &str| text.lines().filter(|l| l.contains(&format!("\"{event}\""))).count();
    assert_eq!(count("connection.open"), count("connection.close"));
    for event in ["connection.open", "link.up", "link.down"] {
        // The burst, and what dripped while this ran.
        assert!((500..1_000).contains(&count(event)), "{event}: {}", count(event));
    }
    assert!(suppressed_lines() - before > 55_000);
}

#[test]
fn the_level_comes_from_the_environment_then_the_command_line_then_the_file() {
    assert_eq!(directives(Some("debug"), true, 0, Some("warn")), "debug,audit=info");
    assert_eq!(directives(Some("off,audit=off"), false, 0, None), "off,audit=off");
    assert_eq!(directives(Some(" "), true, 3, Some("warn")), "error");
    assert_eq!(directives(None, false, 1, Some("warn")), "info,agent=debug,audit=info");
    assert_eq!(directives(None, false, 0, Some("warn")), "warn,audit=info");
    assert_eq!(directives(None, false, 0, None), "info,audit=info");
}

#[test]
fn audit_events_stay_on_when_the_level_is_low() {
    let text = logged(Format::Text, &directives(None, false, 0, Some("error")), || {
        tracing::warn!("left out");
        audit::admin_call("POST", "/v1/ping", 200, 0, None);
    });
    assert!(text.contains("admin.call") && !text.contains("left out"), "{text}");
}

#[test]
fn directives_that_make_no_sense_are_an_error() {
    let options =
        Options { directives: "agent=loud".into(), format: Format::Text, color: false, clock: Clock::default() };
    let error = to_writer(options, Kept::default()).err().unwrap();
    assert!(error.to_string().contains("agent=loud"), "{error}");
}
