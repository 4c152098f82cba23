//! What the engines share: rows of `deliveries`, JSON columns of any table, and the arithmetic of a pace.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::clock::Timestamp;
use crate::model::{ClientName, Delivery, DeliveryId, PlatformKind};
use crate::platform::Pace;
use crate::store::StoreError;
use crate::store::rate::Lately;
use crate::store::trail::{self, Base, Chain};

/// The three kinds of columns, on either engine.
pub(super) trait Columns {
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error>;
    fn number(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;
    fn flag(&self, column: &str) -> Result<bool, sqlx::Error>;
}

impl Columns for SqliteRow {
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get(column)
    }
    fn number(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }
    fn flag(&self, column: &str) -> Result<bool, sqlx::Error> {
        self.try_get(column)
    }
}

impl Columns for PgRow {
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get(column)
    }
    fn number(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }
    fn flag(&self, column: &str) -> Result<bool, sqlx::Error> {
        self.try_get(column)
    }
}

/// Reads a row of `deliveries` that has two columns beside it: `not_before`, what its lane or the whole bot waits for, and
/// `pause`, why the bot does.
pub(super) fn delivery(row: &impl Columns) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: parsed(row, "id")?,
        client: ClientName::new(text(row, "client")?),
        channel: parsed(row, "lane")?,
        placement: json(row, "placement")?,
        invitation: match row.text("invitation")? {
            Some(text) => Some(from_json("deliveries.invitation", &text)?),
            None => None,
        },
        thread_key: row.text("thread_key")?,
        edits: match row.text("edits")? {
            Some(id) => Some(id.parse::<DeliveryId>().map_err(|e| corrupt("edits", &e))?),
            None => None,
        },
        steps: json(row, "steps")?,
        cursor: number(row, "cursor")?,
        state: parsed(row, "state")?,
        attempts: number(row, "attempts")?,
        doubtful_since: row.number("doubtful_since")?.map(Timestamp),
        resent: row.flag("resent")?,
        messages: json(row, "messages")?,
        permalink: row.text("permalink")?,
        reason: match row.text("reason")? {
            Some(name) => Some(
                serde_json::from_value(name.into()).map_err(|error| corrupt("reason", &error))?,
            ),
            None => None,
        },
        hint: row.text("hint")?,
        warnings: json(row, "warnings")?,
        not_before: Timestamp(number(row, "not_before")?),
        paused: match row.text("pause")? {
            Some(text) => Some(from_json("credentials.pause", &text)?),
            None => None,
        },
        deadline: Timestamp(number(row, "deadline")?),
        created_at: Timestamp(number(row, "created_at")?),
        finished_at: row.number("finished_at")?.map(Timestamp),
        expunged_at: row.number("expunged_at")?.map(Timestamp),
        traceparent: row.text("traceparent")?,
    })
}

/// A delivery, unless its row is damaged: one such row must not hide the others.
pub(super) fn readable(row: &impl Columns) -> Option<Delivery> {
    delivery(row)
        .inspect_err(|error| {
            let id = row.text("id").ok().flatten();
            let id = id.as_deref().unwrap_or("of unknown ID");
            tracing::warn!(delivery = id, %error, "left out of the list");
        })
        .ok()
}

/// A platform's name.
pub(super) fn platform(name: &str) -> Result<PlatformKind, StoreError> {
    PlatformKind::named(name).ok_or_else(|| StoreError::Corrupt(format!("platform {name}")))
}

/// How many rows there are, as the engines count.
pub(super) fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// Reads a row of `audit_chains`.
pub(super) fn chain(row: &impl Columns) -> Result<Chain, StoreError> {
    Ok(Chain {
        id: text(row, "chain")?,
        n: count(number(row, "n")?),
        hash: text(row, "hash")?,
        seal: row.text("seal")?,
        key: row.text("key")?,
        at: Timestamp(number(row, "at")?),
        base: Base {
            n: count(number(row, "base_n")?),
            hash: text(row, "base_hash")?,
            seal: row.text("base_seal")?,
        },
    })
}

/// Reads a row of `audit`.
pub(super) fn audit(row: &impl Columns) -> Result<trail::Row, StoreError> {
    Ok(trail::Row {
        chain: text(row, "chain")?,
        n: count(number(row, "n")?),
        line: text(row, "line")?,
        prev: text(row, "prev")?,
        hash: text(row, "hash")?,
    })
}

/// Reads what a client submitted lately.
pub(super) fn lately(row: &impl Columns) -> Result<Lately, StoreError> {
    Ok(Lately {
        messages: count(number(row, "messages")?),
        channels: count(number(row, "channels")?),
        here: count(number(row, "here")?),
        first: row.number("first")?.map(Timestamp),
    })
}

/// GCRA: the new theoretical arrival time once a turn is taken `now`, and when the next turn may be.
pub(super) fn next_turn(pace: Pace, tat: i64, now: Timestamp) -> (i64, i64) {
    let interval = i64::from(pace.interval_ms);
    let tat = tat.max(now.0) + interval;
    (tat, tat - interval * i64::from(pace.burst.saturating_sub(1)))
}

/// A value as JSON text.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// JSON text as a value; `column` is `table.column`.
pub(super) fn from_json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(format!("{column}: {error}")))
}

fn json<T: DeserializeOwned>(row: &impl Columns, column: &str) -> Result<T, StoreError> {
    from_json(&format!("deliveries.{column}"), &text(row, column)?)
}

fn parsed<T>(row: &impl Columns, column: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text(row, column)?.parse().map_err(|error| corrupt(column, &error))
}

fn text(row: &impl Columns, column: &str) -> Result<String, StoreError> {
    row.text(column)?.ok_or_else(|| corrupt(column, &"nothing there"))
}

fn number<T: TryFrom<i64>>(row: &impl Columns, column: &str) -> Result<T, StoreError> {
    let value = row.number(column)?.ok_or_else(|| corrupt(column, &"nothing there"))?;
    T::try_from(value).map_err(|_| corrupt(column, &value))
}

fn corrupt(column: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("deliveries.{column}: {error}"))
}
