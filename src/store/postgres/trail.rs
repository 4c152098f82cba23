//! The audit trail on PostgreSQL. Rows of one chain are committed one after another, and so that changes need not be, this
//! process has as many chains as it has connections; with little to do it writes the first alone.
//!
//! A chain is locked in this process alone, as the last thing before the commit. Where a commit's answer is lost, its end is
//! asked of the database, which says so once the commit is decided.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Row as _, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Db, Postgres, StoreError, query};
use crate::clock::Timestamp;
use crate::model::Delivery;
use crate::model::audit::{Entry, Head};
use crate::store::rows::{audit, chain, count};
use crate::store::trail::{
    Book, Chain, Draft, MOST_HEADS, Page, Pen, Position, Row, Seal, Settings, ZERO, due,
    forgettable,
};
use crate::store::{NewDelivery, Trail};

/// What writes this process's chains.
pub(super) struct Pens {
    pens: Vec<Arc<Mutex<Pen>>>,
    seal: Seal,
    book: Arc<Book>,
    settings: Settings,
}

impl Pens {
    /// One for each connection.
    pub(super) fn new(settings: &Settings, connections: u32) -> Self {
        let book = Arc::default();
        let pen = |_| Arc::new(Mutex::new(Pen::new(settings, &book)));
        Self {
            pens: (0..connections.max(1)).map(pen).collect(),
            seal: Seal::new(settings.key.as_ref()),
            book,
            settings: settings.clone(),
        }
    }

    /// What is said about a submission.
    pub(super) fn submitted(&self, delivery: &Delivery, new: &NewDelivery) -> Vec<Entry> {
        self.settings.submitted(&self.seal, delivery, new)
    }

    /// The first that nobody has. Whoever commits has a connection, so there is one.
    async fn free(&self) -> Option<OwnedMutexGuard<Pen>> {
        for pen in &self.pens {
            if let Ok(free) = Arc::clone(pen).try_lock_owned() {
                return Some(free);
            }
        }
        match self.pens.first() {
            Some(pen) => Some(Arc::clone(pen).lock_owned().await),
            None => None,
        }
    }
}

impl Postgres {
    /// Commits a change, and with it what the trail says about it.
    pub(super) async fn commit(
        &self,
        mut db: Transaction<'static, sqlx::Postgres>,
        entries: Vec<Entry>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let pen = if entries.is_empty() { None } else { self.pens.free().await };
        let Some(mut pen) = pen else { return Ok(db.commit().await?) };
        let position = position(&mut pen, &mut db).await?;
        let draft = pen.draft(&position, entries, at)?;
        // Whatever ends this before it is known to be committed leaves the pen without a place.
        pen.doubt();
        append(&mut db, &draft).await?;
        db.commit().await?;
        pen.wrote(draft);
        pen.keep();
        Ok(())
    }
}

async fn append(db: Db<'_>, draft: &Draft) -> Result<(), StoreError> {
    let (mut numbers, mut lines, mut prevs, mut hashes) = (vec![], vec![], vec![], vec![]);
    for row in &draft.rows {
        numbers.push(number(row.n));
        lines.push(row.line.clone());
        prevs.push(row.prev.clone());
        hashes.push(row.hash.clone());
    }
    query(
        "WITH rows AS (
             INSERT INTO audit (chain, n, line, prev, hash)
             SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[]))
         INSERT INTO audit_chains (chain, n, hash, seal, key, at, base_n, base_hash, base_seal)
         VALUES ($1, $6, $7, $8, $9, $10, 0, $11, $12)
         ON CONFLICT (chain) DO UPDATE
         SET n = excluded.n, hash = excluded.hash, seal = excluded.seal, at = excluded.at",
    )
    .bind(draft.chain.clone())
    .bind(numbers)
    .bind(lines)
    .bind(prevs)
    .bind(hashes)
    .bind(number(draft.n))
    .bind(draft.hash.clone())
    .bind(draft.seal.clone())
    .bind(draft.key.clone())
    .bind(draft.at.0)
    .bind(ZERO)
    .bind(draft.base_seal.clone())
    .execute(db)
    .await?;
    Ok(())
}

/// Where the chain ends that this pen writes.
async fn position(pen: &mut Pen, db: Db<'_>) -> Result<Position, StoreError> {
    if let Some(position) = pen.position() {
        return Ok(position.clone());
    }
    let stored = end(db, pen.chain()).await?;
    if let Some(position) = pen.go_on(stored.as_ref()) {
        return Ok(position);
    }
    let others = others(db).await?;
    Ok(pen.begin(others))
}

/// Where a chain ends, if it is there. Waits for a commit that is not decided yet.
async fn end(db: Db<'_>, chain: &str) -> Result<Option<Head>, StoreError> {
    let row = query("SELECT chain, n, hash FROM audit_chains WHERE chain = $1 FOR NO KEY UPDATE")
        .bind(chain.to_owned())
        .fetch_optional(db)
        .await?;
    Ok(row.as_ref().map(head).transpose()?)
}

/// What the others ended with, before the first row of a chain.
async fn others(db: Db<'_>) -> Result<Vec<Head>, StoreError> {
    let found = query(
        "SELECT chain, n, hash FROM audit_chains WHERE base_n < n ORDER BY chain DESC LIMIT $1",
    )
    .bind(i64::from(MOST_HEADS))
    .fetch_all(db)
    .await?;
    Ok(found.iter().map(head).collect::<Result<_, _>>()?)
}

fn head(row: &PgRow) -> Result<Head, sqlx::Error> {
    let n = count(row.try_get("n")?);
    Ok(Head { chain: row.try_get("chain")?, n, hash: row.try_get("hash")? })
}

#[async_trait]
impl Trail for Postgres {
    async fn note(&self, entries: Vec<Entry>, at: Timestamp) -> Result<(), StoreError> {
        self.access(async {
            let db = self.begin().await?;
            self.commit(db, entries, at).await
        })
        .await
    }

    async fn chains(&self) -> Result<Vec<Chain>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let found = chains(&mut db).await?;
            db.commit().await?;
            Ok(found)
        })
        .await
    }

    async fn rows(&self, chain: &str, page: Page, most: u32) -> Result<Vec<Row>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let found = rows(&mut db, chain, page, most).await?;
            db.commit().await?;
            Ok(found)
        })
        .await
    }

    fn book(&self) -> &Book {
        &self.pens.book
    }

    async fn strays(&self) -> Result<Vec<String>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let strays = "SELECT DISTINCT chain FROM audit WHERE chain NOT IN (SELECT chain FROM audit_chains)";
            let found = query(strays).fetch_all(&mut *db).await?;
            db.commit().await?;
            Ok(found.iter().map(|row| row.try_get("chain")).collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn trim(&self, before: Timestamp, now: Timestamp, most: u32) -> Result<u64, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let removed = trim(&mut db, &self.pens.seal, before, now, most).await?;
            db.commit().await?;
            Ok(removed)
        })
        .await
    }
}

async fn chains(db: Db<'_>) -> Result<Vec<Chain>, StoreError> {
    let found = query("SELECT * FROM audit_chains ORDER BY chain").fetch_all(db).await?;
    found.iter().map(chain).collect()
}

async fn rows(db: Db<'_>, chain: &str, page: Page, most: u32) -> Result<Vec<Row>, StoreError> {
    let (sql, from) = match page {
        Page::After(n) => {
            ("SELECT * FROM audit WHERE chain = $1 AND n > $2 ORDER BY n LIMIT $3", n)
        }
        Page::Before(n) => {
            ("SELECT * FROM audit WHERE chain = $1 AND n < $2 ORDER BY n DESC LIMIT $3", n)
        }
    };
    let found = query(sql)
        .bind(chain.to_owned())
        .bind(number(from))
        .bind(i64::from(most))
        .fetch_all(db)
        .await?;
    found.iter().map(audit).collect()
}

async fn trim(
    db: Db<'_>,
    seal: &Seal,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<u64, StoreError> {
    let all = chains(db).await?;
    for id in forgettable(&all, now) {
        query("DELETE FROM audit_chains WHERE chain = $1 AND base_n >= n")
            .bind(id.to_owned())
            .execute(&mut *db)
            .await?;
    }
    let mut removed = 0;
    for candidate in all.into_iter().filter(|it| it.may_be_trimmed(seal)) {
        let id = &candidate.id;
        let left = most.saturating_sub(u32::try_from(removed).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        let oldest = rows(db, id, Page::After(candidate.base.n), left).await?;
        if due(&candidate, &oldest, seal, before).is_none() {
            continue;
        }
        // Whoever writes this chain waits for us from here on, so it is asked again; another replica is passed by.
        let locked =
            query("SELECT * FROM audit_chains WHERE chain = $1 FOR NO KEY UPDATE SKIP LOCKED")
                .bind(id.clone())
                .fetch_optional(&mut *db)
                .await?;
        let Some(kept) = locked.as_ref().map(chain).transpose()? else { continue };
        let oldest = rows(db, id, Page::After(kept.base.n), left).await?;
        let Some(base) = due(&kept, &oldest, seal, before) else { continue };
        let gone = query("DELETE FROM audit WHERE chain = $1 AND n <= $2")
            .bind(id.clone())
            .bind(number(base.n))
            .execute(&mut *db)
            .await?;
        query(
            "UPDATE audit_chains SET base_n = $2, base_hash = $3, base_seal = $4,
                 at = CASE WHEN n = $2 THEN $5 ELSE at END
             WHERE chain = $1",
        )
        .bind(id.clone())
        .bind(number(base.n))
        .bind(base.hash)
        .bind(base.seal)
        .bind(now.0)
        .execute(&mut *db)
        .await?;
        removed += gone.rows_affected();
    }
    Ok(removed)
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "trail_tests.rs"]
mod tests;
