//! One line for each way in which a document can be wrong.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn changed(bytes: &[u8], change: impl FnOnce(&mut Envelope)) -> Vec<u8> {
    let mut envelope = Envelope::decode(Bytes::copy_from_slice(bytes)).unwrap();
    change(&mut envelope);
    envelope.encode()
}

fn first(text: &str, version: u64, hand: &Hand) -> Vec<u8> {
    signed(&header(&Heads::default(), text, version), text, hand)
}

#[test]
fn a_publishers_document_is_taken_with_all_that_it_says() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let bytes = document(&anna, &Heads::default(), 7);
    let taken = judged(bytes.clone(), &root).unwrap();
    assert_eq!(taken.rank().version.number(), 7);
    assert_eq!((taken.text(), &taken.bytes()[..]), (&*text(7), &bytes[..]));
    assert_eq!((taken.signer().name.as_str(), taken.signer().mesh.as_str()), ("anna", "lab"));
    assert_eq!(taken.signer().not_after, NOW + time::Duration::days(29));
    assert!(taken.mesh().signed() && taken.mesh().node("beta").is_some());
    // Also one whom the intermediate has made a publisher, since the root is away.
    root.take_root_away();
    let bert = root.publisher();
    assert_eq!(bert.chain.len(), 2);
    judged(document(&bert, &Heads::default(), 7), &root).unwrap();
}

#[test]
fn whatever_is_not_a_publishers_is_refused_by_its_name() {
    let (mut root, mut other) = (Root::of("lab"), Root::of("lab"));
    let (mut den, day) = (Root::of("den"), time::Duration::days(1));
    let anna = root.publisher();
    let good = document(&anna, &Heads::default(), 7);
    let node = root.node();
    let mut of_den = den.publisher();
    let stranger = other.publisher();
    let expired = root.delegated(1, NOW - 3 * day, 1);
    let early = root.delegated(1, NOW + day, 9);
    let second = root.delegated(2, NOW - day, 9);
    let mixed = Hand { chain: node.chain.clone(), key: PrivateKey::generate().unwrap() };
    let stolen_name = Hand { chain: anna.chain.clone(), key: PrivateKey::generate().unwrap() };
    let den_text = text(7).replace("lab", "den");
    let in_den = signed(&header_of(&Heads::default(), "den", &den_text, 7, false), &den_text, &of_den);
    let plain = text(7).replace("signed = true\n", "");
    let broken = text(7).replace("[node.beta]", "[node.beta]\nadress = 1");
    // A chain that leads to our root, with the name of another mesh in it, there is none: its root is another.
    of_den.chain.extend(root.publisher().chain);

    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "malformed"),
        ("cut off", good[..good.len() - 1].to_vec(), "malformed"),
        ("something behind it", [&good[..], &[0x2a, 1, 0]].concat(), "malformed"),
        ("a field twice", [&good[..], &good[..]].concat(), "malformed"),
        ("no header", changed(&good, |e| e.header = Bytes::new()), "malformed"),
        ("a header of something else", changed(&good, |e| e.header = Bytes::from_static(b"adit")), "malformed"),
        (
            "a chain that is cut",
            {
                let mut envelope = Envelope::decode(Bytes::copy_from_slice(&good)).unwrap();
                envelope.chain = vec![CertificateDer::from(anna.chain[0][..40].to_vec())];
                envelope.encode()
            },
            "malformed",
        ),
        ("another text", changed(&good, |e| e.document = Bytes::from(text(8))), "forged"),
        ("another signature", changed(&good, |e| e.signature = Bytes::from(vec![0x30; 70])), "forged"),
        ("no signature", changed(&good, |e| e.signature = Bytes::new()), "forged"),
        (
            "the signature of another document",
            {
                let seven = Envelope::decode(Bytes::copy_from_slice(&good)).unwrap().signature;
                changed(&document(&anna, &Heads::default(), 8), |e| e.signature = seven)
            },
            "forged",
        ),
        (
            "a signature over the header alone",
            {
                let text = text(7);
                let header = header(&Heads::default(), &text, 7);
                seal(&header, &text, anna.chain.clone(), |_| anna.key.signature(&header.encode())).unwrap()
            },
            "forged",
        ),
        ("signed with another key than the certificate's", document(&stolen_name, &Heads::default(), 7), "forged"),
        ("no certificate", changed(&good, |e| e.chain.clear()), "unauthorised_signer"),
        ("signed by a node", document(&node, &Heads::default(), 7), "unauthorised_signer"),
        ("a node's certificate", document(&mixed, &Heads::default(), 7), "unauthorised_signer"),
        ("a publisher of another root", document(&stranger, &Heads::default(), 7), "unknown_signer"),
        ("a publisher of another mesh", document(&of_den, &Heads::default(), 7), "unknown_signer"),
        ("an expired publisher", document(&expired, &Heads::default(), 7), "signer_expired"),
        ("a publisher of tomorrow", document(&early, &Heads::default(), 7), "signer_not_yet_valid"),
        ("a publisher of the next generation", document(&second, &Heads::default(), 7), "other_generation"),
        ("another mesh", in_den, "other_mesh"),
        ("a text that does not say signed", first(&plain, 7, &anna), "document"),
        ("a text that does not check", first(&broken, 7, &anna), "document"),
        ("a text of another version", first(&text(6), 7, &anna), "document"),
        ("a text of another mesh", first(&den_text, 7, &anna), "other_mesh"),
        ("no text at all", first("", 7, &anna), "document"),
    ];
    for (what, bytes, expected) in cases {
        let why = judged(bytes, &root).expect_err(what);
        assert_eq!(why.name(), expected, "{what}: {why}");
        assert!(Refused::NAMES.contains(&why.name()) && !why.hint().is_empty());
    }
    judged(good, &root).unwrap();
}

#[test]
fn an_old_key_cannot_date_back_what_it_signs_and_what_was_taken_stays_good_on_the_disk() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let bytes: std::sync::Arc<[u8]> = document(&anna, &Heads::default(), 7).into();
    let at = |now, occasion| verify(bytes.clone(), &root.trust(), Some(&lab()), now, occasion);
    let later = NOW + time::Duration::days(60);
    assert_eq!(at(later, Occasion::Arrival).unwrap_err().name(), "signer_expired");
    assert_eq!(at(later, Occasion::Kept).unwrap().rank().version.number(), 7);
    let before = NOW - time::Duration::days(3);
    let why = at(before, Occasion::Arrival).unwrap_err();
    assert!(why.may_pass() && why.name() == "signer_not_yet_valid", "{why}");
}

#[test]
fn only_the_root_itself_opens_another_generation() {
    let mut root = Root::of("lab");
    let (anna, second) = (root.publisher(), root.delegated(2, NOW - time::Duration::days(1), 9));
    let mut heads = Heads::default();
    heads.insert(judged(document(&anna, &heads, 7), &root).unwrap().header().clone());
    let opened = text(1);
    let opened = signed(&header_of(&heads, "lab", &opened, 1, true), &opened, &second);
    let taken = judged(opened.clone(), &root).unwrap();
    assert!(taken.rank() > heads.winner().unwrap().rank(), "version 1 of generation 2 is above 7 of 1");
    // The first generation's publisher cannot, whatever he writes.
    let header = Envelope::decode(Bytes::from(opened)).unwrap().header;
    let header = Header::decode(&header).unwrap();
    let forged = signed(&header, &text(1), &anna);
    assert_eq!(judged(forged, &root).unwrap_err().name(), "other_generation");
}

#[test]
fn a_publisher_is_no_node_and_a_node_no_publisher() {
    use crate::identity::chain::Limits;
    use crate::identity::profile::Purpose;
    let mut root = Root::of("lab");
    let (anna, node) = (root.publisher(), root.node());
    for (hand, purpose, good) in [
        (&anna, Purpose::Publisher, true),
        (&anna, Purpose::Client, false),
        (&anna, Purpose::Server, false),
        (&node, Purpose::Publisher, false),
        (&node, Purpose::Client, true),
        (&node, Purpose::Server, true),
    ] {
        let found = crate::identity::verify_chain(&hand.chain, &root.trust(), purpose, NOW, Limits::PEER);
        assert_eq!(found.is_ok(), good, "{purpose:?}: {:?}", found.err());
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let long = vec![0; mesh_config::gossip::MAX_DOCUMENT + 1];
    assert_eq!(judged(long, &root).unwrap_err().name(), "too_large");
    let good = document(&anna, &Heads::default(), 7);
    let parts: [fn(&mut Envelope); 3] = [
        |e| e.header = Bytes::from(vec![0; mesh_config::published::MAX_HEADER + 1]),
        |e| e.signature = Bytes::from(vec![0; MAX_SIGNATURE + 1]),
        |e| e.chain = vec![CertificateDer::from([&[0x30, 0x82, 0x40, 0][..], &[0; 0x4000]].concat())],
    ];
    for change in parts {
        assert_eq!(judged(changed(&good, change), &root).unwrap_err().name(), "too_large");
    }
}

#[test]
fn a_document_of_the_greatest_length_goes_through() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let most = usize::try_from(mesh_config::MAX_FILE).unwrap();
    let text = text(7);
    let text = format!("{text}#{}", "x".repeat(most - text.len() - 1));
    assert_eq!(judged(first(&text, 7, &anna), &root).unwrap().text().len(), most);
}

#[test]
fn no_flipped_bit_and_no_cut_is_taken() {
    let mut root = Root::of("lab");
    let anna = root.publisher();
    let good = document(&anna, &Heads::default(), 7);
    let (trust, mesh) = (root.trust(), lab());
    let taken = |bytes: Vec<u8>| verify(bytes.into(), &trust, Some(&mesh), NOW, Occasion::Arrival).is_ok();
    assert!(taken(good.clone()));
    for at in 0..good.len() {
        assert!(!taken(good[..at].to_vec()), "cut at {at}");
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(!taken(bad), "a bit of byte {at}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        if let Ok(envelope) = Envelope::decode(Bytes::from(bytes.clone())) {
            prop_assert_eq!(envelope.encode(), bytes);
        }
    }
}
