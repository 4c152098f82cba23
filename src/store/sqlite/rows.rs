//! Rows of `deliveries`, and back; JSON columns of any table.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::clock::Timestamp;
use crate::model::{ClientName, Delivery, DeliveryId};
use crate::store::StoreError;

/// `deliveries` with the time its lane, or the whole bot, waits for.
pub(super) const SELECT: &str =
    "SELECT d.*, max(l.not_before, coalesce(c.not_before, 0)) AS not_before
     FROM deliveries d JOIN lanes l USING (lane) LEFT JOIN credentials c USING (platform) ";

/// Reads a row of [`SELECT`].
pub(super) fn delivery(row: &SqliteRow) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: parsed(row, "id")?,
        client: ClientName::new(row.try_get::<String, _>("client")?),
        channel: parsed(row, "lane")?,
        placement: json(row, "placement")?,
        invitation: match row.try_get::<Option<String>, _>("invitation")? {
            Some(text) => Some(from_json("deliveries.invitation", &text)?),
            None => None,
        },
        thread_key: row.try_get("thread_key")?,
        edits: match row.try_get::<Option<String>, _>("edits")? {
            Some(id) => Some(id.parse::<DeliveryId>().map_err(|e| corrupt("edits", &e))?),
            None => None,
        },
        steps: json(row, "steps")?,
        cursor: number(row, "cursor")?,
        state: parsed(row, "state")?,
        attempts: number(row, "attempts")?,
        doubtful_since: row.try_get::<Option<i64>, _>("doubtful_since")?.map(Timestamp),
        resent: row.try_get("resent")?,
        messages: json(row, "messages")?,
        permalink: row.try_get("permalink")?,
        reason: match row.try_get::<Option<String>, _>("reason")? {
            Some(name) => Some(
                serde_json::from_value(name.into()).map_err(|error| corrupt("reason", &error))?,
            ),
            None => None,
        },
        hint: row.try_get("hint")?,
        warnings: json(row, "warnings")?,
        not_before: Timestamp(row.try_get("not_before")?),
        deadline: Timestamp(row.try_get("deadline")?),
        created_at: Timestamp(row.try_get("created_at")?),
        finished_at: row.try_get::<Option<i64>, _>("finished_at")?.map(Timestamp),
        traceparent: row.try_get("traceparent")?,
    })
}

/// A value as JSON text.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// JSON text as a value; `column` is `table.column`.
pub(super) fn from_json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(format!("{column}: {error}")))
}

fn json<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    from_json(&format!("deliveries.{column}"), row.try_get(column)?)
}

fn parsed<T>(row: &SqliteRow, column: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    row.try_get::<&str, _>(column)?.parse().map_err(|error| corrupt(column, &error))
}

fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    let value: i64 = row.try_get(column)?;
    T::try_from(value).map_err(|_| corrupt(column, &value))
}

fn corrupt(column: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("deliveries.{column}: {error}"))
}
