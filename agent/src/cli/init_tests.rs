use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::cli::testing::{ask, fail};
use crate::clock::Clock;
use crate::identity::{Identity, Trust};

fn arguments(mesh: &str, nodes: &[&str], bundle: bool) -> InitArgs {
    InitArgs { mesh: mesh.to_owned(), nodes: nodes.iter().map(ToString::to_string).collect(), bundle }
}

/// Everything below `dir` with its content, without the lock of the CA.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(content(&path));
        } else if !path.ends_with("lock") {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_bundle_holds_a_ready_directory_for_each_node_and_ca_keys_in_none() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("d");
    let args = arguments("bench", &["a=10.0.0.1:7443", "b=[2001:db8::2]:7443,b.example:7443", "c"], true);
    let (value, warned) = ask(&dir, |context| run(&args, context));
    assert_eq!(value["mesh"], "bench");
    assert_eq!(value["nodes"][1]["node"], "b");
    assert!(warned.contains("warning: the keys of all nodes were made on this host"), "{warned}");
    let now = Clock::default().now();
    for place in ["", "nodes/a", "nodes/b", "nodes/c"].map(|p| dir.join(p)) {
        for name in ["mesh.toml", "agent.toml", "trust.pem", "node.pem", "node.key"] {
            assert!(place.join(name).is_file(), "{name} in {}", place.display());
        }
        assert!(place.join("state").is_dir());
        assert_eq!(fs::metadata(place.join("node.key")).unwrap().permissions().mode() & 0o7777, 0o600);
        let mesh = mesh_config::load(&place.join("mesh.toml")).unwrap();
        assert_eq!(mesh.warnings, []);
        assert_eq!(mesh.mesh.node("b").unwrap().addresses().len(), 2);
        let node = place.file_name().and_then(|n| n.to_str()).filter(|n| n.len() == 1 && *n != "d").unwrap_or("a");
        let agent: toml::Table = fs::read_to_string(place.join("agent.toml")).unwrap().parse().unwrap();
        assert_eq!(agent["node"].as_str(), Some(node));
        // The agent takes it, by its own strict profile.
        let (trust, warnings) = Trust::load(&place, now).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let node = NodeName::new(node).unwrap();
        let (identity, warnings) = Identity::load(&place, &node, mesh.mesh.name(), now).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        identity.check_against(&trust, now).unwrap();
    }
    let keys: Vec<PathBuf> =
        content(&dir).into_iter().map(|(p, _)| p).filter(|p| p.extension().is_some_and(|e| e == "key")).collect();
    let of_ca: Vec<&PathBuf> = keys.iter().filter(|p| !p.ends_with("node.key")).collect();
    assert_eq!(of_ca, [&dir.join("ca/intermediate.key"), &dir.join("ca/root.key")]);
    assert_eq!(keys.len(), 6);
    assert_eq!(fs::read(dir.join("node.key")).unwrap(), fs::read(dir.join("nodes/a/node.key")).unwrap());
}

#[test]
fn without_a_bundle_only_this_host_gets_a_certificate() {
    let temporary = tempfile::tempdir().unwrap();
    let (value, warned) = ask(temporary.path(), |c| run(&arguments("lab", &["alpha", "beta"], false), c));
    assert_eq!(warned, "");
    assert_eq!(value["nodes"][0]["certificate"]["node"], "alpha");
    assert!(value["nodes"][1]["certificate"].is_null());
    assert!(!temporary.path().join("nodes").exists());
    let names: Vec<_> = fs::read_dir(temporary.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 7, "no staging left: {names:?}");
}

#[test]
fn a_directory_with_a_mesh_is_left_as_it_is() {
    let temporary = tempfile::tempdir().unwrap();
    ask(temporary.path(), |c| run(&arguments("lab", &["alpha"], true), c));
    let before = content(temporary.path());
    for mesh in ["lab", "other"] {
        let error = fail(temporary.path(), |c| run(&arguments(mesh, &["alpha"], true), c));
        assert_eq!((error.code, error.exit), ("exists", 1));
        assert!(error.message.contains("already holds the mesh `lab`"), "{error}");
        assert!(error.hint.unwrap().contains("adit ca issue NAME"));
    }
    assert_eq!(content(temporary.path()), before);
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    for name in ["agent.toml", "trust.pem", "node.pem", "node.key", "state", "nodes"] {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join(name), "mine").unwrap();
        let before = content(temporary.path());
        let error = fail(temporary.path(), |c| run(&arguments("lab", &["alpha"], true), c));
        assert_eq!((error.code, error.exit), ("exists", 1), "{name}");
        assert_eq!(content(temporary.path()), before);
    }
}

#[test]
fn a_ca_that_is_there_is_used_if_it_is_the_meshs() {
    let temporary = tempfile::tempdir().unwrap();
    let now = Clock::default().now();
    let ca = Authority::create(&temporary.path().join("ca"), &MeshName::new("lab").unwrap(), now).unwrap();
    let error = fail(temporary.path(), |c| run(&arguments("other", &["alpha"], false), c));
    assert_eq!(error.code, "other-mesh");
    ask(temporary.path(), |c| run(&arguments("lab", &["alpha"], false), c));
    assert_eq!(fs::read_to_string(temporary.path().join("trust.pem")).unwrap(), ca.trust_pem());
}

#[test]
fn wrong_arguments_say_what_would_do() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("d");
    for (mesh, nodes, code, told) in [
        ("My_Lab", &["a"][..], "name", "`my-lab` would do"),
        ("42", &["a"], "name", "names are"),
        ("lab", &["Alpha"], "name", "`alpha` would do"),
        ("lab", &["=10.0.0.1:1"], "name", "cannot be empty"),
        ("lab", &["a=10.0.0.1"], "address", "10.0.0.1"),
        ("lab", &["a="], "address", "help:"),
        ("lab", &["a=10.0.0.1:70000"], "address", "70000"),
        ("lab", &["a=10.0.0.1:1", "a=10.0.0.2:1"], "duplicate-node", "--node a=ADDR,ADDR"),
        ("lab", &["a=10.0.0.1:1", "b=10.0.0.1:1"], "document", "10.0.0.1:1"),
    ] {
        let error = fail(&dir, |c| run(&arguments(mesh, nodes, true), c));
        assert_eq!((error.code, error.exit), (code, 2), "{error}");
        assert!(error.to_string().contains(told), "{error}");
        assert!(!dir.exists());
    }
}

#[test]
fn an_interrupted_init_is_completed_or_forgotten() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    // Ended while preparing: forgotten.
    let staging = Staging::begin(dir).unwrap();
    fs::write(staging.path().join("node.key"), "half a key").unwrap();
    drop(staging);
    ask(dir, |c| run(&arguments("lab", &["alpha"], false), c));
    assert_eq!(fs::read_dir(dir).unwrap().count(), 7);
}
