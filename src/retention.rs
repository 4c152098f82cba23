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
//! | the audit trail | 90 days: [`Retention::with_trail`] |
//! | channels' queues, bots' pauses, leases, cursors | for ever: one row for each channel, bot or listener, and nothing that anybody said |
//!
//! What is queued or being sent is never touched. `unknown` is an end.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{Conversations, Forgotten, Outbox, StoreError, Trail};
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
    trail: Option<(Arc<dyn Trail>, Duration)>,
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
    /// Rows of the audit trail.
    pub audit: u64,
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
        Self { outbox, inbound, trail: None, keep, clock, metrics }
    }

    /// Takes away rows of the audit trail, too, after so long.
    #[must_use]
    pub fn with_trail(self, trail: Arc<dyn Trail>, keep: Duration) -> Self {
        Self { trail: Some((trail, keep)), ..self }
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
        if let Some((trail, keep)) = &self.trail {
            loop {
                let count = trail.trim(now.before(*keep), now, AT_ONCE).await?;
                self.metrics.removed(Kept::Audit, count);
                round.audit += count;
                if is_last(count, stop).await {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::model::{DeliveryId, Reason};
    use crate::store::contract;
    use crate::store::sqlite::Sqlite;

    const T0: Timestamp = Timestamp(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const KEEP: Keep = Keep { payload: DAY, rows: Duration::from_secs(30 * 24 * 3600) };

    fn retention(store: &Arc<Sqlite>, clock: &ManualClock, metrics: &Metrics) -> Retention {
        let inbound = Inbound { store: Arc::<Sqlite>::clone(store), remember: 7 * DAY };
        let clock = Arc::new(clock.clone());
        Retention::new(Arc::<Sqlite>::clone(store), Some(inbound), KEEP, clock, metrics.clone())
    }

    async fn ended(store: &Sqlite, at: Timestamp) -> DeliveryId {
        let id = contract::outbox::try_queue(store, "psst").await.unwrap();
        store.end(id, Reason::Discarded, "discarded", at).await.unwrap();
        id
    }

    /// What is left of it: everything, no text, nothing.
    async fn left(store: &Sqlite, id: DeliveryId) -> &'static str {
        match store.delivery(id).await.unwrap() {
            Some(delivery) if !delivery.steps.is_empty() => "all",
            Some(_) => "its end",
            None => "nothing",
        }
    }

    #[tokio::test]
    async fn each_has_its_time_to_the_millisecond() {
        let store = Arc::new(Sqlite::in_memory().await.unwrap());
        let (clock, metrics) = (ManualClock::at(T0), Metrics::default());
        let retention = retention(&store, &clock, &metrics);
        let id = ended(&store, T0).await;
        let waits = contract::outbox::try_queue(&*store, "waits").await.unwrap();
        let millisecond = Duration::from_millis(1);
        for (after, expected) in [
            (Duration::ZERO, "all"),
            (DAY - millisecond, "all"),
            (millisecond, "its end"),
            (29 * DAY - millisecond, "its end"),
            (millisecond, "nothing"),
            (1000 * DAY, "nothing"),
        ] {
            clock.advance(after);
            retention.round(&CancellationToken::new()).await.unwrap();
            assert_eq!(left(&store, id).await, expected, "at {:?}", clock.now().since(T0));
            assert_eq!(left(&store, waits).await, "all");
        }
        let text = metrics.encode();
        for line in [
            "herald_retention_expunged_total 1",
            "herald_retention_removed_total{what=\"deliveries\"} 1",
            "herald_retention_removed_total{what=\"events\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_have_their_time_in_one_round_and_a_stop_cuts_it_short() {
        let store = Arc::new(Sqlite::in_memory().await.unwrap());
        let (clock, metrics) = (ManualClock::at(T0), Metrics::default());
        let many = u64::from(AT_ONCE) * 2 + 1;
        for _ in 0..many {
            ended(&store, T0).await;
        }
        clock.advance(KEEP.rows);
        let stopped = CancellationToken::new();
        stopped.cancel();
        let round = retention(&store, &clock, &metrics).round(&stopped).await.unwrap();
        assert_eq!((round.expunged, round.removed), (u64::from(AT_ONCE), u64::from(AT_ONCE)));
        // Two at once harm nobody: each row is taken away once.
        let (one, two) = (retention(&store, &clock, &metrics), retention(&store, &clock, &metrics));
        let going = CancellationToken::new();
        let (one, two) = tokio::join!(one.round(&going), two.round(&going));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(round.expunged + one.expunged + two.expunged, many);
        assert_eq!(round.removed + one.removed + two.removed, many);
        let removed = format!("herald_retention_removed_total{{what=\"deliveries\"}} {many}");
        assert!(metrics.encode().contains(&removed));
    }

    #[tokio::test]
    async fn what_came_in_has_its_time_only_where_the_bot_is() {
        let store = Arc::new(Sqlite::in_memory().await.unwrap());
        let (clock, metrics) = (ManualClock::at(T0), Metrics::default());
        let (conversation, event) = ("slack:C0A/1".to_owned(), contract::inbound::event("1", T0));
        store.take(&conversation, &event).await.unwrap();
        let held = store.hold("p1", T0, HOUR, 1).await.unwrap().remove(0);
        let handled = held.events.iter().map(|waiting| waiting.seq).collect();
        let saved = crate::store::Saved { handled, release: true, ..Default::default() };
        store.save(&held, &saved, T0, HOUR).await.unwrap();
        clock.advance(8 * DAY);
        let with_bot = retention(&store, &clock, &metrics);
        let without = Retention { inbound: None, ..retention(&store, &clock, &metrics) };
        without.round(&CancellationToken::new()).await.unwrap();
        assert!(store.knows(&conversation).await.unwrap());
        let round = with_bot.round(&CancellationToken::new()).await.unwrap();
        assert_eq!(round.forgotten, Forgotten { events: 1, conversations: 1, buttons: 0 });
        assert!(!store.knows(&conversation).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_soon_then_every_hour_and_ends_when_it_is_told_to() {
        let store = Arc::new(Sqlite::in_memory().await.unwrap());
        let (clock, metrics) = (ManualClock::at(T0), Metrics::default());
        let id = ended(&store, T0).await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(retention(&store, &clock, &metrics).run(stop.clone()));
        // Time jumps whenever everybody waits, for the store too: it is not said in which hour a round falls.
        let becomes = async |what: &str| {
            for _ in 0..20 {
                tokio::time::sleep(EVERY).await;
                if left(&store, id).await == what {
                    return true;
                }
            }
            false
        };
        tokio::time::sleep(2 * FIRST).await;
        assert_eq!(left(&store, id).await, "all");
        clock.advance(DAY);
        assert!(becomes("its end").await);
        clock.advance(KEEP.rows);
        assert!(becomes("nothing").await);
        stop.cancel();
        running.await.unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// However the rounds fall, nothing leaves before its time, and all of it in the first round after that.
        #[test]
        fn nothing_leaves_too_early_or_too_late(
            ends in proptest::collection::vec(0_u32..60, 1..12),
            rounds in proptest::collection::vec(0_u32..40, 1..12),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = Arc::new(Sqlite::in_memory().await.unwrap());
                let (clock, metrics) = (ManualClock::at(T0), Metrics::default());
                let retention = retention(&store, &clock, &metrics);
                let mut deliveries = Vec::new();
                for end in ends {
                    let end = T0.after(12 * HOUR * end);
                    deliveries.push((end, ended(&store, end).await));
                }
                for pause in rounds {
                    clock.advance(12 * HOUR * pause);
                    retention.round(&CancellationToken::new()).await.unwrap();
                    for (end, id) in &deliveries {
                        let expected = match clock.now().0 - end.0 {
                            age if age >= crate::clock::millis(KEEP.rows) => "nothing",
                            age if age >= crate::clock::millis(KEEP.payload) => "its end",
                            _ => "all",
                        };
                        assert_eq!(left(&store, *id).await, expected);
                    }
                }
            });
        }
    }
}
