use std::time::{Duration, Instant};

use mesh_config::Transport;

use super::{drain, name, peer, silent};
use crate::peers::machine::{
    Action, BACK_OFF, BACK_OFF_UNWANTED, BACK_OFF_WANTED, CloseReason, ControlId, PARTED, Peer, STABLE, TLS_PROBE,
    TLS_PROBE_FIRST,
};
use crate::peers::path::{HEAD_START, Way};
use crate::transport::message::Incarnation;

const RUN: Incarnation = Incarnation(5);
const NEWER: Incarnation = Incarnation(3);

fn up(id: u64, way: Way, incarnation: Incarnation) -> Action {
    Action::Up { id: ControlId(id), way, incarnation }
}

fn close(id: u64, why: CloseReason) -> Action {
    Action::CloseControl(ControlId(id), why)
}

#[test]
fn a_peer_without_address_is_never_dialled() {
    let now = Instant::now();
    let mut peer = peer(false, Transport::Auto, now);
    peer.handle_want(true, now);
    peer.handle_demand(now);
    peer.handle_timeout(now + Duration::from_secs(3600));
    assert_eq!((drain(&mut peer), peer.next_timeout()), (vec![], None));
    peer.handle_accepted(ControlId(1), Way::Quic, RUN, now);
    assert_eq!(drain(&mut peer), [up(1, Way::Quic, RUN)]);
    peer.handle_lost(ControlId(1), now);
    assert_eq!((drain(&mut peer), peer.next_timeout()), (vec![Action::Down(RUN)], None));
}

#[test]
fn auto_starts_quic_when_tls_does_not_come_up_and_goes_back_to_tls_when_it_does() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Auto, now);
    assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)]);
    assert_eq!(peer.next_timeout(), Some(now + HEAD_START));
    peer.handle_timeout(now + HEAD_START);
    assert_eq!(drain(&mut peer), [Action::StartDial(Way::Quic)]);
    peer.handle_dialled(ControlId(1), Way::Quic, RUN, now + HEAD_START);
    assert_eq!(drain(&mut peer), [up(1, Way::Quic, RUN)]);
    let mut late = peer.clone();
    late.handle_dialled(ControlId(2), Way::Tls, RUN, now + Duration::from_secs(3));
    assert_eq!(drain(&mut late), [close(1, CloseReason::Duplicate), up(2, Way::Tls, RUN)]);
    assert_eq!(late.next_timeout(), None);

    peer.handle_dial_failed(Way::Tls, silent(), now + Duration::from_secs(10));
    assert_eq!(peer.error().unwrap(), "TLS over TCP: no answer");
    let (mut failed, mut expected) = (now + Duration::from_secs(10), TLS_PROBE_FIRST);
    let mut probe = peer.next_timeout().unwrap();
    for _ in 0..8 {
        let pause = probe - failed;
        assert!(pause > expected * 8 / 10 && pause <= expected, "{pause:?} for {expected:?}");
        peer.handle_timeout(probe);
        assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)]);
        failed = probe + Duration::from_secs(1);
        peer.handle_dial_failed(Way::Tls, silent(), failed);
        expected = (expected * 2).min(TLS_PROBE);
        probe = peer.next_timeout().unwrap();
    }
    peer.handle_timeout(probe);
    assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)]);
    peer.handle_dialled(ControlId(3), Way::Tls, RUN, probe);
    assert_eq!(drain(&mut peer), [close(1, CloseReason::Duplicate), up(3, Way::Tls, RUN)]);
    assert_eq!(peer.error(), None);
}

#[test]
fn quic_that_comes_after_tls_is_closed() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Auto, now);
    peer.handle_timeout(now + HEAD_START);
    peer.handle_dialled(ControlId(1), Way::Tls, RUN, now + HEAD_START);
    peer.handle_dialled(ControlId(2), Way::Quic, RUN, now + HEAD_START);
    let expected = [
        Action::StartDial(Way::Tls),
        Action::StartDial(Way::Quic),
        up(1, Way::Tls, RUN),
        close(2, CloseReason::Duplicate),
    ];
    assert_eq!(drain(&mut peer), expected);
}

#[test]
fn a_way_that_the_mesh_does_not_allow_is_neither_dialled_nor_accepted() {
    let now = Instant::now();
    for (transport, way, other) in [(Transport::Tls, Way::Tls, Way::Quic), (Transport::Quic, Way::Quic, Way::Tls)] {
        let mut peer = peer(true, transport, now);
        peer.handle_dial_failed(way, silent(), now);
        peer.handle_timeout(now + BACK_OFF);
        assert_eq!(drain(&mut peer), [Action::StartDial(way), Action::StartDial(way)]);
        assert_eq!(peer.error(), Some(format!("{way}: no answer")));
        peer.handle_accepted(ControlId(1), other, RUN, now);
        assert_eq!(drain(&mut peer), [close(1, CloseReason::WayNotAllowed)]);
    }
}

#[test]
fn both_ways_blocked_is_reported_as_such() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Auto, now);
    peer.handle_dial_failed(Way::Tls, silent(), now);
    peer.handle_dial_failed(Way::Quic, silent(), now);
    assert_eq!(peer.error().unwrap(), "both ways are blocked: TLS over TCP: no answer; QUIC over UDP: no answer");
}

/// The pauses between rounds that all fail.
fn pauses(peer: &mut Peer, mut now: Instant) -> Vec<Duration> {
    (0..20)
        .map(|_| {
            peer.handle_dial_failed(Way::Tls, silent(), now);
            let next = peer.next_timeout().unwrap();
            let pause = next - now;
            peer.handle_timeout(next - Duration::from_nanos(1));
            assert_eq!(drain(peer), []);
            peer.handle_timeout(next);
            assert_eq!(drain(peer), [Action::StartDial(Way::Tls)]);
            now = next;
            pause
        })
        .collect()
}

#[test]
fn pauses_grow_to_a_cap_that_depends_on_whether_a_service_wants_the_peer() {
    for (wanted, cap) in [(true, BACK_OFF_WANTED), (false, BACK_OFF_UNWANTED)] {
        let now = Instant::now();
        let mut peer = peer(true, Transport::Tls, now);
        peer.handle_want(wanted, now);
        assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)]);
        let pauses = pauses(&mut peer, now);
        for (round, pause) in pauses.iter().enumerate() {
            let full = BACK_OFF.saturating_mul(1 << round).min(cap);
            assert!(*pause >= full / 2 && *pause <= full, "round {round}: {pause:?} of {full:?}");
        }
        assert!(pauses.windows(2).any(|pair| pair[0] > pair[1]), "jittered: {pauses:?}");
    }
}

#[test]
fn demand_dials_at_once_but_not_twice_within_the_shortest_pause() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Tls, now);
    drain(&mut peer);
    pauses(&mut peer, now);
    let now = now + Duration::from_secs(7200);
    peer.handle_dial_failed(Way::Tls, silent(), now);
    assert!(peer.next_timeout().unwrap() > now + Duration::from_secs(10));
    peer.handle_demand(now);
    assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)]);
    peer.handle_demand(now);
    assert_eq!(drain(&mut peer), [], "one is under way");
    peer.handle_dial_failed(Way::Tls, silent(), now);
    peer.handle_demand(now);
    assert_eq!((drain(&mut peer), peer.next_timeout()), (vec![], Some(now + BACK_OFF)));
    peer.handle_timeout(now + BACK_OFF);
    assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)]);
    peer.handle_dial_failed(Way::Tls, silent(), now + BACK_OFF);
    peer.handle_want(true, now + 2 * BACK_OFF);
    assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)], "a service that begins to want it is demand");
}

#[test]
fn a_stable_link_that_is_lost_is_dialled_at_once_and_a_short_lived_one_after_a_pause() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Tls, now);
    peer.handle_dialled(ControlId(1), Way::Tls, RUN, now);
    drain(&mut peer);
    let mut short = peer.clone();
    short.handle_bye(ControlId(1), now + STABLE / 2);
    assert_eq!(drain(&mut short), [Action::Down(RUN)]);
    assert!(short.next_timeout().unwrap() > now + STABLE / 2);
    peer.handle_lost(ControlId(1), now + STABLE);
    assert_eq!(drain(&mut peer), [Action::Down(RUN), Action::StartDial(Way::Tls)]);
    peer.handle_lost(ControlId(1), now + STABLE);
    assert_eq!(drain(&mut peer), [], "once");
}

#[test]
fn of_two_connections_the_one_that_the_lower_name_dialled_stays() {
    let now = Instant::now();
    for (me, other, mine_stays) in [("alpha", "beta", true), ("beta", "alpha", false)] {
        for mine_first in [true, false] {
            let mut peer = Peer::new(&name(me), &name(other), true, Transport::Tls, 1, now);
            drain(&mut peer);
            if mine_first {
                peer.handle_dialled(ControlId(1), Way::Tls, RUN, now);
                peer.handle_accepted(ControlId(2), Way::Tls, RUN, now);
            } else {
                peer.handle_accepted(ControlId(2), Way::Tls, RUN, now);
                peer.handle_dialled(ControlId(1), Way::Tls, RUN, now);
            }
            let stays = if mine_stays { ControlId(1) } else { ControlId(2) };
            let goes = if mine_stays { 2 } else { 1 };
            assert_eq!(peer.is_up(), Some((stays, Way::Tls, RUN)), "{me}, mine first: {mine_first}");
            assert!(drain(&mut peer).contains(&close(goes, CloseReason::Duplicate)));
        }
    }
}

#[test]
fn the_same_end_s_newer_connection_replaces_its_older_one() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Tls, now);
    drain(&mut peer);
    peer.handle_accepted(ControlId(1), Way::Tls, RUN, now);
    peer.handle_accepted(ControlId(2), Way::Tls, RUN, now);
    assert_eq!(drain(&mut peer), [up(1, Way::Tls, RUN), close(1, CloseReason::Duplicate), up(2, Way::Tls, RUN)]);
}

#[test]
fn a_restarted_peer_ends_its_former_run_whatever_the_ranks() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Auto, now);
    peer.handle_dialled(ControlId(1), Way::Tls, RUN, now);
    drain(&mut peer);
    peer.handle_accepted(ControlId(2), Way::Quic, NEWER, now);
    let expected = [close(1, CloseReason::FormerRun), Action::Down(RUN), Action::Ended(RUN), up(2, Way::Quic, NEWER)];
    assert_eq!(drain(&mut peer)[..4], expected);
    peer.handle_accepted(ControlId(3), Way::Tls, RUN, now);
    assert_eq!(drain(&mut peer), [close(3, CloseReason::FormerRun)], "what was under way when it ended");
    peer.handle_lost(ControlId(2), now);
    drain(&mut peer);
    assert!(!peer.handle_incarnation(RUN, now), "a lane alone brings no run back");
    peer.handle_accepted(ControlId(4), Way::Tls, RUN, now);
    assert_eq!(drain(&mut peer)[..2], [Action::Ended(NEWER), up(4, Way::Tls, RUN)], "it was the newer that was late");
}

#[test]
fn a_run_whose_link_was_lost_before_ends_as_well_when_a_newer_one_shows_itself() {
    let now = Instant::now();
    let mut peer = peer(false, Transport::Tls, now);
    peer.handle_accepted(ControlId(1), Way::Tls, RUN, now);
    peer.handle_lost(ControlId(1), now);
    drain(&mut peer);
    assert!(peer.handle_incarnation(RUN, now) && peer.handle_incarnation(NEWER, now));
    assert_eq!(drain(&mut peer), [Action::Ended(RUN)]);
    assert!(!peer.handle_incarnation(RUN, now));
}

#[test]
fn a_changed_mesh_closes_what_it_no_longer_allows_and_dials_the_other_way() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Auto, now);
    peer.handle_dialled(ControlId(1), Way::Tls, RUN, now);
    drain(&mut peer);
    peer.handle_config(true, Transport::Quic, now);
    let expected = [close(1, CloseReason::WayNotAllowed), Action::Down(RUN), Action::StartDial(Way::Quic)];
    assert_eq!(drain(&mut peer), expected);
    peer.handle_config(false, Transport::Quic, now);
    peer.handle_dial_failed(Way::Quic, silent(), now);
    assert_eq!((drain(&mut peer), peer.next_timeout()), (vec![], None));
}

#[test]
fn a_link_stays_up_while_the_connection_that_the_peer_keeps_is_on_its_way() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Tls, now);
    peer.handle_dialled(ControlId(1), Way::Tls, RUN, now);
    drain(&mut peer);
    peer.handle_superseded(ControlId(1), now + STABLE);
    assert_eq!((drain(&mut peer), peer.next_timeout()), (vec![], Some(now + STABLE + PARTED)));
    let mut arrives = peer.clone();
    arrives.handle_accepted(ControlId(2), Way::Tls, RUN, now + STABLE);
    assert_eq!((drain(&mut arrives), arrives.next_timeout()), (vec![up(2, Way::Tls, RUN)], None));
    // One that does not come was lost.
    peer.handle_timeout(now + STABLE + PARTED);
    assert_eq!(drain(&mut peer), [Action::Down(RUN), Action::StartDial(Way::Tls)]);
    // Of a connection that is not in use, it says nothing new.
    arrives.handle_superseded(ControlId(1), now + STABLE);
    assert_eq!((drain(&mut arrives), arrives.next_timeout()), (vec![], None));
}

#[test]
fn a_peer_that_has_moved_keeps_its_link_until_it_answers_at_its_new_address() {
    let now = Instant::now();
    let mut peer = peer(true, Transport::Tls, now);
    peer.handle_want(true, now);
    drain(&mut peer);
    peer.handle_dialled(ControlId(1), Way::Tls, RUN, now);
    assert_eq!(drain(&mut peer), [up(1, Way::Tls, RUN)]);
    peer.handle_moved(now);
    assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)]);
    let mut at = now;
    for _ in 0..5 {
        peer.handle_dial_failed(Way::Tls, silent(), at);
        assert_eq!(drain(&mut peer), [], "the link stays");
        assert!(peer.error().is_some(), "and it is told why it does not move");
        at = peer.next_timeout().unwrap();
        assert!(at - now <= 5 * BACK_OFF_WANTED);
        peer.handle_timeout(at);
        assert_eq!(drain(&mut peer), [Action::StartDial(Way::Tls)]);
    }
    let mut lost = peer.clone();
    peer.handle_dialled(ControlId(2), Way::Tls, RUN, at);
    assert_eq!(drain(&mut peer), [close(1, CloseReason::Duplicate), up(2, Way::Tls, RUN)]);
    assert_eq!((peer.next_timeout(), peer.error()), (None, None));
    // Lost before that, it is like any other.
    lost.handle_lost(ControlId(1), at);
    assert_eq!(drain(&mut lost), [Action::Down(RUN)]);
    lost.handle_dialled(ControlId(2), Way::Tls, RUN, at);
    assert_eq!(drain(&mut lost), [up(2, Way::Tls, RUN)]);
}
