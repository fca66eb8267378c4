//! Which congestion control QUIC uses.
//!
//! QUIC has its own, in this process (RFC 9002 §7). Cubic unless NewReno or BBR is asked for by name: BBR does not take a loss for
//! a sign of congestion, and is some 30 times as fast where one datagram of 100 is lost for other reasons; but quinn's leaves next to
//! nothing to whoever shares a bottleneck with it, the kernel's own bbr included. docs/performance.md has the figures.

use std::sync::Arc;

use quinn::Connection;
use quinn::congestion::{Bbr, BbrConfig, ControllerFactory, Cubic, CubicConfig, NewReno, NewRenoConfig};

use crate::vocabulary::Congestion;

/// The window of a new connection in bytes (RFC 9002 §7.2). quinn's BBR would begin with twenty times as much.
const FIRST_WINDOW: u64 = 10 * 1200;

/// A congestion control of QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// RFC 9438: after a loss the window goes back quickly to where it was, and carefully on.
    #[default]
    Cubic,
    /// RFC 9002 §7, after RFC 6582: a loss halves the window, and it grows by a packet each round trip.
    NewReno,
    /// draft-cardwell-iccrg-bbr-congestion-control: the window follows the bandwidth that is measured.
    Bbr,
}

impl From<&Congestion> for Algorithm {
    /// What is most like the kernel's congestion control of this name.
    fn from(setting: &Congestion) -> Self {
        match setting {
            Congestion::Named(name) if name.as_str() == "reno" => Self::NewReno,
            Congestion::Named(name) if name.as_str().starts_with("bbr") => Self::Bbr,
            Congestion::Auto | Congestion::System | Congestion::Named(_) => Self::Cubic,
        }
    }
}

impl Algorithm {
    /// What a connection uses.
    pub fn of(connection: &Connection) -> Option<Self> {
        let controller = connection.congestion_state().into_any();
        if controller.is::<Cubic>() {
            Some(Self::Cubic)
        } else if controller.is::<NewReno>() {
            Some(Self::NewReno)
        } else {
            controller.is::<Bbr>().then_some(Self::Bbr)
        }
    }

    /// Its name, for operators.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
            Self::Bbr => "bbr",
        }
    }

    /// What makes the controllers of connections.
    pub fn factory(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::NewReno => Arc::new(NewRenoConfig::default()),
            Self::Bbr => {
                let mut config = BbrConfig::default();
                config.initial_window(FIRST_WINDOW);
                Arc::new(config)
            }
        }
    }
}
