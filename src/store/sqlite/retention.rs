//! What has had its time, on SQLite: a few rows per change, so that whoever has something to store does not wait for it.
//!
//! Each index is named: SQLite knows no numbers to choose by, and with a million rows the wrong one costs seconds.

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
             SELECT seq FROM deliveries INDEXED BY deliveries_to_expunge WHERE expunged_at IS NULL AND state IN ('delivered', 'failed', 'unknown')
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
             SELECT d.seq FROM deliveries d INDEXED BY deliveries_to_remove WHERE d.expunged_at IS NOT NULL AND d.finished_at <= ?1
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
             SELECT seq FROM events INDEXED BY events_handled WHERE event IS NULL AND at < ?1 ORDER BY at LIMIT ?2)",
    )
    .bind(before.0)
    .bind(most)
    .execute(&mut *db)
    .await?;
    let conversations = sqlx::query(
        "DELETE FROM conversations WHERE conversation IN (
             SELECT conversation FROM conversations INDEXED BY conversations_idle
             WHERE changed_at < ?1 AND waiting IS NULL AND due IS NULL AND owner IS NULL
             ORDER BY changed_at LIMIT ?2)",
    )
    .bind(before.0)
    .bind(most)
    .execute(&mut *db)
    .await?;
    let buttons = sqlx::query(
        "DELETE FROM buttons WHERE key IN (
             SELECT key FROM buttons INDEXED BY buttons_expired WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::clock::Timestamp;
    use crate::store::sqlite::Sqlite;
    use crate::store::sqlite::outbox::{ENDED, MEANT};
    use crate::store::{Outbox, contract};

    const FAR: Timestamp = Timestamp(2_000_000_000_000);

    /// Ends `count` deliveries of so many kilobytes, each with a word that nobody else writes.
    async fn ended(store: &Sqlite, count: usize, kilobytes: usize) {
        for n in 0..count {
            let text = format!("Zq7canary{n} ").repeat(kilobytes * 1024 / 11);
            let id = contract::outbox::try_queue(store, &text).await.unwrap();
            store.end(id, crate::model::Reason::Discarded, "", Timestamp(1)).await.unwrap();
        }
    }

    /// Closes the store, and waits until SQLite has put its log back into the file.
    async fn closed(store: Sqlite, directory: &Path) {
        store.close().await;
        drop(store);
        let gone = async {
            while directory.join("herald.db-wal").exists() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.unwrap();
    }

    fn size(directory: &Path) -> u64 {
        std::fs::metadata(directory.join("herald.db")).unwrap().len()
    }

    #[tokio::test]
    async fn what_was_expunged_cannot_be_read_in_the_file_and_its_room_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path()).await.unwrap();
        // In their pages, and beyond them.
        ended(&store, 40, 1).await;
        ended(&store, 40, 60).await;
        closed(store, directory.path()).await;
        let full = size(directory.path());
        let there = || {
            let bytes = std::fs::read(directory.path().join("herald.db")).unwrap();
            bytes.windows(9).filter(|word| word == b"Zq7canary").count()
        };
        assert!(full > 5_000_000 && there() > 0);

        let store = Sqlite::open(directory.path()).await.unwrap();
        assert_eq!(store.expunge(FAR, FAR, 100).await.unwrap(), 80);
        let mut pieces = 0;
        while store.shrink().await.unwrap() {
            pieces += 1;
        }
        assert!(pieces > 3, "a bounded piece at a time: {pieces}");
        closed(store, directory.path()).await;
        assert_eq!(there(), 0);
        let left = size(directory.path());
        assert!(left < full / 3, "{full} bytes, then {left}");
    }

    #[tokio::test]
    async fn a_delivery_that_cannot_be_read_has_its_time_too() {
        let store = Sqlite::in_memory().await.unwrap();
        ended(&store, 1, 1).await;
        store.damage("C0A").await;
        ended(&store, 1, 1).await;
        assert_eq!(store.expunge(FAR, FAR, 100).await.unwrap(), 2);
        assert_eq!(store.remove(FAR, 100).await.unwrap(), 2);
    }

    /// The plans of the statements that would otherwise look through everything.
    #[tokio::test]
    async fn nothing_is_looked_through_from_end_to_end() {
        let store = Sqlite::in_memory().await.unwrap();
        let filter =
            crate::store::Filter { since: Some(Timestamp(1)), ..crate::store::Filter::default() };
        let list = format!("EXPLAIN QUERY PLAN {}", filter.numbers(ENDED, MEANT, "?5"));
        let plan = store.writer.write(move |db| {
            Box::pin(async move {
                let rows = sqlx::query(sqlx::AssertSqlSafe(list)).fetch_all(db).await?;
                let detail = |row: &sqlx::sqlite::SqliteRow| sqlx::Row::get::<String, _>(row, 3);
                Ok(rows.iter().map(detail).collect::<Vec<_>>())
            })
        });
        let plan = plan.await.unwrap();
        let covered = "SEARCH d USING COVERING INDEX deliveries_ended (state=?";
        assert_eq!(plan.iter().filter(|line| line.starts_with(covered)).count(), 3, "{plan:#?}");
        assert!(plan.iter().any(|line| line.contains("deliveries_pending (lane=?")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line == "SCAN d"), "{plan:#?}");
    }
}
