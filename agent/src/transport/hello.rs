//! HELLO: the first frame each way on a lane, a control channel and a QUIC connection.
//!
//! The dialler sends its HELLO at once; the acceptor, which by then has verified the dialler's certificate, answers with its
//! own. A [`Greeting`] waits for the peer's and turns into a [`PeerHello`], which is what everything later asks for: so
//! nothing can be accepted before HELLO, and nobody can greet twice.

use std::time::Duration;

use mesh_config::MeshName;

use super::frame::Kind;
use super::message::{
    Capabilities, Features, Frame, Hello, Incarnation, LaneRole, MessageError, VersionRange, WallTime,
};

/// Why a greeting failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Something else came before HELLO.
    #[error("{0} before HELLO")]
    NotHello(Kind),
    /// The peer's HELLO cannot be read.
    #[error("the peer's HELLO cannot be read")]
    Malformed(#[source] MessageError),
    /// No version in common.
    #[error("the peer speaks protocol version {theirs}, this agent {ours}")]
    Version {
        /// What this agent speaks.
        ours: VersionRange,
        /// What the peer speaks.
        theirs: VersionRange,
    },
    /// A peer of another mesh.
    #[error("the peer belongs to mesh `{theirs}`, this agent to `{ours}`")]
    Mesh {
        /// This agent's mesh.
        ours: MeshName,
        /// The peer's mesh.
        theirs: MeshName,
    },
    /// The peer is this very agent, or repeats what this agent says.
    #[error("the peer answers with this agent's own incarnation")]
    Ourselves,
    /// The acceptor took the lane for one of the other kind.
    #[error("the peer did not take the lane's role")]
    Role,
}

/// What a peer's HELLO has settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    /// The protocol version that both speak from here on.
    pub version: u32,
    /// The peer's run.
    pub incarnation: Incarnation,
    /// How far the peer's wall clock is ahead of ours (negative: behind), judged with half the round trip.
    pub skew: time::Duration,
    /// The round trip by which the skew was judged.
    pub round_trip: Duration,
    /// The version of the mesh document in force at the peer.
    pub mesh_version: u64,
    /// That document's SHA-256.
    pub mesh_digest: [u8; 32],
    /// Who opens streams, if this is a lane.
    pub role: LaneRole,
    /// The optional parts of the protocol that both can do.
    pub features: Features,
    /// What the peer says of itself.
    pub capabilities: Capabilities,
}

/// Waits for the peer's HELLO.
#[derive(Debug)]
pub struct Greeting {
    mine: Hello,
    dialled: bool,
}

impl Greeting {
    /// The dialler's end: `mine` is appended to `out`, and says which role the lane has.
    pub fn dial(mine: Hello, out: &mut Vec<u8>) -> Self {
        Frame::Hello(Box::new(mine.clone())).encode(out);
        Self { mine, dialled: true }
    }

    /// The acceptor's end: `mine` is sent by [`handle`](Self::handle), with the role that the dialler chose.
    pub fn accept(mine: Hello) -> Self {
        Self { mine, dialled: false }
    }

    /// Takes the first frame from the peer. `now` is our wall clock, `round_trip` the best guess of it: for the dialler the
    /// time from its HELLO to this one, for the acceptor what it saw of the TLS handshake. The acceptor's own HELLO, with
    /// `now` as its wall time, is appended to `out`.
    ///
    /// # Errors
    /// [`HelloError`]: the connection is to be closed.
    pub fn handle(
        self,
        kind: Kind,
        payload: &[u8],
        now: WallTime,
        round_trip: Duration,
        out: &mut Vec<u8>,
    ) -> Result<PeerHello, HelloError> {
        if kind != Kind::Hello {
            return Err(HelloError::NotHello(kind));
        }
        let theirs = match Frame::decode(kind, payload).map_err(HelloError::Malformed)? {
            Frame::Hello(hello) => *hello,
            other => return Err(HelloError::NotHello(other.kind())),
        };
        let mut mine = self.mine;
        if mine.mesh != theirs.mesh {
            return Err(HelloError::Mesh { ours: mine.mesh, theirs: theirs.mesh });
        }
        let version = mine
            .versions
            .common(theirs.versions)
            .ok_or(HelloError::Version { ours: mine.versions, theirs: theirs.versions })?;
        if mine.incarnation == theirs.incarnation {
            return Err(HelloError::Ourselves);
        }
        if self.dialled {
            if mine.role != theirs.role {
                return Err(HelloError::Role);
            }
        } else {
            mine.role = theirs.role;
            mine.wall_time = now;
            Frame::Hello(Box::new(mine.clone())).encode(out);
        }
        let half = time::Duration::try_from(round_trip / 2).unwrap_or(time::Duration::ZERO);
        // Both times lie between the years 1 and 9999, so their difference fits.
        let ahead = time::Duration::microseconds(theirs.wall_time.micros() - now.micros());
        Ok(PeerHello {
            version,
            incarnation: theirs.incarnation,
            skew: ahead.saturating_add(half),
            round_trip,
            mesh_version: theirs.mesh_version,
            mesh_digest: theirs.mesh_digest,
            role: theirs.role,
            features: Features(mine.features.0 & theirs.features.0),
            capabilities: theirs.capabilities,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::frame::HEADER;

    fn hello(incarnation: u64) -> Hello {
        Hello {
            versions: VersionRange::OURS,
            incarnation: Incarnation(incarnation),
            wall_time: WallTime::from_micros(1_000_000),
            mesh: MeshName::new("lab").unwrap(),
            mesh_version: incarnation,
            mesh_digest: [1; 32],
            role: LaneRole::Opener,
            features: Features(incarnation),
            capabilities: Capabilities::default(),
        }
    }

    fn at(micros: i64) -> WallTime {
        WallTime::from_micros(micros)
    }

    fn greet(
        dialler: Hello,
        acceptor: Hello,
    ) -> (Result<PeerHello, HelloError>, Option<Result<PeerHello, HelloError>>) {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        let dialling = Greeting::dial(dialler, &mut there);
        let accepted = Greeting::accept(acceptor).handle(
            Kind::Hello,
            &there[HEADER..],
            at(61_000_000),
            Duration::from_millis(20),
            &mut back,
        );
        assert_eq!(accepted.is_ok(), !back.is_empty(), "an acceptor answers only whom it takes");
        let dialled = accepted.is_ok().then(|| {
            let mut none = Vec::new();
            let got =
                dialling.handle(Kind::Hello, &back[HEADER..], at(1_010_000), Duration::from_millis(20), &mut none);
            assert!(none.is_empty());
            got
        });
        (accepted, dialled)
    }

    #[test]
    fn both_ends_learn_the_same_version_and_each_other_s_facts() {
        let reverse = Hello { role: LaneRole::Reverse, ..hello(6) };
        let (accepted, dialled) = greet(reverse, hello(3));
        let (accepted, dialled) = (accepted.unwrap(), dialled.unwrap().unwrap());
        assert_eq!((accepted.version, dialled.version), (1, 1));
        assert_eq!((accepted.incarnation, dialled.incarnation), (Incarnation(6), Incarnation(3)));
        assert_eq!((accepted.role, dialled.role), (LaneRole::Reverse, LaneRole::Reverse));
        assert_eq!((accepted.features, dialled.features), (Features(2), Features(2)));
        assert_eq!((accepted.mesh_version, dialled.mesh_version), (6, 3));
    }

    #[test]
    fn skew_is_the_difference_of_the_clocks_less_the_way() {
        let (accepted, dialled) = greet(hello(1), hello(2));
        // The dialler's clock stood at 1 s when it sent; 10 ms later the acceptor's stood at 61 s.
        assert_eq!(accepted.unwrap().skew, time::Duration::milliseconds(-59_990));
        // Another 10 ms later, the dialler's stands at 1.010 s by this test.
        assert_eq!(dialled.unwrap().unwrap().skew, time::Duration::milliseconds(60_000));
    }

    #[test]
    fn strangers_are_told_apart() {
        let other_mesh = Hello { mesh: MeshName::new("prod").unwrap(), ..hello(1) };
        assert!(matches!(greet(other_mesh, hello(2)).0, Err(HelloError::Mesh { .. })));
        let newer = Hello { versions: VersionRange::new(2, 3).unwrap(), ..hello(1) };
        let error = greet(newer, hello(2)).0.unwrap_err();
        assert_eq!(error.to_string(), "the peer speaks protocol version 2 to 3, this agent 1");
        assert_eq!(greet(hello(2), hello(2)).0, Err(HelloError::Ourselves));
    }

    #[test]
    fn one_older_version_interoperates() {
        let newer = Hello { versions: VersionRange::new(1, 2).unwrap(), ..hello(1) };
        assert_eq!(greet(newer.clone(), hello(2)).0.unwrap().version, 1);
        assert_eq!(greet(hello(2), newer).0.unwrap().version, 1);
    }

    #[test]
    fn nothing_else_is_accepted_before_hello() {
        for &kind in Kind::ALL.iter().filter(|&&kind| kind != Kind::Hello) {
            let mut out = Vec::new();
            let result = Greeting::accept(hello(1)).handle(kind, &[0, 0, 0, 1], at(0), Duration::ZERO, &mut out);
            assert_eq!(result, Err(HelloError::NotHello(kind)));
            assert!(out.is_empty());
        }
        let mut out = Vec::new();
        let result = Greeting::accept(hello(1)).handle(Kind::Hello, &[0xff], at(0), Duration::ZERO, &mut out);
        assert!(matches!(result, Err(HelloError::Malformed(_))));
    }

    #[test]
    fn an_acceptor_that_ignores_the_role_is_left() {
        let mut out = Vec::new();
        let dialling = Greeting::dial(Hello { role: LaneRole::Reverse, ..hello(1) }, &mut out);
        let answer = Frame::Hello(Box::new(hello(2))).to_bytes();
        let result = dialling.handle(Kind::Hello, &answer[HEADER..], at(0), Duration::ZERO, &mut Vec::new());
        assert_eq!(result, Err(HelloError::Role));
    }

    #[test]
    fn the_farthest_clocks_do_not_overflow() {
        let far = Hello { wall_time: at(i64::MAX), ..hello(1) };
        let mut there = Vec::new();
        let _dialling = Greeting::dial(far, &mut there);
        let got = Greeting::accept(hello(2)).handle(
            Kind::Hello,
            &there[HEADER..],
            at(i64::MIN),
            Duration::MAX,
            &mut Vec::new(),
        );
        assert!(got.unwrap().skew.is_positive());
    }
}
