//! The outbox on PostgreSQL.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row};
use tokio::time::Instant;
use uuid::Uuid;

use super::claim::{claim, keep_bot, lock_bot};
use super::enqueue::{enqueue, requeue, sameness};
use super::{Db, Postgres, Statement, StoreError, query, retention, storable};
use crate::clock::Timestamp;
use crate::model::audit::Entry;
use crate::model::{ClientName, Delivery, DeliveryId, Pause, PlatformKind, Reason, Scope};
use crate::store::bot::Bot;
use crate::store::rows::{count, delivery, platform, readable, to_json};
use crate::store::{
    Backlog, Claim, Claimant, Enqueued, Filter, Hint, Hints, NewDelivery, Outbox, Recorded,
    Settled, Trouble,
};

/// Whoever asks more often gets the last answer: asking takes no token, and each try is a write.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long the connections may take to end.
const CLOSE: Duration = Duration::from_secs(3);

/// Which deliveries a filter means, whatever their state: what is bound to it stands in [`Outbox::list`].
const MEANT: &str = "d.created_at > $1 AND d.created_at <= $2
     AND (cardinality($3::text[]) = 0 OR d.lane = ANY ($3) OR split_part(d.lane, ':', 1) = ANY ($3))
     AND d.seq < CASE WHEN $4::text IS NULL THEN 9223372036854775807
         ELSE coalesce((SELECT seq FROM deliveries WHERE id = $4), 0) END";

/// When somebody last tried to write on purpose, and what went wrong.
#[derive(Debug, Default)]
pub(super) struct Probe {
    at: Option<Instant>,
    refused: Option<String>,
}

#[async_trait]
impl Outbox for Postgres {
    async fn enqueue(&self, new: NewDelivery) -> Result<Enqueued, StoreError> {
        self.access(async {
            // Two replicas may be asked for the same at once; the second one has to see what the first one stored.
            let mut db = match sameness(&new) {
                Some(number) => self.begin_alone(number).await?,
                None => self.begin().await?,
            };
            let enqueued = enqueue(&mut db, &new).await?;
            let said = match &enqueued {
                Enqueued::New => self.pens.submitted(&new.delivery, &new),
                Enqueued::Retried(again) => self.pens.submitted(again, &new),
                Enqueued::Repeated(_) | Enqueued::KeyReused | Enqueued::TooMuch(_) => Vec::new(),
            };
            self.commit(db, said, new.delivery.created_at).await?;
            self.notices.accepts_as(&new.submitter);
            if matches!(enqueued, Enqueued::New | Enqueued::Retried(_)) {
                self.notices.queued();
            }
            Ok(enqueued)
        })
        .await
    }

    async fn claim(
        &self,
        who: &Claimant,
        platform: PlatformKind,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Claim>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let claims = claim(&mut db, who, platform, now, most).await?;
            db.commit().await?;
            Ok(claims)
        })
        .await
    }

    async fn record(&self, epoch: i64, settled: &Settled) -> Result<Recorded, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let (recorded, submitter) = record(&mut db, epoch, settled).await?;
            let delivery = &settled.delivery;
            let said = Entry::ended(delivery).filter(|_| recorded == Recorded::Done);
            let at = delivery.finished_at.unwrap_or(delivery.deadline);
            self.commit(db, said.into_iter().collect(), at).await?;
            if let Some(submitter) = submitter.filter(|_| settled.delivery.state.is_final()) {
                self.notices.ended(settled.delivery.id, &submitter);
            }
            Ok(recorded)
        })
        .await
    }

    async fn next_due(
        &self,
        who: &Claimant,
        platforms: &[PlatformKind],
    ) -> Result<Option<Timestamp>, StoreError> {
        let (platforms, fingerprints): (Vec<&str>, Vec<&str>) = who
            .fingerprints(platforms)
            .into_iter()
            .map(|(kind, secret)| (kind.as_str(), secret))
            .unzip();
        self.access(async {
            let mut db = self.begin().await?;
            let row = query(
                "SELECT min(greatest(l.not_before, l.lease_until, coalesce(c.not_before, 0))) AS due
                 FROM unnest($3::text[], $4::text[]) AS bot (platform, fingerprint)
                 JOIN lanes l USING (platform) LEFT JOIN credentials c USING (platform)
                 WHERE l.pending > 0 AND (c.refused IS NULL
                     OR strpos(' ' || c.refused || ' ', ' ' || bot.fingerprint || ' ') = 0)
                 AND (NOT $1 OR EXISTS (
                     SELECT 1 FROM deliveries d WHERE d.lane = l.lane
                     AND d.finished_at IS NULL AND d.submitter = $2))",
            )
            .bind(who.own_only)
            .bind(&who.process)
            .bind(platforms)
            .bind(fingerprints)
            .fetch_one(&mut *db)
            .await?;
            db.commit().await?;
            Ok(row.try_get::<Option<i64>, _>("due")?.map(Timestamp))
        })
        .await
    }

    async fn backlog(&self) -> Result<BTreeMap<PlatformKind, Backlog>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let rows = query(
                "SELECT l.platform, count(*) FILTER (WHERE d.state = 'queued') AS queued,
                     count(*) FILTER (WHERE d.state = 'sending') AS sending, min(d.created_at) AS oldest
                 FROM lanes l JOIN deliveries d USING (lane)
                 WHERE l.pending > 0 AND d.finished_at IS NULL GROUP BY l.platform",
            )
            .fetch_all(&mut *db)
            .await?;
            db.commit().await?;
            let mut backlog = BTreeMap::new();
            for row in rows {
                let waiting = Backlog {
                    queued: count(row.try_get("queued")?),
                    sending: count(row.try_get("sending")?),
                    oldest: row.try_get::<Option<i64>, _>("oldest")?.map(Timestamp),
                };
                backlog.insert(platform(row.try_get("platform")?)?, waiting);
            }
            Ok(backlog)
        })
        .await
    }

    async fn pauses(&self) -> Result<BTreeMap<PlatformKind, Pause>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let rows = query("SELECT * FROM credentials").fetch_all(&mut *db).await?;
            db.commit().await?;
            let mut pauses = BTreeMap::new();
            for row in &rows {
                let platform = PlatformKind::named(row.try_get("platform")?);
                pauses.extend(platform.zip(Bot::read(row)?.pause));
            }
            Ok(pauses)
        })
        .await
    }

    async fn resume(&self, platform: PlatformKind, now: Timestamp) -> Result<(), StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let mut bot = lock_bot(&mut db, platform).await?;
            let refused = bot.resume(now);
            keep_bot(&mut db, platform, &bot).await?;
            prolong(&mut db, platform, refused).await?;
            self.commit(db, Entry::resumed(platform), now).await?;
            self.notices.queued();
            Ok(())
        })
        .await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let found = by_id(&mut db, id).await?;
            db.commit().await?;
            Ok(found)
        })
        .await
    }

    async fn latest(
        &self,
        client: &ClientName,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let found = query(selected(
                "",
                "WHERE d.client = $1 AND (d.id = $2 OR (d.edits = $2 AND d.state = 'delivered'))
                 ORDER BY d.seq DESC LIMIT 1",
            ))
            .bind(client.as_str())
            .bind(id.to_string())
            .fetch_optional(&mut *db)
            .await?;
            db.commit().await?;
            found.as_ref().map(delivery).transpose()
        })
        .await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Delivery>, StoreError> {
        let condition = format!(
            "WHERE d.seq IN ({}) ORDER BY d.seq DESC LIMIT $5",
            filter.numbers("deliveries d", MEANT, "$5")
        );
        let (since, until) = filter.accepted();
        self.access(async {
            let mut db = self.begin().await?;
            let rows = query(selected("", &condition))
                .bind(since)
                .bind(until)
                .bind(filter.place_names())
                .bind(filter.beyond.map(|id| id.to_string()))
                .bind(i64::from(filter.most))
                .fetch_all(&mut *db)
                .await?;
            db.commit().await?;
            Ok(rows.iter().filter_map(readable).collect())
        })
        .await
    }

    async fn retry(
        &self,
        id: DeliveryId,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let requeued = requeue(&mut db, id, now, deadline, None).await?;
            let delivery = by_id(&mut db, id).await?;
            let said = Entry::retried(delivery.as_ref().filter(|_| requeued));
            self.commit(db, said, now).await?;
            if requeued {
                self.notices.queued();
            }
            Ok(delivery)
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
        self.access(async {
            let mut db = self.begin().await?;
            lock_lane(&mut db, id).await?;
            let Some(mut delivery) = by_id(&mut db, id).await? else { return Ok(None) };
            let before = delivery.state;
            delivery.call_off(reason, hint.to_owned(), now);
            save(COUNT, &delivery, 0, delivery.deadline)?.execute(&mut *db).await?;
            self.commit(db, Entry::called_off(&delivery, before, reason), now).await?;
            Ok(Some(delivery))
        })
        .await
    }

    async fn trouble(
        &self,
        since: Timestamp,
    ) -> Result<BTreeMap<PlatformKind, Trouble>, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let rows = query(
                "SELECT split_part(lane, ':', 1) AS platform, count(*) FILTER (WHERE state = 'failed') AS failed,
                     count(*) FILTER (WHERE state = 'unknown') AS unknown
                 FROM deliveries WHERE state IN ('delivered', 'failed', 'unknown') AND state IN ('failed', 'unknown')
                 AND created_at > $1
                 AND (state = 'unknown' OR reason IS DISTINCT FROM $2) GROUP BY 1",
            )
            .bind(since.0)
            .bind(Reason::Discarded.as_str())
            .fetch_all(&mut *db)
            .await?;
            db.commit().await?;
            let mut trouble = BTreeMap::new();
            for row in rows {
                let failed = count(row.try_get("failed")?);
                let unknown = count(row.try_get("unknown")?);
                trouble
                    .insert(platform(row.try_get("platform")?)?, Trouble { failed, unknown });
            }
            Ok(trouble)
        })
        .await
    }

    async fn expunge(
        &self,
        ended: Timestamp,
        now: Timestamp,
        most: u32,
    ) -> Result<u64, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let expunged = retention::expunge(&mut db, ended, now, most).await?;
            db.commit().await?;
            Ok(expunged)
        })
        .await
    }

    async fn remove(&self, ended: Timestamp, most: u32) -> Result<u64, StoreError> {
        self.access(async {
            let mut db = self.begin().await?;
            let removed = retention::remove(&mut db, ended, most).await?;
            db.commit().await?;
            Ok(removed)
        })
        .await
    }

    async fn shrink(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        {
            let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if probe.at.is_some_and(|at| now.duration_since(at) < PROBE_EVERY) {
                return probe.refused.clone().map_or(Ok(()), |error| Err(StoreError::Away(error)));
            }
            probe.at = Some(now);
        }
        let tried = self
            .access(async {
                let mut db = self.begin().await?;
                // A key of its own: nobody else's probe waits for this one.
                query("INSERT INTO threads (client, lane, thread_key, placement) VALUES ('', '', $1, '')")
                    .bind(Uuid::now_v7().to_string())
                    .execute(&mut *db)
                    .await?;
                Ok(db.rollback().await?)
            })
            .await;
        let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        probe.refused = tried.as_ref().err().map(ToString::to_string);
        tried
    }

    fn hints(&self) -> Hints<Hint> {
        self.notices.outbox(&self.options)
    }

    async fn close(&self) {
        self.notices.stop();
        // Waits for what is under way, but not for a server that is away.
        let _ = tokio::time::timeout(CLOSE, async {
            self.notices.tell_rest(&self.pool).await;
            self.pool.close().await;
        })
        .await;
    }
}

/// `deliveries` with the time its lane, or the whole bot, waits for, why the bot does, and more columns.
pub(super) fn selected(more: &str, condition: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "SELECT d.*, greatest(l.not_before, coalesce(c.not_before, 0)) AS not_before, c.pause{more}
         FROM deliveries d JOIN lanes l USING (lane) LEFT JOIN credentials c USING (platform) {condition}"
    ))
}

pub(super) async fn by_id(db: Db<'_>, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    let found =
        query(selected("", "WHERE d.id = $1")).bind(id.to_string()).fetch_optional(db).await?;
    found.as_ref().map(delivery).transpose()
}

/// Locks the lane of a delivery, so that nobody claims, records or ends it meanwhile.
pub(super) async fn lock_lane(db: Db<'_>, id: DeliveryId) -> Result<(), StoreError> {
    query(
        "SELECT 1 FROM lanes WHERE lane = (SELECT lane FROM deliveries WHERE id = $1) FOR NO KEY UPDATE",
    )
    .bind(id.to_string())
    .execute(db)
    .await?;
    Ok(())
}

/// Lets go of a lane, if it is still held by the same claim, and counts what is pending in it. As long as the epoch is this
/// claim's, nobody else changes whether its delivery is pending: what the statement sees of it is true although it may
/// have waited for the lane.
const RELEASE: &str = "
    UPDATE lanes l SET lease_until = 0, owner = NULL, not_before = greatest(l.not_before, $15),
        pending = l.pending + $16 - (
            SELECT count(*) FROM deliveries WHERE id = $1 AND finished_at IS NULL)
    WHERE lane = $17 AND epoch = $18 RETURNING lane";
/// Counts what is pending in a lane, which is locked.
const COUNT: &str = "
    UPDATE lanes l SET pending = l.pending + $16 - (
        SELECT count(*) FROM deliveries WHERE id = $1 AND finished_at IS NULL)
    WHERE lane = $17 RETURNING lane";

/// Whether it was recorded, and who submitted the delivery.
async fn record(
    db: Db<'_>,
    epoch: i64,
    settled: &Settled,
) -> Result<(Recorded, Option<String>), StoreError> {
    let Settled { delivery, hold, thread, verdict, doubt: _ } = settled;
    let lane = delivery.channel.to_string();
    let held = hold.filter(|hold| hold.scope == Scope::Channel).map_or(0, |hold| hold.until.0);
    let saved = save(RELEASE, delivery, held, NEVER)?.bind(epoch).fetch_optional(&mut *db).await?;
    let Some(saved) = saved else { return Ok((Recorded::Fenced, None)) };
    if let (Some(key), Some(thread)) = (&delivery.thread_key, thread) {
        query(
            "INSERT INTO threads (client, lane, thread_key, placement) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(delivery.client.as_str())
        .bind(&lane)
        .bind(storable(key))
        .bind(to_json(&thread)?)
        .execute(&mut *db)
        .await?;
    }
    if verdict.is_some() || hold.is_some_and(|hold| hold.scope == Scope::Credential) {
        let platform = delivery.channel.platform();
        let mut bot = lock_bot(db, platform).await?;
        let refused = bot.record(*hold, verdict.clone());
        keep_bot(db, platform, &bot).await?;
        prolong(db, platform, refused).await?;
    }
    Ok((Recorded::Done, saved.try_get("submitter")?))
}

/// The deadline of what is to keep its own, which may have been moved meanwhile.
const NEVER: Timestamp = Timestamp(i64::MAX);

/// What waited while its bot's secret was refused, from one time to another, has as long again as it had.
async fn prolong(
    db: Db<'_>,
    platform: PlatformKind,
    refused: Option<(Timestamp, Timestamp)>,
) -> Result<(), StoreError> {
    let Some((since, until)) = refused else { return Ok(()) };
    query(
        "UPDATE deliveries SET deadline = greatest(deadline, $3 + deadline - created_at)
         WHERE lane IN (SELECT lane FROM lanes WHERE platform = $1 AND pending > 0)
         AND finished_at IS NULL AND deadline > $2",
    )
    .bind(platform.as_str())
    .bind(since.0)
    .bind(until.0)
    .execute(db)
    .await?;
    Ok(())
}

/// Writes what can change of a delivery, after what `first` does to its lane, which waits until `held`; it may end
/// earlier, at `deadline`. Tells
/// who submitted it.
fn save(
    first: &str,
    delivery: &Delivery,
    held: i64,
    deadline: Timestamp,
) -> Result<Statement, StoreError> {
    let sql = format!(
        "WITH lane AS ({first})
         UPDATE deliveries SET placement = $2, cursor = $3, state = $4, attempts = $5, doubtful_since = $6,
             resent = $7, messages = $8, permalink = $9, reason = $10, hint = $11, warnings = $12,
             deadline = least(deadline, $13), finished_at = $14
         FROM lane WHERE id = $1 RETURNING deliveries.submitter"
    );
    Ok(query(AssertSqlSafe(sql))
        .bind(delivery.id.to_string())
        .bind(to_json(&delivery.placement)?)
        .bind(i64::try_from(delivery.cursor).unwrap_or(i64::MAX))
        .bind(delivery.state.as_str())
        .bind(i64::from(delivery.attempts))
        .bind(delivery.doubtful_since.map(|at| at.0))
        .bind(delivery.resent)
        .bind(to_json(&delivery.messages)?)
        .bind(delivery.permalink.as_deref().map(storable))
        .bind(delivery.reason.map(Reason::as_str))
        // A platform's words, which may hold anything.
        .bind(delivery.hint.as_deref().map(storable))
        .bind(to_json(&delivery.warnings)?)
        .bind(deadline.0)
        .bind(delivery.finished_at.map(|at| at.0))
        .bind(held)
        .bind(i64::from(!delivery.state.is_final()))
        .bind(delivery.channel.to_string()))
}
