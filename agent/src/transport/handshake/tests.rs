//! Handshakes with the configurations of nodes. Those with other implementations are in `agent/tests/record`.

use mesh_config::NodeName;
use rustls::AlertDescription as Alert;

use super::*;
use crate::identity::tests::contexts;
use crate::identity::{ALPN_CTL, ALPN_LANE};
use crate::transport::record::Received;

/// Carries bytes between the two until neither has any, in pieces of `piece` bytes, and says what each stumbled over.
fn run(client: &mut Handshake, server: &mut Handshake, piece: usize) -> [Option<Error>; 2] {
    let mut errors = [None, None];
    for _ in 0..10 {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        client.poll_output(&mut up);
        for piece in up.chunks(piece) {
            errors[1] = server.handle_input(piece).map(|taken| assert_eq!(taken, piece.len())).err();
        }
        server.poll_output(&mut down);
        for piece in down.chunks(piece) {
            errors[0] = client.handle_input(piece).map(|taken| assert_eq!(taken, piece.len())).err();
        }
        if up.is_empty() && down.is_empty() {
            return errors;
        }
    }
    panic!("the handshake does not end");
}

#[test]
fn two_nodes_meet_whatever_the_pieces() {
    let [alpha, beta] = contexts(["alpha", "beta"]);
    for piece in [1, 7, 1000, usize::MAX] {
        let (client, name, verdict) = alpha.dial(&NodeName::new("beta").unwrap(), ALPN_LANE).unwrap();
        let (server, accepted) = beta.accept(&[ALPN_CTL, ALPN_LANE]).unwrap();
        let mut client = Handshake::client(&client, name).unwrap();
        let mut server = Handshake::server(&server).unwrap();
        assert_eq!(run(&mut client, &mut server, piece), [None, None]);
        assert!(client.is_done() && server.is_done());
        assert!(verdict.peer().is_some() && accepted.peer().is_some());
        assert_eq!(client.alpn(), Some(ALPN_LANE));

        let [mut client, mut server] = [client, server].map(|end| end.finish(Limits::default()).unwrap());
        assert_eq!((client.alpn.as_deref(), server.alpn.as_deref()), (Some(ALPN_LANE), Some(ALPN_LANE)));
        assert_eq!([client.group, server.group], [Some(NamedGroup::X25519MLKEM768); 2]);
        assert!(client.unsent.is_empty() && server.unsent.is_empty());
        for turned in [false, true] {
            let (from, to) = if turned { (&mut server, &mut client) } else { (&mut client, &mut server) };
            let mut record = *b"-----hello.................";
            let len = from.records.seal(&mut record, 5).unwrap();
            assert_eq!(to.records.open(&mut record[..len]), Ok(Received::Data(5..10)));
            assert_eq!(&record[5..10], b"hello");
        }
    }
}

#[test]
fn a_refusal_is_told_by_an_alert_and_explained_by_the_verdict() {
    let [alpha, _] = contexts(["alpha", "beta"]);
    let [_, foreign] = contexts(["alpha", "beta"]);
    let (client, name, verdict) = alpha.dial(&NodeName::new("beta").unwrap(), ALPN_LANE).unwrap();
    let (server, _) = foreign.accept(&[ALPN_LANE]).unwrap();
    let mut client = Handshake::client(&client, name).unwrap();
    let mut server = Handshake::server(&server).unwrap();
    let [ours, theirs] = run(&mut client, &mut server, usize::MAX);
    assert!(verdict.rejection_for(&ours.unwrap()).is_some());
    assert_eq!(theirs, Some(Error::AlertReceived(Alert::UnknownCA)));
    assert!(!client.is_done() && client.finish(Limits::default()).is_err());
}

#[test]
fn nothing_in_common_keeps_its_name() {
    let [alpha, beta] = contexts(["alpha", "beta"]);
    let (client, name, _) = alpha.dial(&NodeName::new("beta").unwrap(), b"other/1").unwrap();
    let (server, _) = beta.accept(&[ALPN_LANE]).unwrap();
    let mut client = Handshake::client(&client, name).unwrap();
    let mut server = Handshake::server(&server).unwrap();
    let errors = run(&mut client, &mut server, usize::MAX);
    assert_eq!(errors, [Some(Error::AlertReceived(Alert::NoApplicationProtocol)), Some(Error::NoApplicationProtocol)]);
}

#[test]
fn no_printed_form_holds_a_secret() {
    let captured = Captured::default();
    let secret: Vec<u8> = (100..132).collect();
    captured.log(CLIENT_SECRET, &[], &secret);
    captured.log(SERVER_SECRET, &[], &secret);
    assert_eq!(format!("{captured:?}"), "[secret]");
    // No other secret of a handshake is taken.
    for label in ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "EXPORTER_SECRET"] {
        assert!(!captured.will_log(label));
    }
    assert!(captured.take(Suite::Aes128Gcm).0.is_some());
    assert!(captured.take(Suite::Aes128Gcm).0.is_none());
}
