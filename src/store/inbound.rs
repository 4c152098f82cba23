//! The way in: events until they are handled, conversations and who holds them, buttons, leases and cursors.

use std::time::Duration;

use async_trait::async_trait;

use super::{Hints, Mark, Recorded, StoreError};
use crate::clock::Timestamp;
use crate::model::Event;
use crate::model::audit::Entry;

/// A conversation's name: platform, channel and thread, such as `slack:C0GENERAL/1700000000.000100`.
pub type ConversationKey = String;

/// An event that waits to be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order of arrival.
    pub seq: i64,
    /// The event.
    pub event: Event,
}

/// A conversation held by one process, until its lease runs out. `events` may be empty: its time has come, or whoever held
/// it vanished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub conversation: ConversationKey,
    /// The fence: whoever holds it later has a higher one.
    pub epoch: i64,
    /// What was saved of it, if anything was.
    pub state: Option<String>,
    /// What waits to be handled, in order.
    pub events: Vec<Waiting>,
}

/// What becomes durable together, in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The conversation from now on, as JSON.
    pub state: String,
    /// The events (by `seq`) that are handled with that.
    pub handled: Vec<i64>,
    /// When it wants to be looked at although nothing happened.
    pub due: Option<Timestamp>,
    /// Buttons that lead to this conversation from now on, and until when.
    pub buttons: Vec<(String, Timestamp)>,
    /// Let go of it; else it is held for another lease.
    pub release: bool,
    /// What the audit trail says about it.
    pub audit: Vec<Entry>,
}

/// How many of each were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Events that had been handled.
    pub events: u64,
    /// Conversations that were idle.
    pub conversations: u64,
    /// Buttons that had expired.
    pub buttons: u64,
}

/// Events, and the conversations they belong to.
///
/// An event waits until a step of its conversation is saved that handled it. A conversation is held by one process at a
/// time; a process that vanishes holds it until its lease runs out, and what it saves after somebody else took over is void.
#[async_trait]
pub trait Conversations: Send + Sync + 'static {
    /// Stores an event for a conversation, which is made if it does not exist. Committed when this returns; false if the
    /// event was known.
    async fn take(&self, conversation: &ConversationKey, event: &Event)
    -> Result<bool, StoreError>;

    /// Whether there is such a conversation.
    async fn knows(&self, conversation: &ConversationKey) -> Result<bool, StoreError>;

    /// Holds at most `most` conversations that nobody holds and in which something is to do: an event waits, its time
    /// has come, or whoever held it vanished without letting go. Whoever has waited longest comes first.
    async fn hold(
        &self,
        who: &str,
        now: Timestamp,
        lease: Duration,
        most: u32,
    ) -> Result<Vec<Held>, StoreError>;

    /// What has come in for a conversation after `seq` and waits, in order.
    async fn waiting(
        &self,
        conversation: &ConversationKey,
        after: i64,
    ) -> Result<Vec<Waiting>, StoreError>;

    /// Makes a step of a conversation durable, and holds it for another lease or lets go of it. All of it or, where
    /// somebody else holds it by now, nothing.
    async fn save(
        &self,
        held: &Held,
        saved: &Saved,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Recorded, StoreError>;

    /// Holds it for another lease, nothing else.
    async fn renew(
        &self,
        held: &Held,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Recorded, StoreError>;

    /// Which conversation a button belongs to, unless it has expired.
    async fn button(
        &self,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<ConversationKey>, StoreError>;

    /// From when on [`hold`](Self::hold) finds something, if nothing else comes in: a moment that may have passed, or
    /// the end of a lease that is renewed by then. `None` if nothing is to do anywhere.
    async fn next_look(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The conversations in which other processes leave something to do, from now on, where the store can tell.
    fn calls(&self) -> Hints<Mark> {
        Hints::none()
    }

    /// Forgets handled events and idle conversations that changed before `before`, and buttons that expired by `now`: at
    /// most `most` of each. A conversation is idle if nobody holds it, nothing waits in it and no time is set. Returns how
    /// many of each there were; fewer than `most` are the last, or another process is at the others.
    async fn forget(
        &self,
        before: Timestamp,
        now: Timestamp,
        most: u32,
    ) -> Result<Forgotten, StoreError>;
}

/// Who may do what only one process may do, and how far it has come.
#[async_trait]
pub trait Leases: Send + Sync + 'static {
    /// Takes or renews the lease `name` for `who`; false while somebody else has it.
    async fn lease(
        &self,
        name: &str,
        who: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<bool, StoreError>;

    /// Gives a lease back, so that somebody else has it at once. Nothing happens if `who` does not have it.
    async fn give_back(&self, name: &str, who: &str) -> Result<(), StoreError>;

    /// What was remembered under `name`.
    async fn cursor(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Remembers `value` under `name`, if `who` was the last to take the lease `name` and did not give it back, or nobody
    /// ever took it.
    async fn set_cursor(&self, name: &str, who: &str, value: &str) -> Result<Recorded, StoreError>;
}
