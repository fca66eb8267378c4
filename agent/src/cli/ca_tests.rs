use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, DnType};

use super::*;
use crate::cli::testing::{ask, fail, read};

fn init(dir: &Path, mesh: &str) {
    let (value, _) = ask(dir, |c| run(&CaCommand::Init { mesh: Some(mesh.to_owned()) }, c));
    assert_eq!(value["mesh"], mesh);
}

fn issue_command(name: &str) -> CaCommand {
    CaCommand::Issue { name: name.to_owned(), out: None, validity: "7d".to_owned() }
}

fn request(key: &NodeKey) -> String {
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "somebody else");
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn list_json_has_the_keys_of_the_contract() {
    let temporary = tempfile::tempdir().unwrap();
    init(temporary.path(), "lab");
    let (empty, _) = ask(temporary.path(), |c| run(&CaCommand::List, c));
    assert_eq!(empty, json!({"certificates": []}));
    for name in ["alpha", "beta"] {
        ask(temporary.path(), |c| run(&issue_command(name), c));
    }
    let (value, _) = ask(temporary.path(), |c| run(&CaCommand::List, c));
    let all = value["certificates"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    let keys: Vec<_> = all[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = ["serial", "node", "publisher", "not_before", "not_after", "issuer", "state"];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((&all[0]["node"], &all[1]["state"]), (&json!("alpha"), &json!("valid")));
    let end = OffsetDateTime::parse(all[0]["not_after"].as_str().unwrap(), &Rfc3339).unwrap();
    let begin = OffsetDateTime::parse(all[0]["not_before"].as_str().unwrap(), &Rfc3339).unwrap();
    assert_eq!(end - begin, time::Duration::days(7) + time::Duration::minutes(5));
    let text = read(temporary.path(), |c| run(&CaCommand::List, c));
    assert_eq!(text.lines().count(), 3);
    assert!(text.contains(" beta ") && text.contains("valid"), "{text}");
}

#[test]
fn issue_makes_a_directory_and_renews_the_key_that_is_there() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    init(dir, "lab");
    let (first, told) = ask(dir, |c| run(&issue_command("alpha"), c));
    assert!(told.contains("holds a private key"), "{told}");
    let place = dir.join("nodes/alpha");
    assert_eq!(first["directory"], json!(place));
    let key = fs::read(place.join("node.key")).unwrap();
    let (second, _) = ask(dir, |c| run(&issue_command("alpha"), c));
    assert_ne!(first["certificate"]["serial"], second["certificate"]["serial"]);
    assert_eq!(fs::read(place.join("node.key")).unwrap(), key);
    let chain = fs::read_to_string(place.join("node.pem")).unwrap();
    let (shown, _) = ask(dir, |c| run(&CaCommand::Show { name: "alpha".to_owned() }, c));
    assert_eq!(shown["certificate"]["serial"], second["certificate"]["serial"]);
    assert_eq!(shown["earlier"], 1);
    assert!(chain.starts_with(shown["certificate"]["pem"].as_str().unwrap()));
}

#[test]
fn issue_warns_of_a_node_that_the_mesh_file_does_not_name() {
    let temporary = tempfile::tempdir().unwrap();
    init(temporary.path(), "lab");
    fs::write(temporary.path().join("mesh.toml"), "[mesh]\nname = \"lab\"\nversion = 1\n[node.alpha]\n").unwrap();
    let (_, told) = ask(temporary.path(), |c| run(&issue_command("beta"), c));
    assert!(told.contains("does not name beta"), "{told}");
    let (_, told) = ask(temporary.path(), |c| run(&issue_command("alpha"), c));
    assert!(!told.contains("does not name"), "{told}");
    assert!(temporary.path().join("nodes/alpha/mesh.toml").exists());
    assert!(temporary.path().join("nodes/alpha/agent.toml").exists());
}

#[test]
fn sign_takes_the_key_of_a_request_and_none_of_its_names() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    init(dir, "lab");
    let key = NodeKey::generate().unwrap();
    fs::write(dir.join("csr"), request(&key)).unwrap();
    let sign = |out| CaCommand::Sign { csr: dir.join("csr"), node: "beta".to_owned(), out, validity: "12h".to_owned() };
    let (value, _) = ask(dir, |c| run(&sign(None), c));
    assert_eq!(value["certificate"]["node"], "beta");
    let (shown, _) = ask(dir, |c| run(&CaCommand::Show { name: "beta".to_owned() }, c));
    assert_eq!(shown["certificate"]["names"], json!(["URI:spiffe://lab/node/beta", "DNS:beta.lab"]));
    assert_eq!(shown["certificate"]["subject"], "CN=beta");
    let text = read(dir, |c| run(&sign(None), c));
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2, "the chain is the answer");
    ask(dir, |c| run(&sign(Some(dir.join("out.pem"))), c));
    assert!(dir.join("out.pem").exists());
}

#[test]
fn show_tells_a_person_what_openssl_would() {
    let temporary = tempfile::tempdir().unwrap();
    init(temporary.path(), "lab");
    ask(temporary.path(), |c| run(&issue_command("alpha"), c));
    let show = |name: &str| CaCommand::Show { name: name.to_owned() };
    let text = read(temporary.path(), |c| run(&show("alpha"), c));
    for part in ["state        valid", "DNS:alpha.lab", "clientAuth, serverAuth", "O=lab, CN=intermediate", "-----END"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let print = text.lines().find_map(|l| l.strip_prefix("SHA-256      ")).unwrap();
    assert!(print.len() == 95 && print.split(':').all(|p| p.len() == 2), "{print}");
    let error = fail(temporary.path(), |c| run(&show("nobody"), c));
    assert_eq!((error.code, error.exit), ("unknown-node", 1));
}

#[test]
fn export_prints_the_root() {
    let temporary = tempfile::tempdir().unwrap();
    init(temporary.path(), "lab");
    let root = fs::read_to_string(temporary.path().join("ca/root.pem")).unwrap();
    assert_eq!(read(temporary.path(), |c| run(&CaCommand::Export, c)), root);
    let (value, _) = ask(temporary.path(), |c| run(&CaCommand::Export, c));
    assert_eq!(value["trust_pem"], root);
}

#[test]
fn failures_say_what_and_what_to_do() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let error = fail(dir, |c| run(&CaCommand::List, c));
    assert_eq!((error.code, error.exit), ("no-authority", 1));
    assert!(error.hint.unwrap().contains("adit ca init"));
    let error = fail(dir, |c| run(&CaCommand::Init { mesh: None }, c));
    assert_eq!((error.code, error.exit), ("no-mesh", 2));
    init(dir, "lab");
    let error = fail(dir, |c| run(&CaCommand::Init { mesh: Some("lab".to_owned()) }, c));
    assert_eq!((error.code, error.exit), ("exists", 1));
    for validity in ["7", "d", "", "1w", "7é", "0s", "99999999999999999999d", "-1d"] {
        let command = CaCommand::Issue { name: "a".to_owned(), out: None, validity: validity.to_owned() };
        assert_eq!(fail(dir, |c| run(&command, c)).exit, 2, "{validity}");
    }
    fs::write(dir.join("csr"), "no request").unwrap();
    for (csr, exit) in [("csr", 2), ("absent", 1)] {
        let (csr, node) = (dir.join(csr), "a".to_owned());
        let command = CaCommand::Sign { csr, node, out: None, validity: "7d".to_owned() };
        assert_eq!(fail(dir, |c| run(&command, c)).exit, exit);
    }
    fs::set_permissions(dir.join("ca/intermediate.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = fail(dir, |c| run(&CaCommand::List, c));
    assert_eq!(error.code, "key-exposed");
    assert!(error.hint.unwrap().starts_with("chmod 600"));
}

#[test]
fn an_error_is_one_json_document_or_a_text_with_help() {
    let error = CliError::failed("x", "it broke").hint("mend it");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    error.report(true, &mut out, &mut err).unwrap();
    let value: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value, json!({"error": {"code": "x", "message": "it broke", "hint": "mend it"}}));
    error.report(false, &mut out, &mut err).unwrap();
    assert_eq!(String::from_utf8(err).unwrap(), "error: it broke\n  help: mend it\n");
}

#[test]
fn delegate_makes_a_publisher_who_is_no_node_and_keeps_the_key_that_is_there() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    init(dir, "lab");
    let delegate = |generation| CaCommand::Delegate { name: "anna".to_owned(), out: None, days: 30, generation };
    let (first, told) = ask(dir, |c| run(&delegate(1), c));
    assert!(told.contains("can change the whole mesh"), "{told}");
    let place = dir.join("publishers/anna");
    assert_eq!(
        (&first["directory"], &first["generation"], &first["publisher"]),
        (&json!(place), &json!(1), &json!(true))
    );
    let key = fs::read(place.join("publisher.key")).unwrap();
    assert_eq!(fs::metadata(place.join("publisher.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let (second, _) = ask(dir, |c| run(&delegate(2), c));
    assert_ne!(first["certificate"]["serial"], second["certificate"]["serial"]);
    assert_eq!(fs::read(place.join("publisher.key")).unwrap(), key);
    let (listed, _) = ask(dir, |c| run(&CaCommand::List, c));
    assert_eq!(
        (&listed["certificates"][1]["publisher"], &listed["certificates"][1]["node"]),
        (&json!(true), &json!("anna"))
    );
    let text = read(dir, |c| run(&CaCommand::List, c));
    assert!(text.contains("valid, publisher"), "{text}");
    fs::remove_file(dir.join("ca/root.key")).unwrap();
    ask(dir, |c| run(&delegate(1), c));
    let refused = fail(dir, |c| run(&delegate(2), c));
    assert!(refused.exit == 1 && refused.message.contains("root.key"), "{refused}");
}
