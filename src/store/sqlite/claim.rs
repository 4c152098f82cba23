//! Lanes on their way out: whose turn it is, and who takes it. However many lanes are due, it is two scripts.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::writer::{Script, Tx};
use crate::clock::Timestamp;
use crate::model::{Delivery, DeliveryState, Placement, PlatformKind};
use crate::platform::Pace;
use crate::store::bot::Bot;
use crate::store::rows::{Columns, delivery, from_json, next_turn, to_json};
use crate::store::{Claim, Claimant, StoreError};

/// How soon a delivery that cannot be read is looked at again.
const UNREADABLE: Duration = Duration::from_secs(60);

/// The lanes whose turn it may be, each with its head and the thread that the head's key stands for; then the bot.
const DUE: &str = "
    SELECT d.*, max(l.not_before, coalesce(c.not_before, 0)) AS not_before, c.pause,
        t.placement AS thread_placement,
        l.epoch, l.lease_until, l.tat, l.interval_ms, l.burst
    FROM lanes l LEFT JOIN credentials c USING (platform)
    CROSS JOIN deliveries d ON d.seq = (
        SELECT seq FROM deliveries h WHERE h.lane = l.lane AND h.finished_at IS NULL
        AND (NOT ?2 OR h.submitter = ?3) ORDER BY h.seq LIMIT 1)
    LEFT JOIN threads t ON t.client = d.client AND t.lane = d.lane AND t.thread_key = d.thread_key
    WHERE l.platform = ?5 AND l.pending > 0 AND l.not_before <= ?1 AND l.lease_until <= ?1
    AND coalesce(c.not_before, 0) <= ?1
    ORDER BY l.not_before LIMIT ?4;
    SELECT * FROM credentials WHERE platform = ?5";

/// From here on a crash is seen: whoever finds a delivery `sending` knows that it was interrupted.
const TAKE: &str = "
    UPDATE lanes SET epoch = epoch + 1, owner = ?1, lease_until = ?2, tat = turn.value ->> 1, not_before = turn.value ->> 2
    FROM json_each(?3) turn WHERE lanes.lane = turn.value ->> 0;
    UPDATE deliveries SET state = 'sending', attempts = attempts + 1, doubtful_since = head.value ->> 1
    FROM json_each(?4) head WHERE deliveries.seq = head.value ->> 0";

/// Whether any lane may be due. Asks no more than an index.
pub(super) async fn may_be_due(
    db: &mut SqliteConnection,
    platform: PlatformKind,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let due = "SELECT EXISTS (
        SELECT 1 FROM lanes WHERE platform = ?1 AND pending > 0 AND not_before <= ?2 AND lease_until <= ?2)";
    Ok(sqlx::query_scalar(due).bind(platform.as_str()).bind(now.0).fetch_one(db).await?)
}

pub(super) async fn claim(
    tx: &mut Tx<'_>,
    who: &Claimant,
    platform: PlatformKind,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Claim>, StoreError> {
    let due = sqlx::query(DUE)
        .bind(now.0)
        .bind(who.own_only)
        .bind(&who.process)
        .bind(most)
        .bind(platform.as_str());
    let mut found = tx.run(due).await?.rows;
    let bot = found.pop().unwrap_or_default();
    let due = found.pop().unwrap_or_default();
    let mut bot = bot.first().map_or_else(|| Ok(Bot::default()), Bot::read)?;
    let before = bot.clone();
    let credential = who.credentials.get(&platform);
    let mut claims = Vec::with_capacity(due.len());
    let (mut turns, mut heads) = (Vec::new(), Vec::new());
    for row in &due {
        let lane: String = row.try_get("lane")?;
        let (mut head, thread) = match read(row) {
            Ok(head) => head,
            Err(StoreError::Corrupt(error)) => {
                tracing::error!(%lane, error, "a delivery cannot be read, so its channel waits");
                set_aside(tx.db().await?, &lane, now).await?;
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
        let interrupted = head.state == DeliveryState::Sending;
        if interrupted {
            let claimed_last = Timestamp(row.try_get("lease_until")?).before(who.lease);
            head.doubtful_since.get_or_insert(claimed_last);
        }
        head.state = DeliveryState::Sending;
        head.attempts += 1;
        turns.push((lane, tat, not_before));
        heads.push((row.try_get::<i64, _>("seq")?, head.doubtful_since));
        let epoch = row.try_get::<i64, _>("epoch")? + 1;
        claims.push(Claim { delivery: head, epoch, interrupted, thread, troubled: bot.troubled() });
    }
    if claims.is_empty() {
        return Ok(claims);
    }
    let sql = if bot == before { TAKE.to_owned() } else { format!("{TAKE}; {KEEP_BOT}") };
    let take = sqlx::query(AssertSqlSafe(sql))
        .bind(&who.process)
        .bind(now.after(who.lease).0)
        .bind(to_json(&turns)?)
        .bind(to_json(&heads)?);
    tx.run_last(bind_bot(take, platform, &bot)?).await?;
    Ok(claims)
}

/// A lane's head, and the thread that its key stands for.
fn read(row: &SqliteRow) -> Result<(Delivery, Option<Placement>), StoreError> {
    let thread = row.text("thread_placement")?;
    let thread = thread.map(|json| from_json("threads.placement", &json)).transpose()?;
    Ok((delivery(row)?, thread))
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

/// Its arguments stand behind those of [`TAKE`].
const KEEP_BOT: &str = "
    INSERT OR REPLACE INTO credentials (platform, tat, not_before, failures, refused, pause, held)
    VALUES (?5, ?6, ?7, ?8, ?9, ?10, ?11)";

fn bind_bot(script: Script, platform: PlatformKind, bot: &Bot) -> Result<Script, StoreError> {
    Ok(script
        .bind(platform.as_str())
        .bind(bot.tat)
        .bind(bot.not_before)
        .bind(bot.failures)
        .bind(&bot.refused)
        .bind(bot.pause_json()?)
        .bind(bot.held))
}

pub(super) async fn keep_bot(
    db: &mut SqliteConnection,
    platform: PlatformKind,
    bot: &Bot,
) -> Result<(), StoreError> {
    let nothing: Option<i64> = None;
    let keep = sqlx::query(KEEP_BOT).bind(nothing).bind(nothing).bind(nothing).bind(nothing);
    bind_bot(keep, platform, bot)?.execute(db).await?;
    Ok(())
}
