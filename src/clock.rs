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

    /// As RFC 3339 writes it, in UTC, with milliseconds: `2026-01-31T09:05:00.123Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let days = self.0.div_euclid(86_400_000);
        let millis = self.0.rem_euclid(86_400_000);
        // Days to civil date, by Howard Hinnant's algorithm: the year begins in March.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }

    /// What [`Timestamp::rfc3339`] wrote; `None` if it is not that.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let form = "0000-00-00T00:00:00.000Z";
        let fits = |(byte, form): (u8, u8)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        };
        // No part of it can be so large that it overflows.
        if text.len() != form.len() || !text.bytes().zip(form.bytes()).all(fits) {
            return None;
        }
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let mut date = date.split('-').map(str::parse::<i64>);
        let mut part = || date.next()?.ok();
        let (year, month, day) = (part()?, part()?, part()?);
        let mut time = time.split([':', '.']).map(str::parse::<i64>);
        let mut part = || time.next()?.ok();
        let (hour, minute, second, millis) = (part()?, part()?, part()?, part()?);
        // The same algorithm backwards.
        let year = if month <= 2 { year.checked_sub(1)? } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let moment = Self((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis);
        (moment.rfc3339() == text).then_some(moment)
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
    fn moments_are_written_as_dates() {
        assert_eq!(Timestamp(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(951_827_696_007).rfc3339(), "2000-02-29T12:34:56.007Z");
        assert_eq!(Timestamp(1_767_225_599_999).rfc3339(), "2025-12-31T23:59:59.999Z");
        for millis in (0..40_000).map(|n| n * 86_400_000 * 11 / 10 + n) {
            let text = Timestamp(millis).rfc3339();
            assert_eq!(Timestamp::from_rfc3339(&text), Some(Timestamp(millis)), "{text}");
        }
        for text in [
            "",
            "2025-12-31T23:59:59Z",
            "2025-13-31T23:59:59.999Z",
            "2025-00-31T23:59:59.999Z",
            "2025-12-31T23:59:59.+99Z",
            "99999999999999999-1-1T1:1:1.1Z",
            // As long as one that is right.
            "99999999999-1-1T1:1:1.1Z",
        ] {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }

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
