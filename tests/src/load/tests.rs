//! The load itself, without a tunnel between its ends: what it says is right is right, and what is wrong it finds.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::content::{Content, digest_of};
use super::exchange::{exchange, receive};
use super::stream::{Ending, abort, ending, read_some, round_trip};
use super::{Server, many};
use crate::place::Place;
use crate::wait::accept;

const BOUND: Duration = Duration::from_secs(10);

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, accept(&listener, BOUND).unwrap())
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn content_depends_on_its_seed_alone_and_not_on_how_it_is_read() {
    let all = |seed, size: usize| {
        let (mut content, mut bytes, mut buffer) = (Content::new(seed, 10_003), Vec::new(), vec![0; size]);
        while content.left() > 0 {
            bytes.extend_from_slice(content.next(&mut buffer));
        }
        bytes
    };
    assert_eq!(all(1, 8), all(1, 4096));
    assert_eq!(all(1, 8).len(), 10_003);
    let (mut later, mut word) = (Content::new(1, 10_003).skip(808), [0; 8]);
    assert_eq!(later.next(&mut word), &all(1, 8)[808..816]);
    assert_eq!(later.left(), 10_003 - 816);
    let (one, two) = (all(1, 8), all(2, 8));
    let same = one.iter().zip(&two).filter(|(a, b)| a == b).count();
    assert!(same < 100, "{same} of 10,003 bytes are the same");
    assert_ne!(digest_of(1, 10_003), digest_of(2, 10_003));
    assert_ne!(digest_of(1, 10_003), digest_of(1, 10_002));
}

#[test]
fn an_exchange_hashes_what_came() {
    let (near, far) = pair();
    let (up, down) = std::thread::scope(|scope| {
        let far = scope.spawn(|| exchange(&far, Content::new(2, 5 << 20)));
        let down = exchange(&near, Content::new(1, 3 << 20)).unwrap();
        (far.join().unwrap().unwrap(), down)
    });
    assert_eq!((up.bytes, up.digest), (3 << 20, digest_of(1, 3 << 20)));
    assert_eq!((down.bytes, down.digest), (5 << 20, digest_of(2, 5 << 20)));
}

#[test]
fn the_three_endings_are_told_apart() {
    let (near, far) = pair();
    (&far).write_all(b"12345").unwrap();
    drop(far);
    assert_eq!(ending(&near, BOUND).unwrap(), Ending::EndOfFile(5));

    let (near, far) = pair();
    (&far).write_all(b"123").unwrap();
    read_some(&near, 3, BOUND).unwrap();
    abort(far).unwrap();
    assert_eq!(ending(&near, BOUND).unwrap(), Ending::Reset(0));

    let (near, _far) = pair();
    assert_eq!(ending(&near, Duration::from_millis(50)).unwrap(), Ending::Silence(0));
}

#[test]
fn a_reset_is_no_end_of_file_to_a_receiver() {
    let (near, far) = pair();
    abort(far).unwrap();
    assert!(receive(&near).is_err());
}

#[test]
fn two_thousand_echoes_at_once_are_checked_byte_by_byte() {
    crate::suite::raise_descriptors();
    let address = free_address();
    let _server = Server::echo(&Place::Here, address).unwrap();
    many::echoes(&Place::Here, address, 2000, 20_000).unwrap();
}

#[test]
fn an_echo_with_one_wrong_byte_is_found() {
    let address = free_address();
    let wrong = |stream: TcpStream| {
        let mut forwarded = 0_u64;
        let mut buffer = [0; 512];
        while let Ok(n @ 1..) = std::io::Read::read(&mut &stream, &mut buffer) {
            let place = 30_000_u64.checked_sub(forwarded).and_then(|p| usize::try_from(p).ok());
            if let Some(byte) = place.and_then(|p| buffer[..n].get_mut(p)) {
                *byte ^= 1;
            }
            forwarded += n as u64;
            let _ = (&stream).write_all(&buffer[..n]);
        }
    };
    let _server = Server::start(&Place::Here, address, wrong).unwrap();
    let error = many::echoes(&Place::Here, address, 3, 40_000).unwrap_err();
    assert!(format!("{error:#}").contains("3 of 3 connections failed"), "{error:#}");
    assert!(format!("{error:#}").contains("wrong bytes"), "{error:#}");
}

#[test]
fn a_server_that_has_ended_refuses() {
    let address = free_address();
    let server = Server::echo(&Place::Here, address).unwrap();
    let client = TcpStream::connect(address).unwrap();
    (&client).write_all(b"x").unwrap();
    read_some(&client, 1, BOUND).unwrap();
    drop(server);
    assert!(TcpStream::connect(address).is_err());
    // What it had accepted goes on.
    (&client).write_all(b"y").unwrap();
    assert_eq!(read_some(&client, 1, BOUND).unwrap(), b"y");
}

#[test]
fn a_round_trip_compares() {
    let (near, far) = pair();
    round_trip(&near, &far, b"there and back", BOUND).unwrap();
    (&near).write_all(b"noise").unwrap();
    assert!(round_trip(&near, &far, b"there and back", BOUND).is_err());
}
