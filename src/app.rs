//! The composition root: the only file that knows everyone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::{self, Worker};
use crate::mcp::{self, Herald, InFlight};
use crate::model::{ClientName, PlatformKind};
use crate::notifier::{self, Notifier};
use crate::platform::http::{self, HttpClient};
use crate::platform::{self, Platform};
use crate::server::{self, Check, Readiness};
use crate::store::Outbox;
use crate::store::sqlite::Sqlite;

/// How long a caller waits for its delivery: kagent cuts a call at 30 s, and Herald promises 20 s.
pub const WAIT: Duration = Duration::from_secs(18);

/// How long an ending `stdio` waits for what is under way: its client is gone.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long an ending `serve` does: longer than a request may take, shorter than Kubernetes waits.
const PATIENCE: Duration = Duration::from_secs(25);

/// What differs between the commands.
#[derive(Clone, Debug)]
pub struct Mode {
    /// Where accepted messages are stored; `None` is memory.
    pub data_dir: Option<PathBuf>,
    /// Deliver only what this process submits.
    pub own_only: bool,
    /// The same content within 60 s is one delivery.
    pub deduplicate: bool,
    /// How long a caller waits for its delivery: [`WAIT`], less in tests.
    pub wait: Duration,
}

/// Herald, put together, not yet running.
pub struct App {
    notifier: Arc<Notifier>,
    worker: Worker,
    outbox: Arc<dyn Outbox>,
    platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    config: Config,
    stop: CancellationToken,
}

/// Opens the store that the commands share.
///
/// # Errors
/// When the data directory cannot be used.
pub async fn open_store(data_dir: Option<&Path>) -> anyhow::Result<Arc<dyn Outbox>> {
    Ok(match data_dir {
        Some(directory) => Arc::new(Sqlite::open(directory).await?),
        None => Arc::new(Sqlite::in_memory().await?),
    })
}

impl App {
    /// Puts everything together. Calls no platform. Once `stop` is cancelled nothing more is claimed, and what is under
    /// way is finished.
    ///
    /// # Errors
    /// When the store cannot be opened or the configuration does not hold together.
    pub async fn build(
        config: Config,
        mode: Mode,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let policy = Arc::new(config.policy()?);
        let http = HttpClient::new(&http::Settings::default())?;
        let platforms: BTreeMap<_, _> =
            platform::configured(&config.slack, &config.discord, &config.telegram, &http)
                .into_iter()
                .map(|platform| (platform.kind(), platform))
                .collect();
        if platforms.is_empty() {
            tracing::warn!(
                "no platform is configured: set SLACK_BOT_TOKEN, DISCORD_BOT_TOKEN or TELEGRAM_BOT_TOKEN"
            );
        }
        for kind in platforms.keys() {
            let allowed = policy.allowed(&ClientName::new("operator"), *kind);
            if !allowed.any() && allowed.listed().is_empty() {
                tracing::warn!(platform = %kind, "no channel is allowed, so nothing can be posted");
            }
        }
        let outbox = open_store(mode.data_dir.as_deref()).await?;
        let process = Uuid::now_v7().to_string();
        let worker = Worker::new(
            Arc::clone(&outbox),
            platforms.clone(),
            Arc::clone(&policy),
            Arc::clone(&clock),
            delivery::Settings {
                process: process.clone(),
                own_only: mode.own_only,
                on_unknown: config.delivery.on_unknown,
                backoff: config.delivery.backoff(),
            },
        );
        let settings = notifier::Settings {
            process,
            wait: mode.wait,
            deadline: config.delivery.deadline(),
            deduplicate: mode.deduplicate,
            // What `stdio` and `send` leave on the disk, only a `serve` on the same directory would send.
            keeps: mode.data_dir.is_some() && !mode.own_only,
            stop: stop.clone(),
        };
        let notifier = Notifier::new(
            platforms.clone(),
            policy,
            Arc::clone(&outbox),
            worker.clone(),
            clock,
            settings,
        );
        Ok(Self { notifier: Arc::new(notifier), worker, outbox, platforms, config, stop })
    }

    /// What the commands and the MCP server call.
    #[must_use]
    pub const fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// The configured platforms.
    #[must_use]
    pub const fn platforms(&self) -> &BTreeMap<PlatformKind, Arc<dyn Platform>> {
        &self.platforms
    }

    /// The store.
    #[must_use]
    pub const fn outbox(&self) -> &Arc<dyn Outbox> {
        &self.outbox
    }

    /// Serves MCP over streamable HTTP, with `extra` routes beside it, until it is stopped; then finishes what is under
    /// way.
    ///
    /// # Errors
    /// When the listener breaks or a setting of the transport is wrong.
    pub async fn serve(self, listener: TcpListener, extra: Router) -> anyhow::Result<()> {
        let address = listener.local_addr().context("the listening address")?;
        let in_flight = InFlight::default();
        let herald = Herald::new(Arc::clone(&self.notifier));
        let mcp =
            mcp::http(herald, &self.config.mcp, address, &in_flight).map_err(anyhow::Error::msg)?;
        let readiness = Arc::new(StoreReady(Arc::clone(&self.outbox)));
        let routes = server::router(mcp, readiness, self.stop.clone()).merge(extra);
        let worker = self.start();
        let served = server::serve(listener, routes, in_flight, self.stop).await;
        worker.finish(PATIENCE).await;
        Ok(served?)
    }

    /// Serves MCP over stdin and stdout until the client leaves, or until it is stopped.
    ///
    /// # Errors
    /// When the client does not speak MCP.
    pub async fn stdio(self) -> anyhow::Result<()> {
        let herald = Herald::new(Arc::clone(&self.notifier));
        let worker = self.start();
        let served = mcp::serve_stdio(herald, mcp::stdio_pipes(), self.stop).await;
        worker.finish(GOODBYE).await;
        Ok(served?)
    }

    /// Lets the worker send. [`Running::finish`] ends it in good order.
    #[must_use]
    pub fn start(&self) -> Running {
        let stop = self.stop.child_token();
        let (worker, stopping) = (self.worker.clone(), stop.clone());
        let task = tokio::spawn(async move { worker.run(stopping).await });
        Running { stop, task, outbox: Arc::clone(&self.outbox) }
    }
}

/// A worker at work.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    outbox: Arc<dyn Outbox>,
}

impl Running {
    /// Claims nothing more, gives what is under way at most `patience` to end, and writes everything out.
    pub async fn finish(self, patience: Duration) {
        self.stop.cancel();
        let cut = self.task.abort_handle();
        match tokio::time::timeout(patience, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "the worker ended badly"),
            // Whoever claims these lanes next finds them interrupted.
            Err(_) => {
                cut.abort();
                tracing::warn!("requests were still under way and are cut");
            }
        }
        self.outbox.close().await;
    }
}

/// Ready means: what is accepted can be stored. A platform that is down changes nothing about that.
struct StoreReady(Arc<dyn Outbox>);

#[async_trait]
impl Readiness for StoreReady {
    async fn checks(&self) -> BTreeMap<&'static str, Check> {
        let error = self.0.check_writable().await.err();
        let store =
            Check { ok: error.is_none(), required: true, detail: error.map(|e| e.to_string()) };
        BTreeMap::from([("store", store)])
    }
}
