//! What one bot may do, over all its channels and all processes: its pace, and its circuit breaker.
//!
//! One row of `credentials`, read, changed here and written back in one transaction.

use std::time::Duration;

use super::rows::{Columns, from_json, next_turn, to_json};
use super::{Hold, StoreError, Verdict};
use crate::clock::Timestamp;
use crate::model::{Pause, Scope};
use crate::platform::Credential;

/// After so many failures in a row a bot waits, and is then tried with one request at a time.
pub const TOO_OFTEN: i64 = 5;

/// So many refused secrets are remembered: more than there are while one is replaced by another, and a wrong one by a
/// right one.
const MOST_REFUSED: usize = 8;

/// A row of `credentials`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bot {
    /// Nothing before this time: what it is held for, or until it is tried again.
    pub(super) not_before: i64,
    /// Its pace, and what the platform asked for: that it works again changes nothing about it.
    pub(super) held: i64,
    /// GCRA: the theoretical arrival time.
    pub(super) tat: i64,
    /// How often in a row the platform failed.
    pub(super) failures: i64,
    /// The fingerprints of the secrets that the platform refused, the latest first, with spaces between them.
    pub(super) refused: Option<String>,
    /// Why it waits.
    pub(super) pause: Option<Pause>,
}

impl Bot {
    pub(super) fn read(row: &impl Columns) -> Result<Self, StoreError> {
        Ok(Self {
            not_before: row.number("not_before")?.unwrap_or_default(),
            held: row.number("held")?.unwrap_or_default(),
            tat: row.number("tat")?.unwrap_or_default(),
            failures: row.number("failures")?.unwrap_or_default(),
            refused: row.text("refused")?,
            pause: match row.text("pause")? {
                Some(text) => Some(from_json("credentials.pause", &text)?),
                None => None,
            },
        })
    }

    /// [`Bot::pause`] as it is stored.
    pub(super) fn pause_json(&self) -> Result<Option<String>, StoreError> {
        self.pause.as_ref().map(to_json).transpose()
    }

    /// Whether it failed lately.
    pub(super) const fn troubled(&self) -> bool {
        self.failures > 0 || self.pause.is_some()
    }

    /// Takes a turn; false if it has to wait. One that has failed too often is given one turn, and the next only once that
    /// one was recorded, or its `lease` is over.
    pub(super) fn take_turn(
        &mut self,
        credential: Option<&Credential>,
        lease: Duration,
        now: Timestamp,
    ) -> bool {
        if self.not_before > now.0 || credential.is_some_and(|it| self.refuses(&it.fingerprint)) {
            return false;
        }
        if self.failures >= TOO_OFTEN {
            self.not_before = now.after(lease).0;
        } else if let Some(Credential { pace, .. }) = credential {
            (self.tat, self.held) = next_turn(*pace, self.tat, now);
            self.not_before = self.held;
        }
        true
    }

    /// Whether the platform refused this secret.
    pub(super) fn refuses(&self, fingerprint: &str) -> bool {
        self.refused.as_deref().is_some_and(|all| all.split(' ').any(|it| it == fingerprint))
    }

    /// Processes may have different secrets while they are replaced: each that was refused counts, not the latest alone.
    fn refuse(&mut self, fingerprint: &str) {
        let known = self.refused.take();
        let others = known.as_deref().into_iter().flat_map(|all| all.split(' '));
        let others = others.filter(|it| *it != fingerprint);
        let all: Vec<_> = std::iter::once(fingerprint).chain(others).take(MOST_REFUSED).collect();
        self.refused = Some(all.join(" "));
    }

    /// Notes what an attempt says about it. Returns since when its secret was refused, and when that ended, if it has:
    /// nobody could have sent what waited meanwhile, so it has that time on top.
    pub(super) fn record(
        &mut self,
        hold: Option<Hold>,
        verdict: Option<Verdict>,
    ) -> Option<(Timestamp, Timestamp)> {
        let mut refused = None;
        match verdict {
            None => {}
            Some(Verdict::Works { at }) => {
                if self.failures >= TOO_OFTEN {
                    self.not_before = self.held;
                }
                self.failures = 0;
                refused = self.refused_since().map(|since| (since, at));
                self.pause = None;
            }
            Some(Verdict::Fails { pause, probe_at }) => {
                self.failures += 1;
                if self.failures >= TOO_OFTEN {
                    // Not the end of the probe's lease: the probe is over.
                    self.not_before = self.held.max(probe_at.0);
                    // A refusal is not forgotten over it: what waits for the secret has not had its time.
                    if self.refused_since().is_none() {
                        self.pause = Some(self.still(pause));
                    }
                }
            }
            Some(Verdict::Refused { pause }) => {
                if let Some(fingerprint) = &pause.refused {
                    self.refuse(fingerprint);
                }
                self.pause = Some(self.still(pause));
            }
        }
        if let Some(Hold { until, scope: Scope::Credential }) = hold {
            self.held = self.held.max(until.0);
            self.not_before = self.not_before.max(until.0);
        }
        refused
    }

    /// Nothing stands in its way any more but its pace and the platform's own wish; returns as [`Bot::record`] does.
    pub(super) fn resume(&mut self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let refused = self.refused_since().map(|since| (since, now));
        let Self { tat, held, .. } = *self;
        *self = Self { tat, held, not_before: held, ..Self::default() };
        refused
    }

    fn refused_since(&self) -> Option<Timestamp> {
        self.pause.as_ref().filter(|pause| pause.refused.is_some()).map(|pause| pause.since)
    }

    /// The pause as it goes on, if it is one of the same kind.
    fn still(&self, pause: Pause) -> Pause {
        let earlier = self.pause.as_ref();
        let same = earlier.filter(|earlier| earlier.refused.is_some() == pause.refused.is_some());
        let since = same.map_or(pause.since, |earlier| earlier.since);
        Pause { since, ..pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    #[test]
    fn a_platform_that_asked_for_silence_has_it_whatever_is_heard_of_other_requests() {
        let (hint, since) = (String::new(), Timestamp(0));
        let pause = Pause { reason: Reason::ServerError, hint, since, refused: None };
        let fails = Verdict::Fails { pause, probe_at: Timestamp(30) };
        let mut bot = Bot::default();
        for _ in 0..TOO_OFTEN {
            bot.record(None, Some(fails.clone()));
        }
        let hold = Hold { until: Timestamp(60), scope: Scope::Credential };
        bot.record(Some(hold), None);
        bot.record(None, Some(fails));
        assert_eq!(bot.not_before, 60);
        bot.record(None, Some(Verdict::Works { at: Timestamp(10) }));
        assert_eq!(bot.not_before, 60);
        assert!(!bot.troubled());
    }

    #[test]
    fn a_refusal_is_not_forgotten_while_the_platform_fails() {
        let pause = |refused: Option<&str>| Pause {
            reason: Reason::Auth,
            hint: String::new(),
            since: Timestamp(1),
            refused: refused.map(str::to_owned),
        };
        let mut bot = Bot::default();
        bot.record(None, Some(Verdict::Refused { pause: pause(Some("old")) }));
        for _ in 0..TOO_OFTEN {
            let fails = Verdict::Fails { pause: pause(None), probe_at: Timestamp(5) };
            assert_eq!(bot.record(None, Some(fails)), None);
        }
        let ended = bot.record(None, Some(Verdict::Works { at: Timestamp(9) }));
        assert_eq!(ended, Some((Timestamp(1), Timestamp(9))), "what waited has its time again");
    }

    #[test]
    fn whoever_resumes_a_bot_does_not_outvote_the_platform() {
        let mut bot = Bot::default();
        let hold = Hold { until: Timestamp(600), scope: Scope::Credential };
        bot.record(Some(hold), None);
        bot.resume(Timestamp(1));
        assert!(!bot.take_turn(None, Duration::from_secs(30), Timestamp(599)));
        assert!(bot.take_turn(None, Duration::from_secs(30), Timestamp(600)));
    }
}
