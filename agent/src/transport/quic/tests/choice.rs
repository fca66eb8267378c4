//! Which congestion control a connection has.

use super::super::congestion::Algorithm;
use super::*;
use crate::vocabulary::{Congestion, CongestionName};

#[test]
fn what_is_not_asked_for_by_name_is_cubic() {
    let named = |name| Congestion::Named(CongestionName::new(name).unwrap());
    for (setting, algorithm) in [
        (Congestion::Auto, Algorithm::Cubic),
        (Congestion::System, Algorithm::Cubic),
        (named("cubic"), Algorithm::Cubic),
        (named("vegas"), Algorithm::Cubic),
        (named("reno"), Algorithm::NewReno),
        (named("bbr"), Algorithm::Bbr),
        (named("bbr2"), Algorithm::Bbr),
    ] {
        assert_eq!(Algorithm::from(&setting), algorithm, "{setting:?}");
    }
}

#[tokio::test]
async fn a_connection_has_what_was_asked_for_and_begins_with_ten_packets() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno, Algorithm::Bbr] {
        let pair = connect_as(transport_config(algorithm)).await;
        let controller = pair.connections[0].congestion_state();
        assert_eq!(controller.initial_window(), 10 * 1200, "{algorithm:?}");
        assert_eq!(Algorithm::of(&pair.connections[0]), Some(algorithm));
    }
}
