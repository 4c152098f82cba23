//! Who may do what only one process may do, on SQLite.

use std::time::Duration;

use async_trait::async_trait;

use super::{Sqlite, StoreError};
use crate::clock::Timestamp;
use crate::store::{Leases, Recorded};

#[async_trait]
impl Leases for Sqlite {
    async fn lease(
        &self,
        name: &str,
        who: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let (name, who, until) = (name.to_owned(), who.to_owned(), now.after(lease));
        self.writer
            .write(move |db| {
                Box::pin(async move {
                    let taken = sqlx::query(
                        "INSERT INTO leases (name, owner, lease_until) VALUES (?1, ?2, ?3)
                         ON CONFLICT (name) DO UPDATE SET owner = ?2, lease_until = ?3
                         WHERE owner = ?2 OR lease_until <= ?4",
                    )
                    .bind(name)
                    .bind(who)
                    .bind(until.0)
                    .bind(now.0)
                    .execute(db)
                    .await?;
                    Ok(taken.rows_affected() > 0)
                })
            })
            .await
    }

    async fn give_back(&self, name: &str, who: &str) -> Result<(), StoreError> {
        let (name, who) = (name.to_owned(), who.to_owned());
        self.writer
            .write(move |db| {
                Box::pin(async move {
                    // The row stays: whoever had the lease may not go on as if nobody had ever taken it.
                    sqlx::query(
                        "UPDATE leases SET owner = NULL, lease_until = 0 WHERE name = ?1 AND owner = ?2",
                    )
                    .bind(name)
                    .bind(who)
                    .execute(db)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn cursor(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.read(move |db| {
            Box::pin(async move {
                let value = "SELECT value FROM cursors WHERE name = ?1";
                Ok(sqlx::query_scalar(value).bind(name).fetch_optional(db).await?)
            })
        })
        .await
    }

    async fn set_cursor(&self, name: &str, who: &str, value: &str) -> Result<Recorded, StoreError> {
        let (name, who, value) = (name.to_owned(), who.to_owned(), value.to_owned());
        self.writer
            .write(move |db| {
                Box::pin(async move {
                    let remembered = sqlx::query(
                        "INSERT INTO cursors (name, value) SELECT ?1, ?3
                         WHERE NOT EXISTS (SELECT 1 FROM leases WHERE name = ?1 AND owner IS NOT ?2)
                         ON CONFLICT (name) DO UPDATE SET value = ?3",
                    )
                    .bind(name)
                    .bind(who)
                    .bind(value)
                    .execute(db)
                    .await?;
                    Ok(match remembered.rows_affected() {
                        0 => Recorded::Fenced,
                        _ => Recorded::Done,
                    })
                })
            })
            .await
    }
}
