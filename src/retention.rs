//! How long what is stored is kept, and who takes it away: a few rows at a time, so that nobody who has something to store
//! waits for it.
//!
//! | what | how long |
//! |---|---|
//! | what a message said: its steps, whom it answers, a response URL | [`Keep::payload`] after its end |
//! | what became of it: state, reason, hint, message IDs, links, the names it is found by | [`Keep::rows`] after its end, or after that of its last edit |
//! | the thread of an agent's word | as long as any message with that word |
//! | what people wrote to the bot | until it is handled |
//! | that they did: the event's ID | [`Inbound::remember`] |
//! | a conversation: the agent's context, what people are called | [`Inbound::remember`] after its last step, if nothing is to do in it |
//! | what can be asked again, in a conversation | a day |
//! | buttons | until they expire |
//! | channels' queues, bots' pauses, leases, cursors | for ever: one row for each channel, bot or listener, and nothing that anybody said |
//!
//! What is queued or being sent is never touched. `unknown` is an end.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{Conversations, Forgotten, Outbox, StoreError};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Kept;

/// How soon after the start it is looked for the first time.
const FIRST: Duration = Duration::from_secs(1);
/// And how often from then on.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon again where the store failed.
const AGAIN: Duration = Duration::from_secs(60);
/// So many rows are changed at once.
const AT_ONCE: u32 = 200;
/// The pause between two such changes: others come first.
const BREATH: Duration = Duration::from_millis(20);

/// How long deliveries are kept after their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// What they said.
    pub payload: Duration,
    /// What became of them. Not shorter than `payload`.
    pub rows: Duration,
}

/// What came in. Only who serves the bot knows how long that is needed.
pub struct Inbound {
    /// Events and conversations.
    pub store: Arc<dyn Conversations>,
    /// How long events are known and idle conversations are kept.
    pub remember: Duration,
}

/// Takes away what has had its time.
pub struct Retention {
    outbox: Arc<dyn Outbox>,
    inbound: Option<Inbound>,
    keep: Keep,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

/// What one round took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Deliveries of which what they said is gone.
    pub expunged: u64,
    /// Deliveries that are gone.
    pub removed: u64,
    /// What came in.
    pub forgotten: Forgotten,
}

impl Retention {
    /// Nothing happens before [`Retention::run`] or [`Retention::round`].
    #[must_use]
    pub fn new(
        outbox: Arc<dyn Outbox>,
        inbound: Option<Inbound>,
        keep: Keep,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self { outbox, inbound, keep, clock, metrics }
    }

    /// A round soon, and one every hour, until `stop`. Several processes may do so on one store: each row is taken away
    /// once.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = FIRST;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.round(&stop).await {
                Ok(round) => {
                    if round != Round::default() {
                        tracing::info!(?round, "what has had its time is not stored any more");
                    }
                    EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, "what has had its time could not be taken away; trying again");
                    AGAIN
                }
            };
        }
    }

    /// Takes away all that has had its time by now, or as much of it as there is time for until `stop`.
    ///
    /// # Errors
    /// When the store cannot be used. What was taken away before that is gone, and counted.
    pub async fn round(&self, stop: &CancellationToken) -> Result<Round, StoreError> {
        let now = self.clock.now();
        let mut round = Round::default();
        loop {
            let ended = now.before(self.keep.payload);
            let count = self.outbox.expunge(ended, now, AT_ONCE).await?;
            self.metrics.expunged(count);
            round.expunged += count;
            if is_last(count, stop).await {
                break;
            }
        }
        loop {
            let count = self.outbox.remove(now.before(self.keep.rows), AT_ONCE).await?;
            self.metrics.removed(Kept::Deliveries, count);
            round.removed += count;
            // An edited one can go once its edits are gone: until there was nothing more.
            if count == 0 || is_last(u64::from(AT_ONCE), stop).await {
                break;
            }
        }
        if let Some(Inbound { store, remember }) = &self.inbound {
            loop {
                let more = store.forget(now.before(*remember), now, AT_ONCE).await?;
                let Forgotten { events, conversations, buttons } = more;
                self.metrics.removed(Kept::Events, events);
                self.metrics.removed(Kept::Conversations, conversations);
                self.metrics.removed(Kept::Buttons, buttons);
                round.forgotten.events += events;
                round.forgotten.conversations += conversations;
                round.forgotten.buttons += buttons;
                if is_last(events.max(conversations).max(buttons), stop).await {
                    break;
                }
            }
        }
        while self.outbox.shrink().await? && !is_last(u64::from(AT_ONCE), stop).await {}
        Ok(round)
    }
}

/// Whether so few rows were the last ones, or it is time to stop; else a pause, in which others store something.
async fn is_last(count: u64, stop: &CancellationToken) -> bool {
    if count < u64::from(AT_ONCE) || stop.is_cancelled() {
        return true;
    }
    tokio::time::sleep(BREATH).await;
    false
}
