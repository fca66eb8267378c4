//! Why a stream was refused or cut: the codes that travel in REFUSED and RESET, and that metrics, audit events and
//! `explain` name.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $text:literal;)*) => {
        /// A reason with a stable code on the wire and a stable name for machines.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Reason {
            /// Every reason, for tables and metrics.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code on the wire.
            pub fn code(self) -> u8 {
                self as u8
            }

            /// The reason behind a code; codes that a newer peer may send become [`Reason::Other`].
            pub fn from_code(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    _ => Self::Other,
                }
            }

            /// A stable snake_case name: metric labels, JSON, audit events.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What happened, for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// A code that this version does not know.
    Other = 0, "other", "no reason was named";
    /// The service does not exist for this peer. Unknown and forbidden are told apart only where the operator looks.
    NotPermitted = 1, "not_permitted", "no `allow` of the service names this node";
    /// The target answered with a reset.
    TargetRefused = 2, "target_refused", "the target refused the connection";
    /// The target did not answer in time.
    TargetTimeout = 3, "target_timeout", "the target did not answer in time";
    /// No route to the target, or its name does not resolve.
    TargetUnreachable = 4, "target_unreachable", "the target cannot be reached";
    /// A limit on connections or memory is reached.
    Limit = 5, "limit", "a limit of the agent is reached";
    /// The agent is stopping.
    Draining = 6, "draining", "the agent is stopping";
    /// The service needs something that this agent does not do.
    Unsupported = 7, "unsupported", "the agent does not support what the service asks for";
    /// The application reset its connection.
    Application = 8, "application_reset", "the application reset its connection";
    /// The link was lost under the stream.
    LinkLost = 9, "link_lost", "the link was lost";
    /// Nothing moved for the idle limit.
    Idle = 10, "idle", "nothing moved for the idle limit";
    /// One direction stayed closed for the half-closed limit.
    HalfClosed = 11, "half_closed", "one direction stayed closed for the half-closed limit";
    /// The mesh no longer permits the connection.
    PermitWithdrawn = 12, "permit_withdrawn", "the mesh no longer permits it";
    /// The peer broke the protocol.
    Protocol = 13, "protocol", "the peer broke the protocol";
    /// No node that offers the service could be reached in time.
    NoPath = 14, "no_path", "no node that offers the service could be reached";
    /// Of several control channels between two agents, another stays.
    Superseded = 15, "superseded", "another connection has taken its place";
    /// The mesh joins the two nodes by no service any longer, or has the peer no more.
    NoBusiness = 16, "no_business", "the mesh joins the two nodes no longer";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_come_back() {
        let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), reason);
        }
        assert_eq!(Reason::from_code(250), Reason::Other);
    }
}
