//! What waits in the store and what did not arrive lately, by platform, and the command that shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::outbox::age;
use crate::clock::Timestamp;
use crate::model::{DeliveryState, Pause, PlatformKind};
use crate::platform::finding::Finding;
use crate::store::{Backlog, Outbox, StoreError, Trouble};

/// Whoever waits longer than this waits for something.
const LONG: Duration = Duration::from_secs(5 * 60);
/// How long ago it is of interest that something did not arrive.
const LATELY: Duration = Duration::from_secs(24 * 3600);

/// What the store says about the queues of all platforms.
pub(super) struct Queues {
    backlog: BTreeMap<PlatformKind, Backlog>,
    trouble: BTreeMap<PlatformKind, Trouble>,
    pauses: BTreeMap<PlatformKind, Pause>,
    now: Timestamp,
}

impl Queues {
    pub(super) async fn read(outbox: &dyn Outbox, now: Timestamp) -> Result<Self, StoreError> {
        let (backlog, trouble, pauses) = tokio::try_join!(
            outbox.backlog(),
            outbox.trouble(now.before(LATELY)),
            outbox.pauses()
        )?;
        Ok(Self { backlog, trouble, pauses, now })
    }

    /// One finding for each of these platforms, and for each other one that something still waits for. Pure.
    pub(super) fn findings(&self, configured: &[PlatformKind]) -> Vec<Finding> {
        let wanted = PlatformKind::ALL
            .into_iter()
            .filter(|kind| configured.contains(kind) || self.backlog.contains_key(kind));
        wanted.map(|kind| self.finding(kind, configured.contains(&kind))).collect()
    }

    fn finding(&self, platform: PlatformKind, configured: bool) -> Finding {
        let what = what(platform);
        let Backlog { queued, sending, oldest } =
            self.backlog.get(&platform).copied().unwrap_or_default();
        let Trouble { failed, unknown } = self.trouble.get(&platform).copied().unwrap_or_default();
        let oldest = oldest.map(|at| self.now.since(at)).unwrap_or_default();
        let mut detail = match (queued, sending) {
            (0, 0) => "nothing waits".to_owned(),
            (queued, 0) => format!("{queued} queued, the oldest for {}", age(oldest)),
            (queued, sending) => {
                format!("{queued} queued, {sending} being sent, the oldest for {}", age(oldest))
            }
        };
        if failed + unknown > 0 {
            detail.push_str(&format!("; in the last day {failed} failed, {unknown} unknown"));
        }
        if !configured {
            let variable = format!("{}_BOT_TOKEN", platform.as_str().to_uppercase());
            let fix = format!(
                "set {variable} again, or end them: herald outbox discard --channel {platform}"
            );
            detail.push_str(&format!("; {} is off, so nobody sends it", platform.title()));
            return Finding::advice(what, detail, fix);
        }
        if let Some(pause) = self.pauses.get(&platform) {
            let (since, hint) = (age(self.now.since(pause.since)), &pause.hint);
            detail.push_str(&format!("; paused for {since}: {hint}"));
            let fix = match pause.refused {
                Some(_) => format!("if the secret is right now: herald outbox resume {platform}"),
                None => format!("to try at once: herald outbox resume {platform}"),
            };
            return Finding::advice(what, detail, fix);
        }
        let states = [
            (oldest > LONG, DeliveryState::Queued),
            (oldest > LONG && sending > 0, DeliveryState::Sending),
            (failed > 0, DeliveryState::Failed),
            (unknown > 0, DeliveryState::Unknown),
        ];
        let states: Vec<_> =
            states.iter().filter(|(of, _)| *of).map(|(_, state)| state.as_str()).collect();
        if states.is_empty() {
            return Finding::fine(what, detail);
        }
        let states = states.join(",");
        // What waits may be older than a day.
        let lately = if oldest > LONG { "" } else { " --newer-than 24h" };
        let fix = format!(
            "see why with herald outbox list --channel {platform} --state {states}{lately}, then retry or discard"
        );
        Finding::advice(what, detail, fix)
    }
}

pub(super) fn what(platform: PlatformKind) -> String {
    format!("{} queue", platform.title())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const SLACK: PlatformKind = PlatformKind::Slack;

    fn found(waiting: (u64, u64, u64), trouble: Trouble) -> Finding {
        let (queued, sending, seconds) = waiting;
        let oldest = NOW.before(Duration::from_secs(seconds));
        let backlog = Backlog { queued, sending, oldest: Some(oldest) };
        let queues = Queues {
            backlog: (queued + sending > 0).then_some((SLACK, backlog)).into_iter().collect(),
            trouble: BTreeMap::from([(SLACK, trouble)]),
            pauses: BTreeMap::new(),
            now: NOW,
        };
        let mut found = queues.findings(&[SLACK]);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn what_waits_long_or_did_not_arrive_is_worth_a_word_and_a_command() {
        let none = Trouble::default();
        let some = Trouble { failed: 2, unknown: 1 };
        for (waiting, trouble, detail, fix) in [
            ((0, 0, 0), none, "nothing waits", None),
            ((3, 1, 300), none, "3 queued, 1 being sent, the oldest for 5m", None),
            ((3, 0, 301), none, "3 queued, the oldest for 5m", Some("--state queued, then")),
            ((0, 1, 900), none, "0 queued, 1 being sent", Some("--state queued,sending, then")),
            (
                (0, 0, 0),
                some,
                "nothing waits; in the last day 2 failed, 1 unknown",
                Some("--channel slack --state failed,unknown --newer-than 24h"),
            ),
            ((1, 0, 900), some, "the oldest for 15m; in", Some("queued,failed,unknown, then")),
        ] {
            let found = found(waiting, trouble);
            assert!(found.ok && found.detail.contains(detail), "{found:?}");
            match (fix, &found.fix) {
                (None, None) => {}
                (Some(words), Some(fix)) => assert!(fix.contains(words), "{fix}"),
                _ => panic!("{found:?}"),
            }
        }
    }

    #[test]
    fn what_waits_for_a_platform_that_is_off_is_told() {
        let backlog = Backlog { queued: 2, sending: 0, oldest: Some(NOW) };
        let queues = Queues {
            backlog: BTreeMap::from([(PlatformKind::Discord, backlog)]),
            trouble: BTreeMap::new(),
            pauses: BTreeMap::new(),
            now: NOW,
        };
        let found = queues.findings(&[SLACK]);
        let [slack, discord] = &found[..] else { panic!("{found:?}") };
        assert_eq!((slack.what.as_str(), &slack.fix), ("Slack queue", &None));
        assert!(discord.detail.ends_with("Discord is off, so nobody sends it"), "{discord:?}");
        assert!(discord.fix.as_ref().unwrap().contains("discard --channel discord"));
    }

    #[test]
    fn a_bot_that_waits_is_told_with_the_command_that_lets_it_go_on() {
        let pause = Pause {
            reason: Reason::Auth,
            hint: "set a new SLACK_BOT_TOKEN".to_owned(),
            since: NOW.before(Duration::from_secs(7200)),
            refused: Some("f".to_owned()),
        };
        let queues = Queues {
            backlog: BTreeMap::new(),
            trouble: BTreeMap::new(),
            pauses: BTreeMap::from([(SLACK, pause)]),
            now: NOW,
        };
        let found = queues.findings(&[SLACK]).remove(0);
        assert_eq!(found.detail, "nothing waits; paused for 2h: set a new SLACK_BOT_TOKEN");
        assert!(found.fix.unwrap().ends_with("herald outbox resume slack"));
    }
}
