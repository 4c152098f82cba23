//! What has had its time, on PostgreSQL. Several replicas may be at it: each takes what no other has locked, and waits for
//! nobody, so that it does not matter that a delivery is locked here without its lane. The room is the database's to keep:
//! autovacuum gives it to what comes next.

use sqlx::Row;

use super::{Db, StoreError, query};
use crate::clock::Timestamp;
use crate::store::Forgotten;

pub(super) async fn expunge(
    db: Db<'_>,
    ended: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<u64, StoreError> {
    // A placement with a response URL is good for nothing without it. A digest tells short texts to whoever guesses them;
    // with a key it is what tells one content from another.
    let expunged = query(
        "UPDATE deliveries SET expunged_at = $2, steps = '[]', invitation = NULL,
             placement = CASE WHEN placement LIKE '%\"respond\":%' THEN '{}' ELSE placement END,
             content_hash = CASE WHEN idempotency_key IS NULL THEN '' ELSE content_hash END
         WHERE seq IN (
             SELECT seq FROM deliveries WHERE expunged_at IS NULL AND state IN ('delivered', 'failed', 'unknown')
             AND finished_at <= $1 ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED)",
    )
    .bind(ended.0)
    .bind(now.0)
    .bind(i64::from(most))
    .execute(db)
    .await?;
    Ok(expunged.rows_affected())
}

pub(super) async fn remove(db: Db<'_>, ended: Timestamp, most: u32) -> Result<u64, StoreError> {
    let removed = query(
        "DELETE FROM deliveries WHERE seq IN (
             SELECT d.seq FROM deliveries d WHERE d.expunged_at IS NOT NULL AND d.finished_at <= $1
             AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.edits = d.id)
             ORDER BY d.finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING client, lane, thread_key",
    )
    .bind(ended.0)
    .bind(i64::from(most))
    .fetch_all(&mut *db)
    .await?;
    let (mut clients, mut lanes, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for row in &removed {
        let Some(key) = row.try_get::<Option<String>, _>("thread_key")? else { continue };
        clients.push(row.try_get::<String, _>("client")?);
        lanes.push(row.try_get::<String, _>("lane")?);
        keys.push(key);
    }
    if !keys.is_empty() {
        // A statement of its own: it has to see that they are gone.
        query(
            "DELETE FROM threads t USING unnest($1::text[], $2::text[], $3::text[]) AS gone (client, lane, thread_key)
             WHERE t.client = gone.client AND t.lane = gone.lane AND t.thread_key = gone.thread_key
             AND NOT EXISTS (
                 SELECT 1 FROM deliveries d
                 WHERE d.thread_key = t.thread_key AND d.lane = t.lane AND d.client = t.client)",
        )
        .bind(clients)
        .bind(lanes)
        .bind(keys)
        .execute(db)
        .await?;
    }
    Ok(u64::try_from(removed.len()).unwrap_or(u64::MAX))
}

pub(super) async fn forget(
    db: Db<'_>,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<Forgotten, StoreError> {
    // Conversations before events, as everywhere.
    let conversations = query(
        "DELETE FROM conversations WHERE conversation IN (
             SELECT conversation FROM conversations
             WHERE changed_at < $1 AND waiting IS NULL AND due IS NULL AND owner IS NULL
             ORDER BY changed_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(before.0)
    .bind(i64::from(most))
    .execute(&mut *db)
    .await?;
    let events = query(
        "DELETE FROM events WHERE seq IN (
             SELECT seq FROM events WHERE event IS NULL AND at < $1
             ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(before.0)
    .bind(i64::from(most))
    .execute(&mut *db)
    .await?;
    let buttons = query(
        "DELETE FROM buttons WHERE key IN (
             SELECT key FROM buttons WHERE expires_at <= $1
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(now.0)
    .bind(i64::from(most))
    .execute(db)
    .await?;
    Ok(Forgotten {
        events: events.rows_affected(),
        conversations: conversations.rows_affected(),
        buttons: buttons.rows_affected(),
    })
}
