mod pair;
mod random;
mod table;

use std::time::Instant;

use mesh_config::{NodeName, Transport};

use super::machine::{Action, Peer};
use super::path::{DialFailure, FailureClass};

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// The peer `beta` as `alpha` sees it.
fn peer(has_address: bool, transport: Transport, now: Instant) -> Peer {
    Peer::new(&name("alpha"), &name("beta"), has_address, transport, 7, now)
}

fn drain(peer: &mut Peer) -> Vec<Action> {
    std::iter::from_fn(|| peer.poll()).collect()
}

fn silent() -> DialFailure {
    DialFailure { class: FailureClass::Silent, text: "no answer".to_owned() }
}
