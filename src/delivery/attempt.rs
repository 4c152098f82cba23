//! One attempt at a claimed delivery: may it go, what does the platform say, and is that stored.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::breaker::{self, Asked};
use super::settle::{Rules, give_up, is_forgotten, settle, tell};
use super::worker::Inner;
use crate::model::{
    Action, Delivery, DeliveryState, Disposition, Doubt, Failure, Placement, Reason, Step,
};
use crate::platform::{Capabilities, Platform, Sent};
use crate::policy::{Denied, Policy, Route};
use crate::store::{Claim, Recorded, Settled, StoreError, Verdict};
use crate::telemetry::metrics::{Gate, Lease, StoreAccess};
use crate::telemetry::spans;

/// The longest a request may take, whatever a platform's code does. Shorter than the lease.
const REQUEST: Duration = Duration::from_secs(20);
/// A claim is used this soon after it was asked for: a request that begins later might outlive the lease, by clocks that
/// need not agree.
const FRESH: Duration = Duration::from_secs(5);
/// The pauses before a result is recorded, in milliseconds: while the store is away nobody else can take the lane, so it is
/// worth to wait for about a minute. A result that is lost makes a send ambiguous that was not.
const RECORD_AFTER: [u64; 4] = [0, 100, 400, 1_600];
const RECORD_AGAIN_AFTER: u64 = 3_200;
const RECORD_AGAIN: usize = 17;

/// What came of the current step.
struct Attempt {
    outcome: Result<Sent, Failure>,
    /// How it was settled whether an earlier attempt had arrived.
    doubt: Option<Doubt>,
    says: Says,
}

/// What an attempt says about the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// What its outcome says.
    Outcome,
    /// It works, and does not tell what arrived.
    Untold,
    /// Nothing: nobody was asked.
    Nothing,
}

impl Attempt {
    const fn of(outcome: Result<Sent, Failure>) -> Self {
        Self { outcome, doubt: None, says: Says::Outcome }
    }

    const fn unasked(failure: Failure) -> Self {
        Self { outcome: Err(failure), doubt: None, says: Says::Nothing }
    }
}

impl Inner {
    /// Does the current step of a delivery whose claim was asked for at `asked`, and records the result; false if it could
    /// not be recorded.
    pub(super) async fn attempt(
        &self,
        platform: Arc<dyn Platform>,
        claim: Claim,
        asked: Instant,
    ) -> bool {
        let span = spans::delivery(&claim.delivery);
        span.around(self.attempt_it(platform, claim, asked)).await
    }

    async fn attempt_it(&self, platform: Arc<dyn Platform>, claim: Claim, asked: Instant) -> bool {
        let id = claim.delivery.id;
        let epoch = claim.epoch;
        let settled = if asked.elapsed() > FRESH && !claim.interrupted {
            tracing::warn!(delivery = %id, "the store took so long that its turn is over; it is put back");
            put_back(claim.delivery)
        } else {
            self.send(platform.as_ref(), claim).await
        };
        let mut last = None;
        let again = std::iter::repeat_n(RECORD_AGAIN_AFTER, RECORD_AGAIN);
        for pause in RECORD_AFTER.into_iter().chain(again) {
            // Even a pause of nothing would last until the timer's next millisecond.
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let record = self.outbox.record(epoch, &settled);
            match self.metrics.access(StoreAccess::Record, record).await {
                Ok(Recorded::Done) => {
                    spans::delivery_settled(&settled.delivery);
                    log(&settled);
                    self.metrics.settled(&settled.delivery);
                    if let Some(doubt) = settled.doubt {
                        self.metrics.doubt_settled(platform.kind(), doubt);
                    }
                    let mut delivery = settled.delivery;
                    if let Some(hold) = settled.hold {
                        delivery.not_before = hold.until;
                    }
                    if let Some(Verdict::Refused { pause, .. }) = settled.verdict {
                        delivery.paused = Some(pause);
                    }
                    self.waiters.publish(&delivery);
                    return true;
                }
                Ok(Recorded::Fenced) => {
                    self.metrics.lease_lost(Lease::Lane);
                    tracing::warn!(delivery = %id, "the lease ran out before the result was recorded");
                    return false;
                }
                Err(error) => {
                    tracing::debug!(delivery = %id, error = %error, "the result could not be recorded yet");
                    let closed = matches!(error, StoreError::Closed);
                    last = Some(error);
                    if closed {
                        break;
                    }
                }
            }
        }
        if let Some(error) = last {
            tracing::error!(delivery = %id, %error, "the result could not be recorded; the lease will run out");
        }
        false
    }

    async fn send(&self, platform: &dyn Platform, claim: Claim) -> Settled {
        let Claim { mut delivery, interrupted, thread, troubled, .. } = claim;
        let now = self.clock.now();
        // Nobody could send what waited for a secret: it has not had its time yet, unless it was called off.
        let refused = delivery.paused.as_ref().is_some_and(|pause| pause.refused.is_some())
            && delivery.deadline > delivery.created_at;
        if delivery.deadline <= now && !interrupted && !refused {
            let hint = match &delivery.hint {
                Some(hint) => {
                    format!("it could not be delivered in time; the last failure: {hint}")
                }
                None => "it could not be delivered in time".to_owned(),
            };
            return give_up(delivery, Reason::Expired, hint, now);
        }
        // The rules may have changed while it was queued.
        let policy = self.rules.now();
        let authorized = match &delivery.invitation {
            Some(invitation) => {
                policy.reply(&delivery.client, invitation).map_err(|error| error.to_string())
            }
            None => policy
                .authorize(&delivery.client, &delivery.channel)
                .and_then(|route| may_write(&policy, &delivery).map(|()| route))
                .map_err(|error| error.to_string()),
        };
        let route = match authorized {
            Ok(route) if *route.channel() == delivery.channel => route,
            Ok(_) => {
                let hint = "the answer was meant for another channel".to_owned();
                return give_up(delivery, Reason::Denied, hint, now);
            }
            Err(why) => {
                self.metrics.denied(platform.kind(), Gate::Send);
                return give_up(delivery, Reason::Denied, why, now);
            }
        };
        let passes = delivery.steps.get(delivery.cursor).is_none_or(|step| {
            let (kind, terms) = (platform.kind(), route.terms());
            match &step.action {
                Action::Send { part } | Action::Edit { part, .. } => {
                    self.guard.still_passes(part, kind, terms)
                }
                Action::OpenThread { name } => self.guard.words_still_pass(name, terms),
                Action::Delete { .. } => true,
            }
        });
        if !passes {
            self.metrics.denied(platform.kind(), Gate::Send);
            let hint = "the rules for what a message may hold have changed since it was accepted: send it again";
            return give_up(delivery, Reason::Denied, hint.to_owned(), now);
        }
        if let Some(thread) = thread
            && delivery.messages.is_empty()
        {
            delivery.placement.thread = thread.thread.or(delivery.placement.thread);
            delivery.placement.reply_to = thread.reply_to.or(delivery.placement.reply_to);
        }
        let capabilities = platform.capabilities();
        let attempt = if interrupted {
            let hint = "Herald stopped in the middle of sending it";
            Attempt::unasked(Failure::ambiguous(Reason::Interrupted, hint))
        } else if is_forgotten(&delivery, capabilities, now) {
            let hint = "its answer was lost, and it had to wait for too long to be repeated";
            Attempt::unasked(Failure::ambiguous(lost_for(&delivery, Reason::Interrupted), hint))
        } else {
            self.step(platform, &route, &delivery).await
        };
        let Attempt { outcome, doubt, says } = attempt;
        if doubt == Some(Doubt::Absent) {
            delivery.doubtful_since = None;
        }
        tell(&mut delivery, doubt);
        let now = self.clock.now();
        let answer = match says {
            Says::Outcome => Some(outcome.as_ref().map(|_| ())),
            Says::Untold => Some(Ok(())),
            Says::Nothing => None,
        };
        let asked = Asked {
            platform: platform.kind(),
            fingerprint: platform.credential().fingerprint,
            troubled,
        };
        let verdict = answer.and_then(|answer| breaker::verdict(asked, answer, self.probe, now));
        let recalls = capabilities.recalls && says != Says::Untold;
        let rules = Rules {
            on_unknown: self.on_unknown,
            base: self.backoff,
            capabilities: Capabilities { recalls, ..capabilities },
        };
        let thread_of = |first: &str| platform.thread_of(first);
        let settled = settle(delivery, outcome, rules, thread_of, now, self.clock.jitter());
        Settled { verdict, doubt: doubt.or(settled.doubt), ..settled }
    }

    /// Does the current step, unless the platform says that it is done.
    async fn step(&self, platform: &dyn Platform, route: &Route, delivery: &Delivery) -> Attempt {
        let Some(step) = delivery.steps.get(delivery.cursor) else {
            return Attempt::of(Ok(Sent::default()));
        };
        let mut placement = placement(&step.action, &delivery.placement);
        if let Action::OpenThread { .. } = &step.action {
            if let Some(thread) = &delivery.placement.thread {
                return Attempt::of(Ok(Sent { id: thread.clone(), permalink: None }));
            }
            placement.reply_to = delivery.messages.first().map(|root| root.id.clone());
        }
        let doubtful = delivery.doubtful_since.filter(|_| delivery.may_have_arrived());
        let asks = platform.capabilities().recalls && !delivery.resent;
        // Both requests together may take no longer than one: the lease is not longer either.
        let end = Instant::now() + REQUEST;
        let Some(since) = doubtful.filter(|_| asks) else {
            return Attempt::of(self.request(platform, route, &placement, step, end).await);
        };
        // It was sent before its answer was found to be lost, by clocks that need not agree.
        let since = since.before(REQUEST * 3);
        match guarded(platform.recall(route, &placement, step, since), end).await {
            Ok(Some(sent)) => Attempt { doubt: Some(Doubt::Found), ..Attempt::of(Ok(sent)) },
            Ok(None) => {
                let outcome = self.request(platform, route, &placement, step, end).await;
                Attempt { doubt: Some(Doubt::Absent), ..Attempt::of(outcome) }
            }
            Err(Failure { reason, disposition: Disposition::GiveUp, hint })
                if reason != Reason::Auth =>
            {
                tracing::info!(delivery = %delivery.id, %reason, hint, "whether it arrived cannot be looked up");
                let lost = Failure::ambiguous(lost_for(delivery, reason), hint);
                Attempt { says: Says::Untold, ..Attempt::of(Err(lost)) }
            }
            Err(failure) => Attempt::of(Err(failure.unseen())),
        }
    }

    /// One request to the platform, that ends at `end`.
    async fn request(
        &self,
        platform: &dyn Platform,
        route: &Route,
        placement: &Placement,
        step: &Step,
        end: Instant,
    ) -> Result<Sent, Failure> {
        let since = Instant::now();
        let outcome = guarded(platform.deliver(route, placement, step), end).await;
        self.metrics.sent(platform.kind(), since.elapsed(), outcome.as_ref().map(|_| ()));
        outcome
    }
}

/// Whether a delivery that is in a thread, or opens one, may.
fn may_write(policy: &Policy, delivery: &Delivery) -> Result<(), Denied> {
    let opens = |step: &Step| matches!(step.action, Action::OpenThread { .. });
    let threaded = delivery.thread_key.is_some()
        || delivery.placement.thread.is_some()
        || delivery.steps.iter().any(opens);
    if threaded { policy.authorize_threads(&delivery.client) } else { Ok(()) }
}

/// Where a step's request goes: an edit goes where its message stands.
fn placement(action: &Action, delivery: &Placement) -> Placement {
    match action {
        Action::Edit { thread, .. } | Action::Delete { thread, .. } => {
            Placement { thread: thread.clone(), ..Placement::default() }
        }
        Action::Send { .. } | Action::OpenThread { .. } => delivery.clone(),
    }
}

/// Why it is in doubt whether it arrived; `else_for` where that is not what it waited for last. That a secret was refused is
/// no reason: it may be another one by now.
fn lost_for(delivery: &Delivery, else_for: Reason) -> Reason {
    delivery.reason.filter(|reason| *reason != Reason::Auth).unwrap_or(else_for)
}

/// A delivery that was claimed, and of which nothing was sent.
fn put_back(mut delivery: Delivery) -> Settled {
    delivery.state = DeliveryState::Queued;
    delivery.attempts = delivery.attempts.saturating_sub(1);
    Settled::new(delivery)
}

/// A request that ends at `end` and whose panic is a failure. Either way it may have been sent.
async fn guarded<T>(
    request: impl Future<Output = Result<T, Failure>>,
    end: Instant,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(end, AssertUnwindSafe(request).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Failure::ambiguous(Reason::Internal, "Herald failed while sending it")),
        Err(_) => Err(Failure::ambiguous(Reason::Timeout, "the platform did not answer in time")),
    }
}

fn log(settled: &Settled) {
    let delivery = &settled.delivery;
    let (id, channel) = (&delivery.id, &delivery.channel);
    if let Some(doubt) = settled.doubt {
        tracing::warn!(delivery = %id, %channel, settled = doubt.as_str(), "an answer was lost");
    }
    let platform = delivery.channel.platform();
    match &settled.verdict {
        Some(Verdict::Refused { pause, .. }) => {
            tracing::error!(%platform, hint = pause.hint, "the secret was refused; all messages wait until it changes");
        }
        Some(Verdict::Fails { pause, .. }) => {
            tracing::debug!(%platform, reason = %pause.reason, "the platform failed");
        }
        Some(Verdict::Works { .. }) => tracing::info!(%platform, "the platform answers again"),
        None => {}
    }
    match (delivery.state.is_final(), delivery.reason) {
        (true, Some(reason)) => {
            let hint = delivery.hint.as_deref();
            tracing::warn!(delivery = %id, %channel, state = delivery.state.as_str(), %reason, hint, "not delivered");
        }
        (true, None) => {
            tracing::info!(delivery = %id, %channel, messages = delivery.messages.len(), "delivered");
        }
        (false, Some(reason)) => {
            tracing::info!(delivery = %id, %channel, %reason, attempts = delivery.attempts, "will be tried again");
        }
        (false, None) => tracing::debug!(delivery = %id, %channel, "a part arrived"),
    }
}
