//! Moments as the wire formats write them.

use crate::clock::Timestamp;

/// A moment with a numeric offset: `2026-01-31T09:05:00.123000+00:00`.
pub(super) fn iso(at: Timestamp) -> String {
    at.rfc3339().replace('Z', "000+00:00")
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
