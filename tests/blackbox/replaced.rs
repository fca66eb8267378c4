//! Every way in which a file is replaced, and every wrong edit: the right ones are taken whole, the wrong ones not at all.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use adit_tests::load::round_trip;
use adit_tests::mesh::SOON;
use adit_tests::suite::Test;
use adit_tests::wait::pass;
use adit_tests::{Agent, Mesh, Service, eventually};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::Signal;
use serde_json::Value;

const JSON: &str = "[log]\nformat = \"json\"\n";
/// How long an editor or a slow network pauses in the middle of a file.
const PAUSE: Duration = Duration::from_millis(1_500);

type Way = (&'static str, fn(&Path, &str) -> Result<()>);

/// Ways of putting a text in place of `mesh.toml` in a directory.
const WAYS: [Way; 9] = [
    ("written_in_place", |d, text| Ok(fs::write(d.join("mesh.toml"), text)?)),
    ("renamed_over", renamed_over),
    ("saved_by_an_editor_that_keeps_a_backup", backup),
    ("saved_by_an_editor_that_copies_first", copied_first),
    ("saved_by_emacs", emacs),
    ("removed_and_made_anew", |d, text| {
        fs::remove_file(d.join("mesh.toml"))?;
        Ok(fs::write(d.join("mesh.toml"), text)?)
    }),
    ("swapped_by_a_symbolic_link", |d, text| linked(d, text, "linked")),
    ("mounted_as_kubernetes_does", kubernetes),
    ("written_slowly", slowly),
];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (name, way) in WAYS {
        tests.push(Test::new(format!("a_mesh_file_is_taken_when_it_is_{name}"), move || taken(way)));
    }
    for edit in EDITS {
        tests.push(Test::new(format!("{}_leaves_what_runs_as_it_is", edit.name), move || refused(edit)));
    }
    tests.push(Test::new("half_a_mesh_file_is_never_taken", half));
    tests.push(Test::new("a_mesh_file_whose_directory_vanishes_is_taken_when_it_returns", vanishes));
    tests.push(Test::in_namespaces("a_change_that_no_watch_sees_is_found_by_looking", covered));
    tests.push(Test::new("sighup_reads_the_files_again", sighup));
    tests.push(Test::new("adit_reload_says_by_its_exit_status_what_came_of_it", exit_statuses));
    tests.push(Test::new("a_dry_run_names_what_would_change_and_changes_nothing", dry_run));
    tests
}

fn mesh() -> Result<Mesh> {
    Mesh::pair("tls").service(Service::new("more", &["alpha"], &["beta"])).agent_lines(JSON).build()
}

fn version(mesh: &Mesh, version: u64) -> String {
    mesh.document(version, "tls", &[])
}

fn renamed_over(directory: &Path, text: &str) -> Result<()> {
    fs::write(directory.join(".mesh.toml.swp"), text)?;
    Ok(fs::rename(directory.join(".mesh.toml.swp"), directory.join("mesh.toml"))?)
}

/// As vim does with `backupcopy=yes`: a copy as the backup, then the file itself is written, at once and to the disk.
fn copied_first(directory: &Path, text: &str) -> Result<()> {
    let (file, backup) = (directory.join("mesh.toml"), directory.join("mesh.toml~"));
    fs::copy(&file, &backup)?;
    let mut written = File::options().write(true).truncate(true).open(file)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    Ok(fs::remove_file(backup)?)
}

/// A lock that is a link to nowhere; the first save renames the file to its backup, which stays, and later ones write in place.
fn emacs(directory: &Path, text: &str) -> Result<()> {
    let (file, lock) = (directory.join("mesh.toml"), directory.join(".#mesh.toml"));
    symlink("anna@host.4711:1769850000", &lock)?;
    let backup = directory.join("mesh.toml~");
    if !backup.exists() {
        fs::rename(&file, backup)?;
    }
    fs::write(&file, text)?;
    Ok(fs::remove_file(lock)?)
}

/// As vim does with `backupcopy=no`.
fn backup(directory: &Path, text: &str) -> Result<()> {
    let file = directory.join("mesh.toml");
    fs::write(directory.join("4913"), "")?;
    fs::remove_file(directory.join("4913"))?;
    fs::rename(&file, directory.join("mesh.toml~"))?;
    fs::write(&file, text)?;
    Ok(fs::remove_file(directory.join("mesh.toml~"))?)
}

fn linked(directory: &Path, text: &str, name: &str) -> Result<()> {
    let number = fs::read_dir(directory)?.count();
    let release = directory.join(format!("{name}-{number}"));
    fs::create_dir(&release)?;
    fs::write(release.join("mesh.toml"), text)?;
    symlink(release.join("mesh.toml"), directory.join("mesh.new"))?;
    Ok(fs::rename(directory.join("mesh.new"), directory.join("mesh.toml"))?)
}

/// `mesh.toml` → `..data/mesh.toml`, and `..data` → a directory by time, which is swapped.
fn kubernetes(directory: &Path, text: &str) -> Result<()> {
    let number = fs::read_dir(directory)?.count();
    let release = format!("..2026_01_31_{number}");
    fs::create_dir(directory.join(&release))?;
    fs::write(directory.join(&release).join("mesh.toml"), text)?;
    symlink(&release, directory.join("..data_tmp"))?;
    fs::rename(directory.join("..data_tmp"), directory.join("..data"))?;
    let file = directory.join("mesh.toml");
    if !fs::symlink_metadata(&file)?.is_symlink() {
        symlink("..data/mesh.toml", directory.join("mesh.new"))?;
        fs::rename(directory.join("mesh.new"), file)?;
    }
    Ok(())
}

fn slowly(directory: &Path, text: &str) -> Result<()> {
    let mut file = File::create(directory.join("mesh.toml"))?;
    for part in text.as_bytes().chunks(text.len() / 3 + 1) {
        file.write_all(part)?;
        file.sync_all()?;
        pass(PAUSE / 2);
    }
    Ok(())
}

fn taken(way: fn(&Path, &str) -> Result<()>) -> Result<()> {
    let mesh = mesh()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let connection = mesh.joined(&server)?;
    // The second time finds what the first has left.
    for number in 2..5 {
        way(&mesh.directory("beta"), &version(&mesh, number))?;
        beta.wait_for_version(number, Duration::from_secs(2))?;
    }
    let told = reloads(&beta)?;
    ensure!(told.iter().all(|line| line["result"] == "applied") && told.len() == 3, "{told:?}");
    round_trip(&connection.0, &connection.1, b"untouched", SOON)
}

/// What `mesh.reload` has told.
fn reloads(agent: &Agent) -> Result<Vec<Value>> {
    let log = agent.log()?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["event"] == "mesh.reload").collect())
}

/// The first half of this file is a mesh file that holds, without the service that a connection uses.
fn half() -> Result<()> {
    let mesh = mesh()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let connection = mesh.joined(&server)?;
    let whole = version(&mesh, 2);
    let middle = whole.find("\n[service.app]").context("no service")?;
    let mut file = File::create(mesh.directory("beta").join("mesh.toml"))?;
    file.write_all(&whole.as_bytes()[..middle])?;
    file.sync_all()?;
    pass(PAUSE);
    ensure!(beta.status()?["mesh_version"] == 1, "half a file was taken");
    round_trip(&connection.0, &connection.1, b"untouched", SOON)?;
    file.write_all(&whole.as_bytes()[middle..])?;
    drop(file);
    beta.wait_for_version(2, Duration::from_secs(2))?;
    round_trip(&connection.0, &connection.1, b"still", SOON)
}

fn vanishes() -> Result<()> {
    let mesh = mesh()?;
    let directory = mesh.directory("beta");
    let away = directory.join("mounted");
    fs::create_dir(&away)?;
    fs::write(away.join("mesh.toml"), version(&mesh, 1))?;
    fs::remove_file(directory.join("mesh.toml"))?;
    symlink("mounted/mesh.toml", directory.join("mesh.toml"))?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let connection = mesh.joined(&server)?;
    fs::rename(&away, directory.join("gone"))?;
    eventually("status says that it is missing", SOON, || {
        let config = beta.status()?["config"].clone();
        ensure!(config["on_disk_digest"].is_null() && !config["error"].is_null(), "{config}");
        Ok(())
    })?;
    beta.wait_for_log(&["\"mesh.reload\"", "refused", "no such file"], SOON)?;
    round_trip(&connection.0, &connection.1, b"untouched", SOON)?;
    fs::create_dir(&away)?;
    fs::write(away.join("mesh.toml"), version(&mesh, 2))?;
    beta.wait_for_version(2, SOON)?;
    round_trip(&connection.0, &connection.1, b"untouched", SOON)
}

/// Another file is mounted over the mesh file, which inotify does not tell of: it is found all the same, when the files are looked at
/// by the clock, and so is the former one when it comes to light again.
fn covered() -> Result<()> {
    let mesh = mesh()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let file = mesh.directory("beta").join("mesh.toml");
    let over = mesh.directory("beta").join("over.toml");
    fs::write(&over, version(&mesh, 2))?;
    mount_bind(&over, &file).context("mount it over the mesh file")?;
    let found = beta.wait_for_version(2, SOON);
    let digests = beta.status();
    unmount(&file, UnmountFlags::DETACH)?;
    found?;
    let config = digests?["config"].clone();
    ensure!(config["loaded_digest"] == config["on_disk_digest"], "{config}");
    beta.wait_for_log(&["\"mesh.reload\"", "\"refused\"", "version 1 is lower than version 2"], SOON)?;
    let config = beta.status()?["config"].clone();
    ensure!(config["loaded_digest"] != config["on_disk_digest"] && config["on_disk_digest"].is_string(), "{config}");
    let text = beta.adit(&["status"])?.success()?.stdout;
    ensure!(text.contains("the one on disk is not in force"), "{text}");
    Ok(())
}

#[derive(Clone, Copy)]
struct Edit {
    name: &'static str,
    /// From the text of version 5.
    edit: fn(String) -> Vec<u8>,
    /// What is told about it, and whether with a place.
    told: &'static str,
    placed: bool,
    /// The exit status of `adit reload`.
    exit: i32,
}

const EDITS: [Edit; 11] = [
    Edit { name: "a_syntax_error", edit: |t| (t + "[[[\n").into(), told: "", placed: true, exit: 2 },
    Edit { name: "an_unknown_key", edit: |t| (t + "alow = []\n").into(), told: "alow", placed: true, exit: 2 },
    Edit {
        name: "an_unknown_node",
        edit: |t| t.replace("on = [\"alpha\"]", "on = [\"alhpa\"]").into(),
        told: "alhpa",
        placed: true,
        exit: 2,
    },
    Edit {
        name: "a_value_of_another_kind",
        edit: |t| t.replace("version = 5", "version = \"five\"").into(),
        told: "version",
        placed: true,
        exit: 2,
    },
    Edit {
        name: "an_address_that_is_none",
        edit: |t| (t + "[node.gamma]\naddress = \"10.0.0.1:99999\"\n").into(),
        told: "99999",
        placed: true,
        exit: 2,
    },
    Edit {
        name: "two_listeners_on_one_address",
        edit: |t| {
            let at = t.find("listen = ").map(|at| t[at..].lines().next().unwrap_or_default().to_owned());
            let more = "[service.again]\non = [\"alpha\"]\nallow = [\"beta\"]\ntarget = \"127.0.0.1:1\"\n";
            format!("{t}{more}{}\n", at.unwrap_or_default()).into()
        },
        told: "listen",
        placed: true,
        exit: 2,
    },
    Edit { name: "an_empty_file", edit: |_| Vec::new(), told: "`mesh`", placed: true, exit: 2 },
    Edit { name: "what_is_no_text", edit: |_| vec![b'a', 0xff, 0xfe], told: "UTF-8", placed: true, exit: 2 },
    Edit {
        name: "a_lower_version",
        edit: |t| t.replace("version = 5", "version = 2").into(),
        told: "version 2 is lower than version 3",
        placed: true,
        exit: 4,
    },
    Edit {
        name: "another_mesh",
        edit: |t| t.replace("name = \"lab\"", "name = \"other\"").into(),
        told: "mesh `other`",
        placed: true,
        exit: 4,
    },
    Edit {
        name: "a_mesh_without_this_node",
        edit: |t| t.replace("beta", "delta").into(),
        told: "no node `beta`",
        placed: true,
        exit: 2,
    },
];

fn refused(edit: Edit) -> Result<()> {
    let mesh = mesh()?;
    mesh.replace_documents(&version(&mesh, 3))?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let connection = mesh.joined(&server)?;
    let before = beta.status()?;
    let file = mesh.directory("beta").join("mesh.toml");
    fs::write(&file, (edit.edit)(version(&mesh, 5)))?;
    let told = beta.wait_for_log(&["\"mesh.reload\"", "\"refused\"", edit.told], SOON)?;
    let told: Value = serde_json::from_str(&told)?;
    let detail = told["detail"].as_str().context("no detail")?;
    ensure!(detail.contains("mesh.toml"), "{told}");
    ensure!(told["old_version"] == 3, "{told}");
    let after = beta.status()?;
    for key in ["mesh_version", "mesh_digest", "epochs", "services"] {
        ensure!(before[key] == after[key], "{key}: {} then {}", before[key], after[key]);
    }
    let error = &after["config"]["error"];
    ensure!(error["message"].as_str().is_some_and(|m| m.contains(edit.told)), "{}", after["config"]);
    ensure!(error["line"].is_u64() == edit.placed, "{}", after["config"]);
    if let (Some(line), Some(column)) = (error["line"].as_u64(), error["column"].as_u64()) {
        ensure!(detail.contains(&format!("mesh.toml:{line}:{column}: ")), "{detail}");
    }
    ensure!(after["config"]["loaded_digest"] == before["config"]["loaded_digest"], "{}", after["config"]);
    ensure!(beta.metric("adit_mesh_refused", &[])? == 1.0 && beta.metric("adit_mesh_version", &[])? == 3.0);
    let asked = beta.adit(&["reload", "--json"])?;
    ensure!(asked.code == Some(edit.exit), "{asked:?}");
    let answer = asked.json()?;
    ensure!(answer["error"]["message"].as_str().is_some_and(|m| m.contains(edit.told)), "{answer}");
    round_trip(&connection.0, &connection.1, b"untouched", SOON)?;
    // The next good edit is taken.
    fs::write(&file, version(&mesh, 6))?;
    beta.wait_for_version(6, SOON)?;
    ensure!(beta.status()?["config"]["error"].is_null() && beta.metric("adit_mesh_refused", &[])? == 0.0);
    round_trip(&connection.0, &connection.1, b"untouched", SOON)
}

fn sighup() -> Result<()> {
    let mesh = mesh()?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    mesh.replace_document("beta", &version(&mesh, 2))?;
    beta.signal(Signal::HUP)?;
    beta.wait_for_log(&["SIGHUP"], SOON)?;
    beta.wait_for_version(2, SOON)?;
    // Once more, with nothing to do.
    beta.signal(Signal::HUP)?;
    eventually("it has heard both", SOON, || {
        let heard = beta.log()?.matches("SIGHUP").count();
        ensure!(heard == 2, "{heard}");
        Ok(())
    })?;
    ensure!(beta.status()?["epochs"]["mesh"] == 2);
    Ok(())
}

fn exit_statuses() -> Result<()> {
    let mesh = mesh()?;
    let (alpha, mut beta, _) = mesh.start_pair()?;
    let nothing = beta.adit(&["reload"])?.success()?;
    ensure!(nothing.stdout.contains("nothing has changed"), "{nothing:?}");
    let json = beta.adit(&["reload", "--json"])?.success()?.json()?;
    ensure!(json["changed"] == false && json["dry_run"] == false && json["mesh"]["version"] == 1, "{json}");
    // The same version with other content is applied, and warned about.
    let changed = format!("# other\n{}", version(&mesh, 1));
    mesh.replace_document("alpha", &changed)?;
    eventually("it is applied", SOON, || {
        let status = alpha.status()?;
        ensure!(status["epochs"]["mesh"] == 2, "{}", status["epochs"]);
        Ok(())
    })?;
    let warned = alpha.adit(&["reload"])?.success()?;
    ensure!(warned.stdout.contains("nothing has changed"), "{warned:?}");
    alpha.wait_for_log(&["\"warn\"", "its version has not"], SOON)?;
    beta.kill()?;
    let stopped = beta.adit(&["reload", "--json"])?;
    ensure!(stopped.code == Some(3) && stopped.json()?["error"]["code"] == "not_running", "{stopped:?}");
    let usage = beta.adit(&["reload", "--nonsense"])?;
    ensure!(usage.code == Some(2), "{usage:?}");
    Ok(())
}

fn dry_run() -> Result<()> {
    let mesh = mesh()?;
    mesh.replace_documents(&version(&mesh, 1))?;
    let (_alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    let connection = mesh.joined(&server)?;
    let more = Service::new("more", &["alpha"], &["beta"]);
    // Watched files are applied by themselves, so what is asked about lies beside until it is asked about.
    let next = mesh.document_of(2, "tls", &[], &[more]);
    let beside = mesh.directory("beta").join("next.toml");
    fs::write(&beside, &next)?;
    let path = beside.to_str().context("a path")?;
    let offline = beta.adit(&["check", "--diff", path, "--json"])?.success()?.json()?;
    ensure!(offline["host"]["close"][0]["service"] == "app", "{offline}");
    let told = beta.adit(&["reload", "--dry-run", path, "--json"])?.success()?.json()?;
    ensure!(told["dry_run"] == true && told["changed"] == true, "{told}");
    ensure!(told["listeners"]["closed"][0]["service"] == "app", "{told}");
    let [cut] = &told["connections_cut"].as_array().context("no list")?[..] else { bail!("{told}") };
    ensure!(
        cut["service"] == "app" && cut["from"] == "beta" && cut["to"] == "alpha" && cut["rule"] == "beta",
        "{told}"
    );
    ensure!(told["permits"][0]["service"] == "app" && told["permits"][0]["lost"][0] == "beta", "{told}");
    let text = beta.adit(&["reload", "--dry-run", path])?.success()?.stdout;
    ensure!(text.contains("- connection") && text.contains("nothing was done"), "{text}");
    ensure!(beta.status()?["epochs"]["mesh"] == 1);
    round_trip(&connection.0, &connection.1, b"untouched", SOON)?;
    Ok(())
}
