//! What the tests of this crate share.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test program uses a part of it")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};
use std::process::Command;

use ca::Authority;
use mesh_config::{MeshName, NodeName};
use time::OffsetDateTime;
use time::macros::datetime;

pub const NOW: OffsetDateTime = datetime!(2030-01-01 12:00 UTC);

pub fn mesh(name: &str) -> MeshName {
    MeshName::new(name).unwrap()
}

pub fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// A temporary directory; in memory where there is such a place, since these tests write thousands of files.
pub fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A temporary directory with an authority for the mesh `lab` in `ca`.
pub fn authority() -> (tempfile::TempDir, PathBuf, Authority) {
    let temporary = temporary();
    let dir = temporary.path().join("ca");
    let authority = Authority::create(&dir, &mesh("lab"), NOW).unwrap();
    (temporary, dir, authority)
}

/// Whether a program can be run; if not, says that the test was skipped.
pub fn have(program: &str, argument: &str) -> bool {
    let found = Command::new(program).arg(argument).output().is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not on this machine");
    }
    found
}

/// The example `issue`, which cargo builds beside the tests.
pub fn issuer(dir: &Path) -> Command {
    let target = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let mut command = Command::new(target.join("examples/issue"));
    command.arg(dir);
    command
}
