//! What is asked of a running agent: to say what a file would change, and to read its files though no watch has seen a change.

use std::fs;
use std::time::{Duration, Instant};

use adit_tests::documents::publish;
use adit_tests::load::{Ending, ending, round_trip};
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::{Agent, Mesh, Service, eventually};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::Signal;

/// What is found by looking alone is never read sooner than this.
const LOOKS: Duration = Duration::from_secs(2);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("a_dry_run_in_a_signed_mesh_names_what_publishing_would_change_and_changes_nothing", signed_dry_run),
        Test::in_namespaces("adit_reload_brings_into_force_what_no_watch_has_seen", || unseen(reload)),
        Test::in_namespaces("sighup_brings_into_force_what_no_watch_has_seen", || {
            unseen(|beta| beta.signal(Signal::HUP))
        }),
    ]
}

fn mesh() -> Result<Mesh> {
    let more = Service::new("more", &["alpha"], &["beta"]);
    Mesh::pair("tls").service(more).agent_lines("[log]\nformat = \"json\"\n").build()
}

fn signed_dry_run() -> Result<()> {
    let mesh = mesh()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let anna = mesh.publisher("anna")?;
    publish(&alpha, &anna, &mesh.document(1, "tls", &[]))?;
    beta.wait_for_version(2, SOON)?;
    let server = mesh.serve("app", "alpha")?;
    let connection = mesh.joined(&server)?;
    let before = beta.status()?;
    // Its version is behind, which is no obstacle: publishing gives it the next one.
    let next = mesh.document_of(1, "tls", &[], &[Service::new("more", &["alpha"], &["beta"])]);
    let beside = mesh.directory("beta").join("next.toml");
    fs::write(&beside, &next)?;
    let path = beside.to_str().context("a path")?;
    let told = beta.adit(&["reload", "--dry-run", path, "--json"])?.success()?.json()?;
    ensure!(told["dry_run"] == true && told["changed"] == true, "{told}");
    ensure!(told["mesh"]["old_version"] == 2 && told["mesh"]["version"] == 3, "{told}");
    ensure!(told["mesh"]["signed"] == true && told["warnings"].as_array().is_some_and(Vec::is_empty), "{told}");
    ensure!(told["listeners"]["closed"][0]["service"] == "app", "{told}");
    ensure!(told["permits"][0]["service"] == "app" && told["permits"][0]["lost"][0] == "beta", "{told}");
    let [cut] = &told["connections_cut"].as_array().context("no list")?[..] else { bail!("{told}") };
    ensure!(
        cut["service"] == "app" && cut["from"] == "beta" && cut["to"] == "alpha" && cut["rule"] == "beta",
        "{told}"
    );
    let client = connection.0.local_addr()?.to_string();
    ensure!(cut["client"] == client, "{told}");
    let text = beta.adit(&["reload", "--dry-run", path])?.success()?.stdout;
    ensure!(text.contains("- connection") && text.contains("once it is published"), "{text}");
    for (text, code, exit) in [
        (next.replace("name = \"lab\"", "name = \"other\""), "other_mesh", 4),
        (next.replace("beta", "delta"), "not_a_member", 2),
        (next.replace("on = [\"alpha\"]", "on = [\"alhpa\"]"), "document", 2),
    ] {
        fs::write(&beside, text)?;
        let refused = beta.adit(&["reload", "--dry-run", path, "--json"])?;
        ensure!(refused.code == Some(exit) && refused.json()?["error"]["code"] == code, "{refused:?}");
    }
    let after = beta.status()?;
    for key in ["mesh_version", "mesh_digest", "epochs", "services", "published"] {
        ensure!(before[key] == after[key], "{key}: {} then {}", before[key], after[key]);
    }
    round_trip(&connection.0, &connection.1, b"untouched", SOON)?;
    // In place of the directory's own file it is refused, as every edit on one host is.
    mesh.replace_document("beta", &next)?;
    let edit = beta.adit(&["reload", "--json"])?;
    ensure!(edit.code == Some(4) && edit.json()?["error"]["code"] == "mesh_is_signed", "{edit:?}");
    round_trip(&connection.0, &connection.1, b"still", SOON)?;
    // Published it does what was said.
    publish(&alpha, &anna, &next)?;
    beta.wait_for_version(3, SOON)?;
    let end = ending(&connection.0, SOON)?;
    ensure!(matches!(end, Ending::Reset(_)), "{end:?}");
    Ok(())
}

fn reload(beta: &Agent) -> Result<()> {
    beta.adit(&["reload"])?.success().map(drop)
}

/// Other files are mounted over the mesh file, which inotify does not tell of. Whoever asks is not made to wait until the files are
/// looked at by the clock. What is said counts for the fastest: a machine that is busy may keep any one waiting.
fn unseen(ask: fn(&Agent) -> Result<()>) -> Result<()> {
    let mesh = mesh()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let connection = mesh.joined(&server)?;
    let file = mesh.directory("beta").join("mesh.toml");
    let mut fastest = Duration::MAX;
    let mut mounted = 0;
    let done: Result<()> = (2..5).try_for_each(|version| {
        let over = mesh.directory("beta").join(format!("over-{version}.toml"));
        fs::write(&over, mesh.document(version, "tls", &[]))?;
        let since = Instant::now();
        mount_bind(&over, &file).context("mount it over the mesh file")?;
        mounted += 1;
        ask(&beta)?;
        beta.wait_for_version(version, SOON)?;
        fastest = fastest.min(since.elapsed());
        Ok(())
    });
    for _ in 0..mounted {
        unmount(&file, UnmountFlags::DETACH)?;
    }
    done?;
    ensure!(fastest < LOOKS, "only after {fastest:?}");
    round_trip(&connection.0, &connection.1, b"untouched", SOON)?;
    eventually("the former one is found again, and refused for its version", SOON, || {
        let error = beta.status()?["config"]["error"].clone();
        ensure!(error["message"].as_str().is_some_and(|m| m.contains("version 1 is lower")), "{error}");
        Ok(())
    })
}
