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

/// A row of `credentials`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bot {
    /// Nothing before this time: its pace, the platform's wish, or until it is tried again.
    pub(super) not_before: i64,
    /// GCRA: the theoretical arrival time.
    pub(super) tat: i64,
    /// How often in a row the platform failed.
    pub(super) failures: i64,
    /// The fingerprint of the secret that the platform refused.
    pub(super) refused: Option<String>,
    /// Why it waits.
    pub(super) pause: Option<Pause>,
}

impl Bot {
    pub(super) fn read(row: &impl Columns) -> Result<Self, StoreError> {
        Ok(Self {
            not_before: row.number("not_before")?.unwrap_or_default(),
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
        let refused = self.refused.as_ref();
        if self.not_before > now.0
            || credential.is_some_and(|credential| Some(&credential.fingerprint) == refused)
        {
            return false;
        }
        if self.failures >= TOO_OFTEN {
            self.not_before = now.after(lease).0;
        } else if let Some(Credential { pace, .. }) = credential {
            (self.tat, self.not_before) = next_turn(*pace, self.tat, now);
        }
        true
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
                    self.not_before = 0;
                }
                self.failures = 0;
                refused = self.refused_since().map(|since| (since, at));
                self.pause = None;
            }
            Some(Verdict::Fails { pause, probe_at }) => {
                self.failures += 1;
                if self.failures >= TOO_OFTEN {
                    // Not the end of the probe's lease: the probe is over.
                    self.not_before = probe_at.0;
                    self.pause = Some(self.still(pause));
                }
            }
            Some(Verdict::Refused { pause }) => {
                self.refused.clone_from(&pause.refused);
                self.pause = Some(self.still(pause));
            }
        }
        if let Some(Hold { until, scope: Scope::Credential }) = hold {
            self.not_before = self.not_before.max(until.0);
        }
        refused
    }

    /// Nothing stands in its way any more but its pace; returns as [`Bot::record`] does.
    pub(super) fn resume(&mut self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let refused = self.refused_since().map(|since| (since, now));
        *self = Self { tat: self.tat, ..Self::default() };
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
