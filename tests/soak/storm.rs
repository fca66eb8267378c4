//! A member that has an agent renew its keys again and again, with data between.

use std::time::Duration;

use adit_tests::Mesh;
use adit_tests::member::Lane;
use adit_tests::mesh::SOON;
use adit_tests::pki::Identity;
use adit_tests::wait::pass;
use anyhow::Result;

use crate::state::State;

/// Between two requests for new keys.
const PAUSE: Duration = Duration::from_millis(20);
/// Requests before one lane gives way to the next.
const LIFE: u64 = 2000;

/// Asks alpha for new keys until the end.
pub(crate) fn rage(mesh: &Mesh, delta: &Identity, state: &State) {
    let mut run = 0;
    while state.runs() {
        run += 1;
        let opened = state.attempt("lane of delta", || {
            let stream = mesh.place("delta").connect(mesh.link_address("alpha"), SOON)?;
            let mut lane = Lane::open(stream, "alpha.lab", delta, run, "app")?;
            lane.send(b"E")?;
            Ok(lane)
        });
        let Some(mut lane) = opened else {
            pass(SOON / 10);
            continue;
        };
        for number in 0..LIFE {
            if !state.runs() || state.attempt("key update", || update(&mut lane, number)).is_none() {
                break;
            }
            pass(PAUSE);
        }
    }
}

fn update(lane: &mut Lane, number: u64) -> Result<()> {
    lane.update_keys()?;
    lane.echo(&number.to_be_bytes())
}
