//! The loop around [`settle`].

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::breaker::{self, Asked};
use super::settle::{Rules, give_up, settle, tell};
use super::{OnUnknown, Waiters};
use crate::clock::Clock;
use crate::model::{
    Action, Delivery, Disposition, Doubt, Failure, Placement, PlatformKind, Reason, Step,
};
use crate::platform::{Platform, Sent};
use crate::policy::{Policy, Route};
use crate::store::{Claim, Claimant, Outbox, Recorded, Settled, StoreError, Verdict};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Gate, Lease, StoreAccess};
use crate::telemetry::spans;

/// How long a claim lasts: longer than the 15 s that a request may take, and the time to record it.
const LEASE: Duration = Duration::from_secs(30);
/// The longest a request may take, whatever a platform's code does. Shorter than the lease.
const REQUEST: Duration = Duration::from_secs(20);
/// The most requests under way at once on one platform: a dead one takes no room from the others.
const MOST_IN_FLIGHT: usize = 32;
/// Other processes' work and missed signals are seen after this time.
const POLL: Duration = Duration::from_secs(1);

/// What a worker does, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This process.
    pub process: String,
    /// Deliver only what this process submitted.
    pub own_only: bool,
    /// What to do about ambiguous sends.
    pub on_unknown: OnUnknown,
    /// The first pause after a failure, doubled each time.
    pub backoff: Duration,
    /// How often a bot whose platform fails tries one request.
    pub probe: Duration,
}

/// What one tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Lanes that were claimed.
    pub claimed: usize,
    /// Results that are durable. The others were void, or the store was away.
    pub recorded: usize,
}

/// Sends what is queued. Cheap to clone; clones are the same worker.
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

struct Inner {
    outbox: Arc<dyn Outbox>,
    platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    policy: Arc<Policy>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    claimant: Claimant,
    on_unknown: OnUnknown,
    backoff: Duration,
    probe: Duration,
    waiters: Waiters,
    wake: Notify,
}

impl Worker {
    /// A worker; nothing happens before [`Worker::run`] or [`Worker::tick`].
    #[must_use]
    pub fn new(
        outbox: Arc<dyn Outbox>,
        platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
        policy: Arc<Policy>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        settings: Settings,
    ) -> Self {
        let credentials =
            platforms.iter().map(|(kind, platform)| (*kind, platform.credential())).collect();
        let claimant = Claimant {
            process: settings.process,
            own_only: settings.own_only,
            lease: LEASE,
            credentials,
        };
        Self {
            inner: Arc::new(Inner {
                outbox,
                platforms,
                policy,
                clock,
                metrics,
                claimant,
                on_unknown: settings.on_unknown,
                backoff: settings.backoff,
                probe: settings.probe,
                waiters: Waiters::default(),
                wake: Notify::new(),
            }),
        }
    }

    /// Who waits for deliveries of this process.
    #[must_use]
    pub fn waiters(&self) -> &Waiters {
        &self.inner.waiters
    }

    /// Says that something was queued.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// Claims every lane whose turn has come, does one step in each, and records the results.
    ///
    /// # Errors
    /// When the store cannot be used; nothing is lost, the leases run out.
    pub async fn tick(&self) -> Result<TickReport, StoreError> {
        let claims = self.claim(|_| MOST_IN_FLIGHT).await?;
        let claimed = claims.len();
        let attempts =
            claims.into_iter().map(|(platform, claim)| self.inner.attempt(platform, claim));
        let results = join_all(attempts).await;
        let recorded = results.into_iter().filter(|recorded| *recorded).count();
        Ok(TickReport { claimed, recorded })
    }

    /// Sends until `stop`, then finishes what is under way.
    pub async fn run(&self, stop: CancellationToken) {
        let (mut in_flight, mut trouble) = (InFlight::default(), None);
        while !stop.is_cancelled() {
            let pause = self.look(&mut in_flight, &mut trouble).await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.inner.wake.notified() => {}
                // A finished attempt frees its lane for the next message.
                Some(()) = in_flight.next_finished() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        while in_flight.next_finished().await.is_some() {}
    }

    /// Starts what is due; returns how long nothing else will be. What is wrong with the outbox is told once, until it
    /// changes or the outbox works again.
    async fn look(&self, in_flight: &mut InFlight, trouble: &mut Option<String>) -> Duration {
        match self.send_what_is_due(in_flight).await {
            Ok(pause) => {
                if trouble.take().is_some() {
                    tracing::info!("the outbox can be read again");
                }
                pause
            }
            Err(error) => {
                let error = error.to_string();
                if trouble.as_ref() != Some(&error) {
                    tracing::error!(error, "the outbox cannot be read; trying again");
                    *trouble = Some(error);
                }
                POLL
            }
        }
    }

    /// Starts what is due, as far as there is room; returns how long nothing else will be.
    async fn send_what_is_due(&self, in_flight: &mut InFlight) -> Result<Duration, StoreError> {
        for (platform, claim) in self.claim(|kind| in_flight.room_for(kind)).await? {
            let inner = Arc::clone(&self.inner);
            in_flight.start(platform.kind(), async move { inner.attempt(platform, claim).await });
        }
        let kinds = self.inner.platforms.keys().copied();
        let with_room: Vec<_> = kinds.filter(|kind| in_flight.room_for(*kind) > 0).collect();
        // Where there is no room, only a finished attempt changes anything.
        let due = self.inner.outbox.next_due(&self.inner.claimant, &with_room).await?;
        // At least a moment: a lane that is due but cannot be claimed must not spin.
        Ok(due.map_or(POLL, |due| {
            due.since(self.inner.clock.now()).clamp(Duration::from_millis(5), POLL)
        }))
    }

    /// Claims what is due on every platform, as far as there is `room`, each with the platform that sends it.
    async fn claim(
        &self,
        room: impl Fn(PlatformKind) -> usize,
    ) -> Result<Vec<(Arc<dyn Platform>, Claim)>, StoreError> {
        let Inner { outbox, claimant, clock, metrics, platforms, .. } = &*self.inner;
        let with_room = platforms.values().filter_map(|platform| {
            let most = u32::try_from(room(platform.kind())).unwrap_or(u32::MAX);
            (most > 0).then_some((platform, most))
        });
        let claims = with_room.map(|(platform, most)| async move {
            let claims = outbox.claim(claimant, platform.kind(), clock.now(), most);
            let claims = metrics.access(StoreAccess::Claim, claims).await?;
            let sent_by = |claim| (Arc::clone(platform), claim);
            Ok::<Vec<_>, StoreError>(claims.into_iter().map(sent_by).collect())
        });
        // Asked at once, so that the store can commit them together.
        Ok(try_join_all(claims).await?.into_iter().flatten().collect())
    }
}

/// The attempts under way, counted by platform.
#[derive(Default)]
struct InFlight {
    attempts: JoinSet<PlatformKind>,
    count: BTreeMap<PlatformKind, usize>,
}

impl InFlight {
    /// How many more attempts fit.
    fn room_for(&self, platform: PlatformKind) -> usize {
        MOST_IN_FLIGHT.saturating_sub(self.count.get(&platform).copied().unwrap_or_default())
    }

    fn start(
        &mut self,
        platform: PlatformKind,
        attempt: impl Future<Output = bool> + Send + 'static,
    ) {
        *self.count.entry(platform).or_default() += 1;
        self.attempts.spawn(async move {
            // It must be counted out again whatever happens in it.
            if AssertUnwindSafe(attempt).catch_unwind().await.is_err() {
                tracing::error!(%platform, "an attempt panicked; its lease will run out");
            }
            platform
        });
    }

    /// Waits for an attempt to end, and counts out all that have ended; `None` if there is none.
    async fn next_finished(&mut self) -> Option<()> {
        let mut finished = Some(self.attempts.join_next().await?);
        while let Some(platform) = finished {
            if let Some(count) = platform.ok().and_then(|platform| self.count.get_mut(&platform)) {
                *count = count.saturating_sub(1);
            }
            finished = self.attempts.try_join_next();
        }
        Some(())
    }
}

impl Inner {
    /// Does the current step of a claimed delivery, and records the result; false if it could not be recorded.
    async fn attempt(&self, platform: Arc<dyn Platform>, claim: Claim) -> bool {
        let span = spans::delivery(&claim.delivery);
        span.around(self.attempt_it(platform, claim)).await
    }

    async fn attempt_it(&self, platform: Arc<dyn Platform>, claim: Claim) -> bool {
        let id = claim.delivery.id;
        let epoch = claim.epoch;
        let settled = self.send(platform.as_ref(), claim).await;
        let mut last = None;
        // While the store is away the result waits, for as long as the lease keeps others from this lane.
        for pause in [0, 100, 400, 1_600, 3_200] {
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
                    last = Some(error);
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
        // Nobody could send what waited for a secret: it has not had its time yet.
        let refused = delivery.paused.as_ref().is_some_and(|pause| pause.refused.is_some());
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
        let authorized = match &delivery.invitation {
            Some(invitation) => self
                .policy
                .reply(&delivery.client, invitation)
                .map_err(|unwelcome| unwelcome.to_string()),
            None => self
                .policy
                .authorize(&delivery.client, &delivery.channel)
                .map_err(|denied| denied.to_string()),
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
        if let Some(thread) = thread
            && delivery.messages.is_empty()
        {
            delivery.placement.thread = thread.thread.or(delivery.placement.thread);
            delivery.placement.reply_to = thread.reply_to.or(delivery.placement.reply_to);
        }
        let mut rules = Rules {
            on_unknown: self.on_unknown,
            base: self.backoff,
            capabilities: platform.capabilities(),
        };
        let (outcome, doubt) = if interrupted {
            let hint = "Herald stopped in the middle of sending it";
            (Err(Failure::ambiguous(Reason::Interrupted, hint)), None)
        } else {
            self.step(platform, &route, &delivery, &mut rules).await
        };
        if doubt == Some(Doubt::Absent) {
            delivery.doubtful_since = None;
        }
        tell(&mut delivery, doubt);
        let (now, answer) = (self.clock.now(), outcome.as_ref().map(|_| ()));
        let asked = Asked {
            platform: platform.kind(),
            fingerprint: platform.credential().fingerprint,
            troubled,
        };
        let verdict = breaker::verdict(asked, answer, self.probe, now);
        let thread_of = |first: &str| platform.thread_of(first);
        let settled = settle(delivery, outcome, rules, thread_of, now, self.clock.jitter());
        Settled { verdict, doubt: doubt.or(settled.doubt), ..settled }
    }

    /// Does the current step, unless the platform says that it is done; and how it was settled whether it is.
    async fn step(
        &self,
        platform: &dyn Platform,
        route: &Route,
        delivery: &Delivery,
        rules: &mut Rules,
    ) -> (Result<Sent, Failure>, Option<Doubt>) {
        let Some(step) = delivery.steps.get(delivery.cursor) else {
            return (Ok(Sent::default()), None);
        };
        let mut placement = placement(&step.action, &delivery.placement);
        if let Action::OpenThread { .. } = &step.action {
            if let Some(thread) = &delivery.placement.thread {
                return (Ok(Sent { id: thread.clone(), permalink: None }), None);
            }
            placement.reply_to = delivery.messages.first().map(|root| root.id.clone());
        }
        let doubtful = delivery.doubtful_since.filter(|_| delivery.may_have_arrived());
        let Some(since) = doubtful.filter(|_| rules.capabilities.recalls && !delivery.resent)
        else {
            return (self.request(platform, route, &placement, step).await, None);
        };
        // It was sent before its answer was found to be lost, by clocks that need not agree.
        let since = since.before(REQUEST * 3);
        let recalled = guarded(platform.recall(route, &placement, step, since)).await;
        match recalled {
            Ok(Some(sent)) => (Ok(sent), Some(Doubt::Found)),
            Ok(None) => {
                (self.request(platform, route, &placement, step).await, Some(Doubt::Absent))
            }
            Err(Failure { reason, disposition: Disposition::GiveUp, hint })
                if reason != Reason::Auth =>
            {
                tracing::info!(delivery = %delivery.id, %reason, hint, "whether it arrived cannot be looked up");
                rules.capabilities.recalls = false;
                let reason = delivery.reason.unwrap_or(reason);
                (Err(Failure::ambiguous(reason, hint)), None)
            }
            Err(failure) => (Err(failure.unseen()), None),
        }
    }

    /// One request to the platform.
    async fn request(
        &self,
        platform: &dyn Platform,
        route: &Route,
        placement: &Placement,
        step: &Step,
    ) -> Result<Sent, Failure> {
        let since = Instant::now();
        let outcome = guarded(platform.deliver(route, placement, step)).await;
        self.metrics.sent(platform.kind(), since.elapsed(), outcome.as_ref().map(|_| ()));
        outcome
    }
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

/// A request that ends in time and whose panic is a failure. Either way it may have been sent.
async fn guarded<T>(request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST, AssertUnwindSafe(request).catch_unwind()).await {
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::clock::SystemClock;
    use crate::store::sqlite::Sqlite;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn count(&self, words: &str) -> usize {
            String::from_utf8_lossy(&self.0.lock().unwrap()).matches(words).count()
        }
    }

    fn worker(outbox: Sqlite) -> Worker {
        let settings = Settings {
            process: "p0".to_owned(),
            own_only: false,
            on_unknown: OnUnknown::Hold,
            backoff: Duration::from_secs(1),
            probe: Duration::from_secs(30),
        };
        let policy = Arc::new(Policy::new(BTreeMap::new()));
        let (outbox, clock) = (Arc::new(outbox), Arc::new(SystemClock));
        Worker::new(outbox, BTreeMap::new(), policy, clock, Metrics::default(), settings)
    }

    #[tokio::test]
    async fn an_outbox_that_cannot_be_read_is_told_once() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _here = tracing::subscriber::set_default(subscriber);
        let (mut in_flight, mut trouble) = (InFlight::default(), None);
        let directory = tempfile::tempdir().unwrap();
        for again in 1..=2 {
            let works = worker(Sqlite::open(directory.path()).await.unwrap());
            let away = worker(Sqlite::open(directory.path()).await.unwrap());
            away.inner.outbox.close().await;
            for _ in 0..3 {
                away.look(&mut in_flight, &mut trouble).await;
            }
            assert_eq!(log.count("cannot be read"), again);
            for _ in 0..3 {
                works.look(&mut in_flight, &mut trouble).await;
            }
            assert_eq!(log.count("can be read again"), again);
        }
        trouble = Some("something else".to_owned());
        let away = worker(Sqlite::open(directory.path()).await.unwrap());
        away.inner.outbox.close().await;
        away.look(&mut in_flight, &mut trouble).await;
        assert_eq!(log.count("cannot be read"), 3, "other trouble is news");
    }
}
