//! Time and randomness as arguments: whatever has a schedule takes a [`Clock`], so that tests decide what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch, as it is stored.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment, `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This moment, `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A duration in whole milliseconds, saturating.
#[must_use]
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a length of time as people write it: `45s`, `10m`, `2h`, `30d`.
///
/// # Errors
/// When it is none; the text says how to write one.
pub fn length(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => 0,
    };
    let number = text.strip_suffix(|c: char| c.is_ascii_alphabetic()).filter(|_| unit > 0);
    let seconds = number.and_then(|n| n.parse::<u32>().ok()).map(|n| u64::from(n) * unit);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("`{text}` is no length of time: write 45s, 10m, 2h or 30d"))
}

/// Where "now" and jitter come from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// A number in `0.0..1.0`, for jitter.
    fn jitter(&self) -> f64;
}

/// The machine's clock and random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(millis(since_epoch))
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }
}

/// A clock that stands still until it is told to move. Jitter is always the middle.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(u64::try_from(start.0).unwrap_or(0))))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.0.load(Ordering::SeqCst)).unwrap_or(i64::MAX))
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_number_and_its_unit() {
        for (text, seconds) in [("45s", 45), ("10m", 600), (" 2h ", 7_200), ("30d", 2_592_000)] {
            assert_eq!(length(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "10", "h", "-1h", "1.5h", "1w", "10 m", "2hours", "99999999999d"] {
            assert!(length(text).unwrap_err().contains("write 45s"), "{text}");
        }
    }
}
