//! Several processes, and processes that the system fails or kills at every step.
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod common;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ca::{Authority, NodeKey, Serial};
use common::{NOW, authority, have, issuer, node};

fn serials(dir: &Path) -> Vec<Serial> {
    Authority::open(dir).unwrap().records().iter().map(ca::Record::serial).collect()
}

fn issue_one(dir: &Path, case: &str) {
    let key = NodeKey::generate().unwrap().public_key();
    let issued = Authority::open(dir).and_then(|mut a| a.issue(&node("later"), &key, None, NOW));
    assert!(issued.is_ok(), "{case}: {issued:?}");
}

#[test]
fn writers_in_many_processes_take_turns() {
    let (_keep, dir, mut own) = authority();
    let names: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let children: Vec<_> = (0..4).map(|_| issuer(&dir).args(&names).stdout(Stdio::piped()).spawn().unwrap()).collect();
    // This process, which has it open all the while, issues as well.
    for _ in 0..10 {
        own.issue(&node("own"), &NodeKey::generate().unwrap().public_key(), None, NOW).unwrap();
    }
    let mut told = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        told += String::from_utf8(output.stdout).unwrap().lines().count();
    }
    let all = serials(&dir);
    assert_eq!((told, all.len()), (40, 50));
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 50);
}

#[test]
fn a_writer_that_waits_in_vain_names_the_holder() {
    let (_keep, dir, authority) = authority();
    let mut lock = File::options().read(true).write(true).open(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    lock.set_len(0).unwrap();
    write!(lock, "{}", std::process::id()).unwrap();
    // Reading goes on all the while.
    assert!(Authority::open(&dir).unwrap().records().is_empty());
    let output = issuer(&dir).arg("alpha").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(told.contains(&format!("is in use by process {}", std::process::id())), "{told}");
    drop(lock);
    assert!(issuer(&dir).arg("alpha").output().unwrap().status.success());
    drop(authority);
}

/// Runs the example under strace with each occurrence of each call failing or killing in turn; `check` gets whether the
/// child said it was done.
fn inject(set_up: impl Fn() -> (tempfile::TempDir, Vec<String>), check: impl Fn(&Path, bool, &str)) -> usize {
    let mut injected = 0;
    let all = &["openat", "write", "fsync", "rename", "mkdir", "unlink", "unlinkat", "ftruncate"][..];
    for (how, calls) in [("error=ENOSPC", all), ("error=EIO", &["write", "fsync", "rename"]), ("signal=KILL", all)] {
        for call in calls {
            for n in 1.. {
                let (keep, words) = set_up();
                let log = keep.path().join("strace.log");
                let plain = issuer(&keep.path().join("ca"));
                let output = Command::new("strace")
                    .args(["-f", "-qq", "-o"])
                    .arg(&log)
                    .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{how}:when={n}")])
                    .arg(plain.get_program())
                    .args(plain.get_args())
                    .args(&words)
                    .output()
                    .unwrap();
                let log = fs::read_to_string(&log).unwrap();
                let case = format!("{call} {n} {how}\n{log}{}", String::from_utf8_lossy(&output.stderr));
                let hit = log.contains("(INJECTED)") || log.contains("killed by SIGKILL");
                assert!(hit || output.status.success(), "{case}");
                check(keep.path(), output.status.success(), &case);
                injected += usize::from(hit);
                if !hit {
                    break;
                }
            }
        }
    }
    injected
}

fn can_trace() -> bool {
    // It may be there and not be allowed to trace.
    have("strace", "-V")
        && Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success())
}

#[test]
fn issuing_survives_the_failure_of_every_system_call() {
    if !can_trace() {
        eprintln!("SKIPPED: strace cannot be used here");
        return;
    }
    let set_up = || {
        let (keep, dir, mut authority) = authority();
        authority.issue(&node("first"), &NodeKey::generate().unwrap().public_key(), None, NOW).unwrap();
        assert_eq!(serials(&dir).len(), 1);
        (keep, vec!["alpha".to_owned()])
    };
    let injected = inject(set_up, |keep, done, case| {
        let dir = keep.join("ca");
        let after = serials(&dir);
        assert!(after.len() == 2 || after.len() == 1 && !done, "{case}");
        issue_one(&dir, case);
        let all = serials(&dir);
        assert_eq!(all[..after.len()], after[..], "{case}");
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), after.len() + 1, "{case}");
        let left =
            fs::read_dir(&dir).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'));
        assert_eq!(left.count(), 0, "{case}");
    });
    assert!(injected > 30, "{injected}");
}

#[test]
fn creating_survives_the_failure_of_every_system_call() {
    if !can_trace() {
        eprintln!("SKIPPED: strace cannot be used here");
        return;
    }
    let set_up = || (common::temporary(), vec!["create".to_owned(), "lab".to_owned()]);
    let injected = inject(set_up, |keep, done, case| {
        let dir = keep.join("ca");
        match Authority::open(&dir) {
            Ok(authority) => assert!(authority.warnings().is_empty(), "{case}"),
            Err(error) => {
                assert!(error.code() == "no-authority" && !done, "{case}: {error}");
                Authority::create(&dir, &common::mesh("lab"), NOW).unwrap_or_else(|e| panic!("{case}: {e}"));
            }
        }
        issue_one(&dir, case);
        assert_eq!(serials(&dir).len(), 1, "{case}");
    });
    assert!(injected > 50, "{injected}");
}
