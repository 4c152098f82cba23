//! Retry and discard, of one delivery or of many.

use serde::Serialize;

use super::How;
use super::table;
use crate::cli::{ConfigError, Output, show};
use crate::clock::Timestamp;
use crate::model::{ChannelId, Delivery, DeliveryId, DeliveryState, Reason};
use crate::store::{Filter, Outbox, StoreError};

/// So many are looked up at once.
const PAGE: u32 = 500;

/// What is done to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Put back into its queue.
    Retry {
        /// Given up after this time.
        deadline: Timestamp,
    },
    /// Ended.
    Discard,
}

/// What became of one. A program reads it as `{id, channel?, state?, done, error?}`.
#[derive(Debug, Serialize)]
struct Outcome {
    id: DeliveryId,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<ChannelId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<DeliveryState>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One command.
pub(super) struct Steering<'a> {
    pub(super) outbox: &'a dyn Outbox,
    pub(super) act: Act,
    pub(super) now: Timestamp,
    pub(super) how: How,
}

impl Steering<'_> {
    /// Does it to those with these IDs, or else to all that `filter` means; false if one that was named was not to be had.
    pub(super) async fn run(&self, ids: &[DeliveryId], filter: Filter) -> anyhow::Result<bool> {
        if !ids.is_empty() {
            return self.named(ids).await;
        }
        let filter = Filter { states: self.states(filter.states)?, ..filter };
        self.chosen(filter).await
    }

    /// The states that this can be done to; those that were given, if there are any.
    fn states(&self, given: Vec<DeliveryState>) -> Result<Vec<DeliveryState>, ConfigError> {
        let possible = self.act.states();
        if let Some(state) = given.iter().find(|state| !possible.contains(state)) {
            let names: Vec<_> = possible.iter().map(|state| state.as_str()).collect();
            let error = format!(
                "what is {} cannot be {}: name {}",
                state.as_str(),
                self.act.done(),
                names.join(", ")
            );
            return Err(ConfigError::setting("--state", error));
        }
        Ok(if given.is_empty() { possible.to_vec() } else { given })
    }

    async fn named(&self, ids: &[DeliveryId]) -> anyhow::Result<bool> {
        let (mut outcomes, mut seen) = (Vec::new(), Vec::new());
        for id in ids {
            let error = "there is no such delivery".to_owned();
            let none =
                Outcome { id: *id, channel: None, state: None, done: false, error: Some(error) };
            let outcome = match self.outbox.delivery(*id).await? {
                Some(delivery) => {
                    let outcome = self.steer(&delivery).await?;
                    seen.push(delivery);
                    outcome
                }
                None => none,
            };
            if let Some(error) = &outcome.error {
                show::complain(&format!("herald: {id}: {error}"));
            }
            outcomes.push(outcome);
        }
        self.print(&outcomes, &seen)?;
        Ok(outcomes.iter().all(|outcome| outcome.error.is_none()))
    }

    /// Each is looked at once: a retried one that fails again meanwhile is not retried again.
    async fn chosen(&self, mut filter: Filter) -> anyhow::Result<bool> {
        let mut left = self.how.most.unwrap_or(u32::MAX);
        let (mut outcomes, mut seen) = (Vec::new(), Vec::new());
        let mut refused = 0_usize;
        while left > 0 {
            filter.most = PAGE.min(left);
            let page = self.outbox.list(&filter).await?;
            let Some(last) = page.last() else { break };
            filter.beyond = Some(last.id);
            for delivery in page {
                let outcome = self.steer(&delivery).await?;
                if outcome.error.is_some() {
                    refused += 1;
                } else {
                    left = left.saturating_sub(1);
                    if self.how.dry_run {
                        seen.push(delivery);
                    }
                }
                outcomes.push(outcome);
            }
        }
        let done = outcomes.len() - refused;
        self.print(&outcomes, &seen)?;
        if self.how.output == Output::Text {
            let word = if self.how.dry_run { "would be" } else { "were" };
            let mut line = format!("{done} {word} {}", self.act.done());
            if refused > 0 {
                line.push_str(&format!(
                    ", {refused} not: what they said is no longer kept, or they have moved on"
                ));
            }
            show::complain(&line);
        }
        Ok(true)
    }

    async fn steer(&self, delivery: &Delivery) -> Result<Outcome, StoreError> {
        let Delivery { id, channel, .. } = delivery;
        let now = if self.how.dry_run {
            Some(delivery.clone())
        } else {
            match self.act {
                Act::Retry { deadline } => self.outbox.retry(*id, self.now, deadline).await?,
                Act::Discard => {
                    let hint = "an operator discarded it";
                    self.outbox.end(*id, Reason::Discarded, hint, self.now).await?
                }
            }
        };
        let error = match &now {
            None => Some("there is no such delivery".to_owned()),
            Some(now) if self.how.dry_run => self.act.refuses(now),
            Some(now) => self.act.failed(now),
        };
        let done = !self.how.dry_run && error.is_none();
        let state = now.map(|delivery| delivery.state);
        Ok(Outcome { id: *id, channel: Some(channel.clone()), state, done, error })
    }

    fn print(&self, outcomes: &[Outcome], seen: &[Delivery]) -> std::io::Result<()> {
        match self.how.output {
            Output::Json => show::json(&outcomes),
            Output::Text if self.how.dry_run => table(seen, self.now),
            Output::Text => {
                let done = outcomes.iter().filter(|outcome| outcome.error.is_none());
                let lines = done.filter_map(|outcome| {
                    Some(format!("{} {}\n", outcome.id, outcome.state?.as_str()))
                });
                show::text(&lines.collect::<String>())
            }
        }
    }
}

impl Act {
    /// The states of a delivery in which there is something to do.
    const fn states(self) -> &'static [DeliveryState] {
        match self {
            Self::Retry { .. } => &[DeliveryState::Failed, DeliveryState::Unknown],
            Self::Discard => {
                &[DeliveryState::Queued, DeliveryState::Sending, DeliveryState::Unknown]
            }
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Retry { .. } => "retried",
            Self::Discard => "discarded",
        }
    }

    /// Why this would not be done to a delivery.
    fn refuses(self, delivery: &Delivery) -> Option<String> {
        if !self.states().contains(&delivery.state) {
            return Some(self.wrong_state(delivery.state));
        }
        (self != Self::Discard && delivery.expunged_at.is_some()).then(|| EXPUNGED.to_owned())
    }

    /// Why it was not done to a delivery that is now like this.
    fn failed(self, delivery: &Delivery) -> Option<String> {
        match (self, delivery.state) {
            (Self::Retry { .. }, DeliveryState::Queued | DeliveryState::Sending) => None,
            (Self::Retry { .. }, _) if self.refuses(delivery).is_some() => self.refuses(delivery),
            (Self::Discard, DeliveryState::Failed | DeliveryState::Sending) => None,
            (_, state) => Some(self.wrong_state(state)),
        }
    }

    fn wrong_state(self, state: DeliveryState) -> String {
        format!("it is {}, so it cannot be {}", state.as_str(), self.done())
    }
}

const EXPUNGED: &str = "what it said is no longer kept (HERALD_KEEP_PAYLOAD), so it cannot be retried: whoever sent it has to \
                        send it again";
