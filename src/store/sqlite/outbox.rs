//! The outbox on SQLite.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use tokio::time::Instant;

use super::claim::{bot, claim, keep_bot, may_be_due};
use super::enqueue::{enqueue, requeue};
use super::trail::{append, argument};
use super::writer::{Script, Tx};
use super::{Sqlite, StoreError, retention};
use crate::clock::Timestamp;
use crate::model::audit::Entry;
use crate::model::{
    ClientName, Delivery, DeliveryId, DeliveryState, Pause, PlatformKind, Reason, Scope,
};
use crate::store::rows::{count, delivery, platform, readable, to_json};
use crate::store::trail::Draft;
use crate::store::{
    Backlog, Claim, Claimant, Enqueued, Filter, NewDelivery, Outbox, Recorded, Settled, Trouble,
};

/// Whoever asks more often gets the last answer: asking takes no token, and each try costs a disk flush.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// `deliveries` with the time its lane, or the whole bot, waits for, and why the bot does.
const SELECT: &str =
    "SELECT d.*, max(l.not_before, coalesce(c.not_before, 0)) AS not_before, c.pause
     FROM deliveries d JOIN lanes l USING (lane) LEFT JOIN credentials c USING (platform) ";
/// SQLite knows no numbers to choose by: left alone it would go through the rows in their order.
pub(super) const ENDED: &str = "deliveries d INDEXED BY deliveries_ended";
/// Which deliveries a filter means, whatever their state: what is bound to it stands in [`Outbox::list`].
pub(super) const MEANT: &str = "d.created_at > ?1 AND d.created_at <= ?2
     AND (?3 = '[]' OR d.lane IN (SELECT value FROM json_each(?3))
          OR substr(d.lane, 1, instr(d.lane, ':') - 1) IN (SELECT value FROM json_each(?3)))
     AND d.seq < CASE WHEN ?4 IS NULL THEN 9223372036854775807
         ELSE coalesce((SELECT seq FROM deliveries WHERE id = ?4), 0) END";
/// The room that has to be there.
const PROBE_BYTES: i64 = 64 * 1024;

#[async_trait]
impl Outbox for Sqlite {
    async fn enqueue(&self, new: NewDelivery) -> Result<Enqueued, StoreError> {
        self.writer.transact(|tx| Box::pin(enqueue(tx, new))).await
    }

    async fn claim(
        &self,
        who: &Claimant,
        platform: PlatformKind,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Claim>, StoreError> {
        // Asked whenever anything happens, and the answer is mostly no: that needs no turn at writing.
        // Where it cannot be read, whoever writes may know.
        let due = self.read(move |db| Box::pin(may_be_due(db, platform, now))).await;
        if !due.unwrap_or(true) {
            return Ok(Vec::new());
        }
        let who = who.clone();
        self.writer
            .transact(move |tx| Box::pin(async move { claim(tx, &who, platform, now, most).await }))
            .await
    }

    async fn record(&self, epoch: i64, settled: &Settled) -> Result<Recorded, StoreError> {
        let settled = settled.clone();
        self.writer
            .transact(move |tx| Box::pin(async move { record(tx, epoch, settled).await }))
            .await
    }

    async fn next_due(
        &self,
        who: &Claimant,
        platforms: &[PlatformKind],
    ) -> Result<Option<Timestamp>, StoreError> {
        let (who, bots) = (who.clone(), to_json(&who.fingerprints(platforms))?);
        self.read(move |db| {
            Box::pin(async move {
                let due: Option<i64> = sqlx::query_scalar(
                    "SELECT min(max(l.not_before, l.lease_until, coalesce(c.not_before, 0)))
                     FROM json_each(?3) bot JOIN lanes l ON l.platform = bot.key LEFT JOIN credentials c USING (platform)
                     WHERE l.pending > 0 AND (c.refused IS NULL
                         OR instr(' ' || c.refused || ' ', ' ' || bot.value || ' ') = 0)
                     AND (NOT ?1 OR EXISTS (
                         SELECT 1 FROM deliveries d WHERE d.lane = l.lane
                         AND d.finished_at IS NULL AND d.submitter = ?2))",
                )
                .bind(who.own_only)
                .bind(&who.process)
                .bind(bots)
                .fetch_one(db)
                .await?;
                Ok(due.map(Timestamp))
            })
        })
        .await
    }

    async fn backlog(&self) -> Result<BTreeMap<PlatformKind, Backlog>, StoreError> {
        let rows = self
            .read(|db| {
                Box::pin(async move {
                    Ok(sqlx::query(
                        "SELECT l.platform, sum(d.state = 'queued'), sum(d.state = 'sending'), min(d.created_at)
                         FROM lanes l CROSS JOIN deliveries d ON d.lane = l.lane
                         WHERE l.pending > 0 AND d.finished_at IS NULL GROUP BY l.platform",
                    )
                    .fetch_all(db)
                    .await?)
                })
            })
            .await?;
        let mut backlog = BTreeMap::new();
        for row in rows {
            let waiting = Backlog {
                queued: count(row.try_get(1)?),
                sending: count(row.try_get(2)?),
                oldest: row.try_get::<Option<i64>, _>(3)?.map(Timestamp),
            };
            backlog.insert(platform(row.try_get(0)?)?, waiting);
        }
        Ok(backlog)
    }

    async fn pauses(&self) -> Result<BTreeMap<PlatformKind, Pause>, StoreError> {
        self.read(|db| {
            Box::pin(async move {
                let mut pauses = BTreeMap::new();
                for platform in PlatformKind::ALL {
                    pauses.extend(bot(db, platform).await?.pause.map(|pause| (platform, pause)));
                }
                Ok(pauses)
            })
        })
        .await
    }

    async fn resume(&self, platform: PlatformKind, now: Timestamp) -> Result<(), StoreError> {
        self.writer
            .transact(move |tx| {
                Box::pin(async move {
                    let db = tx.db().await?;
                    let mut bot = bot(db, platform).await?;
                    let refused = bot.resume(now);
                    keep_bot(db, platform, &bot).await?;
                    prolong(db, platform, refused).await?;
                    tx.note(Entry::resumed(platform), now).await
                })
            })
            .await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.read(move |db| Box::pin(async move { by_id(db, id).await })).await
    }

    async fn latest(
        &self,
        client: &ClientName,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        let (client, id) = (client.to_string(), id.to_string());
        self.read(move |db| {
            Box::pin(async move {
                let sql = where_sql(
                    "WHERE d.client = ?1 AND (d.id = ?2 OR (d.edits = ?2 AND d.state = 'delivered'))
                     ORDER BY d.seq DESC LIMIT 1",
                );
                sqlx::query(sql)
                    .bind(client)
                    .bind(id)
                    .fetch_optional(db)
                    .await?
                    .as_ref()
                    .map(delivery)
                    .transpose()
            })
        })
        .await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Delivery>, StoreError> {
        let filter = filter.clone();
        self.read(move |db| {
            Box::pin(async move {
                let sql = where_sql(&format!(
                    "WHERE d.seq IN ({}) ORDER BY d.seq DESC LIMIT ?5",
                    filter.numbers(ENDED, MEANT, "?5")
                ));
                let (since, until) = filter.accepted();
                let rows = sqlx::query(sql)
                    .bind(since)
                    .bind(until)
                    .bind(to_json(&filter.place_names())?)
                    .bind(filter.beyond.map(|id| id.to_string()))
                    .bind(filter.most)
                    .fetch_all(db)
                    .await?;
                Ok(rows.iter().filter_map(readable).collect())
            })
        })
        .await
    }

    async fn retry(
        &self,
        id: DeliveryId,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        self.writer
            .transact(move |tx| {
                Box::pin(async move {
                    let db = tx.db().await?;
                    let Some(delivery) = by_id(db, id).await? else {
                        return Ok(None);
                    };
                    let ended =
                        matches!(delivery.state, DeliveryState::Failed | DeliveryState::Unknown);
                    if !ended || delivery.expunged_at.is_some() {
                        return Ok(Some(delivery));
                    }
                    requeue(db, id, now, deadline, None).await?;
                    let again = by_id(db, id).await?;
                    tx.note(Entry::retried(again.as_ref()), now).await?;
                    Ok(again)
                })
            })
            .await
    }

    async fn end(
        &self,
        id: DeliveryId,
        reason: Reason,
        hint: &str,
        now: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        let hint = hint.to_owned();
        self.writer
            .transact(move |tx| {
                Box::pin(async move {
                    let db = tx.db().await?;
                    let Some(mut delivery) = by_id(db, id).await? else {
                        return Ok(None);
                    };
                    let before = delivery.state;
                    delivery.call_off(reason, hint, now);
                    save(COUNT, &delivery, 0, delivery.deadline, None)?.execute(db).await?;
                    tx.note(Entry::called_off(&delivery, before, reason), now).await?;
                    Ok(Some(delivery))
                })
            })
            .await
    }

    async fn trouble(
        &self,
        since: Timestamp,
    ) -> Result<BTreeMap<PlatformKind, Trouble>, StoreError> {
        let rows = self
            .read(move |db| {
                Box::pin(async move {
                    Ok(sqlx::query(
                        "SELECT substr(lane, 1, instr(lane, ':') - 1), sum(state = 'failed'), sum(state = 'unknown')
                         FROM deliveries INDEXED BY deliveries_ended
                         WHERE state IN ('delivered', 'failed', 'unknown') AND state IN ('failed', 'unknown')
                         AND created_at > ?1 AND (state = 'unknown' OR reason IS NOT ?2) GROUP BY 1",
                    )
                    .bind(since.0)
                    .bind(Reason::Discarded.as_str())
                    .fetch_all(db)
                    .await?)
                })
            })
            .await?;
        let mut trouble = BTreeMap::new();
        for row in rows {
            let (failed, unknown) = (count(row.try_get(1)?), count(row.try_get(2)?));
            trouble.insert(platform(row.try_get(0)?)?, Trouble { failed, unknown });
        }
        Ok(trouble)
    }

    async fn expunge(
        &self,
        ended: Timestamp,
        now: Timestamp,
        most: u32,
    ) -> Result<u64, StoreError> {
        self.writer.write(move |db| Box::pin(retention::expunge(db, ended, now, most))).await
    }

    async fn remove(&self, ended: Timestamp, most: u32) -> Result<u64, StoreError> {
        self.writer.write(move |db| Box::pin(retention::remove(db, ended, most))).await
    }

    async fn shrink(&self) -> Result<bool, StoreError> {
        self.writer.write(|db| Box::pin(retention::shrink(db))).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        {
            let mut health = self.writer.health();
            let now = Instant::now();
            if health.probed.is_some_and(|at| now.duration_since(at) < PROBE_EVERY) {
                return health.refused.clone().map_or(Ok(()), |error| Err(refused(error)));
            }
            health.probed = Some(now);
        }
        self.writer.write(|db| Box::pin(probe(db))).await
    }

    async fn close(&self) {
        if let Some(pool) = &self.readers {
            pool.close().await;
        }
        // Every earlier change is committed once this one is.
        let _ = self.writer.write(|_| Box::pin(async { Ok(()) })).await;
    }
}

/// What was said before, for whoever asks again.
fn refused(error: String) -> StoreError {
    StoreError::Database(sqlx::Error::Protocol(error))
}

/// Stores what a long message takes, and takes it away again.
pub(super) async fn probe(db: &mut SqliteConnection) -> Result<(), StoreError> {
    // `SELECT` makes SQLite undo this statement alone if there is no room, and not what else is in the commit.
    sqlx::query(
        "INSERT INTO threads (client, lane, thread_key, placement)
         SELECT '', '', '', zeroblob(?1) UNION ALL SELECT '', '', ' ', ''",
    )
    .bind(PROBE_BYTES)
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM threads WHERE client = '' AND lane = ''").execute(db).await?;
    Ok(())
}

pub(super) fn where_sql(condition: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!("{SELECT}{condition}"))
}

pub(super) async fn by_id(
    db: &mut SqliteConnection,
    id: DeliveryId,
) -> Result<Option<Delivery>, StoreError> {
    let row =
        sqlx::query(where_sql("WHERE d.id = ?1")).bind(id.to_string()).fetch_optional(db).await?;
    row.as_ref().map(delivery).transpose()
}

/// Lets go of a lane, if it is still held by the same claim, and counts what is pending in it.
const RELEASE: &str = "
    UPDATE lanes SET lease_until = 0, owner = NULL, not_before = max(not_before, ?16), pending = pending + ?17 - (
        SELECT count(*) FROM deliveries WHERE id = ?2 AND finished_at IS NULL)
    WHERE lane = ?18 AND epoch = ?19";
/// Counts what is pending in a lane.
const COUNT: &str = "
    UPDATE lanes SET pending = pending + ?17 - (
        SELECT count(*) FROM deliveries WHERE id = ?2 AND finished_at IS NULL)
    WHERE lane = ?18";
/// Writes what can change of a delivery, if its lane was changed.
const SAVE: &str = "
    UPDATE deliveries SET placement = ?3, cursor = ?4, state = ?5, attempts = ?6, doubtful_since = ?7, resent = ?8,
        messages = ?9, permalink = ?10, reason = ?11, hint = ?12, warnings = ?13,
        deadline = min(deadline, ?14), finished_at = ?15
    WHERE id = ?2 AND changes() > 0";

async fn record(tx: &mut Tx<'_>, epoch: i64, settled: Settled) -> Result<Recorded, StoreError> {
    let Settled { delivery, hold, thread, verdict, doubt: _ } = settled;
    let held = hold.filter(|hold| hold.scope == Scope::Channel).map_or(0, |hold| hold.until.0);
    let draft = match Entry::ended(&delivery) {
        Some(ended) => {
            let at = delivery.finished_at.unwrap_or(delivery.deadline);
            Some(tx.draft(vec![ended], at).await?)
        }
        None => None,
    };
    let save = save(RELEASE, &delivery, held, NEVER, draft.as_ref())?.bind(epoch);
    let of_the_bot = verdict.is_some() || hold.is_some_and(|hold| hold.scope == Scope::Credential);
    let ran = match of_the_bot || thread.is_some() {
        true => tx.run(save).await?,
        false => tx.run_last(save).await?,
    };
    if ran.changed == 0 {
        return Ok(Recorded::Fenced);
    }
    if let Some(draft) = draft {
        tx.pen.wrote(draft);
    }
    if let (Some(key), Some(thread)) = (&delivery.thread_key, thread) {
        sqlx::query("INSERT OR IGNORE INTO threads (client, lane, thread_key, placement) VALUES (?1, ?2, ?3, ?4)")
            .bind(delivery.client.as_str())
            .bind(delivery.channel.to_string())
            .bind(key)
            .bind(to_json(&thread)?)
            .execute(tx.db().await?)
            .await?;
    }
    if of_the_bot {
        let (db, platform) = (tx.db().await?, delivery.channel.platform());
        let mut bot = bot(db, platform).await?;
        let refused = bot.record(hold, verdict);
        keep_bot(db, platform, &bot).await?;
        prolong(db, platform, refused).await?;
    }
    Ok(Recorded::Done)
}

/// The deadline of what is to keep its own, which may have been moved meanwhile.
const NEVER: Timestamp = Timestamp(i64::MAX);

/// What waited while its bot's secret was refused, from one time to another, has as long again as it had.
async fn prolong(
    db: &mut SqliteConnection,
    platform: PlatformKind,
    refused: Option<(Timestamp, Timestamp)>,
) -> Result<(), StoreError> {
    let Some((since, until)) = refused else { return Ok(()) };
    sqlx::query(
        "UPDATE deliveries SET deadline = max(deadline, ?3 + deadline - created_at)
         WHERE lane IN (SELECT lane FROM lanes WHERE platform = ?1 AND pending > 0)
         AND finished_at IS NULL AND deadline > ?2",
    )
    .bind(platform.as_str())
    .bind(since.0)
    .bind(until.0)
    .execute(db)
    .await?;
    Ok(())
}

/// The script that writes a delivery, after what `first` does to its lane, which waits until `held`; it may end earlier, at `deadline`.
/// What the audit trail says about it, `?1`, follows.
fn save(
    first: &str,
    delivery: &Delivery,
    held: i64,
    deadline: Timestamp,
    said: Option<&Draft>,
) -> Result<Script, StoreError> {
    let append = said.map(|_| append(true)).unwrap_or_default();
    Ok(sqlx::query(AssertSqlSafe(format!("{first}; {SAVE}{append}")))
        .bind(said.map(argument).transpose()?)
        .bind(delivery.id.to_string())
        .bind(to_json(&delivery.placement)?)
        .bind(i64::try_from(delivery.cursor).unwrap_or(i64::MAX))
        .bind(delivery.state.as_str())
        .bind(delivery.attempts)
        .bind(delivery.doubtful_since.map(|at| at.0))
        .bind(delivery.resent)
        .bind(to_json(&delivery.messages)?)
        .bind(&delivery.permalink)
        .bind(delivery.reason.map(Reason::as_str))
        .bind(&delivery.hint)
        .bind(to_json(&delivery.warnings)?)
        .bind(deadline.0)
        .bind(delivery.finished_at.map(|at| at.0))
        .bind(held)
        .bind(i64::from(!delivery.state.is_final()))
        .bind(delivery.channel.to_string()))
}
