//! Lanes on their way out: whose turn it is, and who takes it.

use std::time::Duration;

use sqlx::{Row, SqliteConnection};

use super::outbox::where_sql;
use crate::clock::Timestamp;
use crate::model::{Delivery, DeliveryState, PlatformKind};
use crate::platform::Pace;
use crate::store::bot::Bot;
use crate::store::rows::{delivery, from_json, next_turn};
use crate::store::{Claim, Claimant, StoreError};

/// How soon a delivery that cannot be read is looked at again.
const UNREADABLE: Duration = Duration::from_secs(60);

pub(super) async fn claim(
    db: &mut SqliteConnection,
    who: &Claimant,
    platform: PlatformKind,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Claim>, StoreError> {
    let due = sqlx::query(
        "SELECT l.lane, l.epoch, l.lease_until, l.tat, l.interval_ms, l.burst
         FROM lanes l LEFT JOIN credentials c USING (platform)
         WHERE l.platform = ?5 AND l.pending > 0 AND l.not_before <= ?1 AND l.lease_until <= ?1 AND coalesce(c.not_before, 0) <= ?1
         AND (NOT ?2 OR EXISTS (
             SELECT 1 FROM deliveries d WHERE d.lane = l.lane
             AND d.state IN ('queued', 'sending') AND d.submitter = ?3))
         ORDER BY l.not_before LIMIT ?4",
    )
    .bind(now.0)
    .bind(who.own_only)
    .bind(&who.process)
    .bind(most)
    .bind(platform.as_str())
    .fetch_all(&mut *db)
    .await?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let mut bot = bot(db, platform).await?;
    let before = bot.clone();
    let credential = who.credentials.get(&platform);
    let mut claims = Vec::with_capacity(due.len());
    for row in &due {
        let lane: String = row.try_get("lane")?;
        let head = match head(db, who, &lane).await {
            Ok(Some(head)) => head,
            Ok(None) => continue,
            Err(StoreError::Corrupt(error)) => {
                tracing::error!(%lane, error, "a delivery cannot be read, so its channel waits");
                set_aside(db, &lane, now).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        // They all share the bot: where one has to wait, the others do too.
        if !bot.take_turn(credential, who.lease, now) {
            break;
        }
        let pace = Pace { interval_ms: row.try_get("interval_ms")?, burst: row.try_get("burst")? };
        let (tat, not_before) = next_turn(pace, row.try_get("tat")?, now);
        let epoch = row.try_get::<i64, _>("epoch")? + 1;
        sqlx::query(
            "UPDATE lanes SET epoch = ?2, owner = ?3, lease_until = ?4, tat = ?5, not_before = ?6 WHERE lane = ?1",
        )
        .bind(&lane)
        .bind(epoch)
        .bind(&who.process)
        .bind(now.after(who.lease).0)
        .bind(tat)
        .bind(not_before)
        .execute(&mut *db)
        .await?;
        let claimed_last = Timestamp(row.try_get("lease_until")?).before(who.lease);
        claims.push(start(db, head, epoch, claimed_last, bot.troubled()).await?);
    }
    if bot != before {
        keep_bot(db, platform, &bot).await?;
    }
    Ok(claims)
}

/// The first delivery of a lane that `who` may send.
async fn head(
    db: &mut SqliteConnection,
    who: &Claimant,
    lane: &str,
) -> Result<Option<Delivery>, StoreError> {
    let sql = where_sql(
        "WHERE d.lane = ?1 AND d.state IN ('queued', 'sending') AND (NOT ?2 OR d.submitter = ?3)
         ORDER BY d.seq LIMIT 1",
    );
    let row = sqlx::query(sql)
        .bind(lane)
        .bind(who.own_only)
        .bind(&who.process)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(delivery).transpose()
}

/// A lane whose head cannot be read must not hold up the others. It is looked at again, in case a Herald that can read
/// it takes over.
async fn set_aside(
    db: &mut SqliteConnection,
    lane: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE lanes SET not_before = ?2 WHERE lane = ?1")
        .bind(lane)
        .bind(now.after(UNREADABLE).0)
        .execute(db)
        .await?;
    Ok(())
}

/// Marks the head as being sent, so that a crash from here on is seen.
async fn start(
    db: &mut SqliteConnection,
    mut head: Delivery,
    epoch: i64,
    claimed_last: Timestamp,
    troubled: bool,
) -> Result<Claim, StoreError> {
    let interrupted = head.state == DeliveryState::Sending;
    if interrupted {
        head.doubtful_since.get_or_insert(claimed_last);
    }
    head.state = DeliveryState::Sending;
    head.attempts += 1;
    sqlx::query(
        "UPDATE deliveries SET state = 'sending', attempts = ?2, doubtful_since = ?3 WHERE id = ?1",
    )
    .bind(head.id.to_string())
    .bind(head.attempts)
    .bind(head.doubtful_since.map(|at| at.0))
    .execute(&mut *db)
    .await?;
    let thread = match &head.thread_key {
        Some(key) => {
            let found: Option<String> = sqlx::query_scalar(
                "SELECT placement FROM threads WHERE client = ?1 AND lane = ?2 AND thread_key = ?3",
            )
            .bind(head.client.as_str())
            .bind(head.channel.to_string())
            .bind(key)
            .fetch_optional(db)
            .await?;
            found.map(|json| from_json("threads.placement", &json)).transpose()?
        }
        None => None,
    };
    Ok(Claim { delivery: head, epoch, interrupted, thread, troubled })
}

/// What the bot may do.
pub(super) async fn bot(
    db: &mut SqliteConnection,
    platform: PlatformKind,
) -> Result<Bot, StoreError> {
    let row = sqlx::query("SELECT * FROM credentials WHERE platform = ?1")
        .bind(platform.as_str())
        .fetch_optional(db)
        .await?;
    row.as_ref().map_or_else(|| Ok(Bot::default()), Bot::read)
}

pub(super) async fn keep_bot(
    db: &mut SqliteConnection,
    platform: PlatformKind,
    bot: &Bot,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO credentials (platform, tat, not_before, failures, refused, pause)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(platform.as_str())
    .bind(bot.tat)
    .bind(bot.not_before)
    .bind(bot.failures)
    .bind(&bot.refused)
    .bind(bot.pause_json()?)
    .execute(db)
    .await?;
    Ok(())
}
