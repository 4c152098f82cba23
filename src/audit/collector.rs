//! A collector that takes rows as log records.

use serde::Deserialize;

use super::sink::NotWritten;
use crate::clock::Timestamp;
use crate::model::audit::Act;
use crate::store::trail::Row;
use crate::telemetry::otlp::{Log, Logs, Settings};

/// A collector.
#[derive(Debug)]
pub(super) struct Collector {
    settings: Settings,
    logs: Option<Logs>,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Said {
    #[serde(rename = "type")]
    act: Act,
    at: String,
}

impl Collector {
    pub(super) const fn new(settings: Settings) -> Self {
        Self { settings, logs: None }
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        format!("otlp ({})", self.settings.host())
    }

    /// Sends these rows. The collector may have them although it does not say so; then they come again. A single row that it
    /// refuses for good is passed over.
    pub(super) async fn write(&mut self, rows: &[Row]) -> Result<(), NotWritten> {
        let logs = match &self.logs {
            Some(logs) => logs,
            None => self.logs.insert(Logs::new(&self.settings)?),
        };
        let records: Vec<_> = rows.iter().map(record).collect();
        let (refused, why) = match logs.send(&records).await {
            Err(error) if error.for_good && rows.len() == 1 => (1, Some(error.why)),
            sent => (sent?, None),
        };
        if refused > 0 {
            tracing::error!(
                to = self.settings.host(),
                refused,
                why,
                "the collector refused rows of the audit trail for good; they are in the store alone"
            );
        }
        Ok(())
    }
}

/// With its hashes, so that whoever has the records can look for a row that was altered, too.
fn record(row: &Row) -> Log<'_> {
    let said = serde_json::from_str::<Said>(&row.line).ok();
    Log {
        event: said.as_ref().map(|said| said.act.as_str()),
        at: said.and_then(|said| Timestamp::from_rfc3339(&said.at)),
        body: &row.line,
        words: vec![
            ("herald.audit.chain", &row.chain),
            ("herald.audit.prev", &row.prev),
            ("herald.audit.hash", &row.hash),
        ],
        numbers: vec![("herald.audit.n", row.n)],
    }
}
