//! One machine among peers that do as they like.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::Digest;
use crate::name::{MeshName, NodeName};
use crate::published::{Header, Heads, MAX_HEADS, Publication, Rank};

const SECOND: Duration = Duration::from_secs(1);

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// `count` documents in a line.
fn line(count: u64) -> Vec<Arc<Header>> {
    let mut heads = Heads::default();
    let made = (0..count).map(|n| {
        let publication = Publication {
            document: Digest::of(&n.to_be_bytes()),
            version: heads.next_place(false).unwrap().1,
            opens_generation: false,
            published_at: 1,
            refresh_by: 2,
            removed: Vec::new(),
        };
        let header = Arc::new(heads.next(&MeshName::new("lab").unwrap(), publication).unwrap());
        heads.insert(Arc::clone(&header));
        header
    });
    made.collect()
}

fn bytes(header: &Header) -> Arc<[u8]> {
    header.encode().into()
}

/// All that it wants to do now.
fn outputs(gossip: &mut Gossip, now: Duration) -> Vec<Output> {
    let mut all = Vec::new();
    while let Some(output) = gossip.poll(now) {
        all.push(output);
        assert!(all.len() < 200, "it comes to an end");
    }
    all
}

fn asked(outputs: &[Output]) -> Vec<(NodeName, Digest)> {
    let asks = outputs.iter().filter_map(|output| match output {
        Output::Send { to, message: Message::Ask(id) } => Some((to.clone(), *id)),
        _ => None,
    });
    asks.collect()
}

fn joined(peers: &[&str]) -> Gossip {
    let mut gossip = Gossip::new(Pace::default());
    for peer in peers {
        gossip.connected(&node(peer), Duration::ZERO);
    }
    assert_eq!(outputs(&mut gossip, Duration::ZERO).len(), peers.len(), "each is told a summary");
    gossip
}

fn summary(headers: &[Arc<Header>]) -> Message {
    Message::Summary(headers.iter().map(|header| header.rank()).collect())
}

/// Lets `from` hand over the document that it was asked for; gives what is to be done then.
fn hand(gossip: &mut Gossip, from: &NodeName, header: &Header, verdict: Verdict, now: Duration) -> Vec<Output> {
    let (id, document) = (header.rank().id, bytes(header));
    gossip.received(from, Message::Hand { id, document: Some(Arc::clone(&document)) }, now);
    let judge = Output::Judge { from: from.clone(), id, document: Arc::clone(&document) };
    assert_eq!(gossip.poll(now), Some(judge));
    gossip.judged(from, id, document, verdict, now);
    outputs(gossip, now)
}

#[test]
fn the_newest_is_asked_for_first_and_passed_on() {
    let (a, b) = (node("a"), node("b"));
    let mut gossip = joined(&["a", "b"]);
    let headers = line(3);
    gossip.received(&a, summary(&headers), SECOND);
    assert_eq!(asked(&outputs(&mut gossip, SECOND)), [(a.clone(), headers[2].rank().id)]);
    let next = hand(&mut gossip, &a, &headers[2], Verdict::Genuine(Arc::clone(&headers[2])), SECOND);
    assert_eq!(asked(&next), [(a, headers[1].rank().id)]);
    assert!(next.contains(&Output::Send { to: b.clone(), message: summary(&headers[2..]) }));
    gossip.received(&b, Message::Ask(headers[2].rank().id), SECOND);
    let handed = Message::Hand { id: headers[2].rank().id, document: Some(bytes(&headers[2])) };
    assert_eq!(outputs(&mut gossip, SECOND), [Output::Send { to: b, message: handed }]);
}

#[test]
fn a_refused_document_is_asked_of_another_peer_and_never_again_of_the_same() {
    let mut gossip = joined(&["a", "b"]);
    let headers = line(1);
    let (a, b) = (node("a"), node("b"));
    for peer in [&a, &b] {
        gossip.received(peer, summary(&headers), SECOND);
    }
    let first = asked(&outputs(&mut gossip, SECOND));
    assert_eq!(first.len(), 1, "one document is asked of one peer at a time");
    let (liar, honest) = if first[0].0 == a { (&a, &b) } else { (&b, &a) };
    let next = hand(&mut gossip, liar, &headers[0], Verdict::Refused, SECOND);
    assert_eq!(asked(&next), [(honest.clone(), headers[0].rank().id)]);
    gossip.disconnected(honest);
    for hour in 1..20 {
        let now = SECOND * 3_600 * hour;
        gossip.connected(liar, now);
        gossip.received(liar, summary(&headers), now);
        assert_eq!(asked(&outputs(&mut gossip, now)), [], "also not after it came anew");
    }
    assert_eq!(gossip.counts().refused, 1);
}

#[test]
fn what_is_genuine_but_not_what_was_offered_is_refused() {
    let mut gossip = joined(&["a"]);
    let headers = line(2);
    let lie = Rank { id: headers[0].rank().id, ..headers[1].rank() };
    gossip.received(&node("a"), Message::Summary(vec![lie]), SECOND);
    outputs(&mut gossip, SECOND);
    hand(&mut gossip, &node("a"), &headers[0], Verdict::Genuine(Arc::clone(&headers[0])), SECOND);
    assert_eq!(gossip.heads().winner(), None);
    assert_eq!(gossip.counts().refused, 1);
}

#[test]
fn a_peer_that_lies_is_asked_ever_more_seldom() {
    let mut gossip = joined(&["a"]);
    let (a, headers) = (node("a"), line(1));
    let mut asks = 0;
    for step in 0_u64..36_000 {
        let now = SECOND + Duration::from_millis(100) * u32::try_from(step).unwrap();
        let rank = Rank { id: Digest::of(&step.to_be_bytes()), ..headers[0].rank() };
        gossip.received(&a, Message::Summary(vec![rank]), now);
        for (_, id) in asked(&outputs(&mut gossip, now)) {
            asks += 1;
            gossip.received(&a, Message::Hand { id, document: Some(bytes(&headers[0])) }, now);
            outputs(&mut gossip, now);
            gossip.judged(&a, id, bytes(&headers[0]), Verdict::Refused, now);
        }
    }
    assert!((10..20).contains(&asks), "{asks} in an hour");
}

#[test]
fn silence_is_answered_by_asking_another() {
    let mut gossip = joined(&["a", "b"]);
    let headers = line(1);
    for peer in ["a", "b"] {
        gossip.received(&node(peer), summary(&headers), SECOND);
    }
    let first = asked(&outputs(&mut gossip, SECOND));
    let later = SECOND + Pace::default().patience;
    assert!(gossip.next_timeout().is_some_and(|at| at <= later));
    assert_eq!(asked(&outputs(&mut gossip, later - Duration::from_millis(1))), []);
    let second = asked(&outputs(&mut gossip, later));
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].0, second[0].0);
    // The first answer, much too late, is one that nobody waits for.
    let late = Message::Hand { id: first[0].1, document: Some(bytes(&headers[0])) };
    gossip.received(&first[0].0, late, later);
    assert_eq!(gossip.counts(), Counts { improper: 1, unanswered: 1, ..Counts::default() });
}

#[test]
fn a_document_is_expected_only_when_asked_for_and_within_its_limit() {
    let mut gossip = joined(&["a", "b"]);
    let (a, b, headers) = (node("a"), node("b"), line(1));
    let id = headers[0].rank().id;
    assert!(!gossip.expects(&a, id, 10));
    gossip.received(&a, summary(&headers), SECOND);
    outputs(&mut gossip, SECOND);
    assert!(gossip.expects(&a, id, MAX_DOCUMENT));
    assert!(!gossip.expects(&a, id, MAX_DOCUMENT + 1));
    assert!(!gossip.expects(&a, Digest::of(b"other"), 10));
    assert!(!gossip.expects(&b, id, 10));
    for from in [&b, &node("stranger")] {
        gossip.received(from, Message::Hand { id, document: Some(bytes(&headers[0])) }, SECOND);
        assert_eq!(outputs(&mut gossip, SECOND), []);
    }
    assert_eq!(gossip.counts().improper, 2);
    // Too long after all: refused unread.
    let long = vec![0; MAX_DOCUMENT + 1].into();
    gossip.received(&a, Message::Hand { id, document: Some(long) }, SECOND);
    assert_eq!(outputs(&mut gossip, SECOND), []);
    assert_eq!(gossip.counts().refused, 1);
}

#[test]
fn a_flood_of_questions_gets_few_answers() {
    let mut gossip = joined(&["a"]);
    let headers = line(1);
    gossip.publish(Arc::clone(&headers[0]), bytes(&headers[0]));
    let (mut sent, mut now) = (0, SECOND);
    for _ in 0..10_000 {
        now += Duration::from_millis(1);
        gossip.received(&node("a"), Message::Ask(headers[0].rank().id), now);
        let hands = outputs(&mut gossip, now);
        sent += hands.iter().filter(|o| matches!(o, Output::Send { message: Message::Hand { .. }, .. })).count();
    }
    assert!(sent <= 3, "{sent} in ten seconds");
    assert!(gossip.counts().excessive > 9_900);
}

/// It was killed with what it had just been handed.
#[test]
fn who_has_lost_what_it_was_handed_gets_it_again_soon() {
    let mut gossip = joined(&["a"]);
    let headers = line(1);
    gossip.publish(Arc::clone(&headers[0]), bytes(&headers[0]));
    let id = headers[0].rank().id;
    let hands = |gossip: &mut Gossip, now| {
        outputs(gossip, now).iter().filter(|o| matches!(o, Output::Send { message: Message::Hand { .. }, .. })).count()
    };
    gossip.received(&node("a"), Message::Ask(id), SECOND);
    assert_eq!(hands(&mut gossip, SECOND), 1);
    gossip.disconnected(&node("a"));
    let again = SECOND + SECOND / 10;
    gossip.connected(&node("a"), again);
    gossip.received(&node("a"), Message::Ask(id), again);
    assert_eq!(hands(&mut gossip, again), 0);
    let due = gossip.next_timeout().unwrap();
    assert_eq!(due, SECOND + Pace::default().rehand);
    assert_eq!(hands(&mut gossip, due), 1);
}

#[test]
fn a_flood_of_news_makes_few_summaries() {
    let mut gossip = joined(&["a", "b"]);
    let (mut sent, mut now) = (0, SECOND);
    for header in line(1_000) {
        now += Duration::from_millis(1);
        gossip.publish(Arc::clone(&header), bytes(&header));
        sent += outputs(&mut gossip, now).len();
    }
    assert!(sent <= 2 * 7, "{sent} in a second to two peers");
    assert_eq!(gossip.next_timeout().map(|at| at > now), Some(true));
}

#[derive(Debug, Clone)]
enum Step {
    Connect(usize),
    Disconnect(usize),
    Forget(usize),
    Summary(usize, Vec<usize>),
    Lie(usize, u64),
    Ask(usize, usize),
    Answer { with: Option<usize>, genuine: bool },
    Publish(usize),
    Wait(u16),
}

const PEERS: [&str; 3] = ["a", "b", "c"];
const DOCUMENTS: usize = 24;

fn step() -> impl Strategy<Value = Step> {
    let (peer, document) = (0..PEERS.len(), 0..DOCUMENTS);
    prop_oneof![
        2 => peer.clone().prop_map(Step::Connect),
        1 => peer.clone().prop_map(Step::Disconnect),
        1 => peer.clone().prop_map(Step::Forget),
        6 => (peer.clone(), prop::collection::vec(document.clone(), 0..20)).prop_map(|(p, d)| Step::Summary(p, d)),
        2 => (peer.clone(), any::<u64>()).prop_map(|(p, n)| Step::Lie(p, n)),
        3 => (peer, document.clone()).prop_map(|(p, d)| Step::Ask(p, d)),
        6 => (prop::option::weighted(0.2, document.clone()), prop::bool::weighted(0.8))
            .prop_map(|(with, genuine)| Step::Answer { with, genuine }),
        1 => document.prop_map(Step::Publish),
        4 => any::<u16>().prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens in whatever order: few things to do for each, few documents under way, nothing kept that was not
    /// judged genuine, the winner never falls, and it never wants to be woken in the past for nothing.
    #[test]
    fn whatever_peers_do_it_stays_within_its_bounds(steps in prop::collection::vec(step(), 1..150)) {
        let headers = line(DOCUMENTS as u64);
        let mut gossip = Gossip::new(Pace::default());
        let mut now = SECOND;
        let mut open: Vec<(NodeName, Digest)> = Vec::new();
        for step in steps {
            let before = gossip.heads().winner().map(|header| header.rank());
            match step {
                Step::Connect(peer) => { open.retain(|(p, _)| *p != node(PEERS[peer])); gossip.connected(&node(PEERS[peer]), now) }
                Step::Disconnect(peer) => { open.retain(|(p, _)| *p != node(PEERS[peer])); gossip.disconnected(&node(PEERS[peer])) }
                Step::Forget(peer) => { open.retain(|(p, _)| *p != node(PEERS[peer])); gossip.forget(&node(PEERS[peer])) }
                Step::Summary(peer, documents) => {
                    let ranks = documents.iter().map(|d| headers[*d].rank()).collect();
                    gossip.received(&node(PEERS[peer]), Message::Summary(ranks), now);
                }
                Step::Lie(peer, n) => {
                    let rank = Rank { id: Digest::of(&n.to_be_bytes()), ..headers[DOCUMENTS - 1].rank() };
                    gossip.received(&node(PEERS[peer]), Message::Summary(vec![rank]), now);
                }
                Step::Ask(peer, document) => {
                    gossip.received(&node(PEERS[peer]), Message::Ask(headers[document].rank().id), now);
                }
                Step::Answer { with, genuine } => if let Some((peer, id)) = open.pop() {
                    let header = headers.iter().find(|h| h.rank().id == id).or(with.map(|d| &headers[d]));
                    let document = header.map(|header| bytes(header));
                    gossip.received(&peer, Message::Hand { id, document }, now);
                    while let Some(output) = gossip.poll(now) {
                        match output {
                            Output::Judge { from, id, document } => {
                                let header = Arc::new(Header::decode(&document).unwrap());
                                let verdict = if genuine { Verdict::Genuine(header) } else { Verdict::Refused };
                                gossip.judged(&from, id, document, verdict, now);
                            }
                            Output::Send { to, message: Message::Ask(id) } => open.push((to, id)),
                            Output::Send { .. } => {}
                        }
                    }
                },
                Step::Publish(document) => {
                    gossip.publish(Arc::clone(&headers[document]), bytes(&headers[document]));
                }
                Step::Wait(milliseconds) => now += Duration::from_millis(u64::from(milliseconds)),
            }
            let outputs = outputs(&mut gossip, now);
            prop_assert!(outputs.len() <= PEERS.len() * 3, "{outputs:?}");
            open.extend(asked(&outputs));
            prop_assert!(gossip.heads().winner().map(|header| header.rank()) >= before);
            prop_assert!(gossip.heads().known().count() <= MAX_HEADS);
            for header in gossip.heads().known() {
                prop_assert!(gossip.document(header.rank()).is_some(), "what is known can be handed on");
            }
            // Having been polled, it has nothing to do now.
            if let Some(at) = gossip.next_timeout() {
                prop_assert!(at > now, "{at:?} at {now:?}");
            }
        }
    }
}
