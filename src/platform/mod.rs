//! The platforms behind one trait. Everything a vendor does differently stays in its folder.

pub mod body;
pub mod discord;
pub mod finding;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod http;
mod known;
pub mod listener;
#[cfg(test)]
pub(crate) mod scripted;
pub mod slack;
mod socket;
pub mod telegram;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use self::finding::{Finding, Purpose};
use self::listener::Listener;
use crate::clock::{Clock, Timestamp};
use crate::model::{
    Attachment, ChannelId, ChannelInfo, Failure, Identity, Part, Pause, Placement, PlatformKind,
    Reason, Step,
};
use crate::policy::Route;
use crate::render::{Document, RenderError};

/// What a platform can do that others cannot. The conformance suite checks that flag and behaviour agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The platform recognises a repeated request by its nonce, so an ambiguous send may be repeated.
    pub dedupes: bool,
    /// The later parts of a long message stand in a thread of its first.
    pub threads: bool,
    /// The platform can be asked whether a message with a nonce stands in a channel, where the token may read it
    /// ([`Platform::recall`]).
    pub recalls: bool,
    /// A thread has to be opened by a request of its own before anything can be posted in it.
    pub opens_threads: bool,
}

/// How fast a channel may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Milliseconds between two messages, on average.
    pub interval_ms: u32,
    /// How many may go out at once after a pause.
    pub burst: u32,
}

impl Pace {
    /// One message every `interval`, `burst` of them at once after a pause.
    #[must_use]
    pub const fn new(interval: Duration, burst: u32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "paces are seconds, not weeks")]
        Self { interval_ms: interval.as_millis() as u32, burst }
    }
}

/// Whose secret a platform is asked with, as far as those need to know who share a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Twelve digits of a digest: they tell one secret from another, and nothing about either.
    pub fingerprint: String,
    /// How fast this bot may write, over all channels.
    pub pace: Pace,
}

impl Credential {
    /// Whether nothing is tried with this secret: it was refused.
    #[must_use]
    pub fn is_stopped_by(&self, pause: &Pause) -> bool {
        pause.refused.as_ref() == Some(&self.fingerprint)
    }

    /// That of a `secret` that is shown to `base`.
    #[must_use]
    fn new(base: &Url, secret: &SecretString, pace: Pace) -> Self {
        let digest = Sha256::new()
            .chain_update(base.as_str())
            .chain_update(" ")
            .chain_update(secret.expose_secret().trim())
            .finalize();
        // Enough to see that a secret has changed, too little to find it.
        let fingerprint = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { fingerprint, pace }
    }
}

/// What the platform confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Its ID of the message; for an opened thread, the thread's. Empty where the platform confirms that a repeated message
    /// arrived, but not as which (Discord, once somebody has deleted it).
    pub id: String,
    /// A link to the message, where it is known without another request.
    pub permalink: Option<String>,
}

/// What is shown while something goes on: not durable, the latest wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The bot is at work. Fades by itself after some seconds; nothing where the platform has no such sign.
    Typing,
    /// One of the bot's own messages says something else from now on.
    Edit {
        /// The platform's ID of the message.
        message_id: String,
        /// What it says.
        part: Part,
    },
}

/// The platforms that have a token, in the order in which they are shown. Calls nobody.
#[must_use]
pub fn configured(
    slack: &slack::Config,
    discord: &discord::Config,
    telegram: &telegram::Config,
    http: &http::HttpClient,
) -> Vec<Arc<dyn Platform>> {
    let slack = slack::Slack::new(slack, http.clone()).map(|p| Arc::new(p) as Arc<dyn Platform>);
    let discord =
        discord::Discord::new(discord, http.clone()).map(|p| Arc::new(p) as Arc<dyn Platform>);
    let telegram =
        telegram::Telegram::new(telegram, http.clone()).map(|p| Arc::new(p) as Arc<dyn Platform>);
    [slack, discord, telegram].into_iter().flatten().collect()
}

/// What listens on the platforms that are configured for it, in their order; Slack's HTTP endpoint is
/// [`slack::events`]'s. Calls nobody.
#[must_use]
pub fn listeners(
    slack: &slack::Config,
    discord: &discord::Config,
    telegram: &telegram::Config,
    http: &http::HttpClient,
    clock: &Arc<dyn Clock>,
) -> Vec<Arc<dyn Listener>> {
    [
        slack::listener(slack, http, clock),
        discord::listener(discord, http, clock),
        telegram::listener(telegram, http, clock),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One configured account on one platform.
#[async_trait]
pub trait Platform: Send + Sync + 'static {
    /// Which platform.
    fn kind(&self) -> PlatformKind;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// How fast `channel` may be written to.
    fn pace(&self, channel: &ChannelId) -> Pace;

    /// Whose secret it is asked with, and how fast that bot may write.
    fn credential(&self) -> Credential;

    /// A document in this platform's dialect, in parts within its limits. Pure.
    ///
    /// # Errors
    /// When nothing is left to show, or it would take too many parts.
    fn render(&self, document: &Document) -> Result<Vec<Part>, RenderError>;

    /// Whether a placement that a caller wrote is well formed for this platform.
    ///
    /// # Errors
    /// One sentence that names the argument and its shape.
    fn check(&self, placement: &Placement) -> Result<(), String>;

    /// Where a message stands that belongs into the thread of `first`. Pure.
    fn thread_of(&self, first: &str) -> Placement;

    /// Does one step. At most 20 s.
    ///
    /// An [`Action::OpenThread`](crate::model::Action::OpenThread) opens the thread of the message that
    /// `placement.reply_to` names.
    ///
    /// # Errors
    /// Classified: what happened, what may be done, and a sentence for the operator or the agent.
    async fn deliver(
        &self,
        route: &Route,
        placement: &Placement,
        step: &Step,
    ) -> Result<Sent, Failure>;

    /// Looks a step's message up by its nonce, in the channel or thread where it was sent at `since` or later; `None` if
    /// it is not there. Asked only where [`Capabilities::recalls`] says so, and some seconds after the send. At most 20 s.
    ///
    /// # Errors
    /// Classified. [`Disposition::GiveUp`](crate::model::Disposition::GiveUp) if the platform does not tell (a missing
    /// scope), else it may be asked again.
    async fn recall(
        &self,
        _route: &Route,
        _placement: &Placement,
        _step: &Step,
        _since: Timestamp,
    ) -> Result<Option<Sent>, Failure> {
        Err(Failure::give_up(Reason::Internal, "this platform cannot be asked what arrived"))
    }

    /// Shows a signal, once; at most 10 s. A lost one is no loss: nothing is tried again.
    ///
    /// # Errors
    /// Classified, so that the caller can pause where the platform asks for it.
    async fn signal(
        &self,
        route: &Route,
        placement: &Placement,
        signal: &Signal,
    ) -> Result<(), Failure>;

    /// Reads a file that somebody attached, from the platform's own servers alone.
    ///
    /// # Errors
    /// When it is larger than `most` bytes, gone, or not to be had with this token's permissions.
    async fn fetch(&self, file: &Attachment, most: usize) -> Result<Vec<u8>, Failure>;

    /// What the platform tells about a channel. A missing read permission is a note, not an error.
    ///
    /// # Errors
    /// When the platform cannot be asked (token, network).
    async fn describe(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure>;

    /// Every channel the bot is in, for an allow-list of `*`; an explaining failure where the platform has no such list.
    ///
    /// # Errors
    /// When the platform cannot be asked, or has no such list.
    async fn list(&self) -> Result<Vec<ChannelInfo>, Failure>;

    /// The channel that `channel` is a thread of, where threads are channels (Discord).
    ///
    /// # Errors
    /// When the platform cannot be asked.
    async fn parent(&self, _channel: &ChannelId) -> Result<Option<ChannelId>, Failure> {
        Ok(None)
    }

    /// Who the token belongs to.
    ///
    /// # Errors
    /// When the token is refused or the platform cannot be asked.
    async fn probe(&self) -> Result<Identity, Failure>;

    /// Where its API is, without any secret. Whoever answers there tells the time.
    fn address(&self) -> Option<&Url> {
        None
    }

    /// What `herald check` asks: whose token it is, first, and then whether it may do all that it is for. Changes
    /// nothing, and takes nothing away from a bot that runs.
    async fn examine(&self, _purpose: Purpose) -> Vec<Finding> {
        vec![finding::token(self.kind(), self.probe().await)]
    }

    /// Whether a channel can be used for this, likewise.
    async fn examine_channel(&self, channel: &ChannelId, _purpose: Purpose) -> Finding {
        Finding::channel(channel, self.describe(channel).await)
    }
}

#[cfg(test)]
mod tests;
