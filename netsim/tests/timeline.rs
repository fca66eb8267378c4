//! The page of a run, as a real browser shows it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use netsim::report::{Check, Curve, Fault, Line, Record, Sample, Stream};

type Outcome = Result<(), Failed>;

/// Long enough for a browser to start on a machine under load.
const PATIENCE: Duration = Duration::from_secs(120);

#[expect(clippy::print_stderr, reason = "a test that cannot run here says so")]
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let browser = find();
    if browser.is_none() {
        eprintln!("SKIPPED: the timeline in a browser: there is no chromium (Debian: apt-get install chromium)");
    }
    let missing = browser.is_none();
    let browser = browser.unwrap_or_default();
    let shown = move || a_browser_shows_lanes_bars_and_checks_and_nothing_breaks_out(&browser);
    let shown = Trial::test("a_browser_shows_lanes_bars_and_checks_and_nothing_breaks_out", shown);
    libtest_mimic::run(&arguments, vec![shown.with_ignored_flag(missing)]).exit_code()
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let all = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    all.into_iter().find(|program| program.is_file())
}

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A run of three nodes, in which something failed, with text that tries to become part of the page.
fn record() -> Record {
    let hostile = "</script><script>document.documentElement.dataset.broken='yes'</script><img src=x onerror=\"fail()\"> {{SCRIPT}} \u{2028}<!--";
    let mut record = Record::new("split-brain <b>", u64::MAX, ["alpha", "beta", "gamma</script>"]);
    record.repeat = "simulate run split-brain.toml --seed 7".into();
    record.wall = s(12.0);
    for (at, until, kind, on) in [
        (2.0, Some(6.0), "partition", &["alpha", "beta"][..]),
        (4.0, Some(4.0), "crash", &["gamma</script>"]),
        (5.0, None, "loss 5 %", &["wan"]),
    ] {
        let on = on.iter().map(|&name| name.to_owned()).collect();
        record.faults.push(Fault { at: s(at), until: until.map(s), kind: kind.to_owned(), on });
    }
    for (at, ok, detail) in [(1.0, true, ""), (3.0, false, hostile), (8.0, true, "in 0.4 s")] {
        let name = format!("alpha reaches beta at {at}");
        record.checks.push(Check { at: s(at), name, ok, detail: detail.to_owned() });
    }
    for number in 0..400 {
        let (node, stream) = [("alpha", Stream::Stdout), ("beta", Stream::Stderr)][number % 2];
        record.log.push(Line::new(
            s(number as f64 * 0.02),
            node,
            "server",
            stream,
            format!("\u{1b}[32mline {number}\u{1b}[0m"),
        ));
    }
    record.log.push(Line::new(s(3.0), "gamma</script>", "client", Stream::Stderr, hostile));
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        let mut curve = Curve::new("wan", from, to);
        for number in 0..120_u64 {
            let lost = number.saturating_sub(50) / 10;
            curve.push(Sample { at: s(number as f64 * 0.1), bytes: number * 125_000, packets: number * 100, lost });
        }
        record.curves.push(curve);
    }
    record
}

fn a_browser_shows_lanes_bars_and_checks_and_nothing_breaks_out(browser: &Path) -> Outcome {
    let folder = std::env::temp_dir().join(format!("netsim-timeline-{}", std::process::id()));
    record().write_to(&folder)?;
    let shown = show(browser, &folder);
    std::fs::remove_dir_all(&folder)?;
    let (page, told) = shown?;
    // Elements of the drawn page. The record and the script in it hold neither.
    for (what, count) in [
        ("data-drawn=\"yes\"", 1),
        ("class=\"lane node\"", 3),
        ("class=\"lane curve\"", 1),
        ("class=\"item fault\"", 2),
        ("class=\"item fault once\"", 1),
        ("class=\"item fault open\"", 1),
        ("class=\"item mark good\"", 2),
        ("class=\"item mark bad\"", 1),
        ("class=\"entry stderr", 201),
    ] {
        let found = page.matches(what).count();
        if found != count {
            return Err(format!("{found} of {what} in the page, and not {count}:\n{told}").into());
        }
    }
    for what in [
        "<h1 id=\"scenario\">split-brain &lt;b&gt;</h1>",
        "18446744073709551615",
        "simulate run split-brain.toml --seed 7",
    ] {
        assert!(page.contains(what), "no {what} in the page");
    }
    assert!(!page.contains("dataset.broken='yes'</script><img"), "text of the run has become part of the page");
    assert!(!page.contains("data-broken") && !page.contains("<img"), "text of the run has become part of the page");
    let errors: Vec<&str> = told.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(errors.is_empty(), "the browser's console: {errors:#?}");
    Ok(())
}

/// The page after its scripts have run, and what the browser has said.
fn show(browser: &Path, folder: &Path) -> Result<(String, String), Failed> {
    let mut command = Command::new(browser);
    command.args(["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--dump-dom"]);
    command.args(["--enable-logging=stderr", "--window-size=1200,900", "--virtual-time-budget=2000"]);
    // Its own sandbox takes namespaces that neither root nor a container need have; the page is our own.
    command.arg("--no-sandbox").arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command.arg(format!("file://{}", folder.join("timeline.html").display()));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Told when both of its outputs have ended, and so the browser with them.
    let (reads, ended) = mpsc::sync_channel::<()>(0);
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        let reads = reads.clone();
        std::thread::spawn(move || {
            let _reads = reads;
            let mut bytes = Vec::new();
            pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = reader(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let err = reader(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    drop(reads);
    if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        child.kill()?;
    }
    let status = child.wait()?;
    let joined = |thread: std::thread::JoinHandle<String>| thread.join().map_err(|_| "a reader panicked");
    let (page, told) = (joined(out)?, joined(err)?);
    if status.success() { Ok((page, told)) } else { Err(format!("the browser: {status}\n{told}").into()) }
}
