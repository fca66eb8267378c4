//! How a drain goes.

use serde::{Deserialize, Serialize};

use super::Connection;

/// What `adit drain` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Seconds that connections may go on, at most; `null` for `drain` of the agent file.
    #[serde(default)]
    pub timeout: Option<f64>,
}

/// Where a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainState {
    /// Nothing new is accepted, and connections go on.
    Draining,
    /// It is over, and the agent ends.
    Drained,
}

/// `adit drain`: one a line whenever the number of connections has changed, and one at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draining {
    /// Where it is.
    pub state: DrainState,
    /// Application connections that are open.
    pub connections: u64,
    /// Seconds since it began.
    pub seconds: f64,
    /// Seconds until what is left is cut.
    pub left: f64,
    /// At the end: the connections that did not end in time and were cut.
    pub cut: Vec<Connection>,
}
