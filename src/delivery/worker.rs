//! The loop: what is due is claimed, attempted and recorded, on every platform as far as there is room.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{OnUnknown, Waiters};
use crate::clock::Clock;
use crate::guard::Guard;
use crate::model::PlatformKind;
use crate::platform::Platform;
use crate::policy::Rulebook;
use crate::store::{Claim, Claimant, Hint, Outbox, StoreError};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::StoreAccess;

/// How long a claim lasts: longer than the 20 s that a request may take, and the time to record it.
const LEASE: Duration = Duration::from_secs(30);
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

/// What a worker works with.
pub(super) struct Inner {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    pub(super) rules: Rulebook,
    pub(super) guard: Arc<Guard>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) claimant: Claimant,
    pub(super) on_unknown: OnUnknown,
    pub(super) backoff: Duration,
    pub(super) probe: Duration,
    pub(super) waiters: Waiters,
    pub(super) wake: Notify,
}

impl Worker {
    /// A worker; nothing happens before [`Worker::run`] or [`Worker::tick`].
    #[must_use]
    pub fn new(
        outbox: Arc<dyn Outbox>,
        platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
        rules: Rulebook,
        guard: Arc<Guard>,
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
                rules,
                guard,
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
        let mut claims = Vec::new();
        let trouble = self.claim(|_| MOST_IN_FLIGHT, |claimed| claims.push(claimed)).await;
        let claimed = claims.len();
        let attempts = claims.into_iter().map(|it| {
            let Claimed { platform, claim, asked } = it;
            self.inner.attempt(platform, claim, asked)
        });
        let results = join_all(attempts).await;
        trouble?;
        let recorded = results.into_iter().filter(|recorded| *recorded).count();
        Ok(TickReport { claimed, recorded })
    }

    /// Sends until `stop`, then finishes what is under way.
    pub async fn run(&self, stop: CancellationToken) {
        let (mut in_flight, mut trouble) = (InFlight::default(), None);
        let mut hints = self.inner.outbox.hints();
        while !stop.is_cancelled() {
            let pause = self.look(&mut in_flight, &mut trouble).await;
            tokio::select! {
                // In this order, so that the same things at the same times come out the same.
                biased;
                () = stop.cancelled() => {}
                hint = hints.next() => if let Hint::Ended(id) = hint { self.inner.waiters.nudge(id); },
                // A finished attempt frees its lane for the next message.
                Some(()) = in_flight.next_finished() => {}
                () = self.inner.wake.notified() => {}
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
        let room: BTreeMap<_, _> =
            self.inner.platforms.keys().map(|kind| (*kind, in_flight.room_for(*kind))).collect();
        let room = |kind| room.get(&kind).copied().unwrap_or_default();
        self.claim(room, |Claimed { platform, claim, asked }| {
            let inner = Arc::clone(&self.inner);
            let kind = platform.kind();
            in_flight.start(kind, async move { inner.attempt(platform, claim, asked).await });
        })
        .await?;
        let kinds = self.inner.platforms.keys().copied();
        let with_room: Vec<_> = kinds.filter(|kind| in_flight.room_for(*kind) > 0).collect();
        // Where there is no room, only a finished attempt changes anything.
        let due = self.inner.outbox.next_due(&self.inner.claimant, &with_room).await?;
        // At least a moment: a lane that is due but cannot be claimed must not spin.
        Ok(due.map_or(POLL, |due| {
            due.since(self.inner.clock.now()).clamp(Duration::from_millis(5), POLL)
        }))
    }

    /// Claims what is due on every platform, as far as there is `room`, and gives each to `start` as soon as it is there:
    /// what one platform has claimed is sent, whatever becomes of the others' claims.
    async fn claim(
        &self,
        room: impl Fn(PlatformKind) -> usize,
        mut start: impl FnMut(Claimed),
    ) -> Result<(), StoreError> {
        let Inner { outbox, claimant, clock, metrics, platforms, .. } = &*self.inner;
        let with_room = platforms.values().filter_map(|platform| {
            let most = u32::try_from(room(platform.kind())).unwrap_or(u32::MAX);
            (most > 0).then_some((platform, most))
        });
        // Asked at once, so that the store can commit them together.
        let mut claims: FuturesUnordered<_> = with_room
            .map(|(platform, most)| async move {
                let asked = Instant::now();
                let claims = outbox.claim(claimant, platform.kind(), clock.now(), most);
                let claims = metrics.access(StoreAccess::Claim, claims).await?;
                let of = |claim| Claimed { platform: Arc::clone(platform), claim, asked };
                Ok::<Vec<_>, StoreError>(claims.into_iter().map(of).collect())
            })
            .collect();
        let mut trouble = Ok(());
        while let Some(claimed) = claims.next().await {
            match claimed {
                Ok(claimed) => claimed.into_iter().for_each(&mut start),
                Err(error) => trouble = Err(error),
            }
        }
        trouble
    }
}

/// A claim on its way to the platform.
struct Claimed {
    platform: Arc<dyn Platform>,
    claim: Claim,
    /// When it was asked for.
    asked: Instant,
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
        let (rules, guard) = (Rulebook::default(), Arc::default());
        let (outbox, clock) = (Arc::new(outbox), Arc::new(SystemClock));
        Worker::new(outbox, BTreeMap::new(), rules, guard, clock, Metrics::default(), settings)
    }

    #[tokio::test]
    async fn an_outbox_that_cannot_be_read_is_told_once() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        // With one alone, another test's thread, which has none, might decide that a line is of no interest to anybody.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
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
