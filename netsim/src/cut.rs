//! Who cannot reach whom.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Answer;
use crate::topology::HostId;
use crate::wire::course::{Course, Phase};
use crate::wire::nanos;

/// Hosts that are cut off from one another: whatever one of them sends does not arrive at the other, whichever way it
/// goes. Neighbours still find one another's Ethernet address, as on networks with routers between them.
///
/// [`Network::cut`](crate::Network::cut) makes it so for as long as its value lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// From, to.
    pairs: BTreeSet<(usize, usize)>,
    answer: Answer,
    flaps: Option<(Duration, Duration)>,
}

impl Cut {
    fn new(pairs: impl IntoIterator<Item = (HostId, HostId)>) -> Self {
        let pairs = pairs.into_iter().filter(|(from, to)| from != to).map(|(from, to)| (from.0, to.0)).collect();
        Self { pairs, answer: Answer::Silence, flaps: None }
    }

    /// What one host sends to another; the way back is open.
    #[must_use]
    pub fn one_way(from: HostId, to: HostId) -> Self {
        Self::new([(from, to)])
    }

    /// Two hosts.
    #[must_use]
    pub fn pair(one: HostId, other: HostId) -> Self {
        Self::new([(one, other), (other, one)])
    }

    /// Groups of hosts: within each everyone reaches everyone, between them nobody anybody. Hosts in no group reach all.
    #[must_use]
    pub fn groups(groups: &[&[HostId]]) -> Self {
        let apart = |one: usize, other: usize| {
            groups[one].iter().flat_map(move |from| groups[other].iter().map(move |to| (*from, *to)))
        };
        let all = (0..groups.len()).flat_map(|one| (0..groups.len()).map(move |other| (one, other)));
        Self::new(all.filter(|(one, other)| one != other).flat_map(|(one, other)| apart(one, other)))
    }

    /// One host from all others.
    #[must_use]
    pub fn isolate(host: HostId, others: &[HostId]) -> Self {
        Self::groups(&[&[host], &without(others, host)])
    }

    /// Hosts in a ring: each reaches its nearest on both sides, so many that it sees a majority, and none sees the same
    /// one as another.
    #[must_use]
    pub fn majorities_ring(hosts: &[HostId]) -> Self {
        let count = hosts.len();
        let reach = (count / 2).div_ceil(2);
        let far = move |one: usize, other: usize| {
            let distance = one.abs_diff(other);
            distance.min(count - distance) > reach
        };
        let all = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
        Self::new(all.filter(|&(one, other)| far(one, other)).map(|(one, other)| (hosts[one], hosts[other])))
    }

    /// Two groups, and a host that reaches both.
    #[must_use]
    pub fn bridge(left: &[HostId], bridge: HostId, right: &[HostId]) -> Self {
        Self::groups(&[&without(left, bridge), &without(right, bridge)])
    }

    /// The same, but senders are told: a reset for TCP, "port unreachable" for everything else.
    #[must_use]
    pub fn rejecting(self) -> Self {
        Self { answer: Answer::Rejection, ..self }
    }

    /// The same, but in turns: cut for so long, healed for so long.
    #[must_use]
    pub fn flapping(self, cut: Duration, healed: Duration) -> Self {
        Self { flaps: Some((cut, healed)), ..self }
    }

    pub(crate) fn pairs(&self) -> Vec<(u32, u32)> {
        let number = |host: usize| u32::try_from(host).unwrap_or(u32::MAX);
        self.pairs.iter().map(|&(from, to)| (number(from), number(to))).collect()
    }

    pub(crate) fn course(&self) -> Course {
        let cut = Phase::Cut(self.answer);
        match self.flaps {
            None => Course::constant(cut),
            Some((down, up)) => Course::alternating((nanos(down), cut), (nanos(up), Phase::Fine)),
        }
    }
}

fn without(hosts: &[HostId], one: HostId) -> Vec<HostId> {
    hosts.iter().copied().filter(|host| *host != one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Vec<HostId> {
        (0..count).map(HostId).collect()
    }

    #[test]
    fn each_cut_names_the_pairs_that_it_should() {
        let h = hosts(4);
        let both = |pairs: &[(u32, u32)]| -> Vec<(u32, u32)> {
            let mut all: Vec<_> = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(Cut::one_way(h[2], h[1]).pairs(), [(2, 1)]);
        assert_eq!(Cut::pair(h[2], h[1]).pairs(), both(&[(1, 2)]));
        assert_eq!(Cut::groups(&[&[h[0], h[1]], &[h[2]]]).pairs(), both(&[(0, 2), (1, 2)]));
        assert_eq!(Cut::groups(&[&h[..1], &h[1..2], &h[2..3]]).pairs(), both(&[(0, 1), (0, 2), (1, 2)]));
        assert_eq!(Cut::isolate(h[1], &h).pairs(), both(&[(1, 0), (1, 2), (1, 3)]));
        assert_eq!(Cut::bridge(&h[..2], h[1], &h[1..]).pairs(), both(&[(0, 2), (0, 3)]));
    }

    #[test]
    fn in_a_ring_of_majorities_each_sees_a_majority_and_no_two_the_same() {
        for count in 3..20 {
            let cut = Cut::majorities_ring(&hosts(count)).pairs();
            let sees: Vec<Vec<u32>> = (0..u32::try_from(count).unwrap())
                .map(|one| (0..u32::try_from(count).unwrap()).filter(|&other| !cut.contains(&(one, other))).collect())
                .collect();
            assert!(sees.iter().all(|seen| seen.len() > count / 2), "{count}: {sees:?}");
            // Of three or four hosts, two neighbours on each side are all others.
            let distinct: BTreeSet<_> = sees.iter().collect();
            assert!(distinct.len() == count || count <= 4, "{count}: {sees:?}");
        }
    }
}
