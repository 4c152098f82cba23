//! Submissions on their way in: stored once, however often they come.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::outbox::by_id;
use super::trail::{append, argument};
use super::writer::Tx;
use crate::clock::Timestamp;
use crate::model::{Delivery, DeliveryId, DeliveryState};
use crate::store::rate::{self, Excess};
use crate::store::rows::{lately, to_json};
use crate::store::{Enqueued, NewDelivery, StoreError};

/// Stores a submission unless it repeats one: then nothing is changed. The window counts where there is no key. What the
/// audit trail says about it, `?1`, follows.
const STORE: &str = "
    INSERT INTO lanes (lane, platform, pending, interval_ms, burst) SELECT ?5, ?17, 1, ?18, ?19
    WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE client = ?3 AND idempotency_key = ?11)
    AND (?11 IS NOT NULL OR ?20 IS NULL OR NOT EXISTS (
        SELECT 1 FROM deliveries WHERE client = ?3 AND content_hash = ?12 AND created_at > ?20))
    ON CONFLICT (lane) DO UPDATE SET pending = pending + 1, interval_ms = ?18, burst = ?19;
    INSERT INTO deliveries (id, client, submitter, lane, placement, thread_key, edits, steps, state, warnings,
        idempotency_key, content_hash, deadline, created_at, invitation, traceparent)
    SELECT ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'queued', ?10, ?11, ?12, ?13, ?14, ?15, ?16 WHERE changes() > 0";

pub(super) async fn enqueue(tx: &mut Tx<'_>, new: NewDelivery) -> Result<Enqueued, StoreError> {
    if new.rate.is_limited()
        && let Some(excess) = too_much(tx.db().await?, &new).await?
    {
        // What failed is not tried anew: that would be one more.
        let same = find_same(tx.db().await?, &new, false).await?;
        return Ok(same.unwrap_or(Enqueued::TooMuch(excess)));
    }
    let d = &new.delivery;
    let draft = tx.draft(tx.pen.submitted(d, &new), d.created_at).await?;
    let store = sqlx::query(AssertSqlSafe(format!("{STORE}{}", append(true))))
        .bind(argument(&draft)?)
        .bind(d.id.to_string())
        .bind(d.client.as_str())
        .bind(&new.submitter)
        .bind(d.channel.to_string())
        .bind(to_json(&d.placement)?)
        .bind(&d.thread_key)
        .bind(d.edits.map(|id| id.to_string()))
        .bind(to_json(&d.steps)?)
        .bind(to_json(&d.warnings)?)
        .bind(&new.idempotency_key)
        .bind(&new.content_hash)
        .bind(d.deadline.0)
        .bind(d.created_at.0)
        .bind(d.invitation.as_ref().map(to_json).transpose()?)
        .bind(&d.traceparent)
        .bind(d.channel.platform().as_str())
        .bind(new.pace.interval_ms)
        .bind(new.pace.burst)
        .bind(new.same_since.map(|since| since.0));
    if tx.run_last(store).await?.changed > 0 {
        tx.pen.wrote(draft);
        return Ok(Enqueued::New);
    }
    let same = repeated(tx, &new).await?;
    same.ok_or_else(|| StoreError::Corrupt("what a submission repeats is not there".to_owned()))
}

/// What a submission repeats, and what the trail says where that is tried anew.
async fn repeated(tx: &mut Tx<'_>, new: &NewDelivery) -> Result<Option<Enqueued>, StoreError> {
    let same = find_same(tx.db().await?, new, true).await?;
    if let Some(Enqueued::Retried(again)) = &same {
        tx.note(tx.pen.submitted(again, new), new.delivery.created_at).await?;
    }
    Ok(same)
}

/// Whether its client has submitted as much as it may.
async fn too_much(
    db: &mut SqliteConnection,
    new: &NewDelivery,
) -> Result<Option<Excess>, StoreError> {
    let d = &new.delivery;
    let row = sqlx::query(
        "SELECT count(*) AS messages, count(DISTINCT lane) AS channels, count(*) FILTER (WHERE lane = ?3) AS here,
             min(created_at) AS first FROM deliveries WHERE client = ?1 AND created_at > ?2",
    )
    .bind(d.client.as_str())
    .bind(rate::since(d.created_at).0)
    .bind(d.channel.to_string())
    .fetch_one(db)
    .await?;
    Ok(rate::excess(new.rate, lately(&row)?, d.created_at))
}

/// The delivery that a submission repeats: by its key, or by its content within the window.
async fn find_same(
    db: &mut SqliteConnection,
    new: &NewDelivery,
    retry: bool,
) -> Result<Option<Enqueued>, StoreError> {
    let client = new.delivery.client.as_str();
    let row = if let Some(key) = &new.idempotency_key {
        sqlx::query("SELECT id, state, content_hash FROM deliveries WHERE client = ?1 AND idempotency_key = ?2")
            .bind(client)
            .bind(key)
            .fetch_optional(&mut *db)
            .await?
    } else if let Some(since) = new.same_since {
        sqlx::query(
            "SELECT id, state, content_hash FROM deliveries
             WHERE client = ?1 AND content_hash = ?2 AND created_at > ?3 ORDER BY created_at DESC LIMIT 1",
        )
        .bind(client)
        .bind(&new.content_hash)
        .bind(since.0)
        .fetch_optional(&mut *db)
        .await?
    } else {
        None
    };
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<&str, _>("content_hash")? != new.content_hash {
        return Ok(Some(Enqueued::KeyReused));
    }
    let id = row.try_get::<&str, _>("id")?.parse::<DeliveryId>();
    let id = id.map_err(|error| StoreError::Corrupt(format!("deliveries.id: {error}")))?;
    let failed = row.try_get::<&str, _>("state")? == DeliveryState::Failed.as_str();
    if failed && !retry {
        return Ok(None);
    }
    if failed {
        refill(db, id, &new.delivery).await?;
        let Delivery { created_at, deadline, .. } = new.delivery;
        requeue(db, id, created_at, deadline, Some(new)).await?;
    }
    let Some(same) = by_id(db, id).await? else {
        return Ok(None);
    };
    let same = Box::new(same);
    Ok(Some(if failed { Enqueued::Retried(same) } else { Enqueued::Repeated(same) }))
}

/// Whoever submits the same again brings along what was taken out of it, or what the rules stood against.
async fn refill(
    db: &mut SqliteConnection,
    id: DeliveryId,
    same: &Delivery,
) -> Result<(), StoreError> {
    let Some(mut delivery) = by_id(db, id).await?.filter(Delivery::is_refillable) else {
        return Ok(());
    };
    delivery.refill(same);
    sqlx::query(
        "UPDATE deliveries SET expunged_at = NULL, steps = ?2, invitation = ?3, placement = ?4, warnings = ?5,
             cursor = ?6, messages = ?7
         WHERE id = ?1",
    )
    .bind(id.to_string())
    .bind(to_json(&delivery.steps)?)
    .bind(delivery.invitation.as_ref().map(to_json).transpose()?)
    .bind(to_json(&delivery.placement)?)
    .bind(to_json(&delivery.warnings)?)
    .bind(i64::try_from(delivery.cursor).unwrap_or(i64::MAX))
    .bind(to_json(&delivery.messages)?)
    .execute(db)
    .await?;
    Ok(())
}

/// Puts an ended delivery back where it stood in its lane, accepted anew `now`; what has arrived of it is not sent again. It becomes the
/// submitter's who asks for it `again`, if somebody does: whoever sends only its own would not send it otherwise.
pub(super) async fn requeue(
    db: &mut SqliteConnection,
    id: DeliveryId,
    now: Timestamp,
    deadline: Timestamp,
    again: Option<&NewDelivery>,
) -> Result<(), StoreError> {
    let lane: String = sqlx::query_scalar(
        "UPDATE deliveries SET state = 'queued', attempts = 0, doubtful_since = NULL, resent = 0, reason = NULL,
             hint = NULL, finished_at = NULL, deadline = ?2, submitter = coalesce(?3, submitter),
             traceparent = coalesce(?4, traceparent), created_at = ?5
         WHERE id = ?1 RETURNING lane",
    )
    .bind(id.to_string())
    .bind(deadline.0)
    .bind(again.map(|new| new.submitter.as_str()))
    .bind(again.and_then(|new| new.delivery.traceparent.as_deref()))
    .bind(now.0)
    .fetch_one(&mut *db)
    .await?;
    sqlx::query("UPDATE lanes SET pending = pending + 1 WHERE lane = ?1")
        .bind(lane)
        .execute(db)
        .await?;
    Ok(())
}
