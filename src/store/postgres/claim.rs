//! Lanes on their way out: whose turn it is, and who takes it. However many lanes are due, it is a handful of statements.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::outbox::selected;
use super::{Db, query};
use crate::clock::Timestamp;
use crate::model::{Delivery, DeliveryState, Placement, PlatformKind};
use crate::platform::Pace;
use crate::store::bot::Bot;
use crate::store::rows::{Columns, delivery, from_json, next_turn};
use crate::store::{Claim, Claimant, StoreError};

/// How soon a delivery that cannot be read is looked at again.
const UNREADABLE: Duration = Duration::from_secs(60);

pub(super) async fn claim(
    db: Db<'_>,
    who: &Claimant,
    platform: PlatformKind,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Claim>, StoreError> {
    // A lane that somebody else has locked is being claimed, recorded or added to: it is looked at again soon.
    let due = query(
        "SELECT l.lane, l.epoch, l.lease_until, l.tat, l.interval_ms, l.burst
         FROM lanes l LEFT JOIN credentials c USING (platform)
         WHERE l.platform = $5 AND l.pending > 0 AND l.not_before <= $1 AND l.lease_until <= $1
         AND coalesce(c.not_before, 0) <= $1
         AND (NOT $2 OR EXISTS (
             SELECT 1 FROM deliveries d WHERE d.lane = l.lane
             AND d.finished_at IS NULL AND d.submitter = $3))
         ORDER BY l.not_before LIMIT $4 FOR NO KEY UPDATE OF l SKIP LOCKED",
    )
    .bind(now.0)
    .bind(who.own_only)
    .bind(&who.process)
    .bind(i64::from(most))
    .bind(platform.as_str())
    .fetch_all(&mut *db)
    .await?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let mut heads = heads(db, who, &due).await?;
    let mut bot = lock_bot(db, platform).await?;
    let before = bot.clone();
    let credential = who.credentials.get(&platform);
    let mut turns = Turns::default();
    let mut claims = Vec::with_capacity(due.len());
    for row in &due {
        let lane: String = row.try_get("lane")?;
        let Some(head) = heads.remove(&lane) else { continue };
        let (mut delivery, thread) = match head {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(%lane, %error, "a delivery cannot be read, so its channel waits");
                turns.set_aside.push(lane);
                continue;
            }
        };
        // They all share the bot: where one has to wait, the others do too.
        if !bot.take_turn(credential, who.lease, now) {
            break;
        }
        let pace = Pace { interval_ms: small(row, "interval_ms")?, burst: small(row, "burst")? };
        let (tat, not_before) = next_turn(pace, row.try_get("tat")?, now);
        let interrupted = delivery.state == DeliveryState::Sending;
        if interrupted {
            let claimed_last = Timestamp(row.try_get("lease_until")?).before(who.lease);
            delivery.doubtful_since.get_or_insert(claimed_last);
        }
        delivery.state = DeliveryState::Sending;
        delivery.attempts += 1;
        turns.take(lane, tat, not_before, &delivery);
        let epoch = row.try_get::<i64, _>("epoch")? + 1;
        claims.push(Claim { delivery, epoch, interrupted, thread, troubled: bot.troubled() });
    }
    turns.store(db, who, now).await?;
    if bot != before {
        keep_bot(db, platform, &bot).await?;
    }
    Ok(claims)
}

/// A delivery, and the thread that its key stands for.
type Head = (Delivery, Option<Placement>);

/// The first delivery of each lane that `who` may send. A new statement sees what was committed until the lanes were locked.
async fn heads(
    db: Db<'_>,
    who: &Claimant,
    due: &[PgRow],
) -> Result<BTreeMap<String, Result<Head, StoreError>>, StoreError> {
    let lanes: Vec<String> = due.iter().map(|row| row.try_get("lane")).collect::<Result<_, _>>()?;
    let rows = query(selected(
        ", t.placement AS thread_placement",
        "LEFT JOIN threads t ON t.client = d.client AND t.lane = d.lane AND t.thread_key = d.thread_key
         WHERE d.seq IN (
             SELECT h.seq FROM unnest($1::text[]) AS due (lane) CROSS JOIN LATERAL (
                 SELECT seq FROM deliveries WHERE lane = due.lane AND finished_at IS NULL
                 AND (NOT $2 OR submitter = $3) ORDER BY seq LIMIT 1) h)",
    ))
    .bind(lanes)
    .bind(who.own_only)
    .bind(&who.process)
    .fetch_all(db)
    .await?;
    let read = |row: &PgRow| {
        let thread = row.text("thread_placement")?;
        let thread = thread.map(|json| from_json("threads.placement", &json)).transpose()?;
        Ok((delivery(row)?, thread))
    };
    let named = rows.iter().map(|row| Ok((row.try_get("lane")?, read(row))));
    named.collect()
}

fn small(row: &PgRow, column: &str) -> Result<u32, StoreError> {
    let value: i64 = row.try_get(column)?;
    u32::try_from(value).map_err(|_| StoreError::Corrupt(format!("lanes.{column}: {value}")))
}

/// What becomes of the lanes and their heads, gathered and written at once.
#[derive(Default)]
struct Turns {
    lanes: Vec<String>,
    tats: Vec<i64>,
    not_before: Vec<i64>,
    ids: Vec<String>,
    doubtful_since: Vec<Option<i64>>,
    set_aside: Vec<String>,
}

impl Turns {
    fn take(&mut self, lane: String, tat: i64, not_before: i64, head: &Delivery) {
        self.lanes.push(lane);
        self.tats.push(tat);
        self.not_before.push(not_before);
        self.ids.push(head.id.to_string());
        self.doubtful_since.push(head.doubtful_since.map(|at| at.0));
    }

    async fn store(self, db: Db<'_>, who: &Claimant, now: Timestamp) -> Result<(), StoreError> {
        if !self.set_aside.is_empty() {
            // It is looked at again, in case a Herald that can read it takes over.
            query("UPDATE lanes SET not_before = $2 WHERE lane = ANY ($1)")
                .bind(self.set_aside)
                .bind(now.after(UNREADABLE).0)
                .execute(&mut *db)
                .await?;
        }
        if self.lanes.is_empty() {
            return Ok(());
        }
        // From here on a crash is seen: whoever finds a delivery `sending` knows that it was interrupted.
        query(
            "WITH taken AS (
                 UPDATE lanes l SET epoch = l.epoch + 1, owner = $4, lease_until = $5, tat = t.tat, not_before = t.not_before
                 FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS t (lane, tat, not_before) WHERE l.lane = t.lane)
             UPDATE deliveries d SET state = 'sending', attempts = d.attempts + 1, doubtful_since = h.doubtful_since
             FROM unnest($6::text[], $7::bigint[]) AS h (id, doubtful_since) WHERE d.id = h.id",
        )
        .bind(self.lanes)
        .bind(self.tats)
        .bind(self.not_before)
        .bind(&who.process)
        .bind(now.after(who.lease).0)
        .bind(self.ids)
        .bind(self.doubtful_since)
        .execute(db)
        .await?;
        Ok(())
    }
}

/// What the bot may do, locked until the transaction ends: all replicas share it.
pub(super) async fn lock_bot(db: Db<'_>, platform: PlatformKind) -> Result<Bot, StoreError> {
    let locked = "SELECT * FROM credentials WHERE platform = $1 FOR NO KEY UPDATE";
    let mut row = query(locked).bind(platform.as_str()).fetch_optional(&mut *db).await?;
    if row.is_none() {
        query("INSERT INTO credentials (platform) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(platform.as_str())
            .execute(&mut *db)
            .await?;
        row = query(locked).bind(platform.as_str()).fetch_optional(db).await?;
    }
    row.as_ref().map_or_else(|| Ok(Bot::default()), Bot::read)
}

/// Writes back a locked bot.
pub(super) async fn keep_bot(
    db: Db<'_>,
    platform: PlatformKind,
    bot: &Bot,
) -> Result<(), StoreError> {
    query(
        "UPDATE credentials SET tat = $2, not_before = $3, failures = $4, refused = $5, pause = $6, held = $7
         WHERE platform = $1",
    )
    .bind(platform.as_str())
    .bind(bot.tat)
    .bind(bot.not_before)
    .bind(bot.failures)
    .bind(&bot.refused)
    .bind(bot.pause_json()?)
    .bind(bot.held)
    .execute(db)
    .await?;
    Ok(())
}
