//! Key updates: before the limit, on request, and in floods.

use super::super::*;
use super::support::*;

const REQUEST: &[u8] = &[24, 0, 0, 1, 1, 22];

fn limits(update_after: u64) -> Limits {
    Limits { update_after, ..Limits::default() }
}

#[test]
fn keys_change_before_the_limit_and_data_waits_for_it_soon() {
    for suite in Suite::ALL {
        let (mut client, mut server) = pair(suite, limits(3));
        for round in 0..10 {
            for n in 0..3 {
                assert!(!client.has_control(), "round {round}, record {n}");
                let record = data(&mut client, &[n]);
                assert_eq!(feed(&mut server, record).unwrap().0, [n]);
            }
            assert!(client.has_control());
            // Records that were begun are still sealed, but not for long.
            for n in 0..16 {
                let record = data(&mut client, &[n]);
                assert_eq!(feed(&mut server, record).unwrap().0, [n]);
            }
            assert_eq!(client.seal(&mut [0; 64], 1), Err(SealError::ControlFirst));
            let update = control(&mut client);
            assert_eq!(update.len(), MAX_CONTROL);
            assert_eq!(feed(&mut server, update).unwrap().1, [Received::Nothing]);
            // It asks for nothing.
            assert!(!server.has_control());
        }
    }
}

#[test]
fn a_limit_of_zero_is_one() {
    let (mut client, mut server) = pair(Suite::Aes128Gcm, limits(0));
    for _ in 0..5 {
        let record = data(&mut client, b"x");
        assert_eq!(feed(&mut server, [record, control(&mut client)].concat()).unwrap().0, b"x");
    }
}

#[test]
fn the_ordinary_limit_is_well_below_that_of_aes_gcm() {
    // RFC 8446 §5.5: 2^24.5 full records.
    assert!(Limits::default().update_after <= 1 << 23);
}

#[test]
fn a_request_is_answered_once() {
    let (mut client, mut server) = plain_pair();
    for _ in 0..3 {
        let request = forge(&mut client, REQUEST);
        client.directions().0.update().unwrap();
        assert_eq!(feed(&mut server, request).unwrap().1, [Received::Nothing]);
    }
    let begun = data(&mut server, b"old keys, ");
    let answer = control(&mut server);
    assert_eq!(answer.len(), MAX_CONTROL);
    let all = [begun, answer, data(&mut server, b"new keys")].concat();
    assert_eq!(feed(&mut client, all).unwrap().0, b"old keys, new keys");
    assert!(!client.has_control() && !server.has_control());
    let onward = data(&mut client, b"new keys, too");
    assert_eq!(feed(&mut server, onward).unwrap().0, b"new keys, too");
}

#[test]
fn an_update_that_is_due_is_also_the_answer() {
    let (mut client, mut server) = pair(Suite::Aes256Gcm, limits(1));
    let record = data(&mut server, b"x");
    feed(&mut client, record).unwrap();
    let request = forge(&mut client, REQUEST);
    client.directions().0.update().unwrap();
    feed(&mut server, request).unwrap();
    assert_eq!(control(&mut server).len(), MAX_CONTROL);
}

#[test]
fn an_answer_that_is_owed_goes_out_before_close_notify() {
    let (mut client, mut server) = plain_pair();
    server.close();
    let request = forge(&mut client, REQUEST);
    feed(&mut server, request).unwrap();
    let last = control(&mut server);
    assert_eq!(feed(&mut client, last).unwrap().1, [Received::Nothing, Received::Closed]);
    // And none after it.
    client.directions().0.update().unwrap();
    let request = forge(&mut client, REQUEST);
    feed(&mut server, request).unwrap();
    assert!(!server.has_control() && control(&mut server).is_empty());
}

#[test]
fn a_flood_of_key_updates_is_cut_off_and_data_between_them_is_not() {
    let (mut client, mut server) = plain_pair();
    let request = |client: &mut Records| {
        let request = forge(client, REQUEST);
        client.directions().0.update().unwrap();
        request
    };
    for _ in 0..100 {
        for _ in 0..32 {
            let request = request(&mut client);
            feed(&mut server, request).unwrap();
        }
        let record = data(&mut client, b"x");
        feed(&mut server, record).unwrap();
    }
    // All of them were answered at once.
    assert_eq!(control(&mut server).len(), MAX_CONTROL);
    let flood: Vec<u8> = (0..33).flat_map(|_| request(&mut client)).collect();
    assert_eq!(feed(&mut server, flood), Err(Fatal::Flood));
}

/// In these tests no key is held ready by who rests.
#[test]
fn what_rests_works_on_where_it_stood_and_a_sender_may_rest_half() {
    for suite in Suite::ALL {
        let (mut client, mut server) = pair(suite, limits(2));
        for n in 0..20 {
            let record = data(&mut client, &[n]);
            client.rest(n % 3 == 0);
            let sends = client.directions().0.keys().is_ready();
            assert!(sends == (n % 3 == 0) && !client.directions().1.keys().is_ready());
            let update = control(&mut client);
            assert_eq!(feed(&mut server, [record, update].concat()).unwrap().0, [n]);
            server.rest(false);
            let answer = data(&mut server, &[n, n]);
            assert_eq!(feed(&mut client, [answer, control(&mut server)].concat()).unwrap().0, [n, n]);
        }
    }
}
