//! Who may do what only one process may do, on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;

use super::{Postgres, StoreError, query, storable};
use crate::clock::Timestamp;
use crate::store::{Leases, Recorded};

#[async_trait]
impl Leases for Postgres {
    async fn lease(
        &self,
        name: &str,
        who: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let taken = query(
                "INSERT INTO leases AS l (name, owner, lease_until) VALUES ($1, $2, $3)
                 ON CONFLICT (name) DO UPDATE SET owner = $2, lease_until = $3
                 WHERE l.owner = $2 OR l.lease_until <= $4",
            )
            .bind(name)
            .bind(who)
            .bind(now.after(lease).0)
            .bind(now.0)
            .execute(&mut *db)
            .await?;
            db.commit().await?;
            Ok(taken.rows_affected() > 0)
        })
        .await
    }

    async fn give_back(&self, name: &str, who: &str) -> Result<(), StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            // The row stays: whoever had the lease may not go on as if nobody had ever taken it.
            query("UPDATE leases SET owner = NULL, lease_until = 0 WHERE name = $1 AND owner = $2")
                .bind(name)
                .bind(who)
                .execute(&mut *db)
                .await?;
            Ok(db.commit().await?)
        })
        .await
    }

    async fn cursor(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let sql = "SELECT value FROM cursors WHERE name = $1";
            let row = query(sql).bind(name).fetch_optional(&mut *db).await?;
            db.commit().await?;
            Ok(row.map(|row| row.try_get("value")).transpose()?)
        })
        .await
    }

    async fn set_cursor(&self, name: &str, who: &str, value: &str) -> Result<Recorded, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            // Locked, so that nobody takes it over before the value is there.
            let sql = "SELECT owner FROM leases WHERE name = $1 FOR SHARE";
            let lease = query(sql).bind(name).fetch_optional(&mut *db).await?;
            if let Some(lease) = lease
                && lease.try_get::<Option<&str>, _>("owner")? != Some(who)
            {
                return Ok(Recorded::Fenced);
            }
            query(
                "INSERT INTO cursors (name, value) VALUES ($1, $2)
                 ON CONFLICT (name) DO UPDATE SET value = $2",
            )
            .bind(name)
            .bind(storable(value))
            .execute(&mut *db)
            .await?;
            db.commit().await?;
            Ok(Recorded::Done)
        })
        .await
    }
}
