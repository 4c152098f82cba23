//! The one way out: what the MCP tools, the bot and the command line all call.
//!
//! `submit` is: may this client speak there -> render -> guard -> store -> wake the worker -> wait a bounded time.
//! Nothing here sends; nothing is accepted before it is stored.

mod directory;
mod refused;
mod reply;
#[cfg(test)]
mod simulation;
mod steps;

pub use reply::{BOT, Content, Reply, Show};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::directory::Directory;
use crate::clock::Clock;
use crate::delivery::{Watch, Worker};
use crate::guard::{Blocked, Findings, Guard};
use crate::model::audit::Entry;
use crate::model::{
    ChannelId, ChannelInfo, ClientName, Delivery, DeliveryId, DeliveryState, Disposition, Part,
    Placement, PlatformKind, Reason, Receipt, Step, Submission,
};
use crate::platform::{Credential, Platform};
use crate::policy::{Denied, Policy, Rate, Route, Rulebook, Terms, Unwelcome};
use crate::render::{self, RenderError};
use crate::store::trail::Scribe;
use crate::store::{Enqueued, Excess, NewDelivery, Outbox, StoreError};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Redaction, StoreAccess};
use crate::telemetry::trace;

/// How often a waiting caller looks for another process's result.
const POLL: Duration = Duration::from_millis(500);
/// Without a key, the same content within this time is one delivery: agents and their runtimes repeat calls.
const SAME_WINDOW: Duration = Duration::from_secs(60);
/// How long it may take to ask whose thread a channel is, before anything is accepted.
const ASKING: Duration = Duration::from_secs(4);
/// The most of a text that is read, in characters.
pub const MOST_TEXT_CHARACTERS: usize = 100_000;

/// A submission was not accepted; nothing was stored. The text is a sentence for the agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The platform is not configured.
    #[error("{} is not configured on this server", .0.title())]
    NotConfigured(PlatformKind),
    /// Policy says no.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Whom the bot answers may not talk to the agent.
    #[error(transparent)]
    Unwelcome(#[from] Unwelcome),
    /// Whether the channel is a thread of an allowed one could not be asked.
    #[error("{} cannot be asked right now whether that channel is a thread of an allowed one, so nothing was sent: name the \
             channel itself, or try again in a minute", .0.title())]
    Unasked(PlatformKind),
    /// The text cannot be sent.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The text is longer than it may be.
    #[error("`text` has {has} characters, the most is {most}: shorten it, or link to the rest")]
    Huge {
        /// How many characters it has.
        has: usize,
        /// How many it may have.
        most: usize,
    },
    /// The guard says no.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// This client has submitted as much as it may for now.
    #[error(
        "{what} in any minute is the most, so nothing was sent: wait {wait} s, and send one summary instead of many messages"
    )]
    TooMuch {
        /// What there was too much of: `30 messages`, `5 channels`.
        what: String,
        /// When it may try again, in seconds.
        wait: u64,
    },
    /// An argument is malformed.
    #[error("{0}")]
    Argument(String),
    /// The idempotency key was used for another message.
    #[error("`idempotency_key` was used before for another message: use a new key for new content")]
    KeyReused,
    /// No delivery of this client has that name.
    #[error("no delivery `{0}` of yours: use the `delivery_id` that a send tool returned")]
    NoSuchDelivery(String),
    /// The store cannot be written.
    #[error("Herald cannot store messages right now, so nothing was sent; try again in a minute")]
    Store,
}

impl From<StoreError> for SubmitError {
    fn from(error: StoreError) -> Self {
        match error {
            // The worker tells once, for all the callers.
            StoreError::Away(_) => tracing::debug!(%error, "a submission could not be stored"),
            _ => tracing::error!(%error, "a submission could not be stored"),
        }
        Self::Store
    }
}

/// How a notifier behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This process.
    pub process: String,
    /// How long a caller waits for its delivery.
    pub wait: Duration,
    /// For how long a delivery is tried.
    pub deadline: Duration,
    /// Whether the same content within 60 s is one delivery (not for a person at a shell).
    pub deduplicate: bool,
    /// Whether somebody sends what is queued once this process has ended: only then `queued` is promised.
    pub keeps: bool,
    /// Once this is cancelled nothing more is claimed: who waits for what is not under way waits in vain.
    pub stop: CancellationToken,
}

/// What a notifier works with.
pub struct Parts {
    /// The configured platforms.
    pub platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    /// The rules that count.
    pub rules: Rulebook,
    /// Who looks at everything that leaves.
    pub guard: Arc<Guard>,
    /// Where submissions are stored.
    pub outbox: Arc<dyn Outbox>,
    /// Who writes down what is refused.
    pub scribe: Arc<Scribe>,
    /// Who sends them.
    pub worker: Worker,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Submit, update, look up.
pub struct Notifier {
    platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    rules: Rulebook,
    guard: Arc<Guard>,
    outbox: Arc<dyn Outbox>,
    scribe: Arc<Scribe>,
    worker: Worker,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    directory: Directory,
    settings: Settings,
}

impl Notifier {
    /// A notifier over these parts. Its worker is woken for each submission; somebody has to run it.
    #[must_use]
    pub fn new(parts: Parts, settings: Settings) -> Self {
        let directory = Directory::new(Arc::clone(&parts.clock));
        let Parts { platforms, rules, guard, outbox, scribe, worker, clock, metrics } = parts;
        Self {
            platforms,
            rules,
            guard,
            outbox,
            scribe,
            worker,
            clock,
            metrics,
            directory,
            settings,
        }
    }

    /// The configured platforms, in their order.
    #[must_use]
    pub fn platforms(&self) -> Vec<PlatformKind> {
        self.platforms.keys().copied().collect()
    }

    /// The rules as they stand.
    #[must_use]
    pub fn rules(&self) -> Arc<Policy> {
        self.rules.now()
    }

    /// Every channel this client may use, with what the platforms tell about them, cached for five minutes.
    pub async fn channels(
        &self,
        client: &ClientName,
        platform: Option<PlatformKind>,
    ) -> Vec<ChannelInfo> {
        let policy = self.rules.now();
        let wanted = self.platforms.values().filter(|p| platform.is_none_or(|k| k == p.kind()));
        let lists = wanted.map(|platform| {
            let kind = platform.kind();
            self.directory.list(platform, policy.allowed(client, kind), policy.shown(client, kind))
        });
        futures_util::future::join_all(lists).await.into_iter().flatten().collect()
    }

    /// Accepts a message, and waits a bounded time for its delivery.
    ///
    /// # Errors
    /// When it is not accepted; then nothing is stored and nothing will be sent.
    pub async fn submit(
        &self,
        client: &ClientName,
        submission: Submission,
    ) -> Result<Receipt, SubmitError> {
        let mut asked = refused::asked(client, Some(submission.platform));
        let answer = self.submit_it(client, submission, &mut asked).await;
        if let Err(error) = &answer {
            self.refused(asked, error).await;
        }
        answer
    }

    async fn submit_it(
        &self,
        client: &ClientName,
        submission: Submission,
        asked: &mut Entry,
    ) -> Result<Receipt, SubmitError> {
        let give_up = Instant::now() + self.settings.wait;
        let platform = self.platform(submission.platform)?;
        let (route, placement) = self.destination(client, platform, &submission, asked).await?;
        let channel = route.channel().clone();
        asked.channel = Some(channel.clone());
        platform.check(&placement).map_err(SubmitError::Argument)?;
        let policy = self.rules.now();
        let threads = policy.authorize_threads(client);
        if submission.thread_key.is_some() || placement.thread.is_some() {
            threads.clone()?;
        }
        let most = policy.rights(client).longest_text().unwrap_or(MOST_TEXT_CHARACTERS);
        let Rendered { parts, mut findings, title } =
            self.rendered(platform.as_ref(), &submission.text, most, route.terms())?;
        let id = DeliveryId::new(self.clock.now());
        let in_thread = placement.thread.is_some();
        let follows = submission.thread_key.is_some()
            || (platform.capabilities().threads && threads.is_ok() && parts.len() > 1);
        let opens = platform.capabilities().opens_threads && follows && !in_thread;
        let name = match &submission.thread_key {
            // The agent's own word, but it is shown to people.
            Some(key) => {
                let (name, found) = self.guard.words(key, platform.kind(), route.terms())?;
                findings.add(found);
                name
            }
            None => self.guard.words(&title, platform.kind(), route.terms())?.0,
        };
        let hash = content_hash(&channel, &placement, &submission);
        let steps = steps::send(id, parts, opens.then_some(name));
        let delivery = Delivery {
            placement,
            thread_key: submission.thread_key,
            warnings: findings.warnings.clone(),
            ..self.delivery(id, client, channel, steps)
        };
        let accepted = Accepted {
            delivery,
            idempotency_key: submission.idempotency_key,
            content_hash: hash,
            findings,
            rate: policy.rights(client).rate(),
        };
        self.accept(platform.as_ref(), accepted, give_up).await
    }

    /// Edits what an earlier delivery of this client's sent, and waits a bounded time for that.
    ///
    /// # Errors
    /// When there is no such delivery, it has not arrived, or the new text needs more messages than it had.
    pub async fn update(
        &self,
        client: &ClientName,
        delivery_id: &str,
        text: &str,
    ) -> Result<Receipt, SubmitError> {
        let mut asked = refused::asked(client, None);
        let answer = self.update_it(client, delivery_id, text, &mut asked).await;
        if let Err(error) = &answer {
            self.refused(asked, error).await;
        }
        answer
    }

    async fn update_it(
        &self,
        client: &ClientName,
        delivery_id: &str,
        text: &str,
        asked: &mut Entry,
    ) -> Result<Receipt, SubmitError> {
        let give_up = Instant::now() + self.settings.wait;
        let first = self.own(client, delivery_id, asked).await?;
        let base = first.edits.unwrap_or(first.id);
        (asked.channel, asked.edits) = (Some(first.channel), Some(base));
        asked.delivery = None;
        let sent = self
            .outbox
            .latest(client, base)
            .await?
            .ok_or_else(|| SubmitError::NoSuchDelivery(delivery_id.to_owned()))?;
        if sent.state != DeliveryState::Delivered {
            return Err(SubmitError::Argument(format!(
                "`delivery_id` names a message that has not arrived (it is {}): only a delivered message can be edited",
                sent.state.as_str()
            )));
        }
        let policy = self.rules.now();
        let route = policy.authorize(client, &sent.channel)?;
        let platform = self.platform(sent.channel.platform())?;
        let most = policy.rights(client).longest_text().unwrap_or(MOST_TEXT_CHARACTERS);
        let Rendered { parts, findings, .. } =
            self.rendered(platform.as_ref(), text, most, route.terms())?;
        if parts.len() > sent.messages.len() {
            return Err(SubmitError::Argument(format!(
                "`text` would take {} messages, and the one to edit has {}: shorten it, or send a new message",
                parts.len(),
                sent.messages.len()
            )));
        }
        let id = DeliveryId::new(self.clock.now());
        let steps = steps::edit(id, &sent.messages, parts);
        let hash = id.to_string();
        let delivery = Delivery {
            edits: Some(base),
            warnings: findings.warnings.clone(),
            ..self.delivery(id, client, sent.channel, steps)
        };
        let rate = policy.rights(client).rate();
        let accepted =
            Accepted { delivery, idempotency_key: None, content_hash: hash, findings, rate };
        self.accept(platform.as_ref(), accepted, give_up).await
    }

    /// How a delivery of this client's stands.
    ///
    /// # Errors
    /// When this client has no such delivery.
    pub async fn status(
        &self,
        client: &ClientName,
        delivery_id: &str,
    ) -> Result<Receipt, SubmitError> {
        let mut asked = refused::asked(client, None);
        let delivery = self.own(client, delivery_id, &mut asked).await;
        if let Err(error) = &delivery {
            self.refused(asked, error).await;
        }
        Ok(delivery?.receipt(self.clock.now(), false))
    }

    fn platform(&self, kind: PlatformKind) -> Result<&Arc<dyn Platform>, SubmitError> {
        self.platforms.get(&kind).ok_or(SubmitError::NotConfigured(kind))
    }

    async fn own(
        &self,
        client: &ClientName,
        id: &str,
        asked: &mut Entry,
    ) -> Result<Delivery, SubmitError> {
        let unknown = || SubmitError::NoSuchDelivery(id.chars().take(64).collect());
        let name = id.trim().parse::<DeliveryId>().map_err(|_| unknown())?;
        // Whether there is one makes no difference, not even in how long the answer takes.
        asked.delivery = Some(name);
        let delivery = self.outbox.delivery(name).await?;
        delivery.filter(|delivery| delivery.client == *client).ok_or_else(unknown)
    }

    /// The route that a submission takes: to the channel it names, or to the one whose thread it names.
    async fn destination(
        &self,
        client: &ClientName,
        platform: &Arc<dyn Platform>,
        submission: &Submission,
        asked: &mut Entry,
    ) -> Result<(Route, Placement), SubmitError> {
        let policy = self.rules.now();
        let named = policy.resolve(client, submission.platform, &submission.channel)?;
        asked.channel = Some(named.clone());
        let mut placement = submission.placement.clone();
        // A listed channel is posted to as it is; only for others is it worth asking whose thread they are.
        let denied = match policy.authorize(client, &named) {
            Ok(route) => return Ok((route, placement)),
            Err(denied) => denied,
        };
        if policy.allowed(client, submission.platform).listed().is_empty() {
            return Err(denied.into());
        }
        let parent = self.directory.parent(client, platform, &named);
        match tokio::time::timeout(ASKING, parent).await {
            Ok(Ok(Some(parent))) => {
                let route = policy.authorize(client, &parent).map_err(|_| denied)?;
                placement.thread = Some(named.id().to_owned());
                Ok((route, placement))
            }
            // No answer is no denial.
            Ok(Err(failure)) if failure.disposition != Disposition::GiveUp => {
                Err(SubmitError::Unasked(submission.platform))
            }
            Err(_) => Err(SubmitError::Unasked(submission.platform)),
            Ok(_) => Err(denied.into()),
        }
    }

    fn delivery(
        &self,
        id: DeliveryId,
        client: &ClientName,
        channel: ChannelId,
        steps: Vec<Step>,
    ) -> Delivery {
        let now = self.clock.now();
        let deadline = now.after(self.settings.deadline);
        let traceparent = trace::current();
        Delivery { traceparent, ..Delivery::new(id, client.clone(), channel, steps, now, deadline) }
    }

    async fn accept(
        &self,
        platform: &dyn Platform,
        accepted: Accepted,
        give_up: Instant,
    ) -> Result<Receipt, SubmitError> {
        let Accepted { delivery, idempotency_key, content_hash, findings, rate } = accepted;
        let mut watch = self.worker.waiters().watch(delivery.id);
        let new = NewDelivery {
            submitter: self.settings.process.clone(),
            pace: platform.pace(&delivery.channel),
            idempotency_key,
            content_hash,
            rate,
            filtered: findings.filtered.clone(),
            same_since: (self.settings.deduplicate && delivery.edits.is_none())
                .then(|| delivery.created_at.before(SAME_WINDOW)),
            delivery: delivery.clone(),
        };
        let (delivery, deduplicated) =
            match self.metrics.access(StoreAccess::Enqueue, self.outbox.enqueue(new)).await? {
                Enqueued::New => (delivery, false),
                Enqueued::KeyReused => return Err(SubmitError::KeyReused),
                Enqueued::TooMuch(Excess { what, until }) => {
                    let wait = until.since(self.clock.now()).as_secs().max(1);
                    return Err(SubmitError::TooMuch { what, wait });
                }
                Enqueued::Retried(earlier) => (*earlier, false),
                Enqueued::Repeated(earlier) => (*earlier, true),
            };
        self.count(&delivery, deduplicated, &findings);
        if watch.id() != delivery.id {
            watch = self.worker.waiters().watch(delivery.id);
        }
        self.worker.wake();
        let delivery = self.wait(watch, delivery, &platform.credential(), give_up).await;
        Ok(delivery.receipt(self.clock.now(), deduplicated))
    }

    fn count(&self, delivery: &Delivery, deduplicated: bool, findings: &Findings) {
        let platform = delivery.channel.platform();
        if deduplicated {
            return self.metrics.deduplicated(platform);
        }
        self.metrics.accepted(platform, delivery.client.as_str() == BOT);
        let kinds: BTreeSet<_> = findings.filtered.iter().map(|it| it.rule.as_str()).collect();
        for rule in kinds {
            self.metrics.redacted(platform, Redaction::of(rule));
        }
    }

    /// Waits until the delivery has come to its end, or is known to take longer than a caller waits.
    ///
    /// It is accepted by now: no trouble in here may sound as if nothing was sent.
    async fn wait(
        &self,
        mut watch: Watch,
        mut delivery: Delivery,
        credential: &Credential,
        give_up: Instant,
    ) -> Delivery {
        let left = give_up.saturating_duration_since(Instant::now());
        let must_end = self.clock.now().after(left);
        loop {
            if delivery.state.is_final() {
                return delivery;
            }
            // What is being sent right now may be what its bot waits for.
            let waits = delivery.state == DeliveryState::Queued;
            let refused =
                delivery.paused.as_ref().is_some_and(|pause| credential.is_stopped_by(pause));
            if waits && (refused || delivery.not_before > must_end) {
                break;
            }
            tokio::select! {
                biased;
                news = watch.next() => if let Some(news) = news {
                    delivery = news;
                    continue;
                },
                // Another process may be sending it.
                () = tokio::time::sleep(POLL) => {}
                () = tokio::time::sleep_until(give_up) => break,
            }
            let stored = self.outbox.delivery(delivery.id);
            match tokio::time::timeout_at(give_up, stored).await {
                Ok(Ok(Some(stored))) => delivery = stored,
                Ok(Err(error)) => {
                    // The worker has told that the store is away, once for all who wait.
                    tracing::debug!(delivery = %delivery.id, %error, "how it stands cannot be read");
                }
                Ok(Ok(None)) | Err(_) => {}
            }
            if self.settings.stop.is_cancelled() && delivery.state == DeliveryState::Queued {
                break;
            }
        }
        if self.settings.keeps { delivery } else { self.abandon(delivery).await }
    }

    /// Nobody will send this once its caller has gone: `queued` would be an empty promise.
    async fn abandon(&self, delivery: Delivery) -> Delivery {
        let paused = delivery.paused.as_ref().map(|pause| (pause.reason, &pause.hint));
        let (reason, hint) = match paused.or(delivery.reason.zip(delivery.hint.as_ref())) {
            Some((reason, hint)) => {
                (reason, format!("{hint}; this Herald does not keep it: send it again later"))
            }
            _ => (Reason::Expired, "it could not be delivered in time; try again later".to_owned()),
        };
        let ended = self.outbox.end(delivery.id, reason, &hint, self.clock.now()).await;
        if let Err(error) = &ended {
            tracing::error!(delivery = %delivery.id, %error, "it could not be called off");
        }
        let mut delivery = ended.ok().flatten().unwrap_or(delivery);
        if !delivery.state.is_final() {
            delivery.state = DeliveryState::Unknown;
            delivery.reason = Some(Reason::Timeout);
            delivery.hint = Some(
                "it may have arrived: the platform did not answer in time. Do not send it again"
                    .to_owned(),
            );
        }
        delivery
    }
}

/// Markdown as it may leave.
struct Rendered {
    parts: Vec<Part>,
    findings: Findings,
    /// The name of a thread that begins with it.
    title: String,
}

/// What is about to be stored.
struct Accepted {
    delivery: Delivery,
    idempotency_key: Option<String>,
    content_hash: String,
    findings: Findings,
    rate: Rate,
}

impl Notifier {
    /// Markdown of at most `most` characters, as it may leave.
    fn rendered(
        &self,
        platform: &dyn Platform,
        text: &str,
        most: usize,
        terms: &Terms,
    ) -> Result<Rendered, SubmitError> {
        let has = text.chars().count();
        let most = most.min(MOST_TEXT_CHARACTERS);
        if has > most {
            return Err(SubmitError::Huge { has, most });
        }
        let mut document = render::parse(text);
        let mut findings = self.guard.document(&mut document, platform.kind(), terms)?;
        let mut parts = platform.render(&document)?;
        findings.add(self.guard.parts(&mut parts, platform.kind(), terms)?);
        Ok(Rendered { parts, findings, title: steps::title(&document) })
    }
}

/// What makes two submissions the same.
fn content_hash(channel: &ChannelId, placement: &Placement, submission: &Submission) -> String {
    let mut hash = Sha256::new();
    let placement = serde_json::to_string(placement).unwrap_or_default();
    let key = submission.thread_key.as_deref().unwrap_or_default();
    for field in [&channel.to_string(), &placement, key, &submission.text] {
        hash.update(field.len().to_le_bytes());
        hash.update(field);
    }
    format!("{:x}", hash.finalize())
}
