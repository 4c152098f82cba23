//! What comes in: a listener per platform, and where it hands its events over.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::model::{Event, PlatformKind};

/// An event could not be stored: the platform must not be told that it arrived, so that it comes again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event could not be stored")]
pub struct NotTaken;

/// What became of an event that was handed over. Either way the platform may be told that it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is stored, by now or already before: something comes of it.
    Stored,
    /// Nothing comes of it: a stranger's, one too many in a minute, an outdated button's, not for the bot. What it says
    /// must not be shown in the bot's name.
    Refused,
}

/// Where a listener hands events over.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Stores an event, unless it is known, or refuses it. Returns once that is durable, long before
    /// anything comes of it: only then may the platform be told.
    ///
    /// # Errors
    /// When it cannot be stored.
    async fn take(&self, event: Event) -> Result<Taken, NotTaken>;
}

/// Where a listener remembers how far it has come: Telegram's offset, Discord's session. It outlives the process, and
/// goes to whoever listens next.
#[async_trait]
pub trait Cursor: Send + Sync + 'static {
    /// What was remembered.
    async fn load(&self) -> Option<String>;
    /// Remembers. Called after the events before it were taken.
    ///
    /// # Errors
    /// When it cannot be stored, or another process listens by now.
    async fn save(&self, value: &str) -> Result<(), NotTaken>;
}

/// How a listener stands, for `/readyz`, `check` and the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// Not connected yet.
    #[default]
    Starting,
    /// Another process listens; this one takes over when that ends.
    Standby,
    /// It hears the platform.
    Connected,
    /// It lost the platform, or the platform refuses it for now, and tries again by itself.
    Retrying {
        /// One sentence; never a secret.
        why: String,
    },
    /// It gave up: somebody has to change something.
    Failed {
        /// One sentence that names what to change; never a secret.
        why: String,
    },
    /// It was told to stop.
    Stopped,
}

impl Standing {
    /// The names of all states.
    pub const NAMES: [&str; 6] =
        ["starting", "standby", "connected", "retrying", "failed", "stopped"];

    /// The name of the state.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Connected => "connected",
            Self::Retrying { .. } => "retrying",
            Self::Failed { .. } => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Tells whoever watches, if it is news.
    pub fn tell(self, watched: &watch::Sender<Self>) {
        watched.send_if_modified(|known| {
            let news = *known != self;
            *known = self;
            news
        });
    }
}

/// Listening cannot go on until somebody changes something: a wrong token, a missing intent or scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(
    /// One sentence that names what to change; never a secret.
    pub String,
);

/// How long to wait after `tries` connections that led to nothing: `first`, doubled each time up to `longest`, and of that
/// between half and all, so that many do not come at once. `jitter` is in `0.0..1.0`.
pub(super) fn backoff(first: Duration, longest: Duration, tries: u32, jitter: f64) -> Duration {
    let whole = first.saturating_mul(1 << tries.min(16)).min(longest);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// What a listener works with.
#[derive(Clone)]
pub struct Ears {
    /// Where events go.
    pub inbox: Arc<dyn Inbox>,
    /// How far it has come.
    pub cursor: Arc<dyn Cursor>,
    /// Where it says how it stands.
    pub standing: watch::Sender<Standing>,
    /// Cancelled when it has to end: it acknowledges what it has stored, and returns within a second.
    pub stop: CancellationToken,
}

impl Ears {
    /// Says how it stands, if that is news.
    pub fn stands(&self, standing: Standing) {
        standing.tell(&self.standing);
    }
}

/// One platform's inbound side.
#[async_trait]
pub trait Listener: Send + Sync + 'static {
    /// Which platform.
    fn kind(&self) -> PlatformKind;

    /// Whether the platform allows one listener per bot only: then one process is elected.
    fn exclusive(&self) -> bool;

    /// Whether it listens with a token of its own, beside the bot's.
    fn has_own_token(&self) -> bool {
        false
    }

    /// What would keep it from listening right now, found out without listening: `herald check` shows it. After the first
    /// colon stands what would be better.
    ///
    /// # Errors
    /// When it would not hear the platform; the sentence says why and, after the first colon, what to change.
    async fn check(&self) -> Result<String, Fatal> {
        Ok("there is nothing to check".to_owned())
    }

    /// Listens until `ears.stop`, reconnecting by itself with growing, jittered pauses. Never panics, never spins.
    ///
    /// # Errors
    /// When it cannot go on.
    async fn listen(&self, ears: Ears) -> Result<(), Fatal>;
}
