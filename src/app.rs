//! The composition root: the only place that knows everyone.

mod ready;
mod reload;
mod scrape;
mod store;
mod trailing;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use anyhow::Context;
use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::ready::Ready;
use self::reload::Reload;
use self::scrape::Scraped;
pub use self::store::{Store, open_audited, open_store, replica};
use self::trailing::Trailing;
use crate::bot::listening::Listening;
use crate::bot::{self, Agents, Bot};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Source};
use crate::delivery::{self, Worker};
use crate::guard::Guard;
use crate::mcp::{self, Herald, InFlight};
use crate::model::PlatformKind;
use crate::notifier::{self, Notifier};
use crate::platform::http::{self, HttpClient};
use crate::platform::listener::Inbox;
use crate::platform::{self, Platform, slack};
use crate::policy::Rulebook;
use crate::retention::{self, Retention};
use crate::server;
use crate::store::trail::Scribe;
use crate::store::{Leases, Outbox, Trail};
use crate::telemetry::Metrics;

/// How long a caller waits for its delivery: kagent cuts a call at 30 s, and Herald promises 20 s.
pub const WAIT: Duration = Duration::from_secs(18);

/// How long an ending `stdio` waits for what is under way: its client is gone.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long everything in an ending `serve` has together: longer than a request may take, shorter than Kubernetes waits.
const PATIENCE: Duration = server::DRAIN;
/// How long each part has at least to let go, however long the others took.
const LAST: Duration = Duration::from_secs(1);

/// What differs between the commands.
#[derive(Clone, Debug)]
pub struct Mode {
    /// Where accepted messages are stored, unless the configuration names a database; `None` is memory.
    pub data_dir: Option<PathBuf>,
    /// Deliver only what this process submits.
    pub own_only: bool,
    /// The same content within 60 s is one delivery.
    pub deduplicate: bool,
    /// How long a caller waits for its delivery: [`WAIT`], less in tests.
    pub wait: Duration,
    /// What is offered over HTTP.
    pub serves: Serves,
}

/// What a Herald that listens on a port does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serves {
    /// The MCP server.
    #[default]
    Mcp,
    /// The bot.
    Bot,
    /// Both.
    Both,
}

impl Serves {
    const fn mcp(self) -> bool {
        matches!(self, Self::Mcp | Self::Both)
    }

    const fn bot(self) -> bool {
        matches!(self, Self::Bot | Self::Both)
    }
}

/// Herald, put together, not yet running.
pub struct App {
    rules: Rulebook,
    guard: Arc<Guard>,
    notifier: Arc<Notifier>,
    worker: Worker,
    outbox: Arc<dyn Outbox>,
    scribe: Arc<Scribe>,
    trail: Arc<dyn Trail>,
    platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    bot: Option<Inbound>,
    retention: Retention,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    serves: Serves,
    config: Config,
    stop: CancellationToken,
}

/// The bot and what it listens with.
struct Inbound {
    bot: Bot,
    listening: Vec<Listening>,
    /// Slack's events over HTTP.
    events: Option<Router>,
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
        let rules = Rulebook::from(config.policy()?);
        config.keep_secrets();
        let secret_rules = config.guard.rules().map_err(secret_rules)?;
        let guard = Arc::new(Guard::new(config.known.clone(), secret_rules));
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
            if !rules.now().lets_anybody_post(*kind) {
                tracing::warn!(platform = %kind, "no channel is allowed, so nothing can be posted");
            }
        }
        let kinds: Vec<_> = platforms.keys().copied().collect();
        let metrics = Metrics::new(&kinds);
        let database = config.database_url.as_ref();
        let audit = config.audit.settings(replica());
        let store = open_audited(database, mode.data_dir.as_deref(), clock, &audit).await?;
        let Store { outbox, conversations, leases, trail, clock, .. } = store;
        let scribe = Arc::new(Scribe::new(Arc::clone(&trail), Arc::clone(&clock)));
        let process = Uuid::now_v7().to_string();
        let worker = Worker::new(
            Arc::clone(&outbox),
            platforms.clone(),
            rules.clone(),
            Arc::clone(&guard),
            Arc::clone(&clock),
            metrics.clone(),
            delivery::Settings {
                process: process.clone(),
                own_only: mode.own_only,
                on_unknown: config.delivery.on_unknown,
                backoff: config.delivery.backoff(),
                probe: config.delivery.probe(),
            },
        );
        let settings = notifier::Settings {
            process: process.clone(),
            wait: mode.wait,
            deadline: config.delivery.deadline(),
            deduplicate: mode.deduplicate,
            // What `stdio` and `send` leave behind, only a `serve` on the same store would send.
            keeps: (database.is_some() || mode.data_dir.is_some()) && !mode.own_only,
            stop: stop.clone(),
        };
        let parts = notifier::Parts {
            platforms: platforms.clone(),
            rules: rules.clone(),
            guard: Arc::clone(&guard),
            outbox: Arc::clone(&outbox),
            scribe: Arc::clone(&scribe),
            worker: worker.clone(),
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
        };
        let notifier = Arc::new(Notifier::new(parts, settings));
        let inbound = mode.serves.bot().then(|| retention::Inbound {
            store: Arc::clone(&conversations),
            remember: config.bot.remember(),
        });
        let retention = Retention::new(
            Arc::clone(&outbox),
            inbound,
            config.delivery.keep(),
            Arc::clone(&clock),
            metrics.clone(),
        );
        let retention = retention.with_trail(Arc::clone(&trail), config.audit.keep());
        let bot = if mode.serves.bot() {
            let agents = Agents::new(&config.agent, &config.agents, &http, &clock)?;
            let Some(agents) = agents else {
                return Err(ConfigError::setting("KAGENT_A2A_URL", NO_AGENT).into());
            };
            let parts = bot::Parts {
                notifier: Arc::clone(&notifier),
                store: conversations,
                scribe: Arc::clone(&scribe),
                agents,
                platforms: platforms.clone(),
                rules: rules.clone(),
                clock: Arc::clone(&clock),
                metrics: metrics.clone(),
                process: process.clone(),
                settings: config.bot.clone(),
            };
            Some(Inbound::new(
                &config,
                Bot::new(parts),
                &leases,
                &http,
                &process,
                &clock,
                &metrics,
            )?)
        } else {
            None
        };
        let serves = mode.serves;
        Ok(Self {
            rules,
            guard,
            notifier,
            worker,
            outbox,
            scribe,
            trail,
            platforms,
            bot,
            retention,
            clock,
            metrics,
            serves,
            config,
            stop,
        })
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

    /// Serves MCP over streamable HTTP, listens for the bot, or both, with `extra` routes beside it, until it is stopped;
    /// then finishes what is under way.
    ///
    /// # Errors
    /// When the listener breaks or a setting of the transport is wrong.
    pub async fn serve(self, listener: TcpListener, extra: Router) -> anyhow::Result<()> {
        let address = listener.local_addr().context("the listening address")?;
        let metrics_port = match self.config.metrics_listen {
            Some(address) => Some(scrape::bind(address).await?),
            None => None,
        };
        let in_flight = InFlight::default();
        let mut routes = extra;
        let mut gate = None;
        if self.serves.mcp() {
            let door = mcp::Door::new(&self.config.mcp, &self.config.credentials());
            let door = door.map_err(anyhow::Error::msg)?;
            let made = mcp::Gate::new(door, Arc::clone(&self.clock));
            let open = gate.insert(made.written_down_by(Arc::clone(&self.scribe)));
            routes = routes.merge(self.mcp_routes(open, address, &in_flight)?);
        }
        let mut worker = self.start();
        let rules = self.reload(gate, &mut worker);
        let (mut talks, mut standings) = (JoinSet::new(), Vec::new());
        let keeping = tokio::spawn(self.retention.run(self.stop.child_token()));
        if let Some(Inbound { bot, listening, events }) = self.bot {
            routes = routes.merge(events.unwrap_or_default());
            // What comes in is stored until the bot, which ends last, has let go of its conversations.
            let stop = self.stop.child_token();
            talks.spawn(async move { bot.run(stop).await });
            for listening in listening {
                standings.push((listening.kind(), listening.standing()));
                let stop = self.stop.child_token();
                talks.spawn(async move { listening.run(stop).await });
            }
        }
        // Until the very end: whoever watches shall see all of it.
        let watching = CancellationToken::new();
        let watched = watching.clone().drop_guard();
        if let Some(port) = metrics_port {
            let scraped = Scraped {
                metrics: self.metrics.clone(),
                outbox: Arc::clone(&self.outbox),
                trail: Arc::clone(&self.trail),
                platforms: self.platforms,
                standings: standings.clone(),
                clock: self.clock,
                asked: Mutex::default(),
            };
            let metrics = self.metrics.clone();
            tokio::spawn(server::serve_metrics(port, Arc::new(scraped), metrics, watching));
        }
        let readiness =
            Ready { serves: self.serves, outbox: Arc::clone(&self.outbox), rules, standings };
        let routes = server::router(routes, Arc::new(readiness), self.stop.clone());
        let stopped = tokio::spawn(stopped_at(self.stop.clone()));
        let served =
            server::serve(listener, routes, in_flight, self.metrics, self.stop.clone()).await;
        // Requests, conversations and sends all began to end at the same moment.
        self.stop.cancel();
        let end = stopped.await? + PATIENCE;
        let left = || end.saturating_duration_since(Instant::now()).max(LAST);
        let ended =
            tokio::time::timeout(left(), async { while talks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!(
                "conversations were still in progress; another process goes on with them"
            );
        }
        // A few rows at most are still on their way.
        let _ = tokio::time::timeout(GOODBYE, keeping).await;
        worker.finish(left()).await;
        drop(watched);
        Ok(served?)
    }

    /// Lets rules and tokens that change count from then on, until the worker is to end; says how they stand. `None` where
    /// nothing can change.
    fn reload(&self, gate: Option<mcp::Gate>, worker: &mut Running) -> Option<reload::Standing> {
        let source = self.config.source.clone().filter(Source::can_change)?;
        let (rules, guard) = (self.rules.clone(), Arc::clone(&self.guard));
        let (scribe, metrics) = (Arc::clone(&self.scribe), self.metrics.clone());
        let reload = Reload::new(source, rules, guard, gate, scribe, metrics);
        let standing = reload.standing();
        worker.reload = Some(tokio::spawn(reload.run(worker.stop.clone())));
        Some(standing)
    }

    fn mcp_routes(
        &self,
        gate: &mcp::Gate,
        address: SocketAddr,
        in_flight: &InFlight,
    ) -> anyhow::Result<Router> {
        let herald = Herald::new(Arc::clone(&self.notifier), self.metrics.clone());
        let routes = mcp::http(herald, &self.config.mcp, gate, address, in_flight);
        let metrics = self.metrics.clone();
        let count = move |answer: Response| {
            if answer.status() == StatusCode::UNAUTHORIZED {
                metrics.unauthorized();
            }
            std::future::ready(answer)
        };
        Ok(routes.map_err(anyhow::Error::msg)?.layer(map_response(count)))
    }

    /// Serves MCP over stdin and stdout until the client leaves, or until it is stopped.
    ///
    /// # Errors
    /// When the client does not speak MCP.
    pub async fn stdio(self) -> anyhow::Result<()> {
        let herald = Herald::new(Arc::clone(&self.notifier), self.metrics.clone());
        let mut worker = self.start();
        self.reload(None, &mut worker);
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
        let outbox = Arc::clone(&self.outbox);
        let trail = Trailing::start(&self.trail, &self.scribe, &self.clock, &self.config.audit);
        Running { stop, task, reload: None, outbox, trail }
    }
}

/// The rules for secrets cannot be used.
fn secret_rules(error: String) -> ConfigError {
    ConfigError::setting("HERALD_SECRET_RULES (guard.secret_rules)", error)
}

/// When `stop` was cancelled.
async fn stopped_at(stop: CancellationToken) -> Instant {
    stop.cancelled().await;
    Instant::now()
}

/// A worker at work.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Ends by itself, and may have something to write down then.
    reload: Option<JoinHandle<()>>,
    outbox: Arc<dyn Outbox>,
    trail: Trailing,
}

impl Running {
    /// Claims nothing more, gives what is under way at most `patience` to end, and writes everything out.
    pub async fn finish(self, patience: Duration) {
        self.stop.cancel();
        let cut = self.task.abort_handle();
        let reload = async {
            if let Some(reload) = self.reload
                && tokio::time::timeout(reload::LAST + LAST, reload).await.is_err()
            {
                tracing::warn!("the settings' files cannot be read: they are not waited for");
            }
        };
        let (ended, ()) = tokio::join!(tokio::time::timeout(patience, self.task), reload);
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "the worker ended badly"),
            // Whoever claims these lanes next finds them interrupted.
            Err(_) => {
                cut.abort();
                tracing::warn!("requests were still under way and are cut");
            }
        }
        self.trail.finish().await;
        self.outbox.close().await;
    }
}

impl Inbound {
    fn new(
        config: &Config,
        bot: Bot,
        leases: &Arc<dyn Leases>,
        http: &HttpClient,
        process: &str,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let inbox: Arc<dyn Inbox> = Arc::new(bot.clone());
        let listeners =
            platform::listeners(&config.slack, &config.discord, &config.telegram, http, clock);
        let events =
            slack::events::router(&config.slack, http, Arc::clone(&inbox), Arc::clone(clock));
        if listeners.is_empty() && events.is_none() {
            return Err(ConfigError::setting("SLACK_APP_TOKEN", NO_LISTENER).into());
        }
        let listening = listeners.into_iter().map(|listener| {
            let (inbox, clock) = (Arc::clone(&inbox), Arc::clone(clock));
            let leases = Arc::clone(leases);
            Listening::new(listener, leases, inbox, process, clock, metrics.clone())
        });
        Ok(Self { listening: listening.collect(), bot, events })
    }
}

const NO_AGENT: &str = "the bot needs an agent to talk to: give its URL, such as \
                        http://kagent-controller.kagent:8083/api/a2a/kagent/my-agent/";
const NO_LISTENER: &str = "the bot has nothing to listen with: set SLACK_APP_TOKEN (Socket Mode) or SLACK_SIGNING_SECRET \
                           (HTTP) beside SLACK_BOT_TOKEN, DISCORD_BOT_TOKEN, or TELEGRAM_BOT_TOKEN";
