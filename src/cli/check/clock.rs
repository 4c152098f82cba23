//! Whether this machine's clock is right, by what the others' answers are dated.

use std::fmt;
use std::time::UNIX_EPOCH;

use futures_util::future::join_all;
use http::{Method, header};
use url::Url;

use crate::clock::Clock;
use crate::model::PlatformKind;
use crate::platform::finding::Finding;
use crate::platform::http::HttpClient;

pub(super) const WHAT: &str = "clock";
/// Less is no difference: dates are whole seconds.
const LITTLE: u64 = 2_000;
/// From here on it is worth a word, in milliseconds.
const MUCH: u64 = 60_000;
/// From here on it is a fault: signed requests of Slack's are refused once they are five minutes old.
const TOO_MUCH: u64 = 240_000;
/// An answer that took longer says too little about the time.
const LONGEST: i64 = 10_000;
const FIX: &str =
    "set this machine's clock by NTP (chrony, systemd-timesyncd; in Kubernetes on the node)";

/// Who tells the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Teller {
    Platform(PlatformKind),
    /// One that may run on the same node, and then has the same clock, right or wrong.
    Agent,
}

impl fmt::Display for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(platform) => f.write_str(platform.title()),
            Self::Agent => f.write_str("the agent"),
        }
    }
}

/// How far this machine's clock is behind somebody's, in milliseconds; ahead of it, if negative.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Behind {
    whose: Teller,
    millis: i64,
}

/// Asks everybody who is to be talked to for the time, without a token. Whoever is nearest to this machine's own counts:
/// one wrong clock, or an answer out of a cache, is not this machine's fault. An agent counts only where no platform told
/// the time.
pub(super) async fn finding(
    asked: &[(Teller, Url)],
    http: &HttpClient,
    clock: &dyn Clock,
) -> Finding {
    let answers = join_all(asked.iter().map(|(whose, url)| ask(*whose, url, http, clock))).await;
    judge(answers.into_iter().flatten())
}

async fn ask(whose: Teller, url: &Url, http: &HttpClient, clock: &dyn Clock) -> Option<Behind> {
    let before = clock.now().0;
    let answer = http.send(http.request(Method::HEAD, url.clone())).await.ok()?;
    let after = clock.now().0;
    let date = httpdate::parse_http_date(answer.header(header::DATE.as_str())?).ok()?;
    let date = i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    // Dates are whole seconds, cut off.
    let millis = date + 500 - before.midpoint(after);
    (after - before < LONGEST).then_some(Behind { whose, millis })
}

/// What that means. Pure.
fn judge(answers: impl Iterator<Item = Behind>) -> Finding {
    let rank = |it: &Behind| (it.whose == Teller::Agent, it.millis.unsigned_abs());
    let Some(Behind { whose, millis }) = answers.min_by_key(rank) else {
        return Finding::fine(WHAT, "not compared, as nobody told the time");
    };
    let off = millis.unsigned_abs();
    let way = if millis > 0 { "behind" } else { "ahead of" };
    let detail = format!("{} s {way} {whose}'s", off / 1000);
    match off {
        0..LITTLE => Finding::fine(WHAT, format!("the same as {whose}'s")),
        LITTLE..MUCH => Finding::fine(WHAT, detail),
        MUCH..TOO_MUCH => Finding::advice(WHAT, detail, FIX),
        TOO_MUCH.. => {
            let why = "so that signed requests look too old, and leases run out at the wrong time";
            Finding::fault(WHAT, format!("{detail}, {why}"), FIX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLACK: Teller = Teller::Platform(PlatformKind::Slack);
    const DISCORD: Teller = Teller::Platform(PlatformKind::Discord);

    fn judged(answers: &[(Teller, i64)]) -> Finding {
        judge(answers.iter().map(|(whose, millis)| Behind { whose: *whose, millis: *millis }))
    }

    #[test]
    fn a_little_is_fine_more_is_worth_a_word_and_too_much_is_a_fault() {
        for (millis, ok, fix, words) in [
            (0, true, false, "the same as Slack's"),
            (-1_999, true, false, "as Slack's"),
            (2_000, true, false, "2 s behind Slack's"),
            (-59_999, true, false, "59 s ahead of Slack's"),
            (60_000, true, true, "60 s behind"),
            (-239_999, true, true, "239 s ahead of"),
            (240_000, false, true, "240 s behind"),
            (-300_000, false, true, "300 s ahead of"),
            (i64::MIN, false, true, "ahead of"),
        ] {
            let found = judged(&[(SLACK, millis)]);
            assert_eq!((found.ok, found.fix.is_some()), (ok, fix), "{found:?}");
            assert!(found.detail.contains(words), "{found:?}");
        }
    }

    #[test]
    fn one_wrong_clock_elsewhere_is_not_ours() {
        assert_eq!(judged(&[(DISCORD, 500_000), (SLACK, 300)]).detail, "the same as Slack's");
        assert!(!judged(&[(DISCORD, 500_000), (SLACK, 300_000)]).ok);
        assert!(judged(&[]).ok);
    }

    #[test]
    fn an_agent_with_the_same_wrong_clock_hides_nothing() {
        let found = judged(&[(Teller::Agent, 300), (SLACK, 300_000), (DISCORD, 301_000)]);
        assert!(!found.ok && found.detail.starts_with("300 s behind Slack's"), "{found:?}");
        assert!(!judged(&[(Teller::Agent, 300_000)]).ok, "it counts where nobody else tells it");
    }
}
