//! Readers that pause, and silence. The long ones are in the endurance tests.

use std::time::Duration;

use adit_tests::Mesh;
use adit_tests::load::stall::{silence, stalled_reader};
use adit_tests::suite::Test;
use anyhow::Result;

/// Longer than the second after which a reset behind stalled data is forced.
const PAUSE: Duration = Duration::from_secs(4);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for transport in Mesh::WAYS {
        tests
            .push(Test::new(format!("a_reader_that_stops_and_reads_on_gets_every_byte_over_{transport}"), move || {
                stall(transport)
            }));
        tests.push(Test::new(format!("a_silent_connection_lives_on_over_{transport}"), move || quiet(transport)));
    }
    tests
}

fn stall(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    stalled_reader(&mesh, &server, [&alpha, &beta], PAUSE)
}

fn quiet(transport: &str) -> Result<()> {
    let mesh = Mesh::pair(transport).build()?;
    let _agents = mesh.start_pair()?;
    let server = mesh.serve("app", "alpha")?;
    silence(&mesh, &server, PAUSE)
}
