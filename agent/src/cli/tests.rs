//! The commands against an agent in memory: what people read, what machines read, how they end.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use serde_json::Value;
use time::macros::datetime;

use super::context::{Context, interrupted, told};
use super::error::CliError;
use super::style::Paint;
use super::{bench, check, connections, drain, explain, ping, reload, status};
use crate::admin::fixture::{self, FakeAgent, Rig, TempDir};
use crate::admin::server::Limits;
use crate::admin::view::Status;
use crate::clock::Clock;

/// The arguments of the commands, as a command line has them.
#[derive(Parser)]
#[command(name = "adit")]
enum Command {
    Status(status::StatusArgs),
    Connections(connections::ConnectionsArgs),
    Explain(explain::ExplainArgs),
    Ping(ping::PingArgs),
    Reload(reload::ReloadArgs),
    Drain(drain::DrainArgs),
    Bench(bench::BenchArgs),
    Check(check::CheckArgs),
}

fn context(rig: &Rig) -> Context {
    Context {
        dir: rig.dir.0.clone(),
        json: false,
        quiet: false,
        verbose: 0,
        color: false,
        admin_socket: rig.client.socket().into(),
        clock: Clock::default(),
    }
}

async fn run(line: &str, ctx: &Context) -> (String, Result<(), CliError>) {
    let mut out = Vec::new();
    let outcome = match Command::try_parse_from(line.split_whitespace()).unwrap() {
        Command::Status(args) => status::run(args, ctx, &mut out).await,
        Command::Connections(args) => connections::run(args, ctx, &mut out).await,
        Command::Explain(args) => explain::run(args, ctx, &mut out).await,
        Command::Reload(args) => reload::run(args, ctx, &mut out).await,
        Command::Drain(args) => drain::run(args, ctx, &mut out, &mut Vec::new()).await,
        Command::Ping(args) => ping::run(args, ctx, &mut out).await,
        Command::Bench(args) => bench::run(args, ctx, &mut out).await,
        Command::Check(args) => check::run(args, ctx, &mut out).await,
    };
    (String::from_utf8(out).unwrap(), outcome)
}

/// Compares with `snapshots/NAME.txt`. `ADIT_BLESS=1` writes it anew: read the difference before you commit it.
fn snapshot(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/cli/snapshots/{name}.txt"));
    if std::env::var_os("ADIT_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "differs from {}; ADIT_BLESS=1 writes it anew", path.display());
}

fn rendered_status(status: &Status, color: bool) -> String {
    let mut out = Vec::new();
    status::render(status, datetime!(2026-01-31 12:00 UTC), false, Paint::new(color), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn status_reads_so() {
    snapshot("status", &rendered_status(&fixture::status(), false));
    let mut well = fixture::status();
    well.config.error = None;
    well.config.on_disk_digest = Some(well.config.loaded_digest.clone());
    well.certificate.as_mut().unwrap().not_after = datetime!(2026-01-31 11:00 UTC).into();
    well.sources.clear();
    well.warnings.clear();
    well.refusals.clear();
    well.peers.clear();
    well.services.clear();
    snapshot("status-bare", &rendered_status(&well, false));
}

#[test]
fn what_others_send_reaches_no_terminal_raw() {
    let text = rendered_status(&fixture::status(), true);
    assert!(text.contains("\\u{1b}[2J") && !text.contains("\u{1b}[2J"));
    let colors = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];
    let bare = colors.iter().fold(text, |text, code| text.replace(code, ""));
    assert!(!bare.contains('\u{1b}'), "{bare:?}");
}

#[test]
fn connections_read_so() {
    let mut out = Vec::new();
    let all = [fixture::connection(1), fixture::connection(12)];
    let now = datetime!(2026-01-31 14:05 UTC);
    connections::render(&all, now, Paint::new(false), &mut out).unwrap();
    connections::render(&[], now, Paint::new(false), &mut out).unwrap();
    snapshot("connections", &String::from_utf8(out).unwrap());
}

#[tokio::test]
async fn the_commands_read_so_and_end_with_the_status_of_the_contract() {
    let rig = Rig::start(FakeAgent::default(), Limits::default());
    let ctx = context(&rig);
    for (name, line, outcome) in [
        ("explain-allowed", "adit explain beta postgres", Ok(())),
        ("explain-refused", "adit explain gamma postgres", Err(told(4))),
        ("ping", "adit ping beta -c 3", Ok(())),
        ("ping-lost", "adit ping gamma -c 2", Err(told(1))),
        ("bench", "adit bench beta --streams 8 --reverse", Ok(())),
        ("reload", "adit reload", Ok(())),
        ("reload-dry-run", "adit reload --dry-run mesh.toml", Ok(())),
        ("drain", "adit drain", Ok(())),
        ("drain-cut", "adit drain --timeout 0", Ok(())),
    ] {
        let (text, ended) = run(line, &ctx).await;
        assert_eq!(ended, outcome, "{line}");
        snapshot(name, &text);
    }
}

#[tokio::test]
async fn with_json_each_line_of_the_answer_is_one_document() {
    let rig = Rig::start(FakeAgent::default(), Limits::default());
    let ctx = Context { json: true, color: true, ..context(&rig) };
    for (line, lines, exit) in [
        ("adit status", 1, 0),
        ("adit connections", 2, 0),
        ("adit explain beta postgres", 1, 0),
        ("adit explain gamma postgres", 1, 4),
        ("adit ping beta -c 3", 4, 0),
        ("adit ping gamma -c 1", 2, 1),
        ("adit bench beta", 1, 0),
        ("adit reload", 1, 0),
        ("adit reload --dry-run", 1, 0),
        ("adit drain", 3, 0),
    ] {
        let (text, ended) = run(line, &ctx).await;
        let documents: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(documents.len(), lines, "{line}: {text}");
        assert!(documents.iter().all(Value::is_object));
        assert_eq!(ended.err().map_or(0, |e| e.exit), exit, "{line}");
    }
    let (text, _) = run("adit ping beta -c 2", &ctx).await;
    let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(summary, serde_json::json!({"sent": 2, "received": 1, "min": 0.001, "avg": 0.001, "max": 0.001}));
}

#[tokio::test]
async fn an_agent_that_is_not_running_is_exit_3_with_what_to_do() {
    let dir = TempDir::new("cli");
    let ctx = Context {
        dir: dir.0.clone(),
        json: false,
        quiet: false,
        verbose: 0,
        color: false,
        admin_socket: dir.0.join("adit.sock"),
        clock: Clock::default(),
    };
    for line in [
        "adit status",
        "adit connections",
        "adit connections --follow",
        "adit explain beta postgres",
        "adit ping beta",
        "adit bench beta",
        "adit reload",
        "adit reload --dry-run",
        "adit drain",
    ] {
        let (text, ended) = run(line, &ctx).await;
        let error = ended.unwrap_err();
        assert_eq!((error.exit, error.code, text.as_str()), (3, "not_running", ""), "{line}");
        assert!(error.hint.unwrap().contains(&format!("adit run --dir {}", dir.0.display())));
    }
}

#[tokio::test]
async fn what_the_agent_refuses_is_said_with_its_code_and_hint() {
    let rig = Rig::start(FakeAgent::default(), Limits::default());
    let ctx = context(&rig);
    for (line, exit, code) in [
        ("adit ping nobody", 1, "unknown_node"),
        ("adit explain beta nothing", 1, "unknown_service"),
        ("adit bench gamma", 1, "no_link"),
        ("adit drain --timeout 1", 1, "agent_stopped"),
    ] {
        let (_, ended) = run(line, &ctx).await;
        let error = ended.unwrap_err();
        assert_eq!((error.exit, error.code), (exit, code), "{line}");
        assert!(!error.message.is_empty());
    }
}

#[tokio::test]
async fn a_mesh_file_that_the_agent_refuses_is_exit_4_with_its_place() {
    let agent = FakeAgent { refuses: true, ..FakeAgent::default() };
    let rig = Rig::start(agent, Limits::default());
    let (text, ended) = run("adit reload", &context(&rig)).await;
    let error = ended.unwrap_err();
    assert_eq!((error.exit, error.code, text.as_str()), (4, "version_refused", ""));
    assert_eq!(error.to_string(), "mesh.toml:2:8: the version is lower\n  help: raise it");
}

#[test]
fn arguments_that_make_no_sense_are_turned_away_before_anything_is_asked() {
    for line in [
        "adit ping",
        "adit ping UPPER",
        "adit ping beta -c 0",
        "adit bench beta --streams 0",
        "adit bench beta --seconds nan",
        "adit bench beta --seconds -1",
        "adit explain beta",
        "adit reload mesh.toml",
        "adit drain --timeout -1",
        "adit drain --timeout nan",
        "adit drain --timeout 86401",
        "adit explain beta ../etc",
        "adit check mesh.toml --min-validity 14d",
        "adit check --min-validity soon",
    ] {
        assert!(Command::try_parse_from(line.split_whitespace()).is_err(), "{line}");
    }
}

/// Takes so many writes, then its reader is gone.
struct Closing(Arc<AtomicUsize>);

impl Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map(|_| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_in_peace() {
    let rig = Rig::start(FakeAgent::default(), Limits::default());
    for json in [false, true] {
        let ctx = Context { json, ..context(&rig) };
        rig.events.add_permits(100);
        let stream = ctx.client().follow().await.unwrap();
        let mut out = Closing(Arc::new(AtomicUsize::new(2)));
        let ended = connections::follow(stream, &ctx, &mut out, interrupted()).await;
        assert_eq!(ended, Err(told(0)));
        rig.running(0).await;
        let Command::Status(args) = Command::try_parse_from(["adit", "status"]).unwrap() else { unreachable!() };
        assert_eq!(status::run(args, &ctx, &mut out).await, Err(told(0)));
    }
}

#[tokio::test]
async fn an_interrupted_stream_ends_with_130_and_ping_still_sums_up() {
    let rig = Rig::start(FakeAgent::default(), Limits::default());
    let ctx = context(&rig);
    let stream = ctx.client().follow().await.unwrap();
    let ended = connections::follow(stream, &ctx, &mut Vec::new(), async {}).await;
    assert_eq!(ended, Err(told(130)));
    let beta = "beta".parse().unwrap();
    let stream = ctx.client().ping(&beta, 5).await.unwrap();
    let mut out = Vec::new();
    assert_eq!(ping::probe(stream, &beta, &ctx, &mut out, async {}).await, Err(told(130)));
    assert!(String::from_utf8(out).unwrap().contains(" received"));
}

#[tokio::test]
async fn an_agent_that_stops_ends_its_followers_with_a_reason() {
    let mut rig = Rig::start(FakeAgent::default(), Limits::default());
    let ctx = context(&rig);
    let stream = ctx.client().follow().await.unwrap();
    rig.running(1).await;
    rig.stop().await;
    let error = connections::follow(stream, &ctx, &mut Vec::new(), interrupted()).await.unwrap_err();
    assert_eq!((error.exit, error.code), (1, "agent_stopped"));
}
