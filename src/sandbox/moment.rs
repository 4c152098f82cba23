//! Moments as the wire formats write them.

use crate::clock::Timestamp;

/// A moment with a numeric offset: `2026-01-31T09:05:00.123000+00:00`.
pub(super) fn iso(at: Timestamp) -> String {
    let days = at.0.div_euclid(86_400_000);
    let millis = at.0.rem_euclid(86_400_000);
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
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}000+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_dates() {
        assert_eq!(iso(Timestamp(0)), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(iso(Timestamp(951_827_696_007)), "2000-02-29T12:34:56.007000+00:00");
        assert_eq!(iso(Timestamp(1_767_225_599_999)), "2025-12-31T23:59:59.999000+00:00");
    }
}
