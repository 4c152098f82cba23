//! One platform listened to: by one process where the platform allows one listener per bot, and again after a fault.
//!
//! Where one process is elected, it has the lease `listen:<platform>` in the store. It renews it while it listens, and
//! stops listening before anybody else can start: when somebody else has the lease, or the store has not confirmed it for
//! two thirds of its time. Each listener is supervised on its own: one that fails takes no other with it.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::PlatformKind;
use crate::platform::listener::{Cursor, Ears, Fatal, Inbox, Listener, NotTaken, Standing};
use crate::store::{Leases, Recorded, StoreError};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Lease;

/// For how long a process may listen without renewing.
const LEASE: Duration = Duration::from_secs(15);
/// How often it renews.
const RENEW: Duration = Duration::from_secs(5);
/// After so long without a confirmation it stops, so that it has stopped when the lease is over.
const DOUBT: Duration = Duration::from_secs(10);
/// How soon a store that failed is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often a process that stands by asks: this, and up to half of it more.
const STANDBY: Duration = Duration::from_secs(2);
/// How long the store may take to answer somebody who does not listen yet, or no longer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a listener may take to end: twice what it is told.
const GRACE: Duration = Duration::from_secs(2);
/// The pause after a listener's own fault.
const FAULT: Duration = Duration::from_secs(10);

/// One platform's listener and what it needs, supervised.
pub struct Listening {
    listener: Arc<dyn Listener>,
    leases: Arc<dyn Leases>,
    inbox: Arc<dyn Inbox>,
    who: String,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    standing: watch::Sender<Standing>,
}

/// Why a listener is not listening any more.
enum Ended {
    /// This process ends.
    Stopped,
    /// The lease is somebody else's, or may be.
    Lost,
    /// Somebody has to change something.
    Failed(Fatal),
}

impl Listening {
    /// Makes ready to listen. `who` is this process: no two of them have the same name.
    #[must_use]
    pub fn new(
        listener: Arc<dyn Listener>,
        leases: Arc<dyn Leases>,
        inbox: Arc<dyn Inbox>,
        who: &str,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let standing = watch::Sender::new(Standing::Starting);
        Self { listener, leases, inbox, who: who.to_owned(), clock, metrics, standing }
    }

    /// Which platform.
    #[must_use]
    pub fn kind(&self) -> PlatformKind {
        self.listener.kind()
    }

    /// How it stands, now and from now on; the last word stays readable after [`run`](Self::run) has returned.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Listens until `stop`, or until the listener fails for good: what was wrong with it, such as its token, stays wrong
    /// until somebody changes it and starts Herald again. The lease is given back either way.
    pub async fn run(self, stop: CancellationToken) {
        let platform = self.kind();
        loop {
            let confirmed = match self.listener.exclusive() {
                false => None,
                true => match self.elected(&stop).await {
                    Some(confirmed) => Some(confirmed),
                    None => break,
                },
            };
            match self.listen(confirmed, &stop).await {
                Ended::Stopped => break,
                // Whatever the listener said last is over.
                Ended::Lost => {
                    self.metrics.lease_lost(Lease::Listener);
                    self.stands(Standing::Standby);
                }
                Ended::Failed(Fatal(why)) => {
                    tracing::error!(%platform, why, "nobody listens to the platform any more");
                    self.stands(Standing::Failed { why });
                    self.give_back().await;
                    return;
                }
            }
        }
        self.give_back().await;
        self.stands(Standing::Stopped);
    }

    /// Waits until this process may listen, and tells since when; `None` if it is told to stop before.
    async fn elected(&self, stop: &CancellationToken) -> Option<Instant> {
        loop {
            let asked = Instant::now();
            let answer = tokio::select! {
                () = stop.cancelled() => return None,
                answer = timeout(ANSWER, self.ask()) => answer,
            };
            match answer {
                Ok(Ok(true)) => return Some(asked),
                Ok(Ok(false)) => self.stands(Standing::Standby),
                Ok(Err(_)) | Err(_) => self.stands(Standing::Retrying {
                    why: "the store does not say who listens; it is asked again".to_owned(),
                }),
            }
            let pause = STANDBY + (STANDBY / 2).mul_f64(self.clock.jitter());
            tokio::select! {
                () = stop.cancelled() => return None,
                () = sleep(pause) => {}
            }
        }
    }

    /// Listens, with a lease that was `confirmed` then, or without one.
    async fn listen(&self, confirmed: Option<Instant>, stop: &CancellationToken) -> Ended {
        let platform = self.kind();
        tracing::info!(%platform, "listens to the platform");
        self.stands(Standing::Starting);
        let session = stop.child_token();
        let mut attend = pin!(self.attend(&session));
        let lost = async {
            match confirmed {
                Some(confirmed) => self.lease_lost(confirmed).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = &mut attend => return ended,
            () = lost => Ended::Lost,
            () = stop.cancelled() => Ended::Stopped,
        };
        session.cancel();
        if timeout(GRACE, attend).await.is_err() {
            tracing::warn!(%platform, "the listener was told to end and did not: it is cut off");
        }
        ended
    }

    /// Runs the listener, again and again should it end or panic, until `session` ends.
    async fn attend(&self, session: &CancellationToken) -> Ended {
        let platform = self.kind();
        loop {
            // What a listener that panicked has left running ends with its attempt.
            let attempt = session.child_token();
            let ends = attempt.clone().drop_guard();
            let ears = Ears {
                inbox: Arc::clone(&self.inbox),
                cursor: Arc::new(self.cursor(&attempt)),
                standing: self.standing.clone(),
                stop: attempt,
            };
            let heard = AssertUnwindSafe(async { self.listener.listen(ears).await });
            let heard = heard.catch_unwind().await;
            drop(ends);
            if session.is_cancelled() {
                return Ended::Stopped;
            }
            let why = match heard {
                Ok(Err(fatal)) => return Ended::Failed(fatal),
                Ok(Ok(())) => "the listener ended by itself; it starts again",
                Err(_) => "a fault in Herald ended the listener; it starts again",
            };
            tracing::error!(%platform, "{why}");
            self.stands(Standing::Retrying { why: why.to_owned() });
            tokio::select! {
                () = session.cancelled() => return Ended::Stopped,
                () = sleep(FAULT) => {}
            }
        }
    }

    /// Renews the lease; returns when somebody else has it, or might have it soon.
    async fn lease_lost(&self, mut confirmed: Instant) {
        let platform = self.kind();
        let mut next = confirmed + RENEW;
        loop {
            sleep_until(next).await;
            let asked = Instant::now();
            match timeout_at(confirmed + DOUBT, self.ask()).await {
                Ok(Ok(true)) => {
                    confirmed = asked;
                    next = asked + RENEW;
                }
                Ok(Ok(false)) => {
                    tracing::warn!(%platform, "another process listens by now");
                    return;
                }
                Ok(Err(_)) if Instant::now() + ASK_AGAIN < confirmed + DOUBT => {
                    next = Instant::now() + ASK_AGAIN;
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(%platform, "the store did not confirm in time that this process may listen");
                    return;
                }
            }
        }
    }

    /// Takes or renews the lease.
    async fn ask(&self) -> Result<bool, StoreError> {
        let asked = self.leases.lease(&self.name(), &self.who, self.clock.now(), LEASE).await;
        asked.inspect_err(|error| match error {
            // The bot tells once, for all its listeners.
            StoreError::Away(_) => {
                tracing::debug!(platform = %self.kind(), %error, "cannot ask who listens");
            }
            _ => tracing::warn!(platform = %self.kind(), %error, "cannot ask who listens"),
        })
    }

    async fn give_back(&self) {
        if !self.listener.exclusive() {
            return;
        }
        let given = timeout(ANSWER, self.leases.give_back(&self.name(), &self.who)).await;
        if !matches!(given, Ok(Ok(()))) {
            let platform = self.kind();
            tracing::warn!(%platform, "could not give back the right to listen: it ends by itself");
        }
    }

    /// The name of the lease, and of what is remembered with it.
    fn name(&self) -> String {
        format!("listen:{}", self.kind())
    }

    fn cursor(&self, stop: &CancellationToken) -> StoredCursor {
        StoredCursor {
            leases: Arc::clone(&self.leases),
            name: self.name(),
            who: self.who.clone(),
            stop: stop.clone(),
        }
    }

    fn stands(&self, standing: Standing) {
        standing.tell(&self.standing);
    }
}

/// How far a listener has come, kept with the lease: whoever lost that one remembers nothing more.
struct StoredCursor {
    leases: Arc<dyn Leases>,
    name: String,
    who: String,
    stop: CancellationToken,
}

#[async_trait]
impl Cursor for StoredCursor {
    /// Waits for the store: to begin from nothing because it could not be read would skip what came in meanwhile.
    async fn load(&self) -> Option<String> {
        loop {
            let asked = tokio::select! {
                () = self.stop.cancelled() => return None,
                asked = self.leases.cursor(&self.name) => asked,
            };
            match asked {
                Ok(value) => return value,
                Err(error) => {
                    tracing::warn!(name = self.name, %error, "cannot read how far the listener came");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = sleep(ASK_AGAIN) => {}
            }
        }
    }

    async fn save(&self, value: &str) -> Result<(), NotTaken> {
        match self.leases.set_cursor(&self.name, &self.who, value).await {
            Ok(Recorded::Done) => Ok(()),
            Ok(Recorded::Fenced) => {
                tracing::warn!(name = self.name, "another process listens by now");
                Err(NotTaken)
            }
            Err(error) => {
                tracing::warn!(name = self.name, %error, "cannot remember how far the listener came");
                Err(NotTaken)
            }
        }
    }
}

#[cfg(test)]
#[path = "listening_tests.rs"]
mod tests;
