//! Many connections at once: what they take of the agents' memory is bounded, and is given back. Thousands are in the endurance
//! program, since they would take the processor from the other tests.

use adit_tests::load::memory;
use adit_tests::suite::Test;
use adit_tests::{Mesh, tests};
use anyhow::Result;

pub(crate) fn tests() -> Vec<Test> {
    tests![in_namespaces: idle_connections_fit_in_the_stated_memory_and_give_it_back]
}

fn idle_connections_fit_in_the_stated_memory_and_give_it_back() -> Result<()> {
    let mesh = Mesh::pair(Mesh::OWN).in_namespaces().build()?;
    let (alpha, beta, _) = mesh.start_pair()?;
    memory::idle(&mesh, [&alpha, &beta], 1000)
}
