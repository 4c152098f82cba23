//! Submissions on their way in: stored once, however often they come, and to whichever replica.

use sha2::{Digest, Sha256};
use sqlx::Row;

use super::outbox::{by_id, lock_lane};
use super::{Db, query, storable};
use crate::clock::Timestamp;
use crate::model::{ClientName, Delivery, DeliveryId, DeliveryState};
use crate::store::rate::{self, Excess};
use crate::store::rows::{lately, to_json};
use crate::store::{Enqueued, NewDelivery, StoreError};

/// A number that submissions share if one may repeat the other. `None` for one that repeats nothing.
pub(super) fn sameness(new: &NewDelivery) -> Option<i64> {
    let (kind, what) = match (&new.idempotency_key, new.same_since) {
        (Some(key), _) => ("key", key),
        (None, Some(_)) => ("content", &new.content_hash),
        (None, None) => return None,
    };
    Some(number(kind, &new.delivery.client, what))
}

/// A number for what may be done by one at a time.
fn number(kind: &str, client: &ClientName, what: &str) -> i64 {
    let digest = Sha256::digest(format!("{kind}\0{client}\0{what}"));
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

pub(super) async fn enqueue(db: Db<'_>, new: &NewDelivery) -> Result<Enqueued, StoreError> {
    if new.rate.is_limited()
        && let Some(excess) = too_much(db, new).await?
    {
        // What failed is not tried anew: that would be one more.
        return Ok(find_same(db, new, false).await?.unwrap_or(Enqueued::TooMuch(excess)));
    }
    let d = &new.delivery;
    // Unless it repeats another one, the lane first, and the delivery from what that returns: its number is given while
    // the lane is locked, so that the numbers of a lane are seen in their order.
    let stored = query(
        "WITH lane AS (
             INSERT INTO lanes AS l (lane, platform, pending, interval_ms, burst) SELECT $4, $16, 1, $17, $18
             WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE client = $2 AND idempotency_key = $10)
             AND ($10 IS NOT NULL OR $19 IS NULL OR NOT EXISTS (
                 SELECT 1 FROM deliveries WHERE client = $2 AND content_hash = $11 AND created_at > $19))
             ON CONFLICT (lane) DO UPDATE SET pending = l.pending + 1, interval_ms = $17, burst = $18
             RETURNING l.lane)
         INSERT INTO deliveries (id, client, submitter, lane, placement, thread_key, edits, steps, state, warnings,
             idempotency_key, content_hash, deadline, created_at, invitation, traceparent)
         SELECT $1, $2, $3, lane.lane, $5, $6, $7, $8, 'queued', $9, $10, $11, $12, $13, $14, $15 FROM lane",
    )
    .bind(d.id.to_string())
    .bind(d.client.as_str())
    .bind(&new.submitter)
    .bind(d.channel.to_string())
    .bind(to_json(&d.placement)?)
    .bind(d.thread_key.as_deref().map(storable))
    .bind(d.edits.map(|id| id.to_string()))
    .bind(to_json(&d.steps)?)
    .bind(to_json(&d.warnings)?)
    .bind(new.idempotency_key.as_deref().map(storable))
    .bind(&new.content_hash)
    .bind(d.deadline.0)
    .bind(d.created_at.0)
    .bind(d.invitation.as_ref().map(to_json).transpose()?)
    .bind(&d.traceparent)
    .bind(d.channel.platform().as_str())
    .bind(i64::from(new.pace.interval_ms))
    .bind(i64::from(new.pace.burst))
    .bind(new.same_since.map(|since| since.0))
    .execute(&mut *db)
    .await?;
    if stored.rows_affected() > 0 {
        return Ok(Enqueued::New);
    }
    let same = find_same(db, new, true).await?;
    same.ok_or_else(|| StoreError::Corrupt("what a submission repeats is not there".to_owned()))
}

/// Whether its client has submitted as much as it may. Until the end of the transaction nobody else finds out for the same
/// client: what one stores, the next one counts.
async fn too_much(db: Db<'_>, new: &NewDelivery) -> Result<Option<Excess>, StoreError> {
    let d = &new.delivery;
    query("SELECT pg_advisory_xact_lock($1)")
        .bind(number("rate", &d.client, ""))
        .execute(&mut *db)
        .await?;
    let row = query(
        "SELECT count(*) AS messages, count(DISTINCT lane) AS channels, count(*) FILTER (WHERE lane = $3) AS here,
             min(created_at) AS first FROM deliveries WHERE client = $1 AND created_at > $2",
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
    db: Db<'_>,
    new: &NewDelivery,
    retry: bool,
) -> Result<Option<Enqueued>, StoreError> {
    let client = new.delivery.client.as_str();
    let row = if let Some(key) = &new.idempotency_key {
        query("SELECT id, state, content_hash FROM deliveries WHERE client = $1 AND idempotency_key = $2")
            .bind(client)
            .bind(storable(key))
            .fetch_optional(&mut *db)
            .await?
    } else if let Some(since) = new.same_since {
        query(
            "SELECT id, state, content_hash FROM deliveries
             WHERE client = $1 AND content_hash = $2 AND created_at > $3 ORDER BY created_at DESC LIMIT 1",
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
    let Delivery { created_at, deadline, .. } = new.delivery;
    let again = failed && requeue(db, id, created_at, deadline, Some(new)).await?;
    let Some(same) = by_id(db, id).await? else {
        return Ok(None);
    };
    let same = Box::new(same);
    Ok(Some(if again { Enqueued::Retried(same) } else { Enqueued::Repeated(same) }))
}

/// Whoever submits the same again brings along what was taken out of it, or what the rules stood against. Its lane is locked.
async fn refill(db: Db<'_>, id: DeliveryId, same: &Delivery) -> Result<(), StoreError> {
    // As long as it is looked at, nobody takes it out.
    query("SELECT 1 FROM deliveries WHERE id = $1 FOR NO KEY UPDATE")
        .bind(id.to_string())
        .execute(&mut *db)
        .await?;
    let Some(mut delivery) = by_id(db, id).await?.filter(Delivery::is_refillable) else {
        return Ok(());
    };
    delivery.refill(same);
    query(
        "UPDATE deliveries SET expunged_at = NULL, steps = $2, invitation = $3, placement = $4, warnings = $5,
             cursor = $6, messages = $7
         WHERE id = $1",
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

/// Puts an ended delivery back where it stood in its lane, accepted anew `now`, unless somebody else just did or it was expunged; what has
/// arrived of it is not sent again. It becomes the submitter's who asks for it `again`, if somebody does: whoever sends only its own would not
/// send it otherwise.
pub(super) async fn requeue(
    db: Db<'_>,
    id: DeliveryId,
    now: Timestamp,
    deadline: Timestamp,
    again: Option<&NewDelivery>,
) -> Result<bool, StoreError> {
    lock_lane(db, id).await?;
    if let Some(new) = again {
        refill(db, id, &new.delivery).await?;
    }
    let requeued = query(
        "UPDATE deliveries SET state = 'queued', attempts = 0, doubtful_since = NULL, resent = FALSE, reason = NULL,
             hint = NULL, finished_at = NULL, deadline = $2, submitter = coalesce($3, submitter),
             traceparent = coalesce($4, traceparent), created_at = $5
         WHERE id = $1 AND state IN ('failed', 'unknown') AND expunged_at IS NULL RETURNING lane",
    )
    .bind(id.to_string())
    .bind(deadline.0)
    .bind(again.map(|new| new.submitter.clone()))
    .bind(again.and_then(|new| new.delivery.traceparent.clone()))
    .bind(now.0)
    .fetch_optional(&mut *db)
    .await?;
    let Some(requeued) = requeued else { return Ok(false) };
    query("UPDATE lanes SET pending = pending + 1 WHERE lane = $1")
        .bind(requeued.try_get::<String, _>("lane")?)
        .execute(db)
        .await?;
    Ok(true)
}
