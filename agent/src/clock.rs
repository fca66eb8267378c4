//! Wall time, read in one place.
//!
//! Everything that judges dates or tells the time to a peer asks a [`Clock`]; nothing else in the agent reads wall time.
//! For scenarios with a wrong clock, the environment variable `ADIT_CLOCK_OFFSET` (seconds, may be negative) shifts it.
//! Durations never come from here: they use the runtime's monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

use time::{Duration, OffsetDateTime};

/// A source of wall time: the system's, shifted by a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    offset: Duration,
}

impl Clock {
    /// The system's clock, shifted by `ADIT_CLOCK_OFFSET` seconds if that is set.
    ///
    /// # Errors
    /// The variable's text if it is not a whole number.
    pub fn from_environment() -> Result<Self, String> {
        match std::env::var("ADIT_CLOCK_OFFSET") {
            Ok(text) => text.parse().map(|s| Self { offset: Duration::seconds(s) }).map_err(|_| text),
            Err(_) => Ok(Self::default()),
        }
    }

    /// The system's clock, shifted by `offset`.
    pub fn shifted(offset: Duration) -> Self {
        Self { offset }
    }

    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn now(&self) -> OffsetDateTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        OffsetDateTime::UNIX_EPOCH
            .checked_add(Duration::try_from(since_epoch).unwrap_or(Duration::MAX))
            .and_then(|t| t.checked_add(self.offset))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}
