//! What was refused or failed lately, for `status` and `explain`. Pure and bounded.
//!
//! Equal refusals share an entry with a count. Proven or dialled peers and strangers have a table each, so that a flood
//! of strangers cannot push out what a member's operator is looking for.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use mesh_config::{NodeName, ServiceName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::vocabulary::Direction;

/// Entries kept for peers, and as many again for strangers.
pub const CAPACITY: usize = 64;

/// The longest detail that is kept, in bytes.
pub const MAX_DETAIL: usize = 512;

/// The layer that said no, from the outside in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// A name did not resolve.
    Resolve,
    /// The network has no way there.
    NoRoute,
    /// The far host refused the port.
    Refused,
    /// Nothing came back: packets are dropped on the way, or the peer says nothing.
    Silent,
    /// The TLS handshake.
    Tls,
    /// The certificate: whose it is, its dates, its profile.
    Identity,
    /// HELLO: versions, meshes.
    Hello,
    /// No `allow` lets the node in.
    Permit,
    /// The application behind the offering agent.
    Target,
    /// A limit of the agent.
    Limit,
    /// A signed mesh document.
    Document,
}

impl Layer {
    /// Every layer, from the outside in.
    pub const ALL: [Self; 11] = [
        Self::Resolve,
        Self::NoRoute,
        Self::Refused,
        Self::Silent,
        Self::Tls,
        Self::Identity,
        Self::Hello,
        Self::Permit,
        Self::Target,
        Self::Limit,
        Self::Document,
    ];

    /// The name that JSON, metric labels and log fields carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::NoRoute => "no_route",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Tls => "tls",
            Self::Identity => "identity",
            Self::Hello => "hello",
            Self::Permit => "permit",
            Self::Target => "target",
            Self::Limit => "limit",
            Self::Document => "document",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One refusal or failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who went to whom.
    pub direction: Direction,
    /// The peer whose certificate was proven, or that was dialled. A name that a stranger only claims goes into `detail`.
    pub peer: Option<NodeName>,
    /// The far end.
    pub address: Option<SocketAddr>,
    /// The service that was asked for, if it is one of the mesh.
    pub service: Option<ServiceName>,
    /// The layer that said no.
    pub layer: Layer,
    /// A stable snake_case name, the same as in metrics and audit events.
    pub reason: &'static str,
    /// What exactly, for people: whose certificate, which date, which alert.
    pub detail: String,
}

/// Equal refusals: how many, since when, the last one in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last of them.
    pub last: Refusal,
    /// When the first happened.
    pub first_at: OffsetDateTime,
    /// When the last happened.
    pub last_at: OffsetDateTime,
    /// How many.
    pub count: u64,
}

/// Where a stranger comes from, as far as it is counted: an IPv4 address, or an IPv6 /64, which is what one host can
/// choose addresses from freely (RFC 4291 §2.5.4).
pub fn source(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// The recent refusals.
#[derive(Debug, Default)]
pub struct Recent {
    /// Least recently seen first.
    peers: VecDeque<Entry>,
    strangers: VecDeque<Entry>,
}

impl Recent {
    /// Takes note of one.
    pub fn record(&mut self, mut refusal: Refusal, now: OffsetDateTime) {
        truncate(&mut refusal.detail, MAX_DETAIL);
        let table = if refusal.peer.is_some() { &mut self.peers } else { &mut self.strangers };
        let known = table.iter().position(|e| same(&e.last, &refusal)).and_then(|at| table.remove(at));
        let entry = match known {
            Some(entry) => {
                Entry { last: refusal, last_at: now, count: entry.count.saturating_add(1), first_at: entry.first_at }
            }
            None => {
                if table.len() >= CAPACITY {
                    table.pop_front();
                }
                Entry { last: refusal, first_at: now, last_at: now, count: 1 }
            }
        };
        table.push_back(entry);
    }

    /// All entries, newest first.
    pub fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<_> = self.peers.iter().chain(&self.strangers).cloned().collect();
        all.sort_by_key(|e| std::cmp::Reverse(e.last_at));
        all
    }

    /// The newest entry about a peer that `wanted` picks.
    pub fn newest_about(&self, peer: &NodeName, wanted: impl Fn(&Refusal) -> bool) -> Option<&Entry> {
        self.peers.iter().rev().find(|e| e.last.peer.as_ref() == Some(peer) && wanted(&e.last))
    }

    /// Forgets what was noted about a peer in one direction at the link's layers: called when its link comes up, so that
    /// `explain` does not repeat what has been mended.
    pub fn link_came_up(&mut self, peer: &NodeName, direction: Direction) {
        self.peers.retain(|e| {
            let of_link = !matches!(e.last.layer, Layer::Permit | Layer::Target | Layer::Limit | Layer::Document);
            !(of_link && e.last.direction == direction && e.last.peer.as_ref() == Some(peer))
        });
    }
}

fn same(a: &Refusal, b: &Refusal) -> bool {
    a.direction == b.direction
        && a.layer == b.layer
        && a.reason == b.reason
        && a.peer == b.peer
        && a.service == b.service
        && (a.peer.is_some() || a.address.map(source) == b.address.map(source))
}

fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn refusal(peer: Option<&str>, address: &str, reason: &'static str) -> Refusal {
        Refusal {
            direction: Direction::In,
            peer: peer.map(|p| p.parse().unwrap()),
            address: Some(address.parse().unwrap()),
            service: None,
            layer: Layer::Tls,
            reason,
            detail: String::new(),
        }
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    #[test]
    fn equal_refusals_share_an_entry_whatever_their_port() {
        let mut recent = Recent::default();
        recent.record(refusal(None, "10.0.0.1:1000", "expired"), at(1));
        recent.record(refusal(None, "10.0.0.2:1000", "expired"), at(2));
        recent.record(refusal(None, "10.0.0.1:2000", "expired"), at(3));
        recent.record(refusal(None, "[2001:db8::1]:1", "expired"), at(4));
        recent.record(refusal(None, "[2001:db8::2]:1", "expired"), at(5));
        let entries = recent.entries();
        assert_eq!(entries.iter().map(|e| e.count).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!((entries[1].first_at, entries[1].last_at), (at(1), at(3)));
        assert_eq!(entries[1].last.address, Some("10.0.0.1:2000".parse().unwrap()));
    }

    #[test]
    fn a_flood_of_strangers_neither_grows_the_table_nor_pushes_out_peers() {
        let mut recent = Recent::default();
        recent.record(refusal(Some("beta"), "10.0.0.9:1", "wrong_node"), at(0));
        for n in 0..100_000u32 {
            let address = format!("{}:443", std::net::Ipv4Addr::from(n));
            let mut refusal = refusal(None, &address, "expired");
            refusal.detail = "é".repeat(10_000);
            recent.record(refusal, at(i64::from(n)));
        }
        let entries = recent.entries();
        assert_eq!(entries.len(), CAPACITY + 1);
        assert!(entries.iter().all(|e| e.last.detail.len() <= MAX_DETAIL + '…'.len_utf8()));
        assert!(recent.newest_about(&"beta".parse().unwrap(), |_| true).is_some());
    }

    #[test]
    fn a_link_that_comes_up_clears_its_own_failures_alone() {
        let mut recent = Recent::default();
        let beta: NodeName = "beta".parse().unwrap();
        recent.record(refusal(Some("beta"), "10.0.0.1:1", "expired"), at(1));
        recent.record(Refusal { layer: Layer::Permit, ..refusal(Some("beta"), "10.0.0.1:1", "not_permitted") }, at(2));
        recent.record(refusal(Some("gamma"), "10.0.0.2:1", "expired"), at(3));
        recent.link_came_up(&beta, Direction::In);
        let left: Vec<_> = recent.entries().iter().map(|e| e.last.reason).collect();
        assert_eq!(left, ["expired", "not_permitted"]);
        assert_eq!(recent.newest_about(&beta, |_| true).unwrap().last.layer, Layer::Permit);
    }
}
