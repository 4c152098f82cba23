//! What an attempt says about the bot that made it. A bot whose platform fails, or refuses its secret, waits as a whole:
//! [`crate::store`] keeps count, for all processes.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::model::{Failure, Pause, PlatformKind, Reason};
use crate::store::{TOO_OFTEN, Verdict};

/// Which bot was asked, and with what.
pub(super) struct Asked {
    pub(super) platform: PlatformKind,
    /// Which secret it showed.
    pub(super) fingerprint: String,
    /// It failed lately.
    pub(super) troubled: bool,
}

/// The verdict of one answer, or of none; `None` if it is no news.
///
/// Any definite answer shows that the platform works. A refused secret is not shown again: Discord bans an address after
/// [10,000 invalid requests in 10 minutes](https://discord.com/developers/docs/topics/rate-limits#invalid-request-limit-aka-cloudflare-bans).
pub(super) fn verdict(
    asked: Asked,
    answer: Result<(), &Failure>,
    probe: Duration,
    now: Timestamp,
) -> Option<Verdict> {
    let Asked { platform, fingerprint, troubled } = asked;
    let works = troubled.then_some(Verdict::Works { at: now });
    let Err(failure) = answer else { return works };
    let pause = |hint, refused| Pause { reason: failure.reason, hint, since: now, refused };
    match failure.reason {
        Reason::Auth => {
            Some(Verdict::Refused { pause: pause(failure.hint.clone(), Some(fingerprint)) })
        }
        Reason::Unreachable
        | Reason::Timeout
        | Reason::ConnectionLost
        | Reason::ServerError
        | Reason::InvalidAnswer => {
            let (title, seconds) = (platform.title(), probe.as_secs().max(1));
            let hint = format!(
                "{title} failed {TOO_OFTEN} times in a row, so all messages to {title} wait, and one is tried every {seconds} s"
            );
            Some(Verdict::Fails { pause: pause(hint, None), probe_at: now.after(probe) })
        }
        // Ours, not the platform's.
        Reason::Internal | Reason::Interrupted => None,
        _ => works,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn of(answer: Result<(), Reason>, troubled: bool) -> Option<Verdict> {
        let answer = answer.map_err(|reason| Failure::give_up(reason, "the hint"));
        let answer = answer.as_ref().map(|_| ());
        let asked = Asked { platform: PlatformKind::Slack, fingerprint: "f".to_owned(), troubled };
        verdict(asked, answer, Duration::from_secs(30), NOW)
    }

    #[test]
    fn an_answer_is_news_only_after_trouble() {
        assert_eq!(of(Ok(()), false), None);
        assert_eq!(of(Ok(()), true), Some(Verdict::Works { at: NOW }));
        assert_eq!(of(Err(Reason::RateLimited), true), Some(Verdict::Works { at: NOW }));
        assert_eq!(of(Err(Reason::NotInChannel), false), None);
        assert_eq!(of(Err(Reason::Internal), true), None);
    }

    #[test]
    fn a_refused_secret_is_named_and_a_failing_platform_tried_again() {
        let Some(Verdict::Refused { pause }) = of(Err(Reason::Auth), false) else {
            panic!("not refused");
        };
        assert_eq!((pause.hint.as_str(), pause.refused.as_deref()), ("the hint", Some("f")));
        let Some(Verdict::Fails { pause, probe_at }) = of(Err(Reason::ServerError), false) else {
            panic!("not failed");
        };
        assert!(pause.hint.contains("Slack failed 5 times"), "{}", pause.hint);
        assert_eq!(probe_at, Timestamp(NOW.0 + 30_000));
    }
}
