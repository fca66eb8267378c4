//! `adit sim`: scenarios in simulated networks, and those of this repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use adit_tests::binary::{self, Output};
use adit_tests::suite::Test;
use adit_tests::{eventually, scratch};
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A run beside other tests takes its time.
const LONG: Duration = Duration::from_secs(180);

/// What leaves a mark when it is prepared, and one when it is started.
const MARKS: &str = r#"hosts = ["alpha"]
[[prepare]]
program = "/bin/sh"
args = ["-c", ": > 'FOLDER/prepared'"]
[program.marks]
on = "alpha"
program = "/bin/sh"
args = ["-c", ": > 'FOLDER/started'"]
exit = 0
"#;

/// Two hosts that hear one another, and what makes that fail.
const STORM: &str = r#"
name = "storm"
hosts = ["alpha", "beta", "gamma"]
FAULTS
[[check]]
name = "beta is heard"
at = "50ms"
within = "600ms"
kind = "reachable"
from = "beta"
to = "alpha"
timeout = "100ms"
"#;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::in_namespaces("a_scenario_that_holds_exits_with_0_and_leaves_its_results", holds),
        Test::in_namespaces("a_scenario_that_does_not_hold_exits_with_1_and_says_how_to_repeat_it", does_not_hold),
        Test::new("a_scenario_that_does_not_check_exits_with_2_and_starts_nothing", does_not_check),
        Test::in_namespaces("what_a_scenario_prepares_and_starts_leaves_its_mark", leaves_marks),
        Test::in_namespaces("ctrl_c_ends_a_scenario_in_order_with_130", interrupted),
        Test::in_namespaces("the_doctor_of_the_simulator_says_what_works", doctor),
        Test::in_namespaces("scenarios_run_beside_one_another_and_each_is_told_in_one_piece", beside_one_another),
        Test::new("every_scenario_of_this_repository_checks", all_check),
        Test::in_namespaces("a_failing_schedule_is_shrunk_to_what_makes_it_fail", shrinks),
        Test::in_namespaces("a_mesh_file_is_simulated_and_a_cut_shows_who_is_not_served", from_a_mesh),
        Test::in_namespaces(
            "a_mesh_file_is_simulated_with_loss_and_a_crash_shows_who_is_not_served",
            from_a_mesh_with_a_crash,
        ),
    ];
    // The quick ones; endurance runs all of them, with ten seeds.
    for name in ["partition-partial", "tcp-blocked"] {
        let sentence = format!("the_scenario_{}_passes", name.replace('-', "_"));
        tests.push(Test::in_namespaces(sentence, move || passes(name)));
    }
    tests
}

fn sim(arguments: &[&str], directory: &Path) -> Result<Output> {
    let mut command = Command::new(binary::path()?);
    // As an ordinary user may have it: nothing is taken from PATH.
    command.arg("sim").args(arguments).current_dir(directory).env("PATH", "");
    binary::run(&mut command, LONG)
}

fn put(text: &str) -> Result<(PathBuf, PathBuf)> {
    let directory = scratch::directory()?;
    let path = directory.join("scenario.toml");
    fs::write(&path, text)?;
    Ok((directory, path))
}

fn holds() -> Result<()> {
    let (directory, _) = put(
        "name = \"pair\"\nhosts = [\"alpha\", \"beta\"]\n[[fault]]\nat = \"500ms\"\nfor = \"500ms\"\nkind = \"pair\"\n\
         on = [\"alpha\", \"beta\"]\n[[check]]\nat = \"600ms\"\nkind = \"unreachable\"\ntimeout = \"300ms\"\n\
         [[check]]\nat = \"1s\"\nwithin = \"10s\"\nkind = \"reachable\"\n",
    )?;
    let output = sim(&["run", "scenario.toml", "--out", "results", "--seed", "7"], &directory)?;
    ensure!(output.code == Some(0) && output.stdout.starts_with("ok   pair: 2 of 2 checks held"), "{output:?}");
    ensure!(
        output.stderr.contains("pair alpha beta begins") && output.stderr.contains("pair alpha beta ends"),
        "{output:?}"
    );
    let results = directory.join("results/pair");
    let result: Value = serde_json::from_str(&fs::read_to_string(results.join("result.json"))?)?;
    ensure!(result["seed"] == 7 && result["nodes"] == serde_json::json!(["alpha", "beta"]), "{result}");
    ensure!(result["faults"][0]["kind"] == "pair" && result["checks"][1]["ok"] == true, "{result}");
    for file in ["timeline.html", "alpha.log", "beta.log", "schedule.toml", "alpha@net.pcapng"] {
        ensure!(results.join(file).is_file(), "{file} is missing");
    }
    // The schedule plays again.
    let again = sim(&["run", "scenario.toml", "--schedule", "results/pair/schedule.toml", "--json"], &directory)?
        .success()?
        .json()?;
    let one = &again["scenarios"][0];
    ensure!(one["passed"] == true && one["seed"] == 7 && one["faults"][0]["kind"] == "pair", "{again}");
    let listed = sim(&["list"], &directory)?.success()?;
    ensure!(listed.stdout.contains("scenario.toml"), "{listed:?}");
    Ok(())
}

fn does_not_hold() -> Result<()> {
    let (directory, _) =
        put("hosts = [\"alpha\", \"beta\"]\n[[check]]\nat = \"0s\"\nkind = \"unreachable\"\ntimeout = \"100ms\"\n")?;
    let output = sim(&["run", "scenario.toml", "--seed", "3", "--backend", "packet"], &directory)?;
    ensure!(output.code == Some(1), "{output:?}");
    for text in [
        "FAIL scenario: 0 of 1 checks held",
        "nobody reaches anybody by UDP: alpha -> beta: reached, and must not be",
        "to repeat it: adit sim run scenario.toml --seed 3 --backend packet",
    ] {
        ensure!(output.stdout.contains(text), "{text}: {output:?}");
    }
    Ok(())
}

/// A scenario that leaves [`MARKS`], with more behind it.
fn put_marks(more: &str) -> Result<PathBuf> {
    let (directory, path) = put("")?;
    fs::write(path, MARKS.replace("FOLDER", &directory.display().to_string()) + more)?;
    Ok(directory)
}

fn does_not_check() -> Result<()> {
    let directory = put_marks(
        "[[prepare]]\nprogram = \"adti\"\n[program.other]\non = \"alhpa\"\nprogram = \"/bin/sh\"\n[rnadom]\nfaults = 1\n",
    )?;
    // Where it is, what it is, and what was probably meant.
    let mistakes = [
        (11, 11, "there is no program `adti`", "did you mean `adit`?"),
        (13, 6, "there is no host `alhpa`", "did you mean `alpha`?"),
        (15, 2, "unknown key `rnadom` in the scenario", "did you mean `random`?"),
    ];
    let output = sim(&["run", "scenario.toml", "--out", "results"], &directory)?;
    ensure!(output.code == Some(2) && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.ends_with("3 errors; nothing was started\n"), "{output:?}");
    for (line, column, message, hint) in mistakes {
        let place = format!("scenario.toml:{line}:{column}: error: {message}\n");
        ensure!(output.stderr.contains(&place) && output.stderr.contains(&format!("help: {hint}\n")), "{output:?}");
    }
    let checked = sim(&["check", "scenario.toml", "--json"], &directory)?;
    let expected = mistakes.map(|(line, column, message, hint)| {
        serde_json::json!({
            "severity": "error", "file": "scenario.toml", "line": line, "column": column, "message": message, "hint": hint,
        })
    });
    ensure!(checked.code == Some(2) && checked.json()?["problems"] == serde_json::json!(expected), "{checked:?}");
    for mark in ["prepared", "started", "results"] {
        ensure!(!directory.join(mark).exists(), "{mark}: {output:?}");
    }
    let missing = sim(&["run", "nothing.toml"], &directory)?;
    ensure!(missing.code == Some(2) && missing.stderr.contains("nothing.toml: error: cannot be read"), "{missing:?}");
    Ok(())
}

fn leaves_marks() -> Result<()> {
    let directory = put_marks("")?;
    let output = sim(&["run", "scenario.toml"], &directory)?.success()?;
    for mark in ["prepared", "started"] {
        ensure!(directory.join(mark).is_file(), "{mark}: {output:?}");
    }
    Ok(())
}

fn interrupted() -> Result<()> {
    let (directory, _) = put(
        "name = \"looked-at\"\nhosts = [\"alpha\"]\nlasts = \"1h\"\n[program.p]\non = \"alpha\"\nprogram = \"adit\"\n\
         args = [\"sim\", \"list\"]\n[host.alpha.files]\n\
         \"inner.toml\" = \"hosts = ['inside']\\nlasts = '1h'\"\n",
    )?;
    let log = directory.join("stderr");
    let mut child = Command::new(binary::path()?)
        .args(["sim", "run", "scenario.toml"])
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()?;
    let begun = eventually("the scenario begins", LONG, || {
        ensure!(fs::read_to_string(&log)?.contains("begun"));
        Ok(())
    });
    // Meanwhile others may have a look from inside.
    let looked = sim(
        &[
            "shell",
            "alpha",
            "--scenario",
            "looked-at",
            "--",
            binary::path()?.to_str().context("its path")?,
            "sim",
            "list",
        ],
        &directory,
    );
    let sent = kill_process(Pid::from_child(&child), Signal::INT);
    let start = Instant::now();
    let ended = eventually("it ends", Duration::from_secs(20), || child.try_wait()?.context("it runs"));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    begun?;
    sent?;
    let looked = looked?;
    ensure!(looked.code == Some(0) && looked.stdout.contains("inner.toml"), "{looked:?}");
    ensure!(ended?.code() == Some(130), "after {:?}", start.elapsed());
    // Its working directory has gone with it.
    let mark = format!("netsim-{}-", child.id());
    let left = fs::read_dir(std::env::temp_dir())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    ensure!(left.into_iter().all(|name| !name.starts_with(&mark)));
    Ok(())
}

fn doctor() -> Result<()> {
    let directory = scratch::directory()?;
    let told = sim(&["doctor", "--json"], &directory)?.success()?.json()?;
    ensure!(told["works"] == true && told["namespaces"]["ok"] == true, "{told}");
    ensure!(sim(&["doctor"], &directory)?.success()?.stdout.contains("namespaces: work"));
    Ok(())
}

fn shrinks() -> Result<()> {
    let mut faults = String::new();
    let beside = [["gamma", "alpha"], ["alpha", "gamma"], ["beta", "gamma"], ["alpha", "beta"]];
    for number in 0..40 {
        // Of two one after the other, each leaves beta time to be heard; all others are beside the point. They are in
        // the order of time, as schedules are.
        let short = "for = \"50ms\"\n";
        let (at, lasts, on) = match number {
            0..24 => (0, short, beside[number % 4]),
            24 => (0, "for = \"350ms\"\n", ["beta", "alpha"]),
            25..35 => (100, short, beside[number % 4]),
            35 => (300, "", ["beta", "alpha"]),
            _ => (300, short, beside[number % 4]),
        };
        faults += &format!("[[fault]]\nat = \"{at}ms\"\n{lasts}kind = \"one-way\"\non = {on:?}\n");
    }
    let (directory, _) = put(&STORM.replace("FAULTS", &faults))?;
    let output = sim(&["shrink", "scenario.toml", "--seed", "1", "--times", "2", "--to", "short.toml"], &directory)?
        .success()?;
    ensure!(output.stderr.contains("storm: 40 faults with seed 1"), "{output:?}");
    let short = fs::read_to_string(directory.join("short.toml"))?;
    ensure!(
        short.matches("[[fault]]").count() == 2 && short.matches("on = [\"beta\", \"alpha\"]").count() == 2,
        "{short}\n{output:?}"
    );
    let again = sim(&["run", "scenario.toml", "--schedule", "short.toml"], &directory)?;
    ensure!(again.code == Some(1) && again.stdout.contains("beta is heard"), "{again:?}");
    Ok(())
}

/// A folder with the file of a mesh in which alpha offers something to beta and gamma.
fn mesh_of_three() -> Result<PathBuf> {
    let directory = scratch::directory()?;
    let mesh = "[mesh]\nname = \"lab\"\nversion = 1\n[node.alpha]\naddress = \"192.0.2.1:7443\"\n[node.beta]\naddress = \"192.0.2.2:7443\"\n\
        [node.gamma]\naddress = \"192.0.2.3:7443\"\n[service.web]\non = [\"alpha\"]\nallow = [\"beta\", \"gamma\"]\n\
        target = \"127.0.0.1:80\"\nlisten = \"127.0.0.1:8080\"\n";
    fs::write(directory.join("mesh.toml"), mesh)?;
    Ok(directory)
}

/// Whether a check of what `adit sim from` made of that mesh held: before (nothing), " meanwhile" or " again".
fn served(result: &Value, node: &str, when: &str) -> Option<bool> {
    let name = format!("{node} is served web{when}");
    // How long it may take stands behind the name.
    let is_it = |check: &&Value| {
        check["name"]
            .as_str()
            .and_then(|told| told.strip_prefix(&*name))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(" within "))
    };
    result["checks"].as_array()?.iter().find(is_it)?["ok"].as_bool()
}

/// Beta is not served meanwhile, gamma is; both are before and after.
fn beta_alone_is_missed(output: &Output, result: &Value) -> Result<()> {
    ensure!(served(result, "beta", " meanwhile") == Some(false), "{output:?}");
    ensure!(served(result, "gamma", " meanwhile") == Some(true), "{output:?}");
    for node in ["beta", "gamma"] {
        ensure!(served(result, node, "") == Some(true) && served(result, node, " again") == Some(true), "{output:?}");
    }
    ensure!(output.code == Some(1) && result["passed"] == false, "{output:?}");
    Ok(())
}

fn from_a_mesh() -> Result<()> {
    let directory = mesh_of_three()?;
    let whole = sim(&["from", "mesh.toml", "--json"], &directory)?.success()?.json()?;
    ensure!(whole["scenarios"][0]["checks"].as_array().is_some_and(|checks| checks.len() == 5), "{whole}");
    let cut = sim(&["from", "mesh.toml", "--cut", "alpha,beta", "--json"], &directory)?;
    let result = &cut.json()?["scenarios"][0];
    // The way to alpha is the only one that beta has to what alpha offers.
    beta_alone_is_missed(&cut, result)?;
    let fault = &result["faults"][0];
    ensure!(fault["kind"] == "pair" && fault["on"] == serde_json::json!(["alpha", "beta"]), "{cut:?}");
    ensure!(result["repeat"] == "adit sim from mesh.toml --cut alpha,beta --seed 1", "{cut:?}");
    let unknown = sim(&["from", "mesh.toml", "--cut", "alpha,delta"], &directory)?;
    ensure!(unknown.code == Some(2) && unknown.stderr.contains("the mesh has no node delta"), "{unknown:?}");
    Ok(())
}

fn from_a_mesh_with_a_crash() -> Result<()> {
    let directory = mesh_of_three()?;
    let crash =
        sim(&["from", "mesh.toml", "--crash", "beta", "--loss", "5%", "--json", "--out", "results"], &directory)?;
    let result = &crash.json()?["scenarios"][0];
    // Nobody listens on beta while its agent is dead; gamma does not notice.
    beta_alone_is_missed(&crash, result)?;
    let fault = &result["faults"][0];
    ensure!(fault["kind"] == "crash" && fault["on"] == serde_json::json!(["beta"]), "{crash:?}");
    ensure!(result["repeat"] == "adit sim from mesh.toml --crash beta --loss 5% --seed 1", "{crash:?}");
    // All that was in spite of packets that were lost.
    let mut lost = false;
    for node in ["alpha", "beta", "gamma"] {
        let capture = fs::read(directory.join(format!("results/lab/{node}@the.net.pcapng")))?;
        lost |= capture.windows(14).any(|part| part == b"lost by chance");
    }
    ensure!(lost, "{crash:?}");
    Ok(())
}

fn beside_one_another() -> Result<()> {
    let directory = scratch::directory()?;
    for (name, hosts, at) in [("one", ["alpha", "beta"], 200), ("two", ["gamma", "delta"], 300)] {
        let [left, right] = hosts;
        let text = format!(
            "hosts = {hosts:?}\n[[fault]]\nat = \"{at}ms\"\nfor = \"1s\"\nkind = \"pair\"\non = {hosts:?}\n[[check]]\nat = \"600ms\"\n\
             kind = \"unreachable\"\nfrom = \"{left}\"\nto = \"{right}\"\ntimeout = \"100ms\"\n"
        );
        fs::write(directory.join(format!("{name}.toml")), text)?;
    }
    let output = sim(&["run", "one.toml", "two.toml", "--jobs", "2"], &directory)?.success()?;
    ensure!(output.stdout.contains("ok   one: 1 of 1") && output.stdout.contains("ok   two: 1 of 1"), "{output:?}");
    // They ran at once, and yet what one tells comes in one piece.
    let place = |text: &str| output.stderr.rfind(text).with_context(|| format!("{text}: {output:?}"));
    let [one, two] = [["one: begun", "pair alpha beta ends"], ["two: begun", "pair gamma delta ends"]];
    let [one, two] = [[place(one[0])?, place(one[1])?], [place(two[0])?, place(two[1])?]];
    ensure!(one[1] < two[0] || two[1] < one[0], "{output:?}");
    Ok(())
}

fn all_check() -> Result<()> {
    let folder = scenarios();
    let output = sim(&["check", &folder.display().to_string(), "--json"], &folder)?.success()?;
    ensure!(output.json()?["problems"] == serde_json::json!([]), "{output:?}");
    let listed = sim(&["list", &folder.display().to_string(), "--json"], &folder)?.success()?.json()?;
    let all = listed["scenarios"].as_array().context("a list")?;
    // Each says what it is about, and is called as its file.
    for one in all {
        let stem = Path::new(one["file"].as_str().unwrap_or_default()).file_stem().and_then(|stem| stem.to_str());
        ensure!(one["name"].as_str() == stem && one["about"].as_str().is_some_and(|text| !text.is_empty()), "{one}");
    }
    ensure!(all.len() >= 20, "{} scenarios", all.len());
    Ok(())
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// A scenario of this repository, with a seed of its own.
fn passes(name: &str) -> Result<()> {
    let directory = scratch::directory()?;
    let path = scenarios().join(format!("{name}.toml"));
    let output = sim(&["run", &path.display().to_string(), "--out", "results"], &directory)?;
    ensure!(output.code == Some(0), "{output:?}");
    Ok(())
}
