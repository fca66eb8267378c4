//! The simulator in the hands of an ordinary user, and what is left of one that is killed.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use adit_tests::binary::{self, Output};
use adit_tests::suite::{Test, skipped};
use adit_tests::wait::pass;
use adit_tests::{eventually, scratch};
use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::mount_bind;
use serde_json::Value;

/// Nobody, where there is such a user; a number that nobody has does as well.
const USER: u32 = 65_534;
/// Runs beside other tests take their time.
const LONG: Duration = Duration::from_secs(120);
/// How many moments a simulator is killed at, and within which time after its start.
const KILLS: u64 = 10;
const SPAN: Duration = Duration::from_millis(600);

const HOME: &str = r#"
name = "home"
hosts = ["inside", "outside"]
[network.home]
members = ["inside", "router"]
subnet = "192.168.1.0/24"
[network.internet]
members = ["outside", "router"]
subnet = "203.0.113.0/24"
loss = "1%"
[router.router]
nat = "symmetric"
outside = "internet"
[service.web]
on = "outside"
kind = "http"
port = 80
text = "a page"
[host.inside.files]
"inner.toml" = "hosts = ['other']\n"
[program.looks]
on = "inside"
program = "adit"
args = ["sim", "list"]
exit = 0
[[check]]
at = "0s"
within = "10s"
kind = "output"
on = "looks"
contains = "inner.toml"
[[check]]
at = "0s"
within = "10s"
kind = "http"
from = "inside"
url = "http://{ip.outside}/"
contains = "a page"
"#;

/// It runs for 300 ms: moments before, while it is made, meanwhile, while it ends and after it are all within reach.
const SHORT: &str = r#"
name = "short"
hosts = ["alpha", "beta", "gamma"]
lasts = "300ms"
[program.leaves]
on = "alpha"
program = "/bin/sh"
args = ["-c", "setsid sleep 1000 & mkdir -p a/b; while :; do echo x >> a/b/c; done"]
"#;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::in_namespaces("an_ordinary_user_runs_scenarios_over_tap_devices_with_an_empty_path", || ordinary("tap")),
        Test::in_namespaces("an_ordinary_user_runs_scenarios_over_packet_sockets_with_an_empty_path", || {
            ordinary("packet")
        }),
        Test::in_namespaces("a_simulator_that_is_killed_at_any_moment_leaves_nothing_behind", killed),
    ]
}

/// Whether this process is the machine's root, and may become another user.
fn is_root() -> bool {
    let table = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && !table.trim_end().ends_with(" 1")
}

/// A directory of an ordinary user with the binary in it, which may lie where others have no access.
fn users_directory() -> Result<PathBuf> {
    let directory = scratch::directory()?;
    let copy = directory.join("adit");
    fs::copy(binary::path()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    if is_root() {
        chown(&directory, Some(USER), Some(USER))?;
    }
    Ok(directory)
}

/// Runs the binary as an ordinary user: if this is root in the place of nobody, else as who this is.
fn as_user(directory: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(directory.join("adit"));
    command.args(arguments).current_dir(directory).env_clear().env("PATH", "");
    if is_root() {
        command.uid(USER).gid(USER);
    }
    binary::run(&mut command, LONG)
}

/// Opens `/dev/net/tun` to everyone in this process's own view of the file system, as most systems have it. False if
/// that is not to be had.
fn open_tap(directory: &Path) -> Result<bool> {
    let place = Path::new("/dev/net/tun");
    let Ok(found) = fs::metadata(place) else { return Ok(false) };
    if found.permissions().mode() & 0o006 == 0o006 || !is_root() {
        return Ok(fs::OpenOptions::new().read(true).write(true).open(place).is_ok());
    }
    let own = directory.join("tun");
    let made = mknodat(CWD, &own, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(10, 200));
    if made.is_err() || fs::set_permissions(&own, fs::Permissions::from_mode(0o666)).is_err() {
        return Ok(false);
    }
    mount_bind(&own, place).context("cover /dev/net/tun")?;
    // It may lie on a file system without devices.
    Ok(fs::File::open(place).is_ok())
}

fn ordinary(backend: &str) -> Result<()> {
    let directory = users_directory()?;
    if backend == "tap" && !open_tap(&directory)? {
        skipped("scenarios of an ordinary user over TAP devices", "/dev/net/tun is not for ordinary users");
        return Ok(());
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../netsim/examples");
    fs::write(directory.join("split.toml"), fs::read_to_string(examples.join("split.toml"))?)?;
    fs::write(directory.join("home.toml"), HOME)?;
    let told = as_user(&directory, &["sim", "doctor"])?.success()?;
    ensure!(told.stdout.contains("namespaces: work"), "{told:?}");
    if is_root() {
        ensure!(told.stdout.contains("namespaces: work, without privileges"), "{told:?}");
    }
    let run = ["sim", "run", "home.toml", "split.toml", "--backend", backend, "--out", "results", "--seed", "5"];
    let output = as_user(&directory, &run)?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(output.stdout.contains("ok   home: ") && output.stdout.contains("ok   split: 3 of 3"), "{output:?}");
    let result = fs::read_to_string(directory.join("results/home/result.json"))?;
    let result: Value = serde_json::from_str(&result)?;
    ensure!(result["backend"] == backend, "{result}");
    Ok(())
}

/// Numbers of the processes that were started with `mark` in their environment, copies of them included.
fn marked(mark: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = all.filter(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|part| part == mark.as_bytes())
    });
    found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Directories that a simulator has made for its runs.
fn directories(of: u32) -> Result<Vec<String>> {
    let mark = format!("netsim-{of}-");
    let all = fs::read_dir(std::env::temp_dir())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(all.filter(|name| name.starts_with(&mark)).collect())
}

fn interfaces() -> Result<String> {
    let table = fs::read_to_string("/proc/self/net/dev")?;
    Ok(table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect())
}

/// What is mounted; another test covers the one place.
fn mounts() -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    Ok(table.lines().filter(|line| !line.contains(" /dev/net/tun ")).map(str::to_owned).collect())
}

fn killed() -> Result<()> {
    let directory = scratch::directory()?;
    fs::write(directory.join("short.toml"), SHORT)?;
    let mut random = RandomState::new().build_hasher().finish();
    let (mounts_before, interfaces_before) = (mounts()?, interfaces()?);
    for number in 0..KILLS {
        // One moment in each part of the span; the multiplier is Knuth's of MMIX.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let part = SPAN / u32::try_from(KILLS)?;
        let moment = part * u32::try_from(number)? + part.mul_f64((random >> 32) as f64 / 2_f64.powi(32));
        let mark = format!("NETSIM_KILLED={}-{random}", std::process::id());
        let (name, value) = mark.split_once('=').context("a mark")?;
        let mut command = Command::new(binary::path()?);
        command.args(["sim", "run", "short.toml"]).current_dir(&directory).env(name, value);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        pass(moment);
        child.kill()?;
        child.wait()?;
        eventually(&format!("nothing is left of a simulator killed after {moment:?}"), LONG / 4, || {
            let (processes, directories) = (marked(&mark), directories(child.id())?);
            ensure!(processes.is_empty() && directories.is_empty(), "{processes:?} {directories:?}");
            Ok(())
        })?;
        // Namespaces end with their processes, and interfaces with them; here there never was one of it.
        ensure!(mounts()? == mounts_before, "a mount is left after {moment:?}");
        ensure!(interfaces()? == interfaces_before, "an interface is left after {moment:?}");
    }
    Ok(())
}
