//! `adit sim doctor` on machines that do not allow all that the simulator needs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use adit_tests::binary::{self, Output};
use adit_tests::scratch;
use adit_tests::suite::{Test, skipped};
use anyhow::{Result, ensure};

/// A run beside other tests takes its time.
const LONG: Duration = Duration::from_secs(120);
/// The exit status of a script that could not take away what it was to.
const NOT_TAKEN: i32 = 77;

const PAIR: &str = "hosts = [\"alpha\", \"beta\"]\n[[check]]\nat = \"0s\"\nwithin = \"10s\"\nkind = \"reachable\"\n";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::in_namespaces("the_doctor_says_what_to_allow_where_no_user_namespace_can_be_made", no_namespaces),
        Test::in_namespaces("the_doctor_says_what_works_where_there_is_no_device_and_that_is_used", no_device),
    ]
}

/// A machine that lacks something, made of this one.
struct Machine {
    /// Takes it away, within a user and mount namespace.
    taken: &'static str,
    /// Stands before the program.
    with: &'static str,
}

/// Root of the namespace would need no other; so it gives up what it would need that for.
const NO_NAMESPACES: Machine =
    Machine { taken: "echo 0 > /proc/sys/user/max_user_namespaces", with: "setpriv --bounding-set -sys_admin" };

const NO_DEVICE: Machine = Machine { taken: "{ [ ! -d /dev/net ] || mount -t tmpfs none /dev/net; }", with: "" };

impl Machine {
    /// Runs `adit sim` there. None, and told aloud, where this machine does not let it be made.
    fn sim(&self, test: &str, arguments: &[&str], directory: &Path) -> Result<Option<Output>> {
        let Self { taken, with } = self;
        let script = format!("{taken} || exit {NOT_TAKEN}; exec {with} \"$0\" sim \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(binary::path()?);
        command.args(arguments).current_dir(directory);
        let output = match binary::run(&mut command, LONG) {
            Ok(output) => output,
            Err(error) if !is_there("unshare") => {
                skipped(test, &format!("there is no unshare (Debian: apt-get install util-linux): {error:#}"));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let refused = ["unshare: ", "setpriv: "].iter().any(|who| output.stderr.starts_with(who));
        if refused || output.code == Some(NOT_TAKEN) || output.code == Some(127) {
            skipped(test, &format!("a machine that lacks it cannot be made of this one: {}", output.stderr.trim_end()));
            return Ok(None);
        }
        Ok(Some(output))
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn no_namespaces() -> Result<()> {
    let (test, directory) = ("the doctor where no user namespace can be made", scratch::directory()?);
    let Some(told) = NO_NAMESPACES.sim(test, &["doctor"], &directory)? else { return Ok(()) };
    ensure!(told.code == Some(1) && told.stderr.is_empty(), "{told:?}");
    let allow = "no user namespaces are allowed: sysctl user.max_user_namespaces=10000";
    ensure!(told.stdout.starts_with("namespaces: allowed to make neither a network namespace nor a user"), "{told:?}");
    ensure!(told.stdout.lines().any(|line| line == allow), "{told:?}");
    let Some(output) = NO_NAMESPACES.sim(test, &["doctor", "--json"], &directory)? else { return Ok(()) };
    let told = output.json()?;
    ensure!(output.code == Some(1) && told["works"] == false && told["namespaces"]["ok"] == false, "{output:?}");
    ensure!(told["namespaces"]["error"].is_string() && told["backends"] == serde_json::json!([]), "{output:?}");
    ensure!(told["advice"].as_array().is_some_and(|all| all.iter().any(|one| one == allow)), "{output:?}");
    // Whoever runs a scenario there is sent to the doctor.
    fs::write(directory.join("pair.toml"), PAIR)?;
    let Some(run) = NO_NAMESPACES.sim(test, &["run", "pair.toml"], &directory)? else { return Ok(()) };
    ensure!(run.code == Some(1) && run.stdout.is_empty(), "{run:?}");
    ensure!(run.stderr.contains("help: `adit sim doctor` says what to allow on this machine"), "{run:?}");
    Ok(())
}

fn no_device() -> Result<()> {
    let (test, directory) = ("the doctor where there is no /dev/net/tun", scratch::directory()?);
    let Some(told) = NO_DEVICE.sim(test, &["doctor"], &directory)? else { return Ok(()) };
    ensure!(told.code == Some(0) && told.stderr.is_empty(), "{told:?}");
    for text in [
        "namespaces: work",
        "TAP devices: make the TAP device eth0 with /dev/net/tun: ",
        "packet sockets: work\n",
        "until then scenarios use packet sockets, which do the same\n",
    ] {
        ensure!(told.stdout.contains(text), "{text}: {told:?}");
    }
    let ways = ["give the container the device: --device /dev/net/tun\n", "there is no /dev/net/tun: modprobe tun\n"];
    ensure!(ways.iter().any(|way| told.stdout.contains(way)), "{told:?}");
    let Some(output) = NO_DEVICE.sim(test, &["doctor", "--json"], &directory)? else { return Ok(()) };
    let told = output.json()?;
    ensure!(output.code == Some(0) && told["works"] == true && told["namespaces"]["ok"] == true, "{output:?}");
    let [tap, packet] = [0, 1].map(|number| &told["backends"][number]);
    ensure!(tap["name"] == "tap" && tap["ok"] == false && tap["error"].is_string(), "{output:?}");
    ensure!(packet["name"] == "packet" && packet["ok"] == true && packet["error"].is_null(), "{output:?}");
    // And so they are, though nobody has asked for them.
    fs::write(directory.join("pair.toml"), PAIR)?;
    let Some(run) = NO_DEVICE.sim(test, &["run", "pair.toml", "--json"], &directory)? else { return Ok(()) };
    let one = &run.json()?["scenarios"][0];
    ensure!(run.code == Some(0) && one["backend"] == "packet" && one["passed"] == true, "{run:?}");
    Ok(())
}
