//! Events and conversations on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::hold::{hold, waiting};
use super::retention::forget;
use super::trail::{append, argument};
use super::writer::Tx;
use super::{Sqlite, StoreError};
use crate::clock::Timestamp;
use crate::model::Event;
use crate::model::audit::{Act, Entry};
use crate::store::rows::to_json;
use crate::store::{ConversationKey, Conversations, Forgotten, Held, Recorded, Saved, Waiting};

#[async_trait]
impl Conversations for Sqlite {
    async fn take(
        &self,
        conversation: &ConversationKey,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let (conversation, event) = (conversation.clone(), event.clone());
        self.writer
            .transact(|tx| Box::pin(async move { take(tx, &conversation, &event).await }))
            .await
    }

    async fn knows(&self, conversation: &ConversationKey) -> Result<bool, StoreError> {
        let conversation = conversation.clone();
        self.read(|db| {
            Box::pin(async move {
                let known = "SELECT EXISTS (SELECT 1 FROM conversations WHERE conversation = ?1)";
                Ok(sqlx::query_scalar(known).bind(conversation).fetch_one(db).await?)
            })
        })
        .await
    }

    async fn hold(
        &self,
        who: &str,
        now: Timestamp,
        lease: Duration,
        most: u32,
    ) -> Result<Vec<Held>, StoreError> {
        let who = who.to_owned();
        self.writer
            .write(move |db| Box::pin(async move { hold(db, &who, now, lease, most).await }))
            .await
    }

    async fn waiting(
        &self,
        conversation: &ConversationKey,
        after: i64,
    ) -> Result<Vec<Waiting>, StoreError> {
        let conversation = conversation.clone();
        self.read(move |db| Box::pin(async move { waiting(db, &conversation, after).await })).await
    }

    async fn save(
        &self,
        held: &Held,
        saved: &Saved,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Recorded, StoreError> {
        let (conversation, epoch) = (held.conversation.clone(), held.epoch);
        let saved = saved.clone();
        self.writer
            .transact(move |tx| {
                Box::pin(async move {
                    let db = tx.db().await?;
                    let recorded = save(db, &conversation, epoch, &saved, now, lease).await?;
                    if recorded == Recorded::Done {
                        tx.note(saved.audit, now).await?;
                    }
                    Ok(recorded)
                })
            })
            .await
    }

    async fn renew(
        &self,
        held: &Held,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Recorded, StoreError> {
        let (conversation, epoch) = (held.conversation.clone(), held.epoch);
        self.writer
            .write(move |db| {
                Box::pin(async move {
                    let renewed = sqlx::query(
                        "UPDATE conversations SET lease_until = ?3
                         WHERE conversation = ?1 AND epoch = ?2 AND owner IS NOT NULL",
                    )
                    .bind(conversation)
                    .bind(epoch)
                    .bind(now.after(lease).0)
                    .execute(db)
                    .await?;
                    Ok(match renewed.rows_affected() {
                        0 => Recorded::Fenced,
                        _ => Recorded::Done,
                    })
                })
            })
            .await
    }

    async fn button(
        &self,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<ConversationKey>, StoreError> {
        let key = key.to_owned();
        self.read(move |db| {
            Box::pin(async move {
                let live = "SELECT conversation FROM buttons WHERE key = ?1 AND expires_at > ?2";
                Ok(sqlx::query_scalar(live).bind(key).bind(now.0).fetch_optional(db).await?)
            })
        })
        .await
    }

    async fn next_look(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|db| {
            Box::pin(async move {
                let next: Option<i64> = sqlx::query_scalar(
                    "SELECT min(at) FROM (
                         SELECT lease_until AS at FROM conversations WHERE waiting IS NOT NULL
                         UNION ALL SELECT lease_until FROM conversations WHERE owner IS NOT NULL
                         UNION ALL SELECT max(lease_until, due) FROM conversations WHERE due IS NOT NULL)",
                )
                .fetch_one(db)
                .await?;
                Ok(next.map(Timestamp))
            })
        })
        .await
    }

    async fn forget(
        &self,
        before: Timestamp,
        now: Timestamp,
        most: u32,
    ) -> Result<Forgotten, StoreError> {
        self.writer.write(move |db| Box::pin(forget(db, before, now, most))).await
    }
}

async fn take(tx: &mut Tx<'_>, conversation: &str, event: &Event) -> Result<bool, StoreError> {
    let stored = sqlx::query(
        "INSERT INTO events (platform, id, conversation, event, at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (platform, id) DO NOTHING RETURNING seq",
    )
    .bind(event.visit.platform().as_str())
    .bind(&event.id)
    .bind(conversation)
    .bind(to_json(event)?)
    .bind(event.at.0)
    .fetch_optional(tx.db().await?)
    .await?;
    let Some(stored) = stored else { return Ok(false) };
    let accepted = Entry::event(Act::InboundAccepted, event);
    let draft = tx.draft(vec![accepted], event.at).await?;
    let waits = format!(
        "INSERT INTO conversations (conversation, waiting, changed_at) VALUES (?2, ?3, ?4)
         ON CONFLICT (conversation) DO UPDATE
         SET waiting = coalesce(waiting, ?3), changed_at = max(changed_at, ?4){}",
        append(true)
    );
    let waits = sqlx::query(AssertSqlSafe(waits))
        .bind(argument(&draft)?)
        .bind(conversation.to_owned())
        .bind(stored.try_get::<i64, _>("seq")?)
        .bind(event.at.0);
    tx.run_last(waits).await?;
    tx.pen.wrote(draft);
    Ok(true)
}

async fn save(
    db: &mut SqliteConnection,
    conversation: &str,
    epoch: i64,
    saved: &Saved,
    now: Timestamp,
    lease: Duration,
) -> Result<Recorded, StoreError> {
    // First, so that a late one changes nothing.
    let until = if saved.release { 0 } else { now.after(lease).0 };
    let stored = sqlx::query(
        "UPDATE conversations SET state = ?3, due = ?4, lease_until = ?5, changed_at = max(changed_at, ?6),
             owner = CASE WHEN ?7 THEN NULL ELSE owner END
         WHERE conversation = ?1 AND epoch = ?2 AND owner IS NOT NULL",
    )
    .bind(conversation)
    .bind(epoch)
    .bind(&saved.state)
    .bind(saved.due.map(|due| due.0))
    .bind(until)
    .bind(now.0)
    .bind(saved.release)
    .execute(&mut *db)
    .await?;
    if stored.rows_affected() == 0 {
        return Ok(Recorded::Fenced);
    }
    if !saved.handled.is_empty() {
        sqlx::query(
            "UPDATE events SET event = NULL
             WHERE conversation = ?1 AND event IS NOT NULL AND seq IN (SELECT value FROM json_each(?2))",
        )
        .bind(conversation)
        .bind(to_json(&saved.handled)?)
        .execute(&mut *db)
        .await?;
        sqlx::query(
            "UPDATE conversations SET waiting =
                 (SELECT min(seq) FROM events WHERE conversation = ?1 AND event IS NOT NULL)
             WHERE conversation = ?1",
        )
        .bind(conversation)
        .execute(&mut *db)
        .await?;
    }
    for (key, expires_at) in &saved.buttons {
        sqlx::query(
            "INSERT INTO buttons (key, conversation, expires_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET conversation = ?2, expires_at = ?3",
        )
        .bind(key)
        .bind(conversation)
        .bind(expires_at.0)
        .execute(&mut *db)
        .await?;
    }
    Ok(Recorded::Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::store::contract;

    const T0: Timestamp = Timestamp(1_800_000_000_000);
    const LEASE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn keeps_the_contract_in_memory() {
        contract::inbound::suite(async || Sqlite::in_memory().await.unwrap()).await;
        contract::leases::suite(async || Sqlite::in_memory().await.unwrap()).await;
    }

    #[tokio::test]
    async fn keeps_the_contract_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let count = AtomicU32::new(0);
        let open = async || {
            let n = count.fetch_add(1, Ordering::SeqCst);
            Sqlite::open(&directory.path().join(n.to_string())).await.unwrap()
        };
        contract::inbound::suite(open).await;
        contract::leases::suite(open).await;
    }

    /// Holds conversations, two at a time, until there is nothing left to hold.
    async fn hold_all(store: &Sqlite, who: &str, now: Timestamp) -> Vec<Held> {
        let mut all = Vec::new();
        loop {
            let held = store.hold(who, now, LEASE, 2).await.unwrap();
            if held.is_empty() {
                return all;
            }
            all.extend(held);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn two_processes_on_one_directory_never_hold_the_same_event() {
        let directory = tempfile::tempdir().unwrap();
        let a = Sqlite::open(directory.path()).await.unwrap();
        let b = Sqlite::open(directory.path()).await.unwrap();
        // Both hear everything, as two sessions of one bot would: each event comes to both.
        let take_all = async |store: &Sqlite| {
            let mut new = 0;
            for n in 0..60 {
                let event = contract::inbound::event(&format!("{n}"), T0);
                let taken = store.take(&format!("slack:C0A/{}", n % 20), &event).await.unwrap();
                new += u32::from(taken);
            }
            new
        };
        let (by_a, by_b) = tokio::join!(take_all(&a), take_all(&b));
        assert_eq!(by_a + by_b, 60, "each is stored once");

        let (mine, theirs) = tokio::join!(hold_all(&a, "a", T0), hold_all(&b, "b", T0));
        let events = |held: &[Held]| -> BTreeSet<String> {
            held.iter().flat_map(contract::inbound::ids).map(str::to_owned).collect()
        };
        assert!(events(&mine).is_disjoint(&events(&theirs)));
        assert_eq!(events(&mine).len() + events(&theirs).len(), 60, "and none is left out");

        // The process of `a` vanishes; what it did not save goes to `b` once its leases are over, and not before.
        let done = |held: &Held| Saved {
            handled: held.events.iter().map(|waiting| waiting.seq).collect(),
            release: true,
            ..Saved::default()
        };
        for held in &theirs {
            assert_eq!(b.save(held, &done(held), T0, LEASE).await.unwrap(), Recorded::Done);
        }
        let just_before = T0.after(LEASE).before(Duration::from_millis(1));
        assert!(hold_all(&b, "b", just_before).await.is_empty());
        let handed_over = hold_all(&b, "b", T0.after(LEASE)).await;
        assert_eq!(events(&handed_over), events(&mine));
        for held in &mine {
            let late = a.save(held, &done(held), T0.after(LEASE), LEASE).await.unwrap();
            assert_eq!(late, Recorded::Fenced, "{}", held.conversation);
        }
        for held in &handed_over {
            let now = T0.after(LEASE);
            assert_eq!(b.save(held, &done(held), now, LEASE).await.unwrap(), Recorded::Done);
        }
        assert!(hold_all(&a, "a", T0.after(10 * LEASE)).await.is_empty(), "all are answered");
    }

    #[tokio::test]
    async fn an_unreadable_event_holds_up_its_own_conversation_alone() {
        let store = Sqlite::in_memory().await.unwrap();
        for (conversation, id) in [("slack:C0A", "1"), ("slack:C0B", "2")] {
            let event = contract::inbound::event(id, T0);
            store.take(&conversation.to_owned(), &event).await.unwrap();
        }
        let damage = "UPDATE events SET event = 'damaged' WHERE id = '1'";
        let damaged = store.writer.write(move |db| {
            Box::pin(async move {
                sqlx::query(damage).execute(db).await?;
                Ok(())
            })
        });
        damaged.await.unwrap();
        let held = store.hold("p1", T0, LEASE, 10).await.unwrap();
        assert_eq!(held.iter().map(|held| &held.conversation).collect::<Vec<_>>(), ["slack:C0B"]);
        assert_eq!(store.next_look().await.unwrap(), Some(T0.after(LEASE)));
        let error = store.waiting(&"slack:C0A".to_owned(), 0).await.unwrap_err().to_string();
        assert!(error.contains("events.event"), "{error}");
    }
}
