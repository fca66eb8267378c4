//! Makes an authority, or issues certificates from one, without anything else of Adit.
//!
//! `issue DIR create MESH` makes it; `issue DIR NODE…` prints the serial number of a new certificate for each node.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use ca::{Authority, NodeKey};
use mesh_config::{MeshName, NodeName};
use time::macros::datetime;

fn run(dir: &Path, words: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    // The room has no clock. A real caller passes the time it trusts.
    let now = datetime!(2030-01-01 12:00 UTC);
    let mut out = std::io::stdout();
    if let [word, mesh] = words
        && word == "create"
    {
        Authority::create(dir, &MeshName::new(mesh)?, now)?;
        writeln!(out, "made")?;
        return Ok(());
    }
    let mut authority = Authority::open(dir)?;
    for node in words {
        let issued = authority.issue(&NodeName::new(node)?, &NodeKey::generate()?.public_key(), None, now)?;
        writeln!(out, "{}", issued.serial)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, words @ ..] = &words[..] else { return ExitCode::from(2) };
    match run(Path::new(dir), words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = writeln!(std::io::stderr(), "issue: {error}");
            ExitCode::from(if told.is_ok() { 1 } else { 3 })
        }
    }
}
