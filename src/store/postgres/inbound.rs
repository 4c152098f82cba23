//! Events and conversations on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;

use super::hold::{hold, waiting};
use super::retention::forget;
use super::{Db, Postgres, StoreError, query, storable};
use crate::clock::Timestamp;
use crate::model::Event;
use crate::model::audit::{Act, Entry};
use crate::store::rows::to_json;
use crate::store::{
    ConversationKey, Conversations, Forgotten, Held, Hints, Mark, Recorded, Saved, Waiting,
};

#[async_trait]
impl Conversations for Postgres {
    async fn take(
        &self,
        conversation: &ConversationKey,
        event: &Event,
    ) -> Result<bool, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let new = take(&mut db, conversation, event).await?;
            if new {
                let accepted = Entry::event(Act::InboundAccepted, event);
                self.commit(db, vec![accepted], event.at).await?;
                self.notices.conversation(conversation);
            } else {
                // What is known makes no conversation.
                db.rollback().await?;
            }
            Ok(new)
        })
        .await
    }

    async fn knows(&self, conversation: &ConversationKey) -> Result<bool, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let sql = "SELECT 1 FROM conversations WHERE conversation = $1";
            let known = query(sql).bind(conversation).fetch_optional(&mut *db).await?;
            db.commit().await?;
            Ok(known.is_some())
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
        self.access(async {
            let mut db = self.begin().await?;
            let held = hold(&mut db, who, now, lease, most).await?;
            db.commit().await?;
            Ok(held)
        })
        .await
    }

    async fn waiting(
        &self,
        conversation: &ConversationKey,
        after: i64,
    ) -> Result<Vec<Waiting>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let waiting = waiting(&mut db, conversation, after).await?;
            db.commit().await?;
            Ok(waiting)
        })
        .await
    }

    async fn save(
        &self,
        held: &Held,
        saved: &Saved,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Recorded, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let recorded = save(&mut db, held, saved, now, lease).await?;
            let said = match recorded {
                Recorded::Done => saved.audit.clone(),
                Recorded::Fenced => Vec::new(),
            };
            self.commit(db, said, now).await?;
            // This process ends, and somebody else goes on.
            if saved.release && saved.due.is_some_and(|due| due <= now) {
                self.notices.conversation(&held.conversation);
            }
            Ok(recorded)
        })
        .await
    }

    async fn renew(
        &self,
        held: &Held,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Recorded, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let renewed = query(
                "UPDATE conversations SET lease_until = $3
                 WHERE conversation = $1 AND epoch = $2 AND owner IS NOT NULL",
            )
            .bind(&held.conversation)
            .bind(held.epoch)
            .bind(now.after(lease).0)
            .execute(&mut *db)
            .await?;
            db.commit().await?;
            Ok(match renewed.rows_affected() {
                0 => Recorded::Fenced,
                _ => Recorded::Done,
            })
        })
        .await
    }

    async fn button(
        &self,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<ConversationKey>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let sql = "SELECT conversation FROM buttons WHERE key = $1 AND expires_at > $2";
            let row = query(sql).bind(storable(key)).bind(now.0).fetch_optional(&mut *db).await?;
            db.commit().await?;
            Ok(row.map(|row| row.try_get("conversation")).transpose()?)
        })
        .await
    }

    async fn next_look(&self) -> Result<Option<Timestamp>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let row = query(
                "SELECT min(at) AS at FROM (
                     SELECT lease_until AS at FROM conversations WHERE waiting IS NOT NULL
                     UNION ALL SELECT lease_until FROM conversations WHERE owner IS NOT NULL
                     UNION ALL SELECT greatest(lease_until, due) FROM conversations WHERE due IS NOT NULL) AS looks",
            )
            .fetch_one(&mut *db)
            .await?;
            db.commit().await?;
            Ok(row.try_get::<Option<i64>, _>("at")?.map(Timestamp))
        })
        .await
    }

    fn calls(&self) -> Hints<Mark> {
        self.notices.conversations(&self.options)
    }

    async fn forget(
        &self,
        before: Timestamp,
        now: Timestamp,
        most: u32,
    ) -> Result<Forgotten, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let forgotten = forget(&mut db, before, now, most).await?;
            db.commit().await?;
            Ok(forgotten)
        })
        .await
    }
}

/// False if the event is known: then nothing may be committed.
async fn take(db: Db<'_>, conversation: &str, event: &Event) -> Result<bool, StoreError> {
    // The conversation first: while it is locked, the numbers of its events are given in the order in which they are seen.
    query(
        "INSERT INTO conversations AS c (conversation, changed_at) VALUES ($1, $2)
         ON CONFLICT (conversation) DO UPDATE SET changed_at = greatest(c.changed_at, $2)",
    )
    .bind(conversation)
    .bind(event.at.0)
    .execute(&mut *db)
    .await?;
    let stored = query(
        "INSERT INTO events (platform, id, conversation, event, at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (platform, id) DO NOTHING RETURNING seq",
    )
    .bind(event.visit.platform().as_str())
    .bind(storable(&event.id))
    .bind(conversation)
    .bind(to_json(event)?)
    .bind(event.at.0)
    .fetch_optional(&mut *db)
    .await?;
    let Some(stored) = stored else { return Ok(false) };
    query("UPDATE conversations SET waiting = $2 WHERE conversation = $1 AND waiting IS NULL")
        .bind(conversation)
        .bind(stored.try_get::<i64, _>("seq")?)
        .execute(db)
        .await?;
    Ok(true)
}

async fn save(
    db: Db<'_>,
    held: &Held,
    saved: &Saved,
    now: Timestamp,
    lease: Duration,
) -> Result<Recorded, StoreError> {
    // First, so that a late one changes nothing.
    let until = if saved.release { 0 } else { now.after(lease).0 };
    let stored = query(
        "UPDATE conversations SET state = $3, due = $4, lease_until = $5, changed_at = greatest(changed_at, $6),
             owner = CASE WHEN $7 THEN NULL ELSE owner END
         WHERE conversation = $1 AND epoch = $2 AND owner IS NOT NULL",
    )
    .bind(&held.conversation)
    .bind(held.epoch)
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
        query(
            "UPDATE events SET event = NULL
             WHERE conversation = $1 AND event IS NOT NULL AND seq = ANY ($2)",
        )
        .bind(&held.conversation)
        .bind(saved.handled.clone())
        .execute(&mut *db)
        .await?;
        query(
            "UPDATE conversations SET waiting =
                 (SELECT min(seq) FROM events WHERE conversation = $1 AND event IS NOT NULL)
             WHERE conversation = $1",
        )
        .bind(&held.conversation)
        .execute(&mut *db)
        .await?;
    }
    for (key, expires_at) in &saved.buttons {
        query(
            "INSERT INTO buttons (key, conversation, expires_at) VALUES ($1, $2, $3)
             ON CONFLICT (key) DO UPDATE SET conversation = $2, expires_at = $3",
        )
        .bind(storable(key))
        .bind(&held.conversation)
        .bind(expires_at.0)
        .execute(&mut *db)
        .await?;
    }
    Ok(Recorded::Done)
}
