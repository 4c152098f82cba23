//! Conversations in which something is to do, and who takes them.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::StoreError;
use crate::clock::Timestamp;
use crate::store::rows::from_json;
use crate::store::{Held, Waiting};

/// How soon a conversation with an event that cannot be read is looked at again.
const UNREADABLE: Duration = Duration::from_secs(60);

pub(super) async fn hold(
    db: &mut SqliteConnection,
    who: &str,
    now: Timestamp,
    lease: Duration,
    most: u32,
) -> Result<Vec<Held>, StoreError> {
    // Each side of the OR in the words of its index, so that idle conversations cost nothing. Where there is neither an
    // event nor a time, whoever held it vanished, and it waits since that lease ended.
    let found = sqlx::query(
        "SELECT c.conversation, c.epoch, c.state
         FROM conversations c LEFT JOIN events e ON e.seq = c.waiting
         WHERE c.lease_until <= ?1
         AND (c.waiting > 0 OR c.due <= ?1 OR (c.owner IS NOT NULL AND c.lease_until <= ?1))
         ORDER BY min(coalesce(e.at, c.due, c.lease_until), coalesce(c.due, e.at, c.lease_until)), c.waiting
         LIMIT ?2",
    )
    .bind(now.0)
    .bind(most)
    .fetch_all(&mut *db)
    .await?;
    let mut held = Vec::with_capacity(found.len());
    for row in &found {
        let conversation: String = row.try_get("conversation")?;
        let events = match waiting(db, &conversation, 0).await {
            Ok(events) => events,
            Err(StoreError::Corrupt(error)) => {
                tracing::error!(%conversation, error, "an event cannot be read, so its conversation waits");
                set_aside(db, &conversation, now).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let epoch = row.try_get::<i64, _>("epoch")? + 1;
        sqlx::query(
            "UPDATE conversations SET epoch = ?2, owner = ?3, lease_until = ?4 WHERE conversation = ?1",
        )
        .bind(&conversation)
        .bind(epoch)
        .bind(who)
        .bind(now.after(lease).0)
        .execute(&mut *db)
        .await?;
        held.push(Held { conversation, epoch, state: row.try_get("state")?, events });
    }
    Ok(held)
}

pub(super) async fn waiting(
    db: &mut SqliteConnection,
    conversation: &str,
    after: i64,
) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query(
        "SELECT seq, event FROM events
         WHERE conversation = ?1 AND event IS NOT NULL AND seq > ?2 ORDER BY seq",
    )
    .bind(conversation)
    .bind(after)
    .fetch_all(db)
    .await?;
    let read = rows.iter().map(|row| {
        let event = from_json("events.event", row.try_get("event")?)?;
        Ok(Waiting { seq: row.try_get("seq")?, event })
    });
    read.collect()
}

/// A conversation with an event that cannot be read must not hold up the others. It is looked at again, in case a Herald
/// that can read it takes over. Whoever held it before is fenced.
async fn set_aside(
    db: &mut SqliteConnection,
    conversation: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE conversations SET epoch = epoch + 1, owner = NULL, lease_until = ?2 WHERE conversation = ?1",
    )
    .bind(conversation)
    .bind(now.after(UNREADABLE).0)
    .execute(db)
    .await?;
    Ok(())
}
