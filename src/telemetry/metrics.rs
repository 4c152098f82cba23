//! What is counted and timed, for Prometheus. Every label has few values: platforms, reasons, the names of our own tools
//! and of the configured agents; never a channel, a person or a text.

mod labels;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use tokio::time::Instant;

use self::labels::{
    Access, Agent, Ambiguous, Approval, Audited, Breaker, Call, Denial, Ended, Heard, Kind, Lost,
    Of, Paused, Queue, Read, Redacted, Refused, Removed, Request, Stands, Tool, TurnEnd, Voice,
};
pub use self::labels::{
    Decision, Gate, Kept, Lease, Redaction, Refusal, Route, StoreAccess, Taking, TurnOutcome,
};
use crate::model::audit::Act;
use crate::model::{Delivery, DeliveryState, Doubt, Failure, Pause, PlatformKind, Reason, Scope};

/// The media type of what [`Metrics::encode`] writes.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From what a quick platform needs to what a lease allows.
const REQUEST_SECONDS: [f64; 9] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0];
/// From a commit on a quick disk to what an access may take.
const STORE_SECONDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0];
/// From a quick platform to the hour that a delivery is tried.
const DELIVERY_SECONDS: [f64; 11] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0];
/// From a quick answer to agents that work for an hour.
const TURN_SECONDS: [f64; 10] = [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 3600.0];

type Count<L> = Family<L, Counter>;
type Level<L> = Family<L, Gauge>;
type Times<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is measured. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    accepted: Count<Voice>,
    deduplicated: Count<Of>,
    denied: Count<Denial>,
    delivered: Count<Of>,
    failed: Count<Ended>,
    unknown: Count<Ended>,
    ambiguous: Count<Ambiguous>,
    redactions: Count<Redacted>,
    queue_depth: Level<Queue>,
    oldest_age: Family<Of, Gauge<f64, AtomicU64>>,
    store_up: Gauge,
    store_times: Times<Access>,
    breakers: Level<Stands>,
    sends: Times<Request>,
    deliveries: Times<Of>,
    rate_limited: Count<Paused>,
    leases_lost: Count<Lost>,
    listeners: Level<Stands>,
    events: Count<Heard>,
    lag: Times<Of>,
    turns: Count<TurnEnd>,
    turn_times: Times<Agent>,
    conversations: Gauge,
    approvals: Count<Approval>,
    calls: Count<Call>,
    call_times: Times<Tool>,
    unauthorized: Counter,
    rules_read: Count<Read>,
    rules_stale: Gauge,
    refused: Count<Refused>,
    expunged: Counter,
    removed: Count<Removed>,
    audited: Count<Audited>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Metrics {
    /// Nothing counted yet. What is counted of `platforms` begins at zero: a series that appeared with its first failure
    /// would hide that failure from every rate. [`Metrics::begin_agent`] and [`Metrics::begin_tool`] do the same.
    #[must_use]
    pub fn new(platforms: &[PlatformKind]) -> Self {
        let mut all = Register(Registry::with_prefix("herald"));
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.0.register("build", "Which Herald this is", info);
        let inner = Inner {
            accepted: all.count("deliveries_accepted", "Messages that were accepted and stored"),
            deduplicated: all.count(
                "deliveries_deduplicated",
                "Calls that repeated an earlier one: nothing new was sent",
            ),
            denied: all.count(
                "deliveries_denied",
                "Messages that policy refused, when submitted or when sent",
            ),
            delivered: all.count("deliveries_delivered", "Messages of which every part arrived"),
            failed: all.count("deliveries_failed", "Messages that will not arrive"),
            unknown: all.count(
                "deliveries_unknown",
                "Messages that may have arrived and are not sent again",
            ),
            ambiguous: all.count(
                "ambiguous",
                "Requests whose answer was lost, by how it was settled whether they had arrived",
            ),
            redactions: all
                .count("redactions", "Messages in which something was neutralised before it left"),
            queue_depth: all.level(
                "queue_depth",
                "Messages in the store that are queued or being sent, whoever accepted them",
            ),
            oldest_age: all.register(
                "queue_oldest_age_seconds",
                "Age of the oldest message that has not come to its end",
                Family::default(),
            ),
            store_up: all.register(
                "store_up",
                "Whether the store answers, and takes something",
                Gauge::default(),
            ),
            store_times: all.times("store_seconds", "Duration of one access to the store", || {
                Histogram::new(STORE_SECONDS)
            }),
            breakers: all.level(
                "breaker_state",
                "1 for the state of a bot's circuit breaker, for all processes on this store",
            ),
            sends: all.times("send_seconds", "Duration of one request to a platform", || {
                Histogram::new(REQUEST_SECONDS)
            }),
            deliveries: all.times("delivery_seconds", "From accepted to delivered", || {
                Histogram::new(DELIVERY_SECONDS)
            }),
            rate_limited: all.count("rate_limited", "Requests that a platform asked to send later"),
            leases_lost: all.count(
                "leases_lost",
                "Leases that ran out or went to another process while they were in use",
            ),
            listeners: all.level("listener_state", "1 for the state a platform's listener is in"),
            events: all.count("events", "What people wrote or pressed, by what became of it"),
            lag: all.times(
                "inbound_lag_seconds",
                "From when the platform says it happened to when it was stored",
                || Histogram::new(DELIVERY_SECONDS),
            ),
            turns: all.count("turns", "Requests to agents, by how they ended"),
            turn_times: all.times(
                "turn_seconds",
                "From a request to an agent to its end, waiting for people included",
                || Histogram::new(TURN_SECONDS),
            ),
            conversations: all.register(
                "conversations_held",
                "Conversations that this process works on right now",
                Gauge::default(),
            ),
            approvals: all.count(
                "approvals",
                "Tool calls that people were asked about, and what was decided",
            ),
            calls: all.count("mcp_calls", "Tool calls, by whether their result was an error"),
            call_times: all.times("mcp_call_seconds", "Duration of a tool call", || {
                Histogram::new(REQUEST_SECONDS)
            }),
            unauthorized: all.register(
                "http_unauthorized",
                "Requests to /mcp without a valid token",
                Counter::default(),
            ),
            rules_read: all.count(
                "rules_read",
                "Changed rules and tokens that were read while running: ok, or refused",
            ),
            rules_stale: all.register(
                "rules_stale",
                "1 while the configured rules and tokens cannot be read, and the old ones go on",
                Gauge::default(),
            ),
            refused: all.count(
                "http_refused",
                "Requests and connections that were not let through, besides those without a valid token",
            ),
            expunged: all.register(
                "retention_expunged",
                "Messages of which what they said was taken out of the store",
                Counter::default(),
            ),
            removed: all.count("retention_removed", "What was removed from the store altogether"),
            audited: all
                .count("audit_entries", "Entries that this process wrote into the audit trail"),
            registry: all.0,
        };
        let metrics = Self(Arc::new(inner));
        for &kind in Lease::ALL {
            zero(&metrics.0.leases_lost, Lost { kind });
        }
        for &what in Kept::ALL {
            zero(&metrics.0.removed, Removed { what });
        }
        for outcome in ["ok", "refused"] {
            zero(&metrics.0.rules_read, Read { outcome });
        }
        for act in Act::ALL {
            zero(&metrics.0.audited, Audited { r#type: act.as_str() });
        }
        for &route in Route::ALL {
            for &why in Refusal::ALL {
                zero(&metrics.0.refused, Refused { route, why });
            }
        }
        for &access in StoreAccess::ALL {
            zero(&metrics.0.store_times, Access { access });
        }
        for platform in platforms {
            metrics.begin(*platform);
        }
        metrics
    }

    fn begin(&self, platform: PlatformKind) {
        let all = &*self.0;
        for &source in labels::Source::ALL {
            zero(&all.accepted, Voice { platform, source });
        }
        zero(&all.deduplicated, Of { platform });
        zero(&all.delivered, Of { platform });
        zero(&all.deliveries, Of { platform });
        for &at in Gate::ALL {
            zero(&all.denied, Denial { platform, at });
        }
        for reason in Reason::ALL {
            zero(&all.failed, Ended { platform, reason });
            zero(&all.unknown, Ended { platform, reason });
        }
        for outcome in Doubt::ALL {
            zero(&all.ambiguous, Ambiguous { platform, outcome });
        }
        for scope in [Scope::Channel, Scope::Credential] {
            zero(&all.rate_limited, Paused { platform, scope });
        }
        for &kind in Redaction::ALL {
            zero(&all.redactions, Redacted { platform, kind });
        }
        for &outcome in Taking::ALL {
            zero(&all.events, Heard { platform, outcome });
        }
    }

    /// What is counted of this agent begins at zero.
    pub fn begin_agent(&self, agent: &str) {
        let all = &*self.0;
        zero(&all.turn_times, Agent { agent: agent.to_owned() });
        for &outcome in TurnOutcome::ALL {
            zero(&all.turns, TurnEnd { agent: agent.to_owned(), outcome });
        }
        for &decision in Decision::ALL {
            zero(&all.approvals, Approval { agent: agent.to_owned(), decision });
        }
    }

    /// What is counted of this tool begins at zero.
    pub fn begin_tool(&self, tool: &'static str) {
        zero(&self.0.call_times, Tool { tool });
        for outcome in ["ok", "error"] {
            zero(&self.0.calls, Call { tool, outcome });
        }
    }

    /// All of it in the OpenMetrics text format, of the media type [`MEDIA_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.0.registry) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }

    /// A message was accepted: the bot's own, or a client's.
    pub fn accepted(&self, platform: PlatformKind, by_bot: bool) {
        let source = if by_bot { labels::Source::Bot } else { labels::Source::Tool };
        self.0.accepted.get_or_create(&Voice { platform, source }).inc();
    }

    /// A submission repeated an earlier one.
    pub fn deduplicated(&self, platform: PlatformKind) {
        self.0.deduplicated.get_or_create(&Of { platform }).inc();
    }

    /// Policy refused a message.
    pub fn denied(&self, platform: PlatformKind, at: Gate) {
        self.0.denied.get_or_create(&Denial { platform, at }).inc();
    }

    /// Something was neutralised in a message.
    pub fn redacted(&self, platform: PlatformKind, kind: Redaction) {
        self.0.redactions.get_or_create(&Redacted { platform, kind }).inc();
    }

    /// A request to a platform took `took` and ended like this.
    pub fn sent(&self, platform: PlatformKind, took: Duration, outcome: Result<(), &Failure>) {
        let reason = outcome.err().map(|failure| failure.reason);
        let request = Request { platform, outcome: reason.map_or("ok", Reason::as_str) };
        self.0.sends.get_or_create(&request).observe(took.as_secs_f64());
        if let Err(failure) = outcome {
            self.slowed(platform, failure);
        }
    }

    /// If this failure is a platform's wish to be asked later, it is counted.
    pub fn slowed(&self, platform: PlatformKind, failure: &Failure) {
        if let (Reason::RateLimited, Some(scope)) = (failure.reason, failure.scope()) {
            self.0.rate_limited.get_or_create(&Paused { platform, scope }).inc();
        }
    }

    /// A delivery's state became durable; counted if it is its end.
    pub fn settled(&self, delivery: &Delivery) {
        let platform = delivery.channel.platform();
        let reason = delivery.reason.unwrap_or(Reason::Internal);
        match delivery.state {
            DeliveryState::Queued | DeliveryState::Sending => {}
            DeliveryState::Delivered => {
                let of = Of { platform };
                self.0.delivered.get_or_create(&of).inc();
                let took = delivery.finished_at.map(|end| end.since(delivery.created_at));
                if let Some(took) = took {
                    self.0.deliveries.get_or_create(&of).observe(took.as_secs_f64());
                }
            }
            DeliveryState::Failed => {
                self.0.failed.get_or_create(&Ended { platform, reason }).inc();
            }
            DeliveryState::Unknown => {
                self.0.unknown.get_or_create(&Ended { platform, reason }).inc();
            }
        }
    }

    /// It was settled whether a request whose answer was lost had arrived.
    pub fn doubt_settled(&self, platform: PlatformKind, outcome: Doubt) {
        self.0.ambiguous.get_or_create(&Ambiguous { platform, outcome }).inc();
    }

    /// Measures an access to the store.
    pub async fn access<T>(&self, access: StoreAccess, it: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let outcome = it.await;
        let took = since.elapsed().as_secs_f64();
        self.0.store_times.get_or_create(&Access { access }).observe(took);
        outcome
    }

    /// How a bot's circuit breaker stands.
    fn breaker(&self, platform: PlatformKind, pause: Option<&Pause>) {
        let current = match pause {
            None => Breaker::Closed,
            Some(pause) if pause.refused.is_some() => Breaker::Refused,
            Some(_) => Breaker::Open,
        };
        for &state in Breaker::ALL {
            let stands = Stands { platform, state: state.as_str() };
            self.0.breakers.get_or_create(&stands).set(i64::from(state == current));
        }
    }

    /// Somebody else has, or may have, what this process held.
    pub fn lease_lost(&self, kind: Lease) {
        self.0.leases_lost.get_or_create(&Lost { kind }).inc();
    }

    /// What people did reached the inbox, `lag` after it happened if the platform says when that was.
    pub fn event(&self, platform: PlatformKind, outcome: Taking, lag: Option<Duration>) {
        self.0.events.get_or_create(&Heard { platform, outcome }).inc();
        if let (Taking::Stored, Some(lag)) = (outcome, lag) {
            self.0.lag.get_or_create(&Of { platform }).observe(lag.as_secs_f64());
        }
    }

    /// A turn ended.
    pub fn turn_ended(&self, agent: &str, outcome: TurnOutcome, took: Duration) {
        let agent = agent.to_owned();
        self.0
            .turn_times
            .get_or_create(&Agent { agent: agent.clone() })
            .observe(took.as_secs_f64());
        self.0.turns.get_or_create(&TurnEnd { agent, outcome }).inc();
    }

    /// Of so many tool calls of an agent, this became known.
    pub fn approvals(&self, agent: &str, decision: Decision, count: usize) {
        let agent = agent.to_owned();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.0.approvals.get_or_create(&Approval { agent, decision }).inc_by(count);
    }

    /// A conversation is in this process's hands until the guard is dropped.
    #[must_use]
    pub fn conversation(&self) -> Holding {
        self.0.conversations.inc();
        Holding(self.clone())
    }

    /// A tool call began. Until [`Calling::succeeded`] says otherwise it counts as an error: one that panics or is cut has
    /// nobody left to say so.
    #[must_use]
    pub fn call(&self, tool: &'static str) -> Calling {
        Calling { metrics: self.clone(), tool, since: Instant::now(), ok: false }
    }

    /// What so many messages said is not stored any more.
    pub fn expunged(&self, count: u64) {
        self.0.expunged.inc_by(count);
    }

    /// So much is not stored any more.
    pub fn removed(&self, what: Kept, count: u64) {
        self.0.removed.get_or_create(&Removed { what }).inc_by(count);
    }

    /// What was written into the audit trail so far.
    pub fn audited(&self, counts: &BTreeMap<Act, u64>) {
        for (act, count) in counts {
            let counter = self.0.audited.get_or_create(&Audited { r#type: act.as_str() });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// A request to `/mcp` had no valid token.
    pub fn unauthorized(&self) {
        self.0.unauthorized.inc();
    }

    /// The configured rules and tokens were read again: they count, or the old ones go on.
    pub fn rules_read(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "refused" };
        self.0.rules_read.get_or_create(&Read { outcome }).inc();
        self.0.rules_stale.set(i64::from(!ok));
    }

    /// A request or a connection was not let through.
    pub fn refused(&self, route: Route, why: Refusal) {
        self.0.refused.get_or_create(&Refused { route, why }).inc();
    }

    /// What the store says waits. `None`: it does not answer, and what was known before stands.
    pub fn backlog(&self, waiting: Option<&[Waiting]>) {
        self.0.store_up.set(i64::from(waiting.is_some()));
        for Waiting { platform, queued, sending, oldest, pause } in waiting.into_iter().flatten() {
            let platform = *platform;
            self.breaker(platform, pause.as_ref());
            for (state, count) in [("queued", queued), ("sending", sending)] {
                let depth = i64::try_from(*count).unwrap_or(i64::MAX);
                self.0.queue_depth.get_or_create(&Queue { platform, state }).set(depth);
            }
            self.0.oldest_age.get_or_create(&Of { platform }).set(oldest.as_secs_f64());
        }
    }

    /// The platform's listener is in this one of `states`.
    pub fn listener(&self, platform: PlatformKind, current: &str, states: &[&'static str]) {
        for state in states {
            let stands = Stands { platform, state };
            self.0.listeners.get_or_create(&stands).set(i64::from(*state == current));
        }
    }
}

/// What has not come to its end on one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The platform.
    pub platform: PlatformKind,
    /// How many messages wait for their turn.
    pub queued: u64,
    /// How many are being sent.
    pub sending: u64,
    /// How long ago the oldest of them was accepted.
    pub oldest: Duration,
    /// Why the platform's bot waits, if it does.
    pub pause: Option<Pause>,
}

/// A conversation in this process's hands.
#[derive(Debug)]
pub struct Holding(Metrics);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.0.conversations.dec();
    }
}

/// A tool call under way; counted when it is dropped.
#[derive(Debug)]
pub struct Calling {
    metrics: Metrics,
    tool: &'static str,
    since: Instant,
    ok: bool,
}

impl Calling {
    /// Its result is no error.
    pub const fn succeeded(&mut self) {
        self.ok = true;
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let (tool, outcome) = (self.tool, if self.ok { "ok" } else { "error" });
        self.metrics.0.calls.get_or_create(&Call { tool, outcome }).inc();
        let took = self.since.elapsed().as_secs_f64();
        self.metrics.0.call_times.get_or_create(&Tool { tool }).observe(took);
    }
}

/// Makes a series known before anything is counted in it.
fn zero<L: Kind, M, C: MetricConstructor<M>>(family: &Family<L, M, C>, labels: L) {
    drop(family.get_or_create(&labels));
}

/// Makes metrics known by name.
struct Register(Registry);

impl Register {
    fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn count<L: Kind>(&mut self, name: &str, help: &str) -> Count<L> {
        self.register(name, help, Family::default())
    }

    fn level<L: Kind>(&mut self, name: &str, help: &str) -> Level<L> {
        self.register(name, help, Family::default())
    }

    fn times<L: Kind>(&mut self, name: &str, help: &str, new: fn() -> Histogram) -> Times<L> {
        self.register(name, help, Family::new_with_constructor(new))
    }
}

#[cfg(test)]
mod tests;
