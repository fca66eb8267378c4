//! The `adit` program as a stranger meets it: its help, its exit status, its errors, and what the README tells to type.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn adit(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for variable in ["ADIT_DIR", "ADIT_LOG", "ADIT_CLOCK_OFFSET"] {
        command.env_remove(variable);
    }
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The commands that `help` lists under `Commands:`, without `help` itself.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Deeper lines go on with what the one above says.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

/// Every path of commands, the program itself first.
fn all_commands() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut next = 0;
    while next < all.len() {
        let here: Vec<String> = all[next].clone();
        let asked: Vec<&str> = here.iter().map(String::as_str).chain(["--help"]).collect();
        let help = adit(&asked);
        all.extend(commands(text(&help.stdout)).into_iter().map(|name| [here.clone(), vec![name]].concat()));
        next += 1;
    }
    all
}

#[test]
fn every_command_has_a_help_page_with_an_example_of_itself() {
    let all = all_commands();
    assert!(all.len() >= 16, "{all:?}");
    for command in all {
        for flag in ["--help", "-h"] {
            let asked: Vec<&str> = command.iter().map(String::as_str).chain([flag]).collect();
            let help = adit(&asked);
            let page = text(&help.stdout);
            assert_eq!(help.status.code(), Some(0), "{asked:?}");
            assert!(!page.contains('\u{1b}'), "{asked:?}: colours though this is no terminal");
            let (_, examples) = page.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{asked:?}: no examples"));
            let this = format!("adit {}", command.join(" "));
            assert!(examples.contains(this.trim_end()), "{asked:?}: no example of {this}");
        }
    }
}

#[test]
fn the_version_is_the_package_s() {
    let version = adit(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(text(&version.stdout), format!("adit {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_exit_2_and_one_json_document_where_json_is_asked_for() {
    for wrong in [&["dig"][..], &["status", "--deep"], &["explain", "beta"], &["ping", "UPPER"], &["ca", "forge"]] {
        let plain = adit(wrong);
        assert_eq!((plain.status.code(), text(&plain.stdout)), (Some(2), ""), "{wrong:?}");
        assert!(text(&plain.stderr).starts_with("error: "), "{wrong:?}");
        let json = adit(&[wrong, &["--json"]].concat());
        let document: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((json.status.code(), text(&json.stderr)), (Some(2), ""), "{wrong:?}");
        assert_eq!(document["error"]["code"], "usage", "{wrong:?}");
        assert!(document["error"]["message"].is_string() && document["error"]["hint"].is_string(), "{document}");
    }
}

#[test]
fn without_an_agent_those_who_ask_one_are_told_how_to_start_it() {
    let nowhere = tempfile::tempdir().unwrap();
    let dir = nowhere.path().to_str().unwrap();
    for asking in
        [&["status"][..], &["connections"], &["explain", "beta", "web"], &["ping", "beta"], &["bench", "beta"]]
    {
        let plain = adit(&[asking, &["--dir", dir]].concat());
        assert_eq!((plain.status.code(), text(&plain.stdout)), (Some(3), ""), "{asking:?}");
        assert!(text(&plain.stderr).contains(&format!("adit run --dir {dir}")), "{asking:?}");
        let json = adit(&[asking, &["--dir", dir, "--json"]].concat());
        let document: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((json.status.code(), &document["error"]["code"]), (Some(3), &"not_running".into()), "{asking:?}");
    }
}

/// What stands in a page's fenced blocks of the language `toml`.
fn toml_blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while lines.any(|line| line == "```toml") {
        blocks
            .push(lines.by_ref().take_while(|line| *line != "```").fold(String::new(), |all, line| all + line + "\n"));
    }
    blocks
}

#[test]
fn the_readme_s_quick_start_makes_a_mesh_that_checks() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let line = readme.lines().map(str::trim).find(|line| line.starts_with("adit init ")).unwrap();
    let blocks = toml_blocks(&readme);
    assert_eq!(blocks.len(), 1, "one addition to the mesh file");

    let place = tempfile::tempdir().unwrap();
    let lab = place.path().join("lab");
    let mut words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let at = words.iter().position(|word| *word == "--dir").unwrap() + 1;
    words[at] = lab.to_str().unwrap();
    let made = adit(&words);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));

    let mesh_file = lab.join("mesh.toml");
    let whole = fs::read_to_string(&mesh_file).unwrap() + &blocks[0];
    fs::write(&mesh_file, &whole).unwrap();
    fs::write(lab.join("nodes/beta/mesh.toml"), whole).unwrap();
    for dir in [lab.clone(), lab.join("nodes/beta")] {
        let check = adit(&["check", "--json", "--dir", dir.to_str().unwrap()]);
        let document: Value = serde_json::from_slice(&check.stdout).unwrap();
        assert_eq!((check.status.code(), &document["problems"]), (Some(0), &Value::Array(Vec::new())), "{document}");
    }
}
