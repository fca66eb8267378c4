//! Wall time, read in one place.
//!
//! Everything that judges dates or tells the time to a peer asks a [`Clock`]; nothing else in the agent reads wall time.
//! Durations never come from here: they use the runtime's monotonic clock.
//!
//! For tests with a wrong clock, two environment variables shift it, both at once if both are set. `ADIT_CLOCK_OFFSET` is
//! seconds, and may be negative. `ADIT_CLOCK_FILE` names a file that is read again as time goes by, so that a clock can go
//! wrong, and right again, while the agent runs. It holds three whole numbers: nanoseconds that the clock is ahead,
//! nanoseconds that it gains in each second, and the monotonic time in nanoseconds (`CLOCK_MONOTONIC`) from which on it
//! gains them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use time::{Duration, OffsetDateTime};

/// For so long what a file said is taken to be what it says.
const FRESH: std::time::Duration = std::time::Duration::from_millis(20);
/// More than a file of three numbers has.
const LONGEST: u64 = 128;

/// The file that the environment names. There is one environment.
static FOLLOWED: OnceLock<Followed> = OnceLock::new();

/// A source of wall time: the system's, shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    offset: Duration,
    /// The file is asked as well.
    followed: bool,
}

/// A variable that shifts the clock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The offset is no number.
    #[error("ADIT_CLOCK_OFFSET is {}, not a whole number of seconds", mesh_config::quote(.0))]
    Offset(String),
    /// The file does not say how the clock is shifted.
    #[error("ADIT_CLOCK_FILE names {}, which does not hold three whole numbers", .0.display())]
    File(PathBuf),
}

impl Clock {
    /// The system's clock, shifted as the environment says.
    ///
    /// # Errors
    /// When the environment says it in a way that is not understood.
    pub fn from_environment() -> Result<Self, ClockError> {
        let offset = match std::env::var("ADIT_CLOCK_OFFSET") {
            Ok(text) => text.parse().map(Duration::seconds).map_err(|_| ClockError::Offset(text))?,
            Err(_) => Duration::ZERO,
        };
        let Some(path) = std::env::var_os("ADIT_CLOCK_FILE").map(PathBuf::from) else {
            return Ok(Self::shifted(offset));
        };
        let skew = read(&path).ok_or_else(|| ClockError::File(path.clone()))?;
        FOLLOWED.get_or_init(|| Followed { path, said: Mutex::new((Instant::now(), skew)) });
        Ok(Self { offset, followed: true })
    }

    /// The system's clock, shifted by `offset`.
    pub fn shifted(offset: Duration) -> Self {
        Self { offset, followed: false }
    }

    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn now(&self) -> OffsetDateTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let followed = FOLLOWED.get().filter(|_| self.followed).map_or(Duration::ZERO, Followed::ahead);
        OffsetDateTime::UNIX_EPOCH
            .checked_add(Duration::try_from(since_epoch).unwrap_or(Duration::MAX))
            .and_then(|t| t.checked_add(self.offset))
            .and_then(|t| t.checked_add(followed))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// A file that says how wrong the clock is.
#[derive(Debug)]
struct Followed {
    path: PathBuf,
    /// When it was read last, and what it said.
    said: Mutex<(Instant, Skew)>,
}

/// Nanoseconds ahead, nanoseconds gained a second, and from when.
type Skew = [i64; 3];

impl Followed {
    fn ahead(&self) -> Duration {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.0.elapsed() >= FRESH {
            // A file that has gone leaves the clock as it is.
            *said = (Instant::now(), read(&self.path).unwrap_or(said.1));
        }
        ahead(said.1, monotonic())
    }
}

fn read(path: &Path) -> Option<Skew> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    let numbers: Vec<i64> = text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

fn monotonic() -> i64 {
    let now = std::time::Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

fn ahead([ahead, gains, since]: Skew, now: i64) -> Duration {
    let gained = (i128::from(now) - i128::from(since)) * i128::from(gains) / 1_000_000_000;
    let all = i128::from(ahead) + gained;
    Duration::nanoseconds(i64::try_from(all).unwrap_or(if all < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_gains_is_ahead_by_what_it_has_gained() {
        let second = 1_000_000_000;
        for (skew, now, nanos) in [
            ([0, 0, 0], 7, 0),
            ([-5, 0, 0], 7, -5),
            ([second, second / 100, 3 * second], 103 * second, 2 * second),
            ([0, -second, second], 3 * second, -2 * second),
            ([i64::MAX, i64::MAX, i64::MIN], i64::MAX, i64::MAX),
        ] {
            assert_eq!(ahead(skew, now), Duration::nanoseconds(nanos));
        }
    }

    #[test]
    fn a_file_is_read_again_and_one_that_is_torn_or_gone_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clock");
        let hour = Duration::HOUR;
        assert_eq!(read(&path), None);
        std::fs::write(&path, "3600000000000 0 0\n").unwrap();
        let followed = Followed { said: Mutex::new((Instant::now(), read(&path).unwrap())), path: path.clone() };
        assert_eq!(followed.ahead(), hour);
        let becomes = |wanted: Duration| {
            let start = Instant::now();
            while followed.ahead() != wanted {
                assert!(start.elapsed().as_secs() < 10, "it is {} ahead", followed.ahead());
                std::thread::yield_now();
            }
        };
        std::fs::write(&path, "-7200000000000 0 0\n").unwrap();
        becomes(hour * -2);
        std::fs::write(&path, "1 2").unwrap();
        followed.said.lock().unwrap().0 -= FRESH;
        assert_eq!(followed.ahead(), hour * -2);
        std::fs::remove_file(&path).unwrap();
        followed.said.lock().unwrap().0 -= FRESH;
        assert_eq!(followed.ahead(), hour * -2);
    }
}
