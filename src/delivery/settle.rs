//! What becomes of a delivery after an attempt: a pure function of the delivery, the platform's answer and the time.

use std::time::Duration;

use serde::Deserialize;

use super::backoff;
use crate::clock::Timestamp;
use crate::model::{
    Action, Delivery, DeliveryState, Disposition, Failure, MessageRef, Placement, Reason, Scope,
};
use crate::platform::{Capabilities, Sent};
use crate::store::Hold;

/// For how long a platform is trusted to recognise a repeated nonce ("the past few minutes", says Discord).
const DEDUPE_WINDOW: Duration = Duration::from_secs(2 * 60);

/// A platform that says "again in 0 seconds" is not taken by its word.
const LEAST: Duration = Duration::from_millis(100);

/// What to do when nobody knows whether a message arrived, and the platform can neither say nor deduplicate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// Send it once more: it may appear twice.
    #[default]
    Resend,
    /// Leave it `unknown`: it may be missing.
    Hold,
}

/// What the rules of settling depend on.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The operator's choice.
    pub on_unknown: OnUnknown,
    /// The first pause after a failure.
    pub base: Duration,
    /// What the platform can do.
    pub capabilities: Capabilities,
}

/// A settled attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The delivery as it stands now.
    pub delivery: Delivery,
    /// What has to wait, and until when.
    pub hold: Option<Hold>,
    /// The thread that the delivery's `thread_key` stands for from now on.
    pub thread: Option<Placement>,
}

/// Applies the outcome of the attempt at the delivery's current step.
///
/// `thread_of` tells where a message stands that belongs into the thread of another ([`crate::platform::Platform::thread_of`]).
#[must_use]
pub fn settle(
    mut delivery: Delivery,
    outcome: Result<Sent, Failure>,
    rules: Rules,
    thread_of: impl Fn(&str) -> Placement,
    now: Timestamp,
    jitter: f64,
) -> Settled {
    let Some(step) = delivery.steps.get(delivery.cursor).map(|step| step.action.clone()) else {
        return end(delivery, DeliveryState::Delivered, now);
    };
    match outcome {
        Ok(sent) => {
            let thread = step_done(&mut delivery, &step, sent, rules.capabilities, thread_of);
            Settled { thread, ..next_step(delivery, now) }
        }
        Err(failure) => failed(delivery, &step, failure, rules, now, jitter),
    }
}

/// Notes what a step achieved; returns the thread that exists now.
fn step_done(
    delivery: &mut Delivery,
    step: &Action,
    sent: Sent,
    capabilities: Capabilities,
    thread_of: impl Fn(&str) -> Placement,
) -> Option<Placement> {
    let first = delivery.messages.is_empty();
    match step {
        Action::Send { .. } => {
            let message = MessageRef { id: sent.id, thread: delivery.placement.thread.clone() };
            if first {
                delivery.permalink = sent.permalink;
            }
            // Without an ID it arrived and was deleted since.
            if !message.id.is_empty() {
                delivery.messages.push(message);
            }
            // One reply and one broadcast are enough: the other parts just follow.
            delivery.placement.broadcast = false;
            delivery.placement.reply_to = None;
        }
        Action::Edit { message_id, thread, .. } => {
            if first {
                delivery.permalink = sent.permalink;
            }
            delivery.messages.push(MessageRef { id: message_id.clone(), thread: thread.clone() });
        }
        Action::OpenThread { .. } | Action::Delete { .. } => {}
    }
    let root = delivery.messages.first()?;
    let opened = match step {
        Action::Send { .. } => first && !capabilities.opens_threads,
        Action::OpenThread { .. } => true,
        Action::Edit { .. } | Action::Delete { .. } => false,
    };
    if !opened || delivery.placement.thread.is_some() {
        return None;
    }
    let thread = thread_of(&root.id);
    if capabilities.threads {
        delivery.placement.thread.clone_from(&thread.thread);
    }
    delivery.thread_key.is_some().then_some(thread)
}

fn next_step(mut delivery: Delivery, now: Timestamp) -> Settled {
    delivery.cursor += 1;
    delivery.attempts = 0;
    delivery.doubtful_since = None;
    delivery.resent = false;
    delivery.reason = None;
    delivery.hint = None;
    if delivery.cursor >= delivery.steps.len() {
        return end(delivery, DeliveryState::Delivered, now);
    }
    delivery.state = DeliveryState::Queued;
    Settled { delivery, hold: None, thread: None }
}

fn failed(
    mut delivery: Delivery,
    step: &Action,
    failure: Failure,
    rules: Rules,
    now: Timestamp,
    jitter: f64,
) -> Settled {
    let Failure { reason, disposition, hint } = failure;
    let pause = backoff::pause(rules.base, delivery.attempts, jitter);
    let hold = match disposition {
        Disposition::Retry { after, scope } => {
            let pause = after.map_or(pause, |after| after.max(LEAST));
            Some(Hold { until: now.after(pause), scope })
        }
        Disposition::Ambiguous if repeatable(&mut delivery, step, rules, now) => {
            Some(Hold { until: now.after(pause), scope: Scope::Channel })
        }
        Disposition::Ambiguous | Disposition::GiveUp => None,
    };
    // A message without its thread is better than no message.
    if matches!(step, Action::OpenThread { .. }) && disposition == Disposition::GiveUp {
        delivery.warnings.push(format!("the message stands outside a thread: {hint}"));
        return next_step(delivery, now);
    }
    if let Some(hold) = hold {
        delivery.reason = Some(reason);
        delivery.hint = Some(hint);
        delivery.state = DeliveryState::Queued;
        return Settled { delivery, hold: Some(hold), thread: None };
    }
    if disposition == Disposition::Ambiguous {
        delivery.reason = Some(reason);
        delivery.hint = Some(
            "it may have arrived: the connection ended before the platform confirmed it. Do not send it again; \
             look in the channel"
                .to_owned(),
        );
        return end(delivery, DeliveryState::Unknown, now);
    }
    // Where the platform recognises a repetition, its refusal speaks for the first attempt as well.
    let recognised = rules.capabilities.dedupes
        && delivery.doubtful_since.is_some_and(|since| now.since(since) < DEDUPE_WINDOW);
    if recognised {
        delivery.doubtful_since = None;
    }
    give_up(delivery, reason, hint, now)
}

/// Whether an attempt that may have succeeded is made once more.
fn repeatable(delivery: &mut Delivery, step: &Action, rules: Rules, now: Timestamp) -> bool {
    let age = now.since(*delivery.doubtful_since.get_or_insert(now));
    if step.is_idempotent() || (rules.capabilities.dedupes && age < DEDUPE_WINDOW) {
        return true;
    }
    if rules.on_unknown == OnUnknown::Hold || delivery.resent {
        return false;
    }
    delivery.resent = true;
    delivery.warnings.push(
        "one part was sent twice because its first answer was lost: it may appear twice".to_owned(),
    );
    true
}

/// A delivery that came to its end.
fn end(mut delivery: Delivery, state: DeliveryState, now: Timestamp) -> Settled {
    delivery.state = state;
    delivery.finished_at = Some(now);
    Settled { delivery, hold: None, thread: None }
}

/// A delivery that is not tried any more.
#[must_use]
pub fn give_up(mut delivery: Delivery, reason: Reason, hint: String, now: Timestamp) -> Settled {
    delivery.abandon(reason, hint, now);
    Settled { delivery, hold: None, thread: None }
}
