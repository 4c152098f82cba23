//! The one way out: what the MCP tools, the bot and the command line all call.
//!
//! `submit` is: may this client speak there -> render -> guard -> store -> wake the worker -> wait a bounded time.
//! Nothing here sends; nothing is accepted before it is stored.

mod directory;
mod reply;
mod steps;

pub use reply::{BOT, Content, Reply, Show};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::directory::Directory;
use crate::clock::Clock;
use crate::delivery::{Watch, Worker};
use crate::guard;
use crate::model::{
    ChannelId, ChannelInfo, ClientName, Delivery, DeliveryId, DeliveryState, Disposition, Part,
    Placement, PlatformKind, Reason, Receipt, Step, Submission,
};
use crate::platform::{Credential, Platform};
use crate::policy::{AllowList, Denied, Policy, Route};
use crate::render::{self, RenderError};
use crate::store::{Enqueued, NewDelivery, Outbox, StoreError};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Gate, Redaction, StoreAccess};
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
    /// Whether the channel is a thread of an allowed one could not be asked.
    #[error("{} cannot be asked right now whether that channel is a thread of an allowed one, so nothing was sent: name the \
             channel itself, or try again in a minute", .0.title())]
    Unasked(PlatformKind),
    /// The text cannot be sent.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The text is far too long to be read.
    #[error(
        "`text` has {0} characters, the most is {MOST_TEXT_CHARACTERS}: shorten it, or link to the rest"
    )]
    Huge(usize),
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
        tracing::error!(error = %error, "a submission could not be stored");
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

/// Submit, update, look up.
pub struct Notifier {
    platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
    policy: Arc<Policy>,
    outbox: Arc<dyn Outbox>,
    worker: Worker,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    directory: Directory,
    settings: Settings,
}

impl Notifier {
    /// A notifier over these parts. `worker` is woken for each submission; somebody has to run it.
    #[must_use]
    pub fn new(
        platforms: BTreeMap<PlatformKind, Arc<dyn Platform>>,
        policy: Arc<Policy>,
        outbox: Arc<dyn Outbox>,
        worker: Worker,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        settings: Settings,
    ) -> Self {
        let directory = Directory::new(Arc::clone(&clock));
        Self { platforms, policy, outbox, worker, clock, metrics, directory, settings }
    }

    /// The configured platforms, in their order.
    #[must_use]
    pub fn platforms(&self) -> Vec<PlatformKind> {
        self.platforms.keys().copied().collect()
    }

    /// What this client may use on a platform.
    #[must_use]
    pub fn allowed(&self, client: &ClientName, platform: PlatformKind) -> &AllowList {
        self.policy.allowed(client, platform)
    }

    /// Every channel this client may use, with what the platforms tell about them, cached for five minutes.
    pub async fn channels(
        &self,
        client: &ClientName,
        platform: Option<PlatformKind>,
    ) -> Vec<ChannelInfo> {
        let wanted = self.platforms.values().filter(|p| platform.is_none_or(|k| k == p.kind()));
        let lists = wanted.map(|platform| {
            self.directory.list(platform, self.policy.allowed(client, platform.kind()))
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
        let give_up = Instant::now() + self.settings.wait;
        let platform = self.platform(submission.platform)?;
        let destination = self.destination(client, platform, &submission).await;
        let (route, placement) = destination.inspect_err(|error| {
            if matches!(error, SubmitError::Denied(_)) {
                self.metrics.denied(submission.platform, Gate::Submit);
            }
        })?;
        let channel = route.channel().clone();
        platform.check(&placement).map_err(SubmitError::Argument)?;
        let (parts, warnings) = rendered(platform.as_ref(), &submission.text)?;
        let id = DeliveryId::new(self.clock.now());
        let in_thread = placement.thread.is_some();
        let follows =
            submission.thread_key.is_some() || (platform.capabilities().threads && parts.len() > 1);
        let opens = platform.capabilities().opens_threads && follows && !in_thread;
        let name = submission.thread_key.clone().unwrap_or_else(|| steps::title(&submission.text));
        let hash = content_hash(&channel, &placement, &submission);
        let steps = steps::send(id, parts, opens.then_some(name));
        let delivery = Delivery {
            placement,
            thread_key: submission.thread_key,
            warnings,
            ..self.delivery(id, client, channel, steps)
        };
        self.accept(platform.as_ref(), delivery, submission.idempotency_key, hash, give_up).await
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
        let give_up = Instant::now() + self.settings.wait;
        let first = self.own(client, delivery_id).await?;
        let base = first.edits.unwrap_or(first.id);
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
        self.policy.authorize(client, &sent.channel).inspect_err(|_| {
            self.metrics.denied(sent.channel.platform(), Gate::Submit);
        })?;
        let platform = self.platform(sent.channel.platform())?;
        let (parts, warnings) = rendered(platform.as_ref(), text)?;
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
            warnings,
            ..self.delivery(id, client, sent.channel, steps)
        };
        self.accept(platform.as_ref(), delivery, None, hash, give_up).await
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
        Ok(self.own(client, delivery_id).await?.receipt(self.clock.now(), false))
    }

    fn platform(&self, kind: PlatformKind) -> Result<&Arc<dyn Platform>, SubmitError> {
        self.platforms.get(&kind).ok_or(SubmitError::NotConfigured(kind))
    }

    async fn own(&self, client: &ClientName, id: &str) -> Result<Delivery, SubmitError> {
        let unknown = || SubmitError::NoSuchDelivery(id.chars().take(64).collect());
        let name = id.trim().parse::<DeliveryId>().map_err(|_| unknown())?;
        let delivery = self.outbox.delivery(name).await?;
        delivery.filter(|delivery| delivery.client == *client).ok_or_else(unknown)
    }

    /// The route that a submission takes: to the channel it names, or to the one whose thread it names.
    async fn destination(
        &self,
        client: &ClientName,
        platform: &Arc<dyn Platform>,
        submission: &Submission,
    ) -> Result<(Route, Placement), SubmitError> {
        let named = self.policy.resolve(client, submission.platform, &submission.channel)?;
        let mut placement = submission.placement.clone();
        // A listed channel is posted to as it is; only for others is it worth asking whose thread they are.
        let denied = match self.policy.authorize(client, &named) {
            Ok(route) => return Ok((route, placement)),
            Err(denied) => denied,
        };
        if self.policy.allowed(client, submission.platform).listed().is_empty() {
            return Err(denied.into());
        }
        let parent = self.directory.parent(platform, &named);
        match tokio::time::timeout(ASKING, parent).await {
            Ok(Ok(Some(parent))) => {
                let route = self.policy.authorize(client, &parent).map_err(|_| denied)?;
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
        delivery: Delivery,
        idempotency_key: Option<String>,
        content_hash: String,
        give_up: Instant,
    ) -> Result<Receipt, SubmitError> {
        let mut watch = self.worker.waiters().watch(delivery.id);
        let neutralised = !delivery.warnings.is_empty();
        let new = NewDelivery {
            submitter: self.settings.process.clone(),
            pace: platform.pace(&delivery.channel),
            idempotency_key,
            content_hash,
            same_since: (self.settings.deduplicate && delivery.edits.is_none())
                .then(|| delivery.created_at.before(SAME_WINDOW)),
            delivery: delivery.clone(),
        };
        let (delivery, deduplicated) =
            match self.metrics.access(StoreAccess::Enqueue, self.outbox.enqueue(new)).await? {
                Enqueued::New => (delivery, false),
                Enqueued::KeyReused => return Err(SubmitError::KeyReused),
                Enqueued::Retried(earlier) => (*earlier, false),
                Enqueued::Repeated(earlier) => (*earlier, true),
            };
        self.count(&delivery, deduplicated, neutralised);
        if watch.id() != delivery.id {
            watch = self.worker.waiters().watch(delivery.id);
        }
        self.worker.wake();
        let delivery = self.wait(watch, delivery, &platform.credential(), give_up).await;
        Ok(delivery.receipt(self.clock.now(), deduplicated))
    }

    fn count(&self, delivery: &Delivery, deduplicated: bool, neutralised: bool) {
        let platform = delivery.channel.platform();
        if deduplicated {
            return self.metrics.deduplicated(platform);
        }
        self.metrics.accepted(platform, delivery.client.as_str() == BOT);
        if neutralised {
            self.metrics.redacted(platform, Redaction::Mention);
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
                news = watch.next() => if let Some(news) = news { delivery = news },
                () = tokio::time::sleep(POLL) => {
                    // Another process may be sending it.
                    let stored = self.outbox.delivery(delivery.id);
                    match tokio::time::timeout_at(give_up, stored).await {
                        Ok(Ok(Some(stored))) => delivery = stored,
                        Ok(Err(error)) => {
                            tracing::warn!(delivery = %delivery.id, %error, "how it stands cannot be read");
                        }
                        Ok(Ok(None)) | Err(_) => {}
                    }
                    if self.settings.stop.is_cancelled() && delivery.state == DeliveryState::Queued {
                        break;
                    }
                }
                () = tokio::time::sleep_until(give_up) => break,
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

/// Markdown as parts that may leave, and what was changed about it.
fn rendered(platform: &dyn Platform, text: &str) -> Result<(Vec<Part>, Vec<String>), SubmitError> {
    let characters = text.chars().count();
    if characters > MOST_TEXT_CHARACTERS {
        return Err(SubmitError::Huge(characters));
    }
    let mut document = render::parse(text);
    let mut warnings = guard::document(&mut document, platform.kind());
    let mut parts = platform.render(&document)?;
    for warning in guard::parts(&mut parts, platform.kind()) {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok((parts, warnings))
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
