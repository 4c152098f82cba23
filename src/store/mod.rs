//! Where accepted messages live until they have arrived, and after.
//!
//! One narrow trait per family of tables; [`sqlite`] and [`postgres`] implement them all. A store decides nothing: what becomes of a
//! delivery is computed in [`crate::delivery`], and a store makes that durable in one transaction.

mod bot;
#[cfg(test)]
pub(crate) mod contract;
mod filter;
mod hints;
mod inbound;
#[cfg(test)]
pub(crate) mod memory;
pub mod postgres;
mod rate;
mod rows;
pub mod sqlite;
pub mod trail;

pub use bot::TOO_OFTEN;
pub use filter::{Filter, Place};
pub use hints::{Hint, Hints, Mark};
pub use inbound::{ConversationKey, Conversations, Forgotten, Held, Leases, Saved, Waiting};
pub use rate::Excess;
pub use trail::Trail;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::model::audit::Filtered;
use crate::model::{
    ClientName, Delivery, DeliveryId, Doubt, Pause, Placement, PlatformKind, Scope,
};
use crate::platform::{Credential, Pace};
use crate::policy::Rate;

/// The store cannot do what it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused (disk full, locked for too long, read-only, gone).
    #[error("the store failed: {0}")]
    Database(sqlx::Error),
    /// A row cannot be read: written by another version, or damaged.
    #[error("the store holds a row that cannot be read: {0}")]
    Corrupt(String),
    /// The data directory cannot serve.
    #[error("{0}")]
    DataDirectory(String),
    /// The database that the URL names cannot serve.
    #[error("{0}")]
    DatabaseUrl(String),
    /// The database's server does not answer. It may do so again: nothing has to be started anew.
    #[error("{0}")]
    Away(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// The driver's error is part of the text, so it is no source besides: whoever prints the whole chain would print it again.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// A submission on its way into the outbox.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// The delivery, queued, nothing done yet.
    pub delivery: Delivery,
    /// The process that submitted it.
    pub submitter: String,
    /// How fast its lane may go.
    pub pace: Pace,
    /// The caller's key.
    pub idempotency_key: Option<String>,
    /// A digest of what makes two submissions the same: channel, placement, thread key, text.
    pub content_hash: String,
    /// How much its client may submit.
    pub rate: Rate,
    /// What the guard did to it.
    pub filtered: Vec<Filtered>,
    /// Without a key, a delivery of the same content that was accepted after this time is the same one.
    pub same_since: Option<Timestamp>,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It is stored.
    New,
    /// An earlier, failed delivery of the same content is tried anew.
    Retried(Box<Delivery>),
    /// It repeats this earlier delivery; nothing was stored.
    Repeated(Box<Delivery>),
    /// The idempotency key belongs to a delivery of other content.
    KeyReused,
    /// Its client has submitted as much as it may for now; nothing was stored.
    TooMuch(Excess),
}

/// Who claims, and what it may claim.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// This process.
    pub process: String,
    /// Claim only what this process submitted (`herald stdio`, `herald send`).
    pub own_only: bool,
    /// How long a claim lasts. Longer than any request may take.
    pub lease: Duration,
    /// The bots that it sends with.
    pub credentials: BTreeMap<PlatformKind, Credential>,
}

impl Claimant {
    /// The secrets of these platforms' bots.
    fn fingerprints(&self, platforms: &[PlatformKind]) -> BTreeMap<PlatformKind, &str> {
        let fingerprint =
            |kind| self.credentials.get(kind).map_or("", |it| it.fingerprint.as_str());
        platforms.iter().map(|kind| (*kind, fingerprint(kind))).collect()
    }
}

/// The head of a lane, held until recorded or until the lease runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The delivery, now `sending`.
    pub delivery: Delivery,
    /// Which claim of its lane this is: an older one can no longer record.
    pub epoch: i64,
    /// The previous claim of this delivery never recorded: its process stopped in the middle of a send.
    pub interrupted: bool,
    /// The thread that its `thread_key` opened earlier.
    pub thread: Option<Placement>,
    /// Its bot failed lately: that it works is news.
    pub troubled: bool,
}

/// What an attempt says about its bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The platform answers it.
    Works {
        /// When it did.
        at: Timestamp,
    },
    /// The platform failed or did not answer.
    Fails {
        /// What whoever waits for this bot is told, once it has failed [too often](TOO_OFTEN).
        pause: Pause,
        /// When it is then tried again.
        probe_at: Timestamp,
    },
    /// The platform refused its secret.
    Refused {
        /// What whoever waits for this bot is told; names the secret.
        pause: Pause,
    },
}

/// A settled attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The delivery as it stands now.
    pub delivery: Delivery,
    /// What has to wait, and until when.
    pub hold: Option<Hold>,
    /// The thread that the delivery's `thread_key` stands for from now on.
    pub thread: Option<Placement>,
    /// What it says about the bot, if that is news.
    pub verdict: Option<Verdict>,
    /// How it was settled whether an earlier attempt had arrived.
    pub doubt: Option<Doubt>,
}

impl Settled {
    /// Nothing but what became of the delivery.
    #[must_use]
    pub const fn new(delivery: Delivery) -> Self {
        Self { delivery, hold: None, thread: None, verdict: None, doubt: None }
    }
}

/// What a lane, or a whole bot, has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Until when.
    pub until: Timestamp,
    /// What waits.
    pub scope: Scope,
}

/// Whether a result was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is durable.
    Done,
    /// The lease had run out and somebody else took over: this result is void.
    Fenced,
}

/// What has not come to its end on a platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many deliveries wait for their turn.
    pub queued: u64,
    /// How many are being sent.
    pub sending: u64,
    /// When the oldest of both was accepted.
    pub oldest: Option<Timestamp>,
}

/// What did not arrive on a platform lately, or may not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// How many deliveries failed; those that an operator discarded are not counted.
    pub failed: u64,
    /// Of how many nobody knows whether they arrived.
    pub unknown: u64,
}

/// Deliveries and their lanes.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Stores a submission, or finds the one it repeats. Committed when this returns.
    async fn enqueue(&self, new: NewDelivery) -> Result<Enqueued, StoreError>;

    /// Claims the heads of at most `most` lanes of `platform` that may send now, and takes their turn from the pace.
    async fn claim(
        &self,
        who: &Claimant,
        platform: PlatformKind,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Claim>, StoreError>;

    /// Makes the result of a claim durable, lets go of the lane, and notes what it says about the bot. A delivery that has
    /// come to its end says when ([`Delivery::finished_at`]): without that it would stay at the head of its lane.
    async fn record(&self, epoch: i64, settled: &Settled) -> Result<Recorded, StoreError>;

    /// When the next lane of one of these platforms may send, if any waits.
    async fn next_due(
        &self,
        who: &Claimant,
        platforms: &[PlatformKind],
    ) -> Result<Option<Timestamp>, StoreError>;

    /// One delivery.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// The newest delivery that changed what `id` sent, or `id` itself: what can be edited now.
    async fn latest(
        &self,
        client: &ClientName,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError>;

    /// Deliveries, newest first: those submitted last, in the order of their lanes.
    async fn list(&self, filter: &Filter) -> Result<Vec<Delivery>, StoreError>;

    /// Puts a failed or unknown delivery back into its lane, accepted anew `now`, with `deadline`. Any other stays as it is,
    /// and so does one of which what it said was expunged. `None` if there is no such delivery.
    async fn retry(
        &self,
        id: DeliveryId,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Option<Delivery>, StoreError>;

    /// Ends a delivery that is queued or unknown with this reason and hint; one that is being sent is not tried again.
    /// `None` if there is no such delivery.
    async fn end(
        &self,
        id: DeliveryId,
        reason: crate::model::Reason,
        hint: &str,
        now: Timestamp,
    ) -> Result<Option<Delivery>, StoreError>;

    /// What has not come to its end, by platform; a platform for which there is nothing may be left out.
    async fn backlog(&self) -> Result<BTreeMap<PlatformKind, Backlog>, StoreError>;

    /// The bots that wait, because their platform fails or refuses their secret, and why.
    async fn pauses(&self) -> Result<BTreeMap<PlatformKind, Pause>, StoreError>;

    /// Lets a bot that waits try again `now`, with the same secret as well.
    async fn resume(&self, platform: PlatformKind, now: Timestamp) -> Result<(), StoreError>;

    /// What other processes do, from now on, where the store can tell: see [`Hints`].
    fn hints(&self) -> Hints<Hint> {
        Hints::none()
    }

    /// What failed, or ended unknown, of what was accepted after `since`, by platform; one without trouble is left out.
    async fn trouble(
        &self,
        since: Timestamp,
    ) -> Result<BTreeMap<PlatformKind, Trouble>, StoreError>;

    /// Takes what was said out of at most `most` deliveries that ended at `ended` or before: what people would read, whom
    /// it answers and where that is a secret. What became of them stays, and so do the names under which they are found.
    /// Returns how many there were; fewer than `most` are the last, or another process is at the others.
    async fn expunge(&self, ended: Timestamp, now: Timestamp, most: u32)
    -> Result<u64, StoreError>;

    /// Removes at most `most` expunged deliveries that ended at `ended` or before, and the threads of words that no other
    /// delivery has. One that a later delivery edited stays for as long as that. Returns how many, as
    /// [`expunge`](Self::expunge) does.
    async fn remove(&self, ended: Timestamp, most: u32) -> Result<u64, StoreError>;

    /// Gives a bounded part of the room that is free back to the disk, if there is much; false if nothing was to do. Where
    /// the engine does that by itself, there never is.
    async fn shrink(&self) -> Result<bool, StoreError>;

    /// Fails if nothing can be stored right now.
    async fn check_writable(&self) -> Result<(), StoreError>;

    /// Writes out what is pending and lets go of the files.
    async fn close(&self);
}
