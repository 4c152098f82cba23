//! Conversations in which something is to do, and who takes them.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Db, StoreError, query};
use crate::clock::Timestamp;
use crate::store::rows::from_json;
use crate::store::{Held, Waiting};

/// How soon a conversation with an event that cannot be read is looked at again.
const UNREADABLE: Duration = Duration::from_secs(60);

pub(super) async fn hold(
    db: Db<'_>,
    who: &str,
    now: Timestamp,
    lease: Duration,
    most: u32,
) -> Result<Vec<Held>, StoreError> {
    // Each side of the OR in the words of its index, so that idle conversations cost nothing. Where there is neither an
    // event nor a time, whoever held it vanished, and it waits since that lease ended.
    let found = query(
        "SELECT c.conversation, c.epoch, c.state
         FROM conversations c LEFT JOIN events e ON e.seq = c.waiting
         WHERE c.lease_until <= $1
         AND (c.waiting > 0 OR c.due <= $1 OR (c.owner IS NOT NULL AND c.lease_until <= $1))
         ORDER BY least(coalesce(e.at, c.due, c.lease_until), coalesce(c.due, e.at, c.lease_until)),
             c.waiting NULLS FIRST
         LIMIT $2 FOR NO KEY UPDATE OF c SKIP LOCKED",
    )
    .bind(now.0)
    .bind(i64::from(most))
    .fetch_all(&mut *db)
    .await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> =
        found.iter().map(|row| row.try_get("conversation")).collect::<Result<_, _>>()?;
    let mut events = events(db, &names).await?;
    let mut held = Vec::with_capacity(found.len());
    let (mut taken, mut set_aside) = (Vec::new(), Vec::new());
    for (row, conversation) in found.iter().zip(names) {
        match events.remove(&conversation).unwrap_or_else(|| Ok(Vec::new())) {
            Ok(events) => {
                taken.push(conversation.clone());
                let epoch = row.try_get::<i64, _>("epoch")? + 1;
                held.push(Held { conversation, epoch, state: row.try_get("state")?, events });
            }
            Err(StoreError::Corrupt(error)) => {
                tracing::error!(%conversation, error, "an event cannot be read, so its conversation waits");
                set_aside.push(conversation);
            }
            Err(error) => return Err(error),
        }
    }
    take(db, taken, Some(who), now.after(lease)).await?;
    // It must not hold up the others. It is looked at again, in case a Herald that can read it takes over; whoever held it
    // before is fenced.
    take(db, set_aside, None, now.after(UNREADABLE)).await?;
    Ok(held)
}

async fn take(
    db: Db<'_>,
    conversations: Vec<String>,
    who: Option<&str>,
    until: Timestamp,
) -> Result<(), StoreError> {
    if conversations.is_empty() {
        return Ok(());
    }
    query(
        "UPDATE conversations SET epoch = epoch + 1, owner = $2, lease_until = $3
         WHERE conversation = ANY ($1)",
    )
    .bind(conversations)
    .bind(who.map(str::to_owned))
    .bind(until.0)
    .execute(db)
    .await?;
    Ok(())
}

/// What waits in each of these conversations, in order.
async fn events(
    db: Db<'_>,
    conversations: &[String],
) -> Result<BTreeMap<String, Result<Vec<Waiting>, StoreError>>, StoreError> {
    let rows = query(
        "SELECT conversation, seq, event FROM events
         WHERE conversation = ANY ($1) AND event IS NOT NULL ORDER BY seq",
    )
    .bind(conversations.to_vec())
    .fetch_all(db)
    .await?;
    let mut events: BTreeMap<String, Result<Vec<Waiting>, StoreError>> = BTreeMap::new();
    for row in &rows {
        let of = events.entry(row.try_get("conversation")?).or_insert_with(|| Ok(Vec::new()));
        match (of, read(row)) {
            (Ok(events), Ok(event)) => events.push(event),
            (of @ Ok(_), Err(error)) => *of = Err(error),
            (Err(_), _) => {}
        }
    }
    Ok(events)
}

pub(super) async fn waiting(
    db: Db<'_>,
    conversation: &str,
    after: i64,
) -> Result<Vec<Waiting>, StoreError> {
    let rows = query(
        "SELECT seq, event FROM events
         WHERE conversation = $1 AND event IS NOT NULL AND seq > $2 ORDER BY seq",
    )
    .bind(conversation)
    .bind(after)
    .fetch_all(db)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Waiting, StoreError> {
    let event = from_json("events.event", row.try_get("event")?)?;
    Ok(Waiting { seq: row.try_get("seq")?, event })
}
