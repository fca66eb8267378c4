use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::identity::tests::contexts;
use crate::reconcile::documents::Fingerprints;

const MESH: &str = "[mesh]\nname = \"lab\"\nversion = 3\n[node.alpha]\n[node.beta]\n";

fn mesh(text: &str) -> Arc<Mesh> {
    Arc::new(Mesh::check(text, "mesh.toml").unwrap().mesh)
}

fn file(text: &str) -> AgentFile {
    AgentFile::check(&format!("node = \"alpha\"\n{text}"), "agent.toml").unwrap().0
}

fn running() -> Snapshot {
    let [alpha, _] = contexts(["alpha", "beta"]);
    let settings = Settings::from(&file(""));
    Snapshot {
        mesh: mesh(MESH),
        tls: alpha,
        epochs: Epochs::FIRST,
        settings,
        removed: Arc::default(),
        ring: Arc::default(),
    }
}

/// A directory with this mesh file and agent file; key, certificate and roots are those that run.
fn documents(running: &Snapshot, text: &str, agent: &str) -> Documents {
    Documents {
        file: "mesh.toml".to_owned(),
        text: Some(text.to_owned()),
        mesh: Mesh::check(text, "mesh.toml").map(|checked| Arc::new(checked.mesh)),
        to_publish: false,
        beside: None,
        agent: AgentFile::check(&format!("node = \"alpha\"\n{agent}"), "agent.toml").map(|(file, _)| file),
        identity: Ok(running.tls.identity().clone()),
        trust: Ok(running.tls.judge().trust.clone()),
        removed: None,
        warnings: Vec::new(),
        seen: Fingerprints::of(std::path::Path::new("/nonexistent")),
    }
}

fn judge(text: &str, agent: &str) -> (Snapshot, Next) {
    let running = running();
    let next = Next::judge(documents(&running, text, agent), &running, &file(""));
    (running, next)
}

#[test]
fn a_document_takes_the_place_of_a_lower_one_and_of_an_equal_one_with_a_warning() {
    for (text, changes, warned) in [
        (MESH.to_owned(), false, false),
        (MESH.replace("version = 3", "version = 4"), true, false),
        (format!("# other\n{MESH}"), true, true),
    ] {
        let (running, next) = judge(&text, "");
        assert!(next.refused.is_empty());
        assert_eq!((next.changes(), !next.warnings.is_empty()), (changes, warned), "{text}");
        let after = next.snapshot(&running);
        assert_eq!(after.epochs, Epochs { mesh: 1 + u64::from(changes), ..Epochs::FIRST });
        assert_eq!(after.mesh.digest(), Digest::of(text.as_bytes()));
    }
}

#[test]
fn what_is_refused_is_told_at_its_place_and_leaves_the_mesh() {
    for (text, code, kind, told) in [
        (
            MESH.replace("version = 3", "version = 2"),
            "version_refused",
            FailureKind::Refused,
            "mesh.toml:3:11: version 2 is lower than version 3, which is running: raise it above 3",
        ),
        (
            MESH.replace("lab", "den"),
            "other_mesh",
            FailureKind::Refused,
            "mesh.toml:2:8: the document is of mesh `den`, and mesh `lab` is running",
        ),
        (
            MESH.replace("version = 3", "version = 4").replace("alpha", "gamma"),
            "not_a_member",
            FailureKind::Usage,
            "mesh.toml:2:8: the mesh would have no node `alpha`, which this host is",
        ),
        (format!("{MESH}[node.Beta]\n[nodes]\n"), "document", FailureKind::Usage, "mesh.toml:6:7: "),
    ] {
        let (running, next) = judge(&text, "");
        let [refused] = &next.refused[..] else { panic!("{text}: {:?}", next.refused) };
        assert_eq!((refused.part, refused.code, refused.kind), (Part::Mesh, code, kind));
        assert!(refused.text().starts_with(told), "{}", refused.text());
        assert!(!next.changes() && next.snapshot(&running).mesh == running.mesh);
    }
}

#[test]
fn a_bad_part_keeps_no_good_one_from_coming_into_force() {
    let (running, next) = judge("[[[", "[limits]\nidle = \"5s\"\n");
    assert_eq!(next.refused.iter().map(|r| r.part).collect::<Vec<_>>(), [Part::Mesh]);
    let after = next.snapshot(&running);
    assert_eq!(after.settings.limits.idle, Some(Duration::from_secs(5)));
    assert_eq!(after.epochs, Epochs::FIRST);
    let (_, next) = judge(&MESH.replace("version = 3", "version = 4"), "nodes = 3\n");
    assert_eq!(next.refused.iter().map(|r| r.part).collect::<Vec<_>>(), [Part::Agent]);
    assert!(next.mesh.is_some());
}

#[test]
fn of_the_agent_file_what_cannot_change_live_waits_and_is_named() {
    let text = "metrics = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n[log]\nlevel = \"debug\"\n[limits]\nconnect = \"1s\"\n\
                pending_connections = 7\n";
    let (running, next) = judge(MESH, text);
    assert_eq!(next.applied, ["listen", "limits.connect"]);
    assert_eq!(next.needs_restart, ["metrics", "log.level", "limits.pending_connections"]);
    assert!(next.warnings[0].contains("metrics, log.level, limits.pending_connections"), "{:?}", next.warnings);
    let after = next.snapshot(&running).settings.limits;
    assert_eq!(after.connect, Duration::from_secs(1));
    assert_eq!(after.pending_connections, running.settings.limits.pending_connections);
    // Said again, it is still what waits.
    let again = Next::judge(documents(&running, MESH, text), &running, &next.agent);
    assert_eq!((again.applied.len(), again.needs_restart), (0, next.needs_restart));
    assert_eq!(running.tls.clock().now().offset(), Clock::default().now().offset());
}

#[test]
fn another_identity_and_other_roots_raise_their_epochs() {
    let running = running();
    let [other, _] = contexts(["alpha", "beta"]);
    let mut documents = documents(&running, MESH, "");
    documents.identity = Ok(other.identity().clone());
    documents.trust = Ok(other.judge().trust.clone());
    let next = Next::judge(documents, &running, &file(""));
    let after = next.snapshot(&running);
    assert_eq!(after.epochs, Epochs { mesh: 1, identity: 2, trust: 2 });
    assert_eq!(after.tls.identity().serial(), other.identity().serial());
}

const SIGNED: &str = "[mesh]\nname = \"lab\"\nversion = 3\nsigned = true\n[node.alpha]\n[node.beta]\n";

/// What comes of a signed document of this text, with this beside it, where `was` runs.
fn judge_signed(was: &str, text: &str, beside: Beside) -> Next {
    let running = Snapshot { mesh: mesh(was), ..running() };
    let documents = Documents { beside: Some(beside), ..documents(&running, text, "") };
    Next::judge(documents, &running, &file(""))
}

fn edited(text: &str) -> Beside {
    let problems = Mesh::check(text, "mesh.toml").err().unwrap_or_default();
    Beside::Edited { file: "mesh.toml".to_owned(), text: text.to_owned(), problems }
}

#[test]
fn a_signed_document_takes_the_place_of_what_runs_whatever_the_versions() {
    for was in [MESH.to_owned(), SIGNED.replace("version = 3", "version = 9"), SIGNED.replace("beta", "gamma")] {
        for beside in [Beside::Same, Beside::Behind] {
            let next = judge_signed(&was, SIGNED, beside);
            assert!(next.refused.is_empty() && next.mesh.is_some(), "{was}");
        }
    }
    assert!(!judge_signed(SIGNED, SIGNED, Beside::Same).changes());
    for (text, code) in
        [(SIGNED.replace("lab", "den"), "other_mesh"), (SIGNED.replace("alpha", "delta"), "not_a_member")]
    {
        let next = judge_signed(SIGNED, &text, Beside::Same);
        assert_eq!((next.refused[0].code, next.mesh), (code, None));
    }
}

#[test]
fn an_edit_beside_a_signed_document_is_refused_and_keeps_none_from_coming_into_force() {
    let next_version = SIGNED.replace("version = 3", "version = 4");
    let next = judge_signed(SIGNED, &next_version, edited(&format!("# mine\n{SIGNED}")));
    assert_eq!(next.mesh.as_ref().map(|mesh| mesh.version().number()), Some(4));
    let refused = &next.refused[0];
    assert_eq!((refused.code, refused.kind), ("mesh_is_signed", FailureKind::Refused));
    let told = "mesh.toml:4:11: the mesh is signed, so an edit on one host is not taken: version 4 stays in force";
    assert_eq!(refused.text(), told);
    assert!(refused.problems[0].hint.as_ref().is_some_and(|hint| hint.contains("adit publish")));
    // What is wrong with it is told first, at its place.
    let next = judge_signed(SIGNED, SIGNED, edited(&SIGNED.replace("[node.beta]", "[node.BETA]")));
    assert_eq!((next.refused[0].code, next.refused[0].kind), ("document", FailureKind::Usage));
    assert!(next.refused[0].text().starts_with("mesh.toml:6:"), "{}", next.refused[0].text());
}

#[test]
fn where_a_signed_document_has_not_come_yet_an_edit_is_refused_as_well() {
    let running = Snapshot { mesh: mesh(SIGNED), ..running() };
    for text in [MESH.replace("version = 3", "version = 4"), SIGNED.replace("version = 3", "version = 4")] {
        let next = Next::judge(documents(&running, &text, ""), &running, &file(""));
        assert_eq!((next.refused[0].code, next.mesh.is_none()), ("mesh_is_signed", true), "{text}");
    }
    assert!(!Next::judge(documents(&running, SIGNED, ""), &running, &file("")).changes());
}

#[test]
fn a_file_that_is_asked_about_in_a_signed_mesh_is_judged_as_it_would_be_published() {
    let running = Snapshot { mesh: mesh(SIGNED), ..running() };
    let ask =
        |text: &str| Next::judge(documents(&running, text, "").into_published(&running.mesh), &running, &file(""));
    for (text, version) in [
        (SIGNED.replace("beta", "gamma"), 4),
        (SIGNED.replace("version = 3", "version = 2"), 4),
        (MESH.replace("version = 3", "version = 7"), 7),
    ] {
        let next = ask(&text);
        assert!(next.refused.is_empty() && next.warnings.is_empty(), "{text}: {:?}", next.refused);
        let asked = next.mesh.unwrap();
        assert_eq!((asked.version().number(), asked.signed()), (version, true), "{text}");
    }
    assert!(!ask(SIGNED).changes());
    for (text, code, at) in [
        (SIGNED.replace("lab", "den"), "other_mesh", "mesh.toml:2:8: "),
        (SIGNED.replace("alpha", "delta"), "not_a_member", "mesh.toml:2:8: "),
        (SIGNED.replace("[node.beta]", "[node.BETA]"), "document", "mesh.toml:6:"),
    ] {
        let next = ask(&text);
        assert_eq!((next.refused[0].code, next.mesh.is_none()), (code, true));
        assert!(next.refused[0].text().starts_with(at), "{}", next.refused[0].text());
    }
}
