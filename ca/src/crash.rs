//! Each step that changes the disk fails in turn, once or from then on (a kill, as far as the disk can tell). What is
//! left has to be the old state or the new one, and to mend itself.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use mesh_config::{MeshName, NodeName};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::disk::faults::{self, Plan};
use crate::last_good::tests::rank;
use crate::{Authority, Error, LastGood, NodeKey, PublicKey, Serial, Staging, atomic};

const NOW: OffsetDateTime = datetime!(2030-01-01 12:00 UTC);

/// Runs `work` on a fresh directory with each of its steps failing in turn, in both ways; `check` then gets the
/// directory, whether the work said it was done, and how many steps it takes.
fn at_every_step<S>(
    set_up: impl Fn(&Path) -> S,
    work: impl Fn(&Path, &mut S) -> Result<(), Error>,
    check: impl Fn(&Path, Result<(), Error>, S, &str),
) {
    for plan in [Plan::Once, Plan::From] {
        for at in 0.. {
            let temporary = temporary();
            let mut state = set_up(temporary.path());
            let (result, trace) = faults::run(Some(plan(at)), || work(temporary.path(), &mut state));
            let case = format!("{:?}: {trace:?}", plan(at));
            let over = at >= trace.len();
            assert!(!over || result.is_ok(), "{case}: {result:?}");
            check(temporary.path(), result, state, &case);
            if over {
                assert!(trace.len() > 3, "the work goes through the steps");
                break;
            }
        }
    }
}

/// In memory where there is such a place, since these tests write thousands of files.
fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn leftovers(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with('.'))
        .collect()
}

fn node() -> NodeName {
    NodeName::new("alpha").unwrap()
}

fn mesh() -> MeshName {
    MeshName::new("lab").unwrap()
}

#[test]
fn an_atomic_write_is_create_write_sync_rename_sync() {
    let temporary = temporary();
    let ((), trace) = faults::run(None, || atomic::write(&temporary.path().join("f"), b"x", 0o600).unwrap());
    assert_eq!(trace, ["create", "write", "fsync", "rename", "fsync-dir"]);
}

#[test]
fn a_write_that_fails_leaves_the_old_file_or_the_new() {
    at_every_step(
        |dir| fs::write(dir.join("f"), "old").unwrap(),
        |dir, ()| atomic::write(&dir.join("f"), b"new", 0o600),
        |dir, result, (), case| {
            let content = fs::read_to_string(dir.join("f")).unwrap();
            assert!(content == "new" || content == "old" && result.is_err(), "{case}: {content}");
            atomic::sweep(dir).unwrap();
            assert!(leftovers(dir).is_empty(), "{case}");
        },
    );
}

#[test]
fn an_authority_appears_whole_or_not_at_all() {
    at_every_step(
        |_| (),
        |dir, ()| Authority::create(&dir.join("ca"), &mesh(), NOW).map(drop),
        |dir, result, (), case| {
            let authority = match Authority::open(&dir.join("ca")) {
                Ok(authority) => authority,
                Err(Error::Absent(_)) => {
                    assert!(result.is_err(), "{case}");
                    Authority::create(&dir.join("ca"), &mesh(), NOW).unwrap()
                }
                Err(other) => panic!("{case}: {other:?}"),
            };
            assert!(authority.warnings().is_empty(), "{case}");
            drop(authority);
            let mut authority = Authority::open(&dir.join("ca")).unwrap();
            authority.issue(&node(), &NodeKey::generate().unwrap().public_key(), None, NOW).unwrap();
            assert!(leftovers(dir).is_empty(), "{case}: {:?}", leftovers(dir));
        },
    );
}

fn serials(authority: &Authority) -> Vec<Serial> {
    authority.records().iter().map(crate::Record::serial).collect()
}

#[test]
fn a_certificate_is_recorded_or_was_never_given_out() {
    let key = NodeKey::generate().unwrap().public_key();
    let begin = |dir: &Path| -> (Authority, PublicKey, Vec<Serial>, Option<Serial>) {
        let mut authority = Authority::create(&dir.join("ca"), &mesh(), NOW).unwrap();
        for _ in 0..2 {
            authority.issue(&node(), &key, None, NOW).unwrap();
        }
        let before = serials(&authority);
        (authority, key.clone(), before, None)
    };
    at_every_step(
        begin,
        |_, (authority, key, _, given)| {
            *given = Some(authority.issue(&node(), key, None, NOW)?.serial);
            Ok(())
        },
        |dir, result, (mut same, key, before, given), case| {
            // As another process finds it, or the next one.
            let mut opened = Authority::open(&dir.join("ca")).unwrap();
            assert!(opened.warnings().is_empty(), "{case}: {:?}", opened.warnings());
            let after = serials(&opened);
            assert!(after.starts_with(&before) && after.len() <= before.len() + 1, "{case}");
            assert_eq!(given.is_some(), result.is_ok());
            assert!(given.is_none_or(|given| after.last() == Some(&given)), "{case}");
            // Both the one that met the failure and the other go on.
            same.issue(&node(), &key, None, NOW).unwrap();
            opened.issue(&node(), &key, None, NOW).unwrap();
            drop(same);
            let all = serials(&Authority::open(&dir.join("ca")).unwrap());
            assert!(all.starts_with(&after) && all.len() == after.len() + 2, "{case}");
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "{case}");
            assert!(leftovers(&dir.join("ca")).is_empty(), "{case}");
        },
    );
}

#[test]
fn staged_files_appear_together() {
    at_every_step(
        |_| (),
        |dir, ()| {
            let staging = Staging::begin(dir)?;
            for name in ["b", "last", "z"] {
                atomic::write(&staging.path().join(name), name.as_bytes(), 0o600)?;
            }
            staging.commit("last")
        },
        |dir, result, (), case| {
            let there = || ["b", "last", "z"].map(|n| dir.join(n).exists());
            // The last one is never there without the others, before anything is mended.
            assert!(!dir.join("last").exists() || there() == [true; 3], "{case}");
            Staging::recover(dir).unwrap();
            assert!([[true; 3], [false; 3]].contains(&there()), "{case}: {:?}", there());
            assert!(result.is_err() || there() == [true; 3], "{case}");
            assert!(leftovers(dir).is_empty(), "{case}");
        },
    );
}

#[test]
fn a_live_staging_is_no_leftover() {
    let temporary = temporary();
    let staging = Staging::begin(temporary.path()).unwrap();
    assert!(!Staging::recover(temporary.path()).unwrap());
    assert!(staging.path().exists());
    fs::write(temporary.path().join("taken"), "mine").unwrap();
    fs::write(staging.path().join("taken"), "new").unwrap();
    assert!(matches!(staging.commit("taken"), Err(Error::Exists(_))));
    assert_eq!(fs::read_to_string(temporary.path().join("taken")).unwrap(), "mine");
    assert!(leftovers(temporary.path()).is_empty());
}

#[test]
fn a_node_directory_never_has_a_key_without_its_mode() {
    let key = NodeKey::generate().unwrap();
    at_every_step(
        |_| (),
        |dir, ()| crate::write_node_directory(&dir.join("n"), &key, "chain", "trust"),
        |dir, _, (), case| {
            use std::os::unix::fs::PermissionsExt as _;
            for entry in fs::read_dir(dir.join("n")).into_iter().flatten().map(Result::unwrap) {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                let secret = entry.file_name().to_str().unwrap().contains("node.key");
                assert_eq!(mode, if secret { 0o600 } else { 0o644 }, "{case}");
            }
            // Again, and it is whole.
            crate::write_node_directory(&dir.join("n"), &key, "chain", "trust").unwrap();
            assert_eq!(NodeKey::load(&dir.join("n/node.key")).unwrap().0.public_key(), key.public_key());
            let other = NodeKey::generate().unwrap();
            let refused = crate::write_node_directory(&dir.join("n"), &other, "chain", "trust");
            assert!(matches!(refused, Err(Error::Exists(_))));
        },
    );
}

#[test]
fn the_last_good_document_is_the_old_or_the_new_and_never_below_its_floor() {
    at_every_step(
        |dir| {
            let mut kept = LastGood::open(&dir.join("state")).unwrap();
            kept.keep(rank(1, 1), b"old").unwrap();
            kept
        },
        |_, kept| kept.keep(rank(1, 2), b"new"),
        |dir, result, mut same, case| {
            let mut opened = LastGood::open(&dir.join("state")).unwrap();
            let document = opened.document(9).unwrap().unwrap();
            assert!(document == b"new" || document == b"old" && result.is_err(), "{case}");
            let is = rank(1, if document == b"new" { 2 } else { 1 });
            assert!(opened.floor().is_some_and(|floor| floor <= is), "{case}: what is kept can be used");
            assert!(result.is_err() || opened.floor() == Some(rank(1, 2)), "{case}");
            assert!(opened.keep(rank(1, 0x7fff), b"").is_ok() && same.keep(rank(1, 0x7fff), b"x").is_ok(), "{case}");
            assert!(leftovers(&dir.join("state")).is_empty(), "{case}");
        },
    );
}

#[test]
fn a_delegation_is_recorded_or_was_never_given_out() {
    let key = NodeKey::generate().unwrap().public_key();
    let first = mesh_config::published::Generation::FIRST;
    at_every_step(
        |dir| (Authority::create(&dir.join("ca"), &mesh(), NOW).unwrap(), None),
        |_, (authority, given)| {
            *given = Some(authority.delegate(&node(), &key, first, None, NOW)?.serial);
            Ok(())
        },
        |dir, result, (_, given), case| {
            let opened = Authority::open(&dir.join("ca")).unwrap();
            assert_eq!(given.is_some(), result.is_ok());
            assert!(given.is_none_or(|given| serials(&opened) == [given]), "{case}");
            assert!(opened.records().iter().all(crate::Record::publisher), "{case}");
        },
    );
}
