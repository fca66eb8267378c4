//! The page that a run of `adit sim run` leaves, in a real browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use adit_tests::binary;
use adit_tests::scratch;
use adit_tests::suite::{Test, skipped};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Long enough for a run or a browser on a machine under load.
const LONG: Duration = Duration::from_secs(180);

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::in_namespaces("the_page_of_a_run_shows_its_verdict_its_fault_and_its_checks_in_a_browser", page)]
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let all = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    all.into_iter().find(|program| program.is_file())
}

fn page() -> Result<()> {
    let Some(browser) = browser() else {
        skipped("the page of a run in a browser", "there is no chromium (Debian: apt-get install chromium)");
        return Ok(());
    };
    let directory = scratch::directory()?;
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../netsim/examples/split.toml");
    let mut run = Command::new(binary::path()?);
    run.args(["sim", "run"]).arg(scenario).args(["--out", "results"]).current_dir(&directory);
    binary::run(&mut run, LONG)?.success()?;
    let results = directory.join("results/split");
    let result: Value = serde_json::from_str(&fs::read_to_string(results.join("result.json"))?)?;
    let (page, told) = show(&browser, &directory, &results.join("timeline.html"))?;

    let has = |what: &str, count: usize| {
        let found = page.matches(what).count();
        ensure!(found == count, "{found} of {what} in the page, and not {count}:\n{told}");
        Ok(())
    };
    has("data-drawn=\"yes\"", 1)?;
    has("<h1 id=\"scenario\">split</h1>", 1)?;
    has("<span class=\"badge good\">✓ 3 checks held</span>", 1)?;
    // Which it is depends on what else the machine has to do.
    let verdict = match result["verdict"].as_str() {
        Some("faithful") => "<span class=\"badge good\">✓ faithful</span>",
        _ => "<span class=\"badge bad\">⚠ overloaded</span>",
    };
    has(verdict, 1)?;
    has("class=\"badge ", 2)?;
    // A bar for each of the two that were cut apart.
    has("class=\"item fault\"", 2)?;
    let begins = result["faults"][0]["at"].as_f64().context("when the fault begins")?;
    has(&format!("aria-label=\"pair, {begins:.3} s to "), 2)?;
    has(" s, on alpha, beta\"", 2)?;
    has("<span>pair</span>", 2)?;
    // A mark for each check, at its time and with its name.
    let checks = result["checks"].as_array().context("checks")?;
    ensure!(checks.len() == 3, "{result}");
    has("class=\"item mark good\"", 3)?;
    has("class=\"item mark bad\"", 0)?;
    for check in checks {
        let (at, name) = (check["at"].as_f64().context("at")?, check["name"].as_str().context("name")?);
        has(&format!("aria-label=\"held at {at:.3} s, {name}"), 1)?;
    }
    let errors: Vec<&str> = told.lines().filter(|line| line.contains("CONSOLE")).collect();
    ensure!(errors.is_empty(), "the browser's console: {errors:#?}");
    Ok(())
}

/// The page after its scripts have run, and what the browser has said.
fn show(browser: &Path, directory: &Path, page: &Path) -> Result<(String, String)> {
    let mut command = Command::new(browser);
    command.args(["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--dump-dom"]);
    command.args(["--enable-logging=stderr", "--window-size=1200,900", "--virtual-time-budget=2000"]);
    // Its own sandbox takes namespaces that neither root nor a container need have; the page is our own.
    command.arg("--no-sandbox").arg(format!("--user-data-dir={}", directory.join("profile").display()));
    command.arg(format!("file://{}", page.display()));
    let output = binary::run(&mut command, LONG)?.success()?;
    Ok((output.stdout, output.stderr))
}
