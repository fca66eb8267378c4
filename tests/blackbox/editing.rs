//! `adit node` and `adit service`: a mesh file changed by command is the file that a person would have written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use adit_tests::binary::{self, BOUND, Output};
use adit_tests::scratch;
use adit_tests::suite::Test;
use adit_tests::tests;
use anyhow::{Result, ensure};

const FILE: &str = r#"# The lab.
[mesh]
name = "lab"
version = 3   # raise it

[node.alpha]
address = "10.0.0.1:7443"   # in the rack

[service.web]               # the wiki
on = ["alpha"]
target = "127.0.0.1:80"
listen = "127.0.0.1:8080"
"#;

pub(crate) fn tests() -> Vec<Test> {
    tests![new:
        a_mesh_grows_and_shrinks_by_command_and_keeps_its_comments,
        what_would_not_check_changes_nothing,
        a_link_to_the_file_stays_a_link,
    ]
}

/// A directory with the mesh file, and the file's path.
fn directory() -> Result<(PathBuf, PathBuf)> {
    let dir = scratch::directory()?;
    let file = dir.join("mesh.toml");
    fs::write(&file, FILE)?;
    Ok((dir, file))
}

fn adit(dir: &Path, arguments: &str) -> Result<Output> {
    let mut command = Command::new(binary::path()?);
    binary::run(command.arg("--dir").arg(dir).args(arguments.split(' ')), BOUND)
}

fn a_mesh_grows_and_shrinks_by_command_and_keeps_its_comments() -> Result<()> {
    let (dir, file) = directory()?;
    let told = adit(&dir, "node add beta=10.0.0.2:7443 laptop")?.success()?.stdout;
    ensure!(told.contains("+ node beta") && told.contains("+ node laptop") && told.contains("version 4"), "{told}");
    let told = adit(&dir, "--json service allow web beta laptop")?.success()?.json()?;
    ensure!(told["version"] == 5 && told["diff"]["permits"][0]["gained"][1] == "laptop", "{told}");
    adit(&dir, "service add db --on beta --target 127.0.0.1:5432 --listen 127.0.0.1:5432 --allow alpha")?.success()?;
    adit(&dir, "check")?;
    let checked = adit(&dir, &format!("check {}", file.display()))?.success()?.stdout;
    ensure!(checked.contains("version 6: 3 nodes, 2 services; no problem"), "{checked}");
    let again = adit(&dir, "service allow web beta")?.success()?.stdout;
    ensure!(again.contains("says so already"), "{again}");

    let told = adit(&dir, "service deny web beta")?.success()?.stdout;
    ensure!(told.contains("- beta may reach web; its connections are cut"), "{told}");
    adit(&dir, "service rm db")?.success()?;
    let told = adit(&dir, "--json node rm laptop")?.success()?.json()?;
    ensure!(told["also"][0] == "service web allow", "{told}");
    adit(&dir, "node rm beta")?.success()?;
    let now = fs::read_to_string(&file)?;
    ensure!(now == FILE.replace("version = 3 ", "version = 10 ").replace("8080\"\n", "8080\"\nallow = []\n"), "{now}");
    Ok(())
}

fn what_would_not_check_changes_nothing() -> Result<()> {
    let (dir, file) = directory()?;
    for (arguments, code, words) in [
        ("node add alpha", 1, "there is a node `alpha` already"),
        ("node add Alpha", 2, "`alpha` would do"),
        ("node add beta=10.0.0.2", 2, "10.0.0.2"),
        ("node rm alpha", 1, "alone offers the service `web`"),
        ("node rm beta", 1, "there is no node `beta`"),
        ("service allow web beta", 2, "there is no node `beta`"),
        ("service allow wbe alpha", 1, "there is no service `wbe`"),
        ("service rm wbe", 1, "there is no service `wbe`"),
        ("service add web --on alpha --target 127.0.0.1:1", 1, "there is a service `web` already"),
        ("service add db --on alpha --target 127.0.0.1", 2, "127.0.0.1"),
        ("service add db --on alpha --target 127.0.0.1:1 --listen nowhere", 2, "nowhere"),
        ("service add db --on alpha --target 127.0.0.1:1 --protocol sctp", 2, "tcp or udp"),
        ("service add db --target 127.0.0.1:1", 2, "--on"),
    ] {
        let output = adit(&dir, arguments)?;
        ensure!(output.code == Some(code) && output.stderr.contains(words), "{arguments}: {output:?}");
        ensure!(fs::read_to_string(&file)? == FILE, "{arguments} changed the file");
    }
    let grouped = format!("{FILE}allow = [\"@all\"]\n[node.beta]\n[group]\nall = [\"alpha\", \"beta\"]\n");
    fs::write(&file, &grouped)?;
    let output = adit(&dir, "service deny web beta")?;
    ensure!(output.code == Some(1) && output.stderr.contains("a member of @all"), "{output:?}");
    fs::write(&file, "[mesh\n")?;
    let output = adit(&dir, "node add beta")?;
    ensure!(output.code == Some(2) && output.stderr.contains("mesh.toml:1:"), "{output:?}");
    fs::remove_file(&file)?;
    let output = adit(&dir, "--json node add beta")?;
    ensure!(output.code == Some(2) && output.json()?["error"]["message"].as_str().is_some(), "{output:?}");
    Ok(())
}

fn a_link_to_the_file_stays_a_link() -> Result<()> {
    let (dir, file) = directory()?;
    let real = dir.join("shared.toml");
    fs::rename(&file, &real)?;
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640))?;
    std::os::unix::fs::symlink("shared.toml", &file)?;
    adit(&dir, "node add beta")?.success()?;
    ensure!(file.symlink_metadata()?.is_symlink(), "the link was replaced");
    ensure!(fs::read_to_string(&real)?.contains("[node.beta]"));
    ensure!(fs::metadata(&real)?.permissions().mode() & 0o777 == 0o640);
    Ok(())
}
