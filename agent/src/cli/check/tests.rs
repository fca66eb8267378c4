//! `adit check` over files and directories as users have them.

use std::os::unix::fs::PermissionsExt;

use ca::{Authority, NodeKey};
use clap::Parser;
use serde_json::Value;

use super::*;
use crate::admin::fixture::TempDir;
use crate::clock::Clock;

const MESH: &str = "[mesh]\nname = \"lab\"\nversion = 1\n\n[node.alpha]\naddress = \"10.0.0.1:7443\"\n\n\
                    [node.beta]\n\n[service.web]\non = [\"alpha\"]\ntarget = \"127.0.0.1:80\"\n\
                    listen = \"127.0.0.1:8080\"\nallow = [\"beta\"]\n";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: CheckArgs,
}

async fn check(dir: &TempDir, words: &str, json: bool) -> (String, u8) {
    let ctx = Context {
        dir: dir.0.clone(),
        json,
        quiet: false,
        verbose: 0,
        color: false,
        admin_socket: dir.0.join("adit.sock"),
        clock: Clock::default(),
    };
    let line = Line::try_parse_from(std::iter::once("check").chain(words.split_whitespace())).unwrap();
    let mut out = Vec::new();
    let ended = run(line.args, &ctx, &mut out).await;
    (String::from_utf8(out).unwrap(), ended.err().map_or(0, |e| e.exit))
}

async fn problems(dir: &TempDir, words: &str) -> (Vec<Value>, u8) {
    let (text, exit) = check(dir, words, true).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    let problems = document["problems"].as_array().unwrap().clone();
    for problem in &problems {
        let names: Vec<_> = problem.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names.join(" "), "column file hint line message severity");
    }
    (problems, exit)
}

/// A directory of beta's in which all is well, its certificate issued so many days ago for seven.
fn host(days_ago: i64) -> TempDir {
    let dir = TempDir::new("check");
    let issued_at = Clock::default().now() - time::Duration::days(days_ago);
    let mut authority = Authority::create(&dir.0.join("ca"), &"lab".parse().unwrap(), issued_at).unwrap();
    let key = NodeKey::generate().unwrap();
    let issued = authority.issue(&"beta".parse().unwrap(), &key.public_key(), None, issued_at).unwrap();
    let node = dir.0.join("node");
    ca::write_node_directory(&node, &key, &issued.chain_pem, authority.trust_pem()).unwrap();
    std::fs::write(node.join(MESH_FILE), MESH).unwrap();
    std::fs::write(node.join(AGENT_FILE), "node = \"beta\"\n").unwrap();
    // The rest of the test looks at the node's directory alone.
    let moved = TempDir::new("check-node");
    std::fs::remove_dir(&moved.0).unwrap();
    std::fs::rename(node, &moved.0).unwrap();
    moved
}

#[tokio::test]
async fn a_mesh_file_alone_is_checked_without_a_directory() {
    let dir = TempDir::new("check");
    let file = dir.0.join("m.toml");
    std::fs::write(&file, MESH).unwrap();
    let words = file.display().to_string();
    assert_eq!(problems(&dir, &words).await, (vec![], 0));
    let (text, _) = check(&dir, &words, false).await;
    assert_eq!(text, "ok: mesh lab, version 1: 2 nodes, 1 service; no problem\n");

    std::fs::write(&file, MESH.replace("address", "adress").replace("[\"beta\"]", "[\"betta\"]")).unwrap();
    let (found, exit) = problems(&dir, &words).await;
    assert_eq!((found.len() >= 2, exit), (true, 2), "{found:?}");
    assert_eq!(found[0]["line"], 6);
    let (text, exit) = check(&dir, &words, false).await;
    assert!(exit == 2 && text.contains(&format!("{}:6:1: error: ", file.display())), "{text}");
}

#[tokio::test]
async fn a_warning_alone_is_no_failure() {
    let dir = TempDir::new("check");
    let file = dir.0.join("m.toml");
    std::fs::write(&file, MESH.replace("[\"beta\"]", "[]")).unwrap();
    let (found, exit) = problems(&dir, &file.display().to_string()).await;
    assert_eq!((found.len(), exit), (1, 0), "{found:?}");
    assert_eq!(found[0]["severity"], "warning");
}

#[tokio::test]
async fn a_service_that_the_agent_does_not_carry_is_a_warning_at_its_place() {
    let dir = host(0);
    let mesh = MESH.replace("[service.web]", "[service.web]\nprotocol = \"udp\"");
    std::fs::write(dir.0.join(MESH_FILE), &mesh).unwrap();
    for words in [String::new(), dir.0.join(MESH_FILE).display().to_string()] {
        let (found, exit) = problems(&dir, &words).await;
        assert_eq!((found.len(), exit), (1, 0), "{found:?}");
        assert_eq!((&found[0]["line"], &found[0]["column"]), (&11.into(), &12.into()));
        assert_eq!(found[0]["severity"], "warning");
        assert_eq!(found[0]["hint"], "only TCP services are carried");
    }
    let (text, exit) = check(&dir, "", false).await;
    assert!(exit == 0 && text.contains("mesh.toml:11:12: warning: service `web`: protocol = \"udp\""), "{text}");
}

#[tokio::test]
async fn a_directory_in_which_all_is_well_has_no_problem() {
    let dir = host(0);
    assert_eq!(problems(&dir, "").await, (vec![], 0));
    assert_eq!(problems(&dir, "--min-validity 6d").await, (vec![], 0));
    let (found, exit) = problems(&dir, "--min-validity 14d").await;
    assert_eq!((found.len(), exit), (1, 2), "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().contains("expires in 6 d 23 h"), "{found:?}");
}

#[tokio::test]
async fn every_bad_file_of_a_directory_is_named_with_what_to_do() {
    type Spoil = fn(&Path);
    let cases: [(&str, &str, &str, Spoil); 8] = [
        ("no key", "node.key", "error", |d| std::fs::remove_file(d.join("node.key")).unwrap()),
        ("a key that all can read", "node.key", "error", |d| mode(&d.join("node.key"), 0o644)),
        ("a key that the group can read", "node.key", "warning", |d| mode(&d.join("node.key"), 0o640)),
        ("a cut certificate", "node.pem", "error", |d| {
            let text = std::fs::read_to_string(d.join("node.pem")).unwrap();
            std::fs::write(d.join("node.pem"), &text[..text.len() / 4]).unwrap();
        }),
        ("no trust", "trust.pem", "error", |d| std::fs::remove_file(d.join("trust.pem")).unwrap()),
        ("another node", "node.pem", "error", |d| std::fs::write(d.join("agent.toml"), "node = \"alpha\"\n").unwrap()),
        ("no node", "agent.toml", "error", |d| std::fs::write(d.join("agent.toml"), "").unwrap()),
        ("a bad node", "agent.toml", "error", |d| std::fs::write(d.join("agent.toml"), "node = \"B\"\n").unwrap()),
    ];
    for (name, file, severity, spoil) in cases {
        let dir = host(0);
        spoil(&dir.0);
        let (found, exit) = problems(&dir, "").await;
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0]["file"], dir.0.join(file).display().to_string(), "{name}: {found:?}");
        assert_eq!((found[0]["severity"].as_str(), exit), (Some(severity), if severity == "error" { 2 } else { 0 }));
        assert!(found[0]["hint"].is_string() && !found[0]["message"].as_str().unwrap().starts_with('/'), "{found:?}");
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn an_expired_certificate_and_a_node_that_the_mesh_lacks_are_errors() {
    let dir = host(8);
    let (found, exit) = problems(&dir, "").await;
    assert_eq!((found.len(), exit), (1, 2), "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().contains("expired"), "{found:?}");
    std::fs::write(dir.0.join(MESH_FILE), MESH.replace("node.beta", "node.gamma").replace("\"beta\"", "\"gamma\""))
        .unwrap();
    let (found, _) = problems(&dir, "").await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().contains("which the mesh file does not have"), "{found:?}");
}

#[tokio::test]
async fn another_cas_root_is_an_error() {
    let (dir, other) = (host(0), host(0));
    std::fs::copy(other.0.join("trust.pem"), dir.0.join("trust.pem")).unwrap();
    let (found, exit) = problems(&dir, "").await;
    assert_eq!((found.len(), exit), (1, 2), "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().starts_with("peers with this host's trust.pem would refuse it"));
}

#[tokio::test]
async fn a_directory_without_anything_names_every_file_that_is_missing() {
    let dir = TempDir::new("check");
    let (found, exit) = problems(&dir, "").await;
    let files: Vec<_> = found.iter().map(|p| p["file"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!((files, exit), (vec!["mesh.toml", "agent.toml", "trust.pem"], 2));
    assert!(found.iter().all(|p| p["hint"].is_string()), "{found:?}");
}

#[tokio::test]
async fn a_diff_says_what_the_change_would_do() {
    let dir = TempDir::new("check");
    let (old, new) = (dir.0.join("old.toml"), dir.0.join("new.toml"));
    std::fs::write(&old, MESH).unwrap();
    let changed = MESH
        .replace("version = 1", "version = 2")
        .replace("[node.beta]", "[node.beta]\n[node.gamma]")
        .replace("127.0.0.1:80\"", "127.0.0.1:81\"")
        .replace("10.0.0.1:7443", "10.0.0.9:7443")
        .replace("[\"beta\"]", "[\"gamma\"]");
    std::fs::write(&new, changed).unwrap();
    let words = format!("{} --diff {}", old.display(), new.display());
    let (text, exit) = check(&dir, &words, false).await;
    assert_eq!(exit, 0);
    assert_eq!(
        text,
        "~ mesh.version: 1 → 2\n+ node gamma\n~ node alpha address: [10.0.0.1:7443] → [10.0.0.9:7443]\n\
         ~ service web target: 127.0.0.1:80 → 127.0.0.1:81\n- beta may reach web; its connections are cut\n\
         + gamma may reach web\n\nok: mesh lab, version 1: 2 nodes, 1 service; no problem\n"
    );
    let (text, _) = check(&dir, &words, true).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["diff"]["permits"][0]["lost"][0], "beta");
    let (text, _) = check(&dir, &format!("{} --diff {}", old.display(), old.display()), false).await;
    assert!(text.starts_with("  nothing changes\n"), "{text}");
    std::fs::write(&new, "nonsense").unwrap();
    let (text, exit) = check(&dir, &words, true).await;
    assert_eq!((exit, &serde_json::from_str::<Value>(&text).unwrap()["diff"]), (2, &Value::Null));
}
