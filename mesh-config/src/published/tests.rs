//! Random histories of several publishers that know more or less of each other.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::model::{Digest, MeshVersion};
use crate::name::{MeshName, NodeName};

fn mesh() -> MeshName {
    MeshName::new("lab").unwrap()
}

fn digest(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

/// The next document of somebody who knows `heads`, with a text of its own for each `salt`.
fn publish(heads: &Heads, salt: u64) -> Arc<Header> {
    publish_with(heads, salt, false, Vec::new())
}

fn publish_with(heads: &Heads, salt: u64, opens_generation: bool, removed: Vec<(NodeName, Digest)>) -> Arc<Header> {
    let version = heads.next_place(opens_generation).unwrap().1;
    let publication = Publication {
        document: digest(salt),
        version,
        opens_generation,
        published_at: 1_000 + salt,
        refresh_by: 2_000 + salt,
        removed,
    };
    Arc::new(heads.next(&mesh(), publication).unwrap())
}

fn heads_of(headers: &[Arc<Header>]) -> Heads {
    let mut heads = Heads::default();
    for header in headers {
        heads.insert(Arc::clone(header));
    }
    heads
}

/// A straight line of `count` documents.
fn line(heads: &mut Heads, count: u64, salt: u64) -> Vec<Arc<Header>> {
    let mut made = Vec::new();
    for n in 0..count {
        let header = publish(heads, salt + n);
        assert_eq!(heads.insert(Arc::clone(&header)), Arrival::Wins);
        made.push(header);
    }
    made
}

fn numbers(forks: &[&Arc<Header>]) -> Vec<u64> {
    forks.iter().map(|header| header.rank().version.number()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Publish { who: usize, opens_generation: bool, removes: Option<u8> },
    Tell { from: usize, to: usize },
}

const PUBLISHERS: usize = 4;

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let publish = (0..PUBLISHERS, prop::bool::weighted(0.03), prop::option::weighted(0.3, 0..6_u8))
        .prop_map(|(who, opens_generation, removes)| Step::Publish { who, opens_generation, removes });
    let tell = (0..PUBLISHERS, 0..PUBLISHERS).prop_map(|(from, to)| Step::Tell { from, to });
    prop::collection::vec(prop_oneof![3 => publish, 2 => tell], 1..most)
}

/// All documents of a history, and what each publisher knows at its end.
fn history(steps: &[Step]) -> (Vec<Arc<Header>>, Vec<Heads>) {
    let mut known = vec![Heads::default(); PUBLISHERS];
    let mut all = Vec::new();
    for (salt, step) in (0..).zip(steps) {
        match step {
            Step::Publish { who, opens_generation, removes } => {
                let removed = removes.map(|n| (NodeName::new("gone").unwrap(), digest(u64::from(n))));
                let header = publish_with(&known[*who], salt, *opens_generation, removed.into_iter().collect());
                assert_eq!(known[*who].insert(Arc::clone(&header)), Arrival::Wins, "a new one is the greatest");
                assert!(known[*who].forks().is_empty(), "a publish merges every fork that its publisher knew");
                all.push(header);
            }
            Step::Tell { from, to } => {
                let told = known[*from].clone();
                known[*to].merge(&told);
            }
        }
    }
    (all, known)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_order_of_arrival_ends_alike(
        steps in steps(60),
        shuffles in prop::collection::vec(any::<Index>(), 60),
        again in prop::collection::vec(any::<Index>(), 10),
    ) {
        let (all, _) = history(&steps);
        let expected = heads_of(&all);
        let mut shuffled = all.clone();
        for (at, index) in shuffles.iter().enumerate().take(all.len()) {
            shuffled.swap(at, index.index(all.len()));
        }
        let repeated: Vec<_> = again.iter().filter(|_| !all.is_empty()).map(|i| Arc::clone(i.get(&all))).collect();
        shuffled.extend(repeated);
        let ended = heads_of(&shuffled);
        prop_assert_eq!(&ended, &expected);
        prop_assert_eq!(ended.forks(), expected.forks());
        let greatest = all.iter().map(|header| header.rank()).max();
        prop_assert_eq!(ended.winner().map(|header| header.rank()), greatest);
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(steps in steps(80)) {
        let (all, known) = history(&steps);
        let join = |a: &Heads, b: &Heads| { let mut a = a.clone(); a.merge(b); a };
        let [a, b, c, d] = &known[..] else { unreachable!() };
        prop_assert_eq!(join(a, b), join(b, a));
        prop_assert_eq!(join(&join(a, b), c), join(a, &join(b, c)));
        prop_assert_eq!(join(a, a), a.clone());
        prop_assert_eq!(join(&join(a, b), b), join(a, b));
        prop_assert_eq!(join(&join(a, b), &join(c, d)), heads_of(&all), "together they know what there is");
    }

    #[test]
    fn a_publish_on_all_that_is_known_leaves_no_fork(steps in steps(80)) {
        let (all, _) = history(&steps);
        let mut heads = heads_of(&all);
        for fork in heads.forks() {
            prop_assert!(!heads.winner().unwrap().stands_on(fork.rank()));
        }
        let known: Vec<_> = heads.known().map(|header| header.rank()).collect();
        let merged = publish(&heads, 9_999);
        heads.insert(Arc::clone(&merged));
        prop_assert!(heads.forks().is_empty());
        prop_assert_eq!(merged.tombstones().len(), heads.tombstones().len());
        // Nor does one come back as the list of ancestors slides on.
        for header in line(&mut heads, 80, 10_000) {
            prop_assert!(known.iter().all(|old| header.stands_on(*old)));
        }
        prop_assert!(heads.forks().is_empty());
    }

    #[test]
    fn headers_read_back_and_nothing_else_is_read(steps in steps(40), flips in prop::collection::vec(any::<Index>(), 32)) {
        let (all, _) = history(&steps);
        if let Some(header) = all.last() {
            let bytes = header.encode();
            prop_assert!(bytes.len() <= MAX_HEADER);
            prop_assert_eq!(&Header::decode(&bytes).unwrap(), &**header);
            for cut in 0..bytes.len() {
                prop_assert!(Header::decode(&bytes[..cut]).is_err());
            }
            for flip in flips {
                let (mut bad, bit) = (bytes.clone(), flip.index(bytes.len() * 8));
                bad[bit / 8] ^= 1 << (bit % 8);
                if let Ok(other) = Header::decode(&bad) {
                    prop_assert_ne!(other.rank().id, header.rank().id);
                    prop_assert_eq!(other.encode(), bad);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Header::decode(&tail);
        let _ = Header::decode(&[b"adit mesh header 1\n\x03lab", &tail[..]].concat());
    }
}

#[test]
fn the_greatest_generation_then_version_then_the_lower_identity_wins() {
    let rank = |generation, version, id| Rank {
        generation: Generation::new(generation).unwrap(),
        version: MeshVersion::new(version).unwrap(),
        id: Digest::from_bytes([id; 32]),
    };
    let rising = [rank(1, 1, 9), rank(1, 1, 1), rank(1, 2, 5), rank(1, u64::MAX >> 1, 0), rank(2, 1, 7), rank(2, 1, 6)];
    assert!(rising.is_sorted_by(|a, b| a < b));
    assert_eq!(Generation::new(0), None);
    assert_eq!(MeshVersion::new(0), None);
    assert_eq!(MeshVersion::new(1 << 63), None);
}

#[test]
fn what_two_publish_without_each_other_is_a_fork_until_a_publish_merges_it() {
    let mut heads = Heads::default();
    line(&mut heads, 3, 0);
    let (ours, theirs) = (publish(&heads, 10), publish(&heads, 20));
    let mut both = heads.clone();
    both.insert(Arc::clone(&ours));
    both.insert(Arc::clone(&theirs));
    let loser = if ours.rank() > theirs.rank() { &theirs } else { &ours };
    assert_eq!(both.forks(), [loser]);
    // Whoever goes on without knowing the other leaves the fork where it is.
    let mut alone = heads.clone();
    alone.insert(Arc::clone(&ours));
    let later = line(&mut alone, 5, 30);
    both.merge(&alone);
    assert_eq!(both.forks(), [&theirs]);
    assert_eq!(later.last(), both.winner());
    let merged = publish(&both, 40);
    assert_eq!(merged.parents(), [later[4].rank(), theirs.rank()]);
    both.insert(merged);
    assert!(both.forks().is_empty());
}

#[test]
fn of_a_line_that_forked_off_its_last_document_is_shown() {
    let mut heads = Heads::default();
    line(&mut heads, 2, 0);
    let (mut ours, mut theirs) = (heads.clone(), heads);
    line(&mut ours, 6, 100);
    line(&mut theirs, 3, 200);
    ours.merge(&theirs);
    assert_eq!(numbers(&ours.forks()), [5]);
}

#[test]
fn two_first_documents_are_a_fork_though_the_list_of_ancestors_is_short() {
    let (a, b) = (publish(&Heads::default(), 1), publish(&Heads::default(), 2));
    let (winner, loser) = if a.rank() > b.rank() { (a, b) } else { (b, a) };
    let mut heads = heads_of(&[winner]);
    line(&mut heads, 1, 10);
    heads.insert(Arc::clone(&loser));
    assert_eq!(heads.forks(), [&loser]);
}

#[test]
fn a_node_that_slept_for_a_year_is_no_fork() {
    let mut slept = Heads::default();
    line(&mut slept, 5, 0);
    let mut awake = slept.clone();
    line(&mut awake, 1_000, 100);
    // Also one who published something of his own just before, which nobody has seen.
    line(&mut slept, 1, 5_000);
    let before = slept.winner().unwrap().rank();
    for (first, second) in [(&slept, &awake), (&awake, &slept)] {
        let mut heads = first.clone();
        heads.merge(second);
        assert_eq!(heads.winner(), awake.winner());
        assert!(heads.forks().is_empty());
        assert!(heads.winner().unwrap().stands_on(before));
    }
}

#[test]
fn only_the_next_generation_beats_numbers_that_were_used_up() {
    let mut heads = Heads::default();
    line(&mut heads, 2, 0);
    let last = MeshVersion::new(i64::MAX.unsigned_abs()).unwrap();
    let mut publication = Publication {
        document: digest(1),
        version: last,
        opens_generation: false,
        published_at: 1,
        refresh_by: 2,
        removed: Vec::new(),
    };
    heads.insert(Arc::new(heads.next(&mesh(), publication.clone()).unwrap()));
    assert_eq!(heads.next(&mesh(), publication.clone()), Err(NextError::NumbersUsedUp(Generation::FIRST)));
    publication.opens_generation = true;
    publication.version = MeshVersion::new(1).unwrap();
    let opened = Arc::new(heads.next(&mesh(), publication).unwrap());
    assert_eq!(heads.insert(Arc::clone(&opened)), Arrival::Wins);
    assert_eq!(opened.rank().generation.number(), 2);
    assert!(heads.forks().is_empty());
}

#[test]
fn a_version_that_is_taken_is_refused_with_the_one_to_say() {
    let mut heads = Heads::default();
    line(&mut heads, 7, 0);
    let publication = Publication {
        document: digest(1),
        version: MeshVersion::new(7).unwrap(),
        opens_generation: false,
        published_at: 1,
        refresh_by: 2,
        removed: Vec::new(),
    };
    assert_eq!(
        heads.next(&mesh(), publication.clone()).unwrap_err().to_string(),
        "version 7 is published already: say version 8 or more in the document"
    );
    // Numbers may be skipped, and time runs forward.
    let later = Publication { version: MeshVersion::new(40).unwrap(), ..publication.clone() };
    let header = heads.next(&mesh(), later.clone()).unwrap();
    assert!(header.is_overdue(3) && !header.is_overdue(2));
    let backwards = Publication { refresh_by: 1, ..later };
    assert_eq!(heads.next(&mesh(), backwards), Err(NextError::Header(HeaderError::Times)));
}

#[test]
fn a_tombstone_buries_a_key_and_not_a_name() {
    let mut heads = Heads::default();
    line(&mut heads, 1, 0);
    let beta = NodeName::new("beta").unwrap();
    heads.insert(publish_with(&heads, 1, false, vec![(beta, digest(77))]));
    line(&mut heads, 200, 10);
    assert!(heads.tombstones().names(&digest(77)), "every later document repeats it");
    assert!(!heads.tombstones().names(&digest(78)), "the same host with a new key is new");
    // It is in the winner, so whoever meets that alone knows it.
    assert!(heads_of(&[Arc::clone(heads.winner().unwrap())]).tombstones().names(&digest(77)));
}

#[test]
fn heads_and_tombstones_stay_bounded_under_a_flood() {
    let node = NodeName::new("x").unwrap();
    let mut heads = Heads::default();
    for salt in 0..8 {
        let removed = (0..200).map(|n| (node.clone(), digest(salt * 1_000 + n))).collect();
        heads.insert(publish_with(&heads, salt, false, removed));
    }
    for salt in 0..500 {
        // Each knows only the first, as an attacker with a stolen key would write them.
        heads.insert(publish(&heads_of(&[]), salt));
    }
    assert!(heads.known().count() <= MAX_HEADS);
    assert_eq!(heads.tombstones().len(), MAX_TOMBSTONES);
    assert!(heads.winner().unwrap().encode().len() <= MAX_HEADER);
    assert!(heads.tombstones().names(&digest(7_199)) && !heads.tombstones().names(&digest(0)));
    let full = publish(&heads, 1);
    assert!(full.parents().len() <= MAX_PARENTS && full.ancestors().len() <= MAX_ANCESTORS);
    assert!(full.encode().len() <= MAX_HEADER);
    assert_eq!(Header::decode(&full.encode()).as_ref(), Ok(&*full));
}

#[test]
fn hostile_headers_are_refused_with_what_about_them() {
    let mut heads = Heads::default();
    line(&mut heads, 3, 0);
    let good = heads.winner().unwrap().encode();
    // Past the first line, mesh, generation, version, digest and the two times: the count of parents.
    let parents = 19 + 4 + 8 + 8 + 32 + 16;
    let ancestors = parents + 2 + 48;
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        Header::decode(&bad).unwrap_err()
    };
    assert_eq!(with(0, b"Adit"), HeaderError::Magic);
    assert_eq!(with(20, b"LAB"), HeaderError::Name);
    assert_eq!(with(23, &[0; 8]), HeaderError::Number, "generation");
    assert_eq!(with(31, &[0xff; 8]), HeaderError::Number, "version");
    assert_eq!(with(31, &[0, 0, 0, 0, 0, 0, 0, 1]), HeaderError::Parents, "a parent that is not earlier");
    assert_eq!(with(parents - 8, &[0; 8]), HeaderError::Times);
    assert_eq!(with(parents - 8, &[0xff; 8]), HeaderError::Times);
    assert_eq!(with(parents, &[0xff, 0xff]), HeaderError::Parents, "a count above the limit");
    assert_eq!(with(parents, &[0, 16]), HeaderError::Truncated, "a count above what is there");
    assert_eq!(with(ancestors, &[0xff, 0xff]), HeaderError::Ancestors);
    let twice = good[ancestors + 2..ancestors + 50].to_vec();
    assert_eq!(with(ancestors + 50, &twice), HeaderError::Ancestors, "the same one twice");
    assert_eq!(with(good.len() - 2, &[0xff, 0xff]), HeaderError::Tombstones);
    assert_eq!(Header::decode(&[&good[..], b"x"].concat()), Err(HeaderError::Trailing));
}
