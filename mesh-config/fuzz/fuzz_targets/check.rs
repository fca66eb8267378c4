//! Bytes → text → mesh or problems; a mesh → text → the same mesh, and no difference.
//!
//! `cd mesh-config && cargo +nightly fuzz run check` (or `RUSTC_BOOTSTRAP=1 cargo fuzz run check` on stable).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_config::{Diff, Mesh, NodeDiff, Problem, decode};

fn safe(problem: &Problem) {
    let shown = problem.render(false);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    assert!(shown.len() < 4_096);
}

fuzz_target!(|data: &[u8]| {
    let text = match decode(data.to_vec(), "mesh.toml") {
        Ok(text) => text,
        Err(problem) => return safe(&problem),
    };
    match Mesh::check(&text, "mesh.toml") {
        Err(problems) => {
            assert!(problems.iter().any(Problem::is_error));
            problems.iter().for_each(safe);
        }
        Ok(checked) => {
            checked.warnings.iter().for_each(safe);
            let mesh = checked.mesh;
            let again = Mesh::check(&mesh.to_toml(), "mesh.toml").expect("what is written reads back").mesh;
            assert!(mesh.says_the_same_as(&again));
            assert!(Diff::between(&mesh, &again).is_empty());
            for node in mesh.nodes().keys().take(8) {
                assert!(NodeDiff::between(&mesh, &again, node).is_empty());
            }
        }
    }
});
