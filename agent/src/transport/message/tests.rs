use std::net::SocketAddr;

use mesh_config::published::{Generation, Rank};
use mesh_config::{Digest, MeshName, MeshVersion, NodeName, ServiceName};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::transport::frame::{Item, Parser};

fn hello() -> Hello {
    Hello {
        versions: VersionRange::OURS,
        incarnation: Incarnation(7),
        wall_time: WallTime::from_micros(-1),
        mesh: MeshName::new("lab").unwrap(),
        mesh_version: 12,
        mesh_digest: [9; 32],
        role: LaneRole::Reverse,
        features: Features(5),
        capabilities: Capabilities::new("relay adit/0.1").unwrap(),
    }
}

/// What a run of an opener says of itself first.
pub(crate) fn hello_of(run: Incarnation) -> Hello {
    Hello {
        versions: VersionRange::OURS,
        incarnation: run,
        wall_time: WallTime::from(crate::clock::Clock::default().now()),
        mesh: MeshName::new("lab").unwrap(),
        mesh_version: 1,
        mesh_digest: [0; 32],
        role: LaneRole::Opener,
        features: Features::default(),
        capabilities: Capabilities::default(),
    }
}

/// An opener's wish for the service `db`.
pub(crate) fn to(service: &str) -> Purpose {
    Purpose::Service(ServiceName::new(service).unwrap())
}

pub(crate) fn open_request() -> Open {
    Open { purpose: to("db"), relay: None, client: None, trace: TraceId([1; 16]), credit: 0 }
}

fn open(purpose: Purpose, client: Option<&str>) -> Open {
    Open {
        purpose,
        relay: None,
        client: client.map(|text| text.parse().unwrap()),
        trace: TraceId([3; 16]),
        credit: 1 << 40,
    }
}

fn frames() -> Vec<Frame> {
    let longest = || ServiceName::new(&"s".repeat(63)).unwrap();
    let with_relay = Open { relay: Some(NodeName::new("r").unwrap()), ..open(Purpose::Service(longest()), None) };
    let mut frames = vec![
        Frame::Hello(Box::new(hello())),
        Frame::Hello(Box::new(Hello { capabilities: Capabilities::new(&"x".repeat(1024)).unwrap(), ..hello() })),
        Frame::Open(1, Box::new(open(Purpose::Probe(longest()), Some("[2001:db8::1]:65535")))),
        Frame::Open(u32::MAX, Box::new(open(Purpose::Service(longest()), Some("127.0.0.1:9")))),
        Frame::Open(3, Box::new(with_relay)),
        Frame::Opened(4, Opened { credit: 16384, target: Detail::new(&"é".repeat(500)) }),
        Frame::Refused(5, Refused { reason: Reason::NotPermitted, detail: Detail::new(&"x".repeat(500)) }),
        Frame::Fin(6),
        Frame::Reset(7, Reason::LinkLost),
        Frame::Done(8),
        Frame::Ping(u64::MAX),
        Frame::Ping(0),
        Frame::Pong(1, None),
        Frame::Pong(1, Some(WallTime::from_micros(0))),
        Frame::Datagram(vec![1; 4096]),
        Frame::Credit(9, Credit { granted: u64::MAX, returned: 1 }),
        Frame::WantLanes(0),
        Frame::Bye(0, Reason::Draining),
        Frame::Gossip(Gossip::Summary(Vec::new())),
        Frame::Gossip(Gossip::Summary((1..=16).map(rank).collect())),
        Frame::Gossip(Gossip::Ask { id: rank(1).id, offset: u64::MAX }),
        Frame::Gossip(Gossip::Hand { id: rank(1).id, total: 0, offset: 0, piece: Vec::new() }),
        Frame::Gossip(Gossip::Hand { id: rank(2).id, total: u64::MAX, offset: 9, piece: vec![7; MAX_PIECE] }),
    ];
    for bench in [Bench::Sink, Bench::Source, Bench::Echo] {
        frames.push(Frame::Open(1, Box::new(open(Purpose::Bench(bench), None))));
    }
    frames
}

fn rank(version: u64) -> Rank {
    let version = MeshVersion::new(version).unwrap();
    Rank { generation: Generation::FIRST, version, id: Digest::of(&version.number().to_be_bytes()) }
}

fn read(bytes: &[u8]) -> Result<Frame, MessageError> {
    let (mut parser, mut input) = (Parser::new(), bytes);
    match parser.next(&mut input).unwrap().unwrap() {
        Item::Control { kind, payload } => Frame::decode(kind, payload),
        Item::Data(_) => panic!("not a control frame"),
    }
}

#[test]
fn every_frame_comes_back_as_it_was() {
    for frame in frames() {
        assert_eq!(read(&frame.to_bytes()), Ok(frame));
    }
}

#[test]
fn unknown_fields_and_reasons_of_a_newer_peer_are_taken() {
    let mut payload = 1u32.to_be_bytes().to_vec();
    payload.extend([0x08, 0xfa, 0x01]); // reason 250
    payload.extend([0xa2, 0x06, 3, 1, 2, 3]); // field 100, three bytes
    assert_eq!(Frame::decode(Kind::Reset, &payload), Ok(Frame::Reset(1, Reason::Other)));
    let far = [1u32.to_be_bytes().to_vec(), vec![0x08, 0xff, 0xff, 0x03]].concat(); // reason 65535
    assert_eq!(Frame::decode(Kind::Reset, &far), Ok(Frame::Reset(1, Reason::Other)));
}

#[test]
fn values_outside_their_rules_name_the_field() {
    type Change = fn(&mut wire::Hello);
    let hellos: &[(Change, &str)] = &[
        (|h| h.version_min = 0, "version range"),
        (|h| h.version_min = h.version_max + 1, "version range"),
        (|h| h.mesh = "LAB".into(), "mesh name"),
        (|h| h.mesh = "42".into(), "mesh name"),
        (|h| h.mesh_digest.truncate(31), "mesh digest"),
        (|h| h.role = 2, "role"),
        (|h| h.capabilities = "\x1b[2J".into(), "capabilities"),
        (|h| h.capabilities = "x".repeat(1025), "capabilities"),
    ];
    for (change, field) in hellos {
        let mut bad = wire::Hello::from(&hello());
        change(&mut bad);
        let error = Frame::decode(Kind::Hello, &bad.encode_to_vec()).unwrap_err();
        assert_eq!(error, MessageError::Field { kind: Kind::Hello, field });
    }
    type ChangeOpen = fn(&mut wire::Open);
    let opens: &[(ChangeOpen, &str)] = &[
        (|o| o.kind = 3, "kind"),
        (|o| (o.kind, o.bench) = (2, 3), "kind"),
        (|o| o.service = "a.b".into(), "service"),
        (|o| o.service = String::new(), "service"),
        (|o| o.relay = "-".into(), "relay"),
        (|o| o.client_ip = vec![1; 5], "client address"),
        (|o| (o.client_ip, o.client_port) = (vec![1; 4], 65536), "client address"),
        (|o| o.trace.push(0), "trace id"),
        (|o| o.trace.clear(), "trace id"),
    ];
    for (change, field) in opens {
        let mut bad = wire::Open::from(&open(Purpose::Service(ServiceName::new("db").unwrap()), None));
        change(&mut bad);
        let payload = [1u32.to_be_bytes().to_vec(), bad.encode_to_vec()].concat();
        assert_eq!(Frame::decode(Kind::Open, &payload), Err(MessageError::Field { kind: Kind::Open, field }));
    }
    for kind in [Kind::Open, Kind::Opened, Kind::Refused, Kind::Fin, Kind::Reset, Kind::Done, Kind::Credit] {
        let expected = Err(MessageError::Field { kind, field: "stream number" });
        assert_eq!(Frame::decode(kind, &[0; 4]), expected, "stream 0 is no stream");
        assert_eq!(Frame::decode(kind, &[1; 3]), expected, "cut short");
    }
}

#[test]
fn what_is_said_of_documents_keeps_its_rules() {
    let invalid = |kind, field| Err(MessageError::Field { kind, field });
    let summary = |ranks: Vec<u8>| Frame::decode(Kind::Summary, &wire::Summary { ranks }.encode_to_vec());
    assert_eq!(summary(vec![1; 47]), invalid(Kind::Summary, "list"), "cut short");
    assert_eq!(summary(vec![0; 48]), invalid(Kind::Summary, "list"), "generation 0");
    assert_eq!(summary(vec![0xff; 48]), invalid(Kind::Summary, "list"), "no version is so high");
    assert_eq!(summary([0, 0, 0, 0, 0, 0, 0, 1].repeat(17 * 6)), invalid(Kind::Summary, "list"), "too many");
    let ask = wire::Ask { id: vec![1; 31], offset: 0 };
    assert_eq!(Frame::decode(Kind::Ask, &ask.encode_to_vec()), invalid(Kind::Ask, "identity"));
    for (total, offset, length) in [(10, 1, 10), (0, 0, 1), (5, u64::MAX, 1), (1 << 20, 0, MAX_PIECE + 1)] {
        let hand = wire::Hand { id: vec![1; 32], total, offset, piece: vec![0; length] };
        assert_eq!(Frame::decode(Kind::Hand, &hand.encode_to_vec()), invalid(Kind::Hand, "piece"));
    }
}

#[test]
fn text_from_a_peer_is_cut_and_made_printable() {
    let refused = wire::Refused { reason: 1, detail: format!("\x1b[31m{}", "é".repeat(150)) };
    let payload = [1u32.to_be_bytes().to_vec(), refused.encode_to_vec()].concat();
    let Frame::Refused(1, refused) = Frame::decode(Kind::Refused, &payload).unwrap() else { panic!("another frame") };
    assert!(refused.detail.as_str().starts_with("\u{fffd}[31mé"));
    assert!(refused.detail.as_str().len() <= MAX_DETAIL && refused.detail.as_str().len() > MAX_DETAIL - 4);
}

#[test]
fn an_ipv4_mapped_client_is_the_ipv4_client() {
    let sent = open(Purpose::Bench(Bench::Sink), Some("[::ffff:10.0.0.1]:5"));
    let Ok(Frame::Open(_, got)) = read(&Frame::Open(1, Box::new(sent)).to_bytes()) else { panic!("another frame") };
    assert_eq!(got.client, Some(SocketAddr::from(([10, 0, 0, 1], 5))));
}

#[test]
fn versions_meet_at_the_highest_common_one() {
    let range = |min, max| VersionRange::new(min, max).unwrap();
    for (a, b, expected) in [
        (range(1, 1), range(1, 1), Some(1)),
        (range(1, 2), range(2, 3), Some(2)),
        (range(1, 2), range(1, 3), Some(2)),
        (range(1, 1), range(2, 3), None),
    ] {
        assert_eq!((a.common(b), b.common(a)), (expected, expected), "{a} and {b}");
    }
    assert_eq!(VersionRange::new(0, 1), None);
}

proptest! {
    #[test]
    fn hostile_payloads_never_panic(kind in 1u8..=17, payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let kind = Kind::from_code(kind).unwrap();
        if let Ok(frame) = Frame::decode(kind, &payload) {
            prop_assert_eq!(read(&frame.to_bytes()), Ok(frame));
        }
    }

    #[test]
    fn damaged_frames_never_panic(which in 0usize..26, flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let mut bytes = frames().swap_remove(which).to_bytes();
        let kind = Kind::from_code(bytes[0]).unwrap();
        for (at, with) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= with;
        }
        if let Ok(frame) = Frame::decode(kind, &bytes[HEADER..]) {
            prop_assert_eq!(read(&frame.to_bytes()), Ok(frame));
        }
    }
}
