//! What has had its time, on SQLite: a few rows per change, so that whoever has something to store does not wait for it.

use sqlx::{Row, SqliteConnection};

use super::StoreError;
use crate::clock::Timestamp;
use crate::store::Forgotten;

/// Free pages that are given back at once: a megabyte.
const PAGES_AT_ONCE: i64 = 256;

pub(super) async fn expunge(
    db: &mut SqliteConnection,
    ended: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<u64, StoreError> {
    // A placement with a response URL is good for nothing without it. A digest tells short texts to whoever guesses them;
    // with a key it is what tells one content from another.
    let expunged = sqlx::query(
        "UPDATE deliveries SET expunged_at = ?2, steps = '[]', invitation = NULL,
             placement = CASE WHEN placement LIKE '%\"respond\":%' THEN '{}' ELSE placement END,
             content_hash = CASE WHEN idempotency_key IS NULL THEN '' ELSE content_hash END
         WHERE seq IN (
             SELECT seq FROM deliveries WHERE expunged_at IS NULL AND state IN ('delivered', 'failed', 'unknown')
             AND finished_at <= ?1 ORDER BY finished_at LIMIT ?3)",
    )
    .bind(ended.0)
    .bind(now.0)
    .bind(most)
    .execute(db)
    .await?;
    Ok(expunged.rows_affected())
}

pub(super) async fn remove(
    db: &mut SqliteConnection,
    ended: Timestamp,
    most: u32,
) -> Result<u64, StoreError> {
    let removed = sqlx::query(
        "DELETE FROM deliveries WHERE seq IN (
             SELECT d.seq FROM deliveries d WHERE d.expunged_at IS NOT NULL AND d.finished_at <= ?1
             AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.edits = d.id)
             ORDER BY d.finished_at LIMIT ?2)
         RETURNING client, lane, thread_key",
    )
    .bind(ended.0)
    .bind(most)
    .fetch_all(&mut *db)
    .await?;
    for row in &removed {
        let Some(key) = row.try_get::<Option<String>, _>("thread_key")? else { continue };
        sqlx::query(
            "DELETE FROM threads WHERE client = ?1 AND lane = ?2 AND thread_key = ?3 AND NOT EXISTS (
                 SELECT 1 FROM deliveries WHERE thread_key = ?3 AND lane = ?2 AND client = ?1)",
        )
        .bind(row.try_get::<String, _>("client")?)
        .bind(row.try_get::<String, _>("lane")?)
        .bind(key)
        .execute(&mut *db)
        .await?;
    }
    Ok(u64::try_from(removed.len()).unwrap_or(u64::MAX))
}

pub(super) async fn forget(
    db: &mut SqliteConnection,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<Forgotten, StoreError> {
    let events = sqlx::query(
        "DELETE FROM events WHERE seq IN (
             SELECT seq FROM events WHERE event IS NULL AND at < ?1 ORDER BY at LIMIT ?2)",
    )
    .bind(before.0)
    .bind(most)
    .execute(&mut *db)
    .await?;
    let conversations = sqlx::query(
        "DELETE FROM conversations WHERE conversation IN (
             SELECT conversation FROM conversations
             WHERE changed_at < ?1 AND waiting IS NULL AND due IS NULL AND owner IS NULL
             ORDER BY changed_at LIMIT ?2)",
    )
    .bind(before.0)
    .bind(most)
    .execute(&mut *db)
    .await?;
    let buttons = sqlx::query(
        "DELETE FROM buttons WHERE key IN (
             SELECT key FROM buttons WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    )
    .bind(now.0)
    .bind(most)
    .execute(db)
    .await?;
    Ok(Forgotten {
        events: events.rows_affected(),
        conversations: conversations.rows_affected(),
        buttons: buttons.rows_affected(),
    })
}

/// A quarter of the file may be free: what comes in fills it, and the file need not shrink and grow every hour. A database
/// made by a Herald that did not ask SQLite for this (`auto_vacuum`) uses its room again, and stays as large as it was.
pub(super) async fn shrink(db: &mut SqliteConnection) -> Result<bool, StoreError> {
    let free = pages(db, "PRAGMA freelist_count").await?;
    let all = pages(db, "PRAGMA page_count").await?;
    if free <= PAGES_AT_ONCE || free <= all / 4 {
        return Ok(false);
    }
    let give_back = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})"));
    sqlx::query(give_back).execute(&mut *db).await?;
    Ok(pages(db, "PRAGMA freelist_count").await? < free)
}

async fn pages(db: &mut SqliteConnection, pragma: &'static str) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(pragma).fetch_one(db).await?)
}
