//! Which way to a peer: TLS over TCP, QUIC, or first the one and then the other. Pure.

use std::fmt;
use std::time::{Duration, Instant};

use mesh_config::Transport;

/// How long TLS alone is tried before QUIC is started as well.
pub const HEAD_START: Duration = Duration::from_millis(300);

/// One of the two ways a connection between agents can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// TLS 1.3 over TCP. Preferred where both work.
    Tls,
    /// QUIC.
    Quic,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tls, Self::Quic];

    /// Whether `transport` lets links run this way.
    pub fn is_allowed(self, transport: Transport) -> bool {
        matches!((self, transport), (_, Transport::Auto) | (Self::Tls, Transport::Tls) | (Self::Quic, Transport::Quic))
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "TLS over TCP",
            Self::Quic => "QUIC over UDP",
        })
    }
}

/// At which layer a dial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// No address: its DNS name does not resolve.
    Name,
    /// No route to the address.
    NoRoute,
    /// The host answered that nobody listens.
    Refused,
    /// No answer: silently dropped on the way, or the host is down.
    Silent,
    /// The TLS handshake failed.
    Tls,
    /// The certificate proves somebody else, or the peer does not take ours.
    Identity,
    /// HELLO did not agree.
    Hello,
    /// This host's own limits.
    Local,
}

/// Why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DialFailure {
    /// At which layer.
    pub class: FailureClass,
    /// What happened, for people: with addresses and without the way's name.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tried {
    NotYet,
    Running,
    Failed,
}

/// One round of dials: the ways that `transport` allows, TLS first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Round {
    began: Instant,
    tried: [Tried; 2],
}

impl Round {
    /// A round that begins now. A way that is not allowed counts as failed.
    pub fn new(transport: Transport, now: Instant) -> Self {
        let tried = Way::ALL.map(|way| if way.is_allowed(transport) { Tried::NotYet } else { Tried::Failed });
        Self { began: now, tried }
    }

    /// The next way to start now, if any.
    pub fn poll(&mut self, now: Instant) -> Option<Way> {
        let way = match self.tried {
            [Tried::NotYet, _] => Way::Tls,
            [Tried::Failed, Tried::NotYet] => Way::Quic,
            [_, Tried::NotYet] if now >= self.began + HEAD_START => Way::Quic,
            _ => return None,
        };
        self.tried[way.index()] = Tried::Running;
        Some(way)
    }

    /// A dial of this way has failed.
    pub fn handle_failed(&mut self, way: Way) {
        self.tried[way.index()] = Tried::Failed;
    }

    /// When to poll again, if nothing happens before.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.tried {
            [Tried::NotYet, _] | [Tried::Failed, Tried::NotYet] => Some(self.began),
            [Tried::Running, Tried::NotYet] => Some(self.began + HEAD_START),
            _ => None,
        }
    }

    /// Whether every way was tried and none worked.
    pub fn has_failed(&self) -> bool {
        self.tried == [Tried::Failed; 2]
    }
}

/// What to tell people about a peer that no way reaches: every way that was tried and what came of it.
pub fn explain(failures: [Option<&DialFailure>; 2]) -> Option<String> {
    let told: Vec<_> =
        Way::ALL.iter().zip(failures).filter_map(|(way, failure)| Some(format!("{way}: {}", failure?))).collect();
    match told.len() {
        0 => None,
        1 => Some(told.concat()),
        _ => Some(format!("both ways are blocked: {}", told.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_gives_tls_a_head_start_or_moves_on_as_soon_as_it_fails() {
        let now = Instant::now();
        let mut round = Round::new(Transport::Auto, now);
        assert_eq!((round.next_timeout(), round.poll(now)), (Some(now), Some(Way::Tls)));
        assert_eq!(round.poll(now), None);
        assert_eq!(round.next_timeout(), Some(now + HEAD_START));
        let mut failed = round.clone();
        failed.handle_failed(Way::Tls);
        assert_eq!(failed.poll(now), Some(Way::Quic));
        assert!(!failed.has_failed());
        failed.handle_failed(Way::Quic);
        assert!(failed.has_failed());
        assert_eq!(round.poll(now + HEAD_START), Some(Way::Quic));
        assert_eq!((round.poll(now + HEAD_START), round.next_timeout()), (None, None));
    }

    #[test]
    fn one_way_alone_is_tried_alone() {
        let now = Instant::now();
        for (transport, way) in [(Transport::Tls, Way::Tls), (Transport::Quic, Way::Quic)] {
            let mut round = Round::new(transport, now);
            assert_eq!(round.poll(now), Some(way));
            assert_eq!(round.poll(now + 10 * HEAD_START), None);
            round.handle_failed(way);
            assert!(round.has_failed());
        }
    }

    #[test]
    fn both_blocked_names_both() {
        let failure = |class, text: &str| DialFailure { class, text: text.to_owned() };
        let tcp = failure(FailureClass::Refused, "10.0.0.1:7443 refused the connection");
        let udp = failure(FailureClass::Silent, "10.0.0.1:7443 did not answer within 8 s");
        assert_eq!(explain([None, None]), None);
        assert_eq!(explain([Some(&tcp), None]).unwrap(), "TLS over TCP: 10.0.0.1:7443 refused the connection");
        assert_eq!(
            explain([Some(&tcp), Some(&udp)]).unwrap(),
            "both ways are blocked: TLS over TCP: 10.0.0.1:7443 refused the connection; \
             QUIC over UDP: 10.0.0.1:7443 did not answer within 8 s"
        );
    }
}
