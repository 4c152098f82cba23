//! Logs, a batch at a time: whoever sends one learns whether it was taken.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry_otlp::{LogExporter, Protocol, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _, SdkLogger, SdkLoggerProvider};

use super::sender::{Answer, Sender, Trouble, locked};
use super::{ENDPOINT, InvalidExport, Settings, invalid, resource};
use crate::clock::Timestamp;

/// One log record.
#[derive(Clone, Debug)]
pub struct Log<'a> {
    /// What kind of event it is.
    pub event: Option<&'static str>,
    /// When that was.
    pub at: Option<Timestamp>,
    /// What it says.
    pub body: &'a str,
    /// Whole numbers besides.
    pub numbers: Vec<(&'static str, u64)>,
    /// Words besides.
    pub words: Vec<(&'static str, &'a str)>,
}

/// The collector did not take a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collector does not take logs: {why}")]
pub struct NotTaken {
    /// For people.
    pub why: String,
    /// The same batch will never be taken; a smaller one may.
    pub for_good: bool,
}

/// Sends logs.
#[derive(Debug)]
pub struct Logs {
    exporter: LogExporter,
    /// Only makes records: nothing is sent by way of it.
    logger: SdkLogger,
    scope: InstrumentationScope,
    answer: Arc<Mutex<Answer>>,
}

impl Logs {
    /// Has to be called inside the runtime that is to send.
    ///
    /// # Errors
    /// When the certificate authorities cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, InvalidExport> {
        let answer = Arc::default();
        let mut exporter = LogExporter::builder()
            .with_http()
            .with_http_client(Sender::new(settings, Trouble::Kept(Arc::clone(&answer)))?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.endpoint.as_str())
            .with_timeout(settings.timeout)
            // It would sleep in our runtime; whoever sends tries again.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| invalid(ENDPOINT, error.to_string()))?;
        exporter.set_resource(&resource(settings.service.as_deref()));
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build();
        let logger = SdkLoggerProvider::builder().build().logger_with_scope(scope.clone());
        Ok(Self { exporter, logger, scope, answer })
    }

    /// Sends a batch. Returns how many of it the collector refused for good, as it says.
    ///
    /// # Errors
    /// When the collector does not say that it took the batch. It may have.
    pub async fn send(&self, logs: &[Log<'_>]) -> Result<u64, NotTaken> {
        let records: Vec<_> = logs.iter().map(|log| self.record(log)).collect();
        let batch: Vec<_> = records.iter().map(|record| (record, &self.scope)).collect();
        *locked(&self.answer) = Answer::default();
        let sent = self.exporter.export(LogBatch::new(&batch)).await;
        let Answer { why, for_good, refused } = std::mem::take(&mut *locked(&self.answer));
        match sent {
            Ok(()) => Ok(refused),
            Err(error) => Err(NotTaken { why: why.unwrap_or_else(|| error.to_string()), for_good }),
        }
    }

    fn record(&self, log: &Log<'_>) -> <SdkLogger as Logger>::LogRecord {
        let mut record = self.logger.create_log_record();
        if let Some(event) = log.event {
            record.set_event_name(event);
        }
        if let Some(at) = log.at {
            let at = SystemTime::UNIX_EPOCH + at.since(Timestamp(0));
            record.set_timestamp(at);
            record.set_observed_timestamp(at);
        }
        record.set_severity_number(Severity::Info);
        record.set_severity_text(Severity::Info.name());
        record.set_body(AnyValue::from(log.body.to_owned()));
        for (name, number) in &log.numbers {
            record.add_attribute(*name, i64::try_from(*number).unwrap_or(i64::MAX));
        }
        for (name, word) in &log.words {
            record.add_attribute(*name, (*word).to_owned());
        }
        record
    }
}
