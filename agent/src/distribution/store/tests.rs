//! What is on the disk after an end at any moment, and what is never on it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mesh_config::published::Heads;

use super::*;
use crate::identity::published::tests::{Hand, NOW, Root, document, judged, lab};

/// Where the writer that is killed writes.
const WRITER: &str = "ADIT_TEST_STORE_WRITER";

fn read(dir: &Path, root: &Root) -> Result<Had, StoreError> {
    Had::read(dir, &root.trust(), Some(&lab()), NOW)
}

/// Documents in a line, of versions from 1 to `count`.
fn line(root: &Root, hand: &Hand, count: u64) -> Vec<Published> {
    let mut heads = Heads::default();
    let made = (1..=count).map(|version| {
        let document = judged(document(hand, &heads, version), root).unwrap();
        heads.insert(document.header().clone());
        document
    });
    made.collect()
}

#[test]
fn what_was_in_force_is_there_after_a_restart_and_nothing_older_comes_back() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let dir = tempfile::tempdir().unwrap();
    assert!(!Had::is_there(dir.path()));
    assert!(read(dir.path(), &root).unwrap().in_force.is_none());
    let documents = line(&root, &anna, 3);
    {
        let mut store = Store::open(dir.path()).unwrap();
        store.keep(&documents[2], Some(Digest::of(b"before"))).unwrap();
        store.remember(&documents[2]).unwrap();
        store.remember(&documents[1]).unwrap();
    }
    assert!(Had::is_there(dir.path()));
    let had = read(dir.path(), &root).unwrap();
    assert_eq!(had.in_force.as_ref().unwrap().rank(), documents[2].rank());
    assert_eq!((had.floor, had.before), (Some(documents[2].rank()), Some(Digest::of(b"before"))));
    let kept: Vec<_> = had.all.iter().map(|document| document.rank()).collect();
    assert_eq!(kept, [documents[2].rank(), documents[1].rank()]);
    let mut store = Store::open(dir.path()).unwrap();
    assert!(matches!(store.keep(&documents[1], None), Err(ca::Error::BelowFloor { .. })));
    // Nor if somebody puts the older one there.
    fs::write(dir.path().join(STATE).join(IN_FORCE), documents[1].bytes()).unwrap();
    assert!(matches!(read(dir.path(), &root), Err(StoreError::BelowFloor { .. })));
}

#[test]
fn what_is_not_a_publishers_is_refused_in_force_and_left_aside_in_the_history() {
    let (mut root, other) = (Root::of("lab"), Root::of("lab"));
    let anna = root.publisher();
    let dir = tempfile::tempdir().unwrap();
    let documents = line(&root, &anna, 2);
    let mut store = Store::open(dir.path()).unwrap();
    documents.iter().for_each(|document| store.remember(document).unwrap());
    store.keep(&documents[1], None).unwrap();
    let why = read(dir.path(), &other).unwrap_err();
    assert!(matches!(&why, StoreError::Refused { why, .. } if why.name() == "unknown_signer"), "{why}");
    let history = dir.path().join(STATE).join(HISTORY);
    let first = history.join(name(documents[0].rank()));
    let mut bad = documents[0].bytes().to_vec();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&first, bad).unwrap();
    let had = read(dir.path(), &root).unwrap();
    assert_eq!((had.all.len(), had.unusable.len()), (1, 1), "{:?}", had.unusable);
}

#[test]
fn the_history_stays_bounded_and_never_loses_what_is_in_force() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let dir = tempfile::tempdir().unwrap();
    let documents = line(&root, &anna, 70);
    let mut store = Store::open(dir.path()).unwrap();
    store.keep(&documents[0], None).unwrap();
    documents.iter().for_each(|document| store.remember(document).unwrap());
    let had = read(dir.path(), &root).unwrap();
    assert_eq!(had.all.len(), MAX_HISTORY + 1);
    assert_eq!(had.all[0].rank(), documents[69].rank());
    assert_eq!(had.all.last().unwrap().rank(), documents[0].rank());
}

/// No test of its own: the process that the next one kills. It keeps ever later documents, and says so before and after each.
#[test]
fn the_writer_that_is_killed() {
    let Some(dir) = std::env::var_os(WRITER) else { return };
    let dir = Path::new(&dir);
    let mut documents: Vec<Published> = Vec::new();
    let pem = fs::read(dir.join("root.pem")).unwrap();
    let root = rustls::pki_types::pem::PemObject::pem_slice_iter(&pem).map(Result::unwrap);
    let trust = Trust::new(root);
    for version in 1..=40 {
        let bytes = fs::read(dir.join(format!("document-{version}"))).unwrap();
        documents.push(verify(bytes.into(), &trust, Some(&lab()), NOW, Occasion::Arrival).unwrap());
    }
    let mut store = Store::open(dir).unwrap();
    let had = Had::read(dir, &trust, Some(&lab()), NOW).unwrap();
    let begun = had.floor.map_or(0, |rank| usize::try_from(rank.version.number()).unwrap());
    for document in &documents[begun..] {
        store.keep(document, None).unwrap();
        store.remember(document).unwrap();
        fs::write(dir.join("said"), document.rank().version.to_string()).unwrap();
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_the_old_document_or_the_new_one_whole() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let (mut kills, mut seen) = (0, std::collections::BTreeSet::new());
    // Each round goes on until its writer has come to an end by itself.
    for round in 0_u64..6 {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("root.pem"), root.authority.trust_pem()).unwrap();
        for (document, version) in line(&root, &anna, 40).iter().zip(1..) {
            fs::write(dir.path().join(format!("document-{version}")), document.bytes()).unwrap();
        }
        let mut least = 0;
        for step in 0_u64.. {
            let mut writer = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "distribution::store::tests::the_writer_that_is_killed"])
                .env(WRITER, dir.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // It has written something new; then a while that is another each time.
            let started = Instant::now();
            let said = || fs::read_to_string(dir.path().join("said")).ok().and_then(|said| said.parse::<u64>().ok());
            let before = said();
            let ended = loop {
                if let Some(status) = writer.try_wait().unwrap() {
                    assert!(status.success());
                    break true;
                }
                if said() != before {
                    break false;
                }
                assert!(started.elapsed() < Duration::from_secs(60), "the writer writes nothing");
                std::thread::yield_now();
            };
            let until = Instant::now() + Duration::from_micros((round * 131 + step * 977) % 4_000);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            if !ended {
                // It may have ended by itself meanwhile.
                writer.kill().ok();
                kills += 1;
            }
            writer.wait().unwrap();
            let had = read(dir.path(), &root).unwrap();
            let version = had.in_force.unwrap().rank().version.number();
            assert!(version >= least, "version {least} was there, and {version} is");
            assert!(version >= said().unwrap_or(0), "what was kept is lost");
            assert!(had.unusable.is_empty(), "{:?}", had.unusable);
            (least, _) = (version, seen.insert(version));
            if ended {
                break;
            }
        }
        assert_eq!(least, 40);
    }
    assert!(kills >= 20 && seen.len() >= 10, "{kills} kills, {} versions seen", seen.len());
}
