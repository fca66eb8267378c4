//! A whole mesh of these machines, over the ring's graph, with every message delayed at random and so out of order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::Digest;
use crate::name::{MeshName, NodeName};
use crate::published::{Header, Publication, Rank};

/// Random numbers that are the same on every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}

#[derive(Debug)]
enum Event {
    Message { from: usize, to: usize, message: Message, depth: u32 },
    Wake(usize),
}

struct Mesh {
    names: Vec<NodeName>,
    index: HashMap<NodeName, usize>,
    nodes: Vec<Gossip>,
    links: Vec<Vec<usize>>,
    /// On which side of a cut each node is.
    side: Vec<bool>,
    cut: bool,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    wake: Vec<Option<Duration>>,
    dice: Dice,
    now: Duration,
    sequence: u64,
    /// Over how many links a document had come to a node, and when.
    depth: HashMap<(usize, Digest), (u32, Duration)>,
    sent: u64,
}

impl Mesh {
    fn new(n: usize, seed: u64) -> Self {
        let names: Vec<_> = (0..n).map(|i| NodeName::new(&format!("host-{i}")).unwrap()).collect();
        let index: HashMap<_, _> = names.iter().cloned().zip(0..).collect();
        let links = names.iter().map(|me| ring_neighbours(&names, me).iter().map(|name| index[name]).collect());
        let links: Vec<Vec<usize>> = links.collect();
        let mut dice = Dice(seed);
        let side = (0..n).map(|_| dice.below(2) == 0).collect();
        let mut mesh = Self {
            nodes: (0..n).map(|_| Gossip::new(Pace::default())).collect(),
            wake: vec![None; n],
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            depth: HashMap::new(),
            names,
            index,
            links,
            side,
            dice,
            cut: false,
            now: Duration::ZERO,
            sequence: 0,
            sent: 0,
        };
        mesh.join(|_, _| true);
        mesh
    }
    /// Connects both ends of each link that `chosen` names.
    fn join(&mut self, chosen: impl Fn(usize, usize) -> bool) {
        for a in 0..self.nodes.len() {
            for b in self.links[a].clone() {
                if chosen(a, b) {
                    self.nodes[a].connected(&self.names[b], self.now);
                }
            }
        }
        (0..self.nodes.len()).for_each(|at| self.drive(at));
    }

    fn part(&mut self) {
        self.cut = true;
        for a in 0..self.nodes.len() {
            for b in self.links[a].clone() {
                if self.side[a] != self.side[b] {
                    self.nodes[a].disconnected(&self.names[b]);
                }
            }
        }
    }

    fn heal(&mut self) {
        self.cut = false;
        let side = self.side.clone();
        self.join(|a, b| side[a] != side[b]);
    }

    fn publish(&mut self, at: usize) -> Rank {
        let heads = self.nodes[at].heads();
        self.sequence += 1;
        let publication = Publication {
            document: Digest::of(&self.sequence.to_be_bytes()),
            version: heads.next_place(false).unwrap().1,
            opens_generation: false,
            published_at: 1,
            refresh_by: 2,
            removed: Vec::new(),
        };
        let header = Arc::new(heads.next(&MeshName::new("lab").unwrap(), publication).unwrap());
        let rank = header.rank();
        let document = header.encode().into();
        self.nodes[at].publish(header, document);
        self.depth.insert((at, rank.id), (0, self.now));
        self.drive(at);
        rank
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    /// Does all that a node wants to do now, and notes when it wants to be woken.
    fn drive(&mut self, at: usize) {
        let mut steps = 0;
        while let Some(output) = self.nodes[at].poll(self.now) {
            steps += 1;
            assert!(steps < 100, "a node does a bounded number of things at a time");
            match output {
                Output::Send { to, message } => {
                    let to = self.index[&to];
                    let depth = match &message {
                        Message::Hand { id, .. } => self.depth[&(at, *id)].0 + 1,
                        _ => 0,
                    };
                    self.sent += 1;
                    let delay = Duration::from_millis(5 + self.dice.below(45));
                    self.schedule(self.now + delay, Event::Message { from: at, to, message, depth });
                }
                Output::Judge { from, id, document } => {
                    let verdict = Verdict::Genuine(Arc::new(Header::decode(&document).unwrap()));
                    let before = self.nodes[at].heads().winner().map(|header| header.rank());
                    self.nodes[at].judged(&from, id, document, verdict, self.now);
                    let after = self.nodes[at].heads().winner().map(|header| header.rank());
                    assert!(after >= before, "an older document never replaces a newer one");
                }
            }
        }
        let next = self.nodes[at].next_timeout();
        if next != self.wake[at] {
            self.wake[at] = next;
            if let Some(when) = next {
                self.schedule(when.max(self.now), Event::Wake(at));
            }
        }
    }

    /// Goes on until `done` or for `most`, whichever is first; says whether it was done.
    fn run(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + most;
        let mut asked = 0_u64;
        loop {
            // Asking of all nodes is dear, so not after every event.
            asked += 1;
            if asked.is_multiple_of(64) && done(self) {
                return true;
            }
            match self.queue.peek() {
                Some(Reverse((at, _))) if *at <= end => {}
                _ => {
                    self.now = end;
                    return done(self);
                }
            }
            let Some(Reverse((at, sequence))) = self.queue.pop() else { return done(self) };
            self.now = at;
            match self.events.remove(&sequence) {
                Some(Event::Message { from, to, message, depth }) => {
                    if self.cut && self.side[from] != self.side[to] {
                        continue;
                    }
                    if let Message::Hand { id, .. } = &message {
                        self.depth.entry((to, *id)).or_insert((depth, at));
                    }
                    let name = self.names[from].clone();
                    self.nodes[to].received(&name, message, self.now);
                    self.drive(to);
                }
                Some(Event::Wake(node)) if self.wake[node] == Some(at) || self.wake[node] <= Some(self.now) => {
                    self.wake[node] = None;
                    self.drive(node);
                }
                _ => {}
            }
        }
    }

    fn all_have(&self, rank: Rank) -> bool {
        self.nodes.iter().all(|node| node.heads().winner().is_some_and(|header| header.rank() == rank))
    }

    fn all_know_the_same(&self) -> bool {
        self.nodes.iter().all(|node| node.heads() == self.nodes[0].heads())
    }
}

#[test]
fn news_reach_all_in_a_number_of_rounds_that_grows_with_the_logarithm() {
    println!("| agents | links each | rounds | log2 n | time at 5 to 50 ms a message | messages a node |");
    println!("|---|---|---|---|---|---|");
    for n in [10, 50, 100, 500] {
        let mut mesh = Mesh::new(n, 7);
        mesh.run(Duration::from_secs(2), |_| false);
        let (sent, begun) = (mesh.sent, mesh.now);
        let rank = mesh.publish(0);
        assert!(mesh.run(Duration::from_secs(20), |mesh| mesh.all_have(rank)), "{n}: all have it");
        mesh.run(Duration::from_secs(5), |_| false);
        let rounds = (0..n).map(|at| mesh.depth[&(at, rank.id)].0).max().unwrap();
        let took = (0..n).map(|at| mesh.depth[&(at, rank.id)].1).max().unwrap() - begun;
        let links = mesh.links.iter().map(Vec::len).max().unwrap();
        let each = (mesh.sent - sent) as f64 / n as f64;
        let log = (n as f64).log2();
        println!("| {n} | {links} | {rounds} | {log:.1} | {} ms | {each:.1} |", took.as_millis());
        assert!(f64::from(rounds) <= 1.5 * log + 2.0, "{n}: {rounds} rounds");
        // A summary over each link either way, a question and an answer; with room for what crosses on the way.
        assert!(each <= 2.0 * links as f64 + 4.0, "{n}: {each} messages a node");
        assert_eq!(mesh.nodes.iter().map(|node| node.counts()).max_by_key(|c| c.refused), Some(Counts::default()));
    }
}

#[test]
fn two_halves_that_were_apart_end_with_the_newest_and_the_same_fork() {
    for seed in [1, 2] {
        let mut mesh = Mesh::new(500, seed);
        let first = mesh.publish(0);
        assert!(mesh.run(Duration::from_secs(20), |mesh| mesh.all_have(first)));
        mesh.part();
        let other = mesh.side.iter().position(|side| *side != mesh.side[0]).unwrap();
        let lost = mesh.publish(other);
        mesh.publish(0);
        mesh.run(Duration::from_secs(1), |_| false);
        let newest = mesh.publish(0);
        mesh.run(Duration::from_secs(3), |_| false);
        assert!(!mesh.all_have(newest), "the other half cannot know it");
        mesh.heal();
        assert!(mesh.run(Duration::from_secs(60), |mesh| mesh.all_have(newest) && mesh.all_know_the_same()));
        for node in &mesh.nodes {
            assert_eq!(node.heads().forks().iter().map(|fork| fork.rank()).collect::<Vec<_>>(), [lost]);
        }
        let merged = mesh.publish(other);
        assert!(mesh.run(Duration::from_secs(60), |mesh| mesh.all_have(merged)));
        assert!(mesh.nodes.iter().all(|node| node.heads().forks().is_empty()));
    }
}

#[test]
fn many_publishers_at_once_end_alike() {
    let mut mesh = Mesh::new(100, 3);
    mesh.run(Duration::from_secs(1), |_| false);
    let ranks: Vec<_> = (0..20).map(|at| mesh.publish(at * 5)).collect();
    let newest = ranks.iter().max().copied().unwrap();
    assert!(mesh.run(Duration::from_secs(60), |mesh| mesh.all_have(newest) && mesh.all_know_the_same()));
    // Quiet again: what goes on is the repetition of summaries alone.
    mesh.run(Duration::from_secs(1), |_| false);
    let sent = mesh.sent;
    mesh.run(Duration::from_secs(30), |_| false);
    let links: usize = mesh.links.iter().map(Vec::len).sum();
    assert!(mesh.sent - sent <= links as u64, "{} messages in 30 s over {links} ends", mesh.sent - sent);
}
