//! What becomes of a delivery after an attempt: a pure function of the delivery, the platform's answer and the time.

use std::time::Duration;

use serde::Deserialize;

use super::backoff;
use crate::clock::Timestamp;
use crate::model::{
    Action, Delivery, DeliveryState, Disposition, Doubt, Failure, MessageRef, Placement, Reason,
    Scope,
};
use crate::platform::{Capabilities, Sent};
use crate::store::{Hold, Settled};

/// For how long a platform is trusted to recognise a repeated nonce ("the past few minutes", says Discord).
const DEDUPE_WINDOW: Duration = Duration::from_secs(2 * 60);

/// How long a message may take to show up in a channel's history.
const SETTLING: Duration = Duration::from_secs(2);

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
            let doubt = (delivery.may_have_arrived() && rules.capabilities.dedupes)
                .then_some(Doubt::Recognised);
            tell(&mut delivery, doubt);
            let thread = step_done(&mut delivery, &step, sent, rules.capabilities, thread_of);
            Settled { thread, doubt, ..next_step(delivery, now) }
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
    Settled::new(delivery)
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
    if reason == Reason::Auth {
        // Not this message's fault: it waits for the secret, as the others do that come after it.
        return wait(delivery, reason, hint, None);
    }
    let pause = backoff::pause(rules.base, delivery.attempts, jitter);
    let mut doubt = None;
    let hold = match disposition {
        Disposition::Retry { after, scope } => {
            let pause = after.map_or(pause, |after| after.max(LEAST));
            Some(Hold { until: now.after(pause), scope })
        }
        Disposition::Ambiguous => {
            delivery.doubtful_since.get_or_insert(now);
            if repeatable(&delivery, step, rules, now) {
                // What may be in the history has to have the time to get there.
                let pause = if rules.capabilities.recalls { pause.max(SETTLING) } else { pause };
                Some(Hold { until: now.after(pause), scope: Scope::Channel })
            } else {
                doubt = Some(blindly(&mut delivery, rules.on_unknown));
                (doubt == Some(Doubt::Resent))
                    .then(|| Hold { until: now.after(pause), scope: Scope::Channel })
            }
        }
        Disposition::GiveUp => None,
    };
    // A message without its thread is better than no message.
    if matches!(step, Action::OpenThread { .. }) && disposition == Disposition::GiveUp {
        delivery.warnings.push(format!("the message stands outside a thread: {hint}"));
        return next_step(delivery, now);
    }
    if hold.is_some() {
        return Settled { doubt, ..wait(delivery, reason, hint, hold) };
    }
    if disposition == Disposition::Ambiguous {
        delivery.reason = Some(reason);
        delivery.hint = Some(
            "it may have arrived: the connection ended before the platform confirmed it. Do not send it again; \
             look in the channel"
                .to_owned(),
        );
        return Settled { doubt, ..end(delivery, DeliveryState::Unknown, now) };
    }
    // Where the platform recognises a repetition, its refusal speaks for the first attempt as well.
    let recognised = rules.capabilities.dedupes
        && delivery.doubtful_since.is_some_and(|since| now.since(since) < DEDUPE_WINDOW);
    if recognised {
        delivery.doubtful_since = None;
    }
    give_up(delivery, reason, hint, now)
}

/// Whether an attempt that may have succeeded can be repeated without harm, or asked about.
fn repeatable(delivery: &Delivery, step: &Action, rules: Rules, now: Timestamp) -> bool {
    let Rules { capabilities, .. } = rules;
    let age = delivery.doubtful_since.map_or(Duration::ZERO, |since| now.since(since));
    step.is_idempotent()
        || (capabilities.dedupes && age < DEDUPE_WINDOW)
        || (capabilities.recalls && !delivery.resent)
}

/// What becomes of an attempt that may have succeeded, where nobody can tell: it is repeated once, or not at all.
fn blindly(delivery: &mut Delivery, on_unknown: OnUnknown) -> Doubt {
    if on_unknown == OnUnknown::Hold || delivery.resent {
        return Doubt::Held;
    }
    delivery.resent = true;
    tell(delivery, Some(Doubt::Resent));
    Doubt::Resent
}

/// Tells the caller how a doubt was settled, once however many parts it concerned.
pub(super) fn tell(delivery: &mut Delivery, doubt: Option<Doubt>) {
    if let Some(warning) = doubt.and_then(Doubt::warning)
        && !delivery.warnings.iter().any(|told| told == warning)
    {
        delivery.warnings.push(warning.to_owned());
    }
}

/// A delivery that is tried again.
fn wait(mut delivery: Delivery, reason: Reason, hint: String, hold: Option<Hold>) -> Settled {
    delivery.reason = Some(reason);
    delivery.hint = Some(hint);
    delivery.state = DeliveryState::Queued;
    Settled { hold, ..Settled::new(delivery) }
}

/// A delivery that came to its end.
fn end(mut delivery: Delivery, state: DeliveryState, now: Timestamp) -> Settled {
    delivery.state = state;
    delivery.finished_at = Some(now);
    Settled::new(delivery)
}

/// A delivery that is not tried any more.
#[must_use]
pub fn give_up(mut delivery: Delivery, reason: Reason, hint: String, now: Timestamp) -> Settled {
    delivery.abandon(reason, hint, now);
    Settled::new(delivery)
}
