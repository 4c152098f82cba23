//! What `/metrics` says that is not counted but asked: the queue, and how the listeners stand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::model::{Pause, PlatformKind};
use crate::platform::Platform;
use crate::platform::listener::Standing;
use crate::server::Scrape;
use crate::store::{Outbox, StoreError, Trail};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Waiting;

/// How long the store may take: Prometheus gives a scrape 10 s.
const ASKING: Duration = Duration::from_secs(2);

/// Whoever scrapes more often gets the last answer: asking takes no token, and a long queue takes a while to count.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What is asked at each scrape.
pub(super) struct Scraped {
    pub(super) metrics: Metrics,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) trail: Arc<dyn Trail>,
    pub(super) platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    pub(super) standings: Vec<(PlatformKind, watch::Receiver<Standing>)>,
    pub(super) clock: Arc<dyn Clock>,
    /// When the store was last asked. Others wait for the answer.
    pub(super) asked: Mutex<Option<Instant>>,
}

/// Binds the port that is scraped.
pub(super) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("HERALD_METRICS_LISTEN: cannot listen on {address}; choose another address, or leave it empty")
    })?;
    tracing::info!(url = %format!("http://{}/metrics", listener.local_addr()?), "serving metrics");
    Ok(listener)
}

#[async_trait]
impl Scrape for Scraped {
    async fn scrape(&self) -> String {
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|then| then.elapsed() >= ASK_EVERY) {
            let waiting = tokio::time::timeout(ASKING, self.waiting()).await;
            // The store's own user says what is wrong with it.
            let waiting = waiting.ok().and_then(Result::ok);
            self.metrics.backlog(waiting.as_deref());
            *asked = Some(Instant::now());
        }
        drop(asked);
        self.metrics.audited(&self.trail.book().counts());
        for (platform, standing) in &self.standings {
            self.metrics.listener(*platform, standing.borrow().name(), &Standing::NAMES);
        }
        self.metrics.encode()
    }
}

impl Scraped {
    /// What waits; an error where nothing more could be stored either.
    async fn waiting(&self) -> Result<Vec<Waiting>, StoreError> {
        self.outbox.check_writable().await?;
        let backlog = self.outbox.backlog().await?;
        let mut pauses = self.outbox.pauses().await?;
        let now = self.clock.now();
        let of = |(kind, platform): (&PlatformKind, &Arc<dyn Platform>)| {
            let known = backlog.get(kind).copied().unwrap_or_default();
            // What another secret is refused for is no concern of this process.
            let credential = platform.credential();
            let concerns = |it: &Pause| it.refused.is_none() || credential.is_stopped_by(it);
            Waiting {
                platform: *kind,
                queued: known.queued,
                sending: known.sending,
                oldest: known.oldest.map(|then| now.since(then)).unwrap_or_default(),
                pause: pauses.remove(kind).filter(concerns),
            }
        };
        Ok(self.platforms.iter().map(of).collect())
    }
}
