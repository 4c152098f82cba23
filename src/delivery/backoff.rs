//! How long to wait before the next try, where the platform did not say.

use std::time::Duration;

/// The longest pause between two tries.
const CAP: Duration = Duration::from_secs(5 * 60);

/// Full jitter: anything from nothing to `base` · 2ⁿ⁻¹ after the nth attempt, at most five minutes.
///
/// `jitter` is in `0.0..1.0`. See "Exponential Backoff And Jitter", AWS Architecture Blog.
#[must_use]
pub fn pause(base: Duration, attempts: u32, jitter: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let most = base.saturating_mul(1 << doublings).min(CAP);
    most.mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(second, 1, 1.0), second);
        assert_eq!(pause(second, 4, 1.0), 8 * second);
        assert_eq!(pause(second, 4, 0.5), 4 * second);
        assert_eq!(pause(second, 40, 1.0), CAP);
    }

    proptest! {
        #[test]
        fn never_longer_than_the_cap(base in 0_u64..100_000, attempts: u32, jitter: f64) {
            prop_assume!(!jitter.is_nan());
            prop_assert!(pause(Duration::from_millis(base), attempts, jitter) <= CAP);
        }
    }
}
