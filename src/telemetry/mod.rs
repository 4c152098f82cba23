//! What Herald says about itself: log lines on stderr, metrics, and traces to a collector. stdout belongs to MCP.

mod format;
pub mod metrics;
pub mod otlp;
mod redact;
pub mod spans;
pub mod trace;

use std::io::{IsTerminal, stderr};

use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

use format::Traced;
pub use metrics::Metrics;
pub use redact::Redacting;

/// What is logged when nobody says otherwise.
const DEFAULT_FILTER: &str = "warn,herald=info,rmcp=error";
/// These print requests, headers and frames below `warn`: tokens travel in all of them, and addresses for answers.
const QUIET: [&str; 8] = [
    "hyper=warn",
    "hyper_util=warn",
    "h2=warn",
    "reqwest=warn",
    "rustls=warn",
    "sqlx=warn",
    "tungstenite=warn",
    "tokio_tungstenite=warn",
];

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The log filter is not one.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not a log filter: {0}; write for example `info` or `herald=debug,warn`")]
pub struct InvalidFilter(String);

/// Sends log lines to stderr from now on, with `secrets` taken out of each.
///
/// # Errors
/// When `filter` cannot be read.
pub fn init(
    format: LogFormat,
    filter: Option<&str>,
    secrets: &[SecretString],
) -> Result<(), InvalidFilter> {
    let wanted = filter.unwrap_or(DEFAULT_FILTER);
    let mut filter: EnvFilter =
        wanted.parse().map_err(|error| InvalidFilter(format!("{error}")))?;
    for directive in QUIET.iter().filter_map(|directive| directive.parse().ok()) {
        filter = filter.add_directive(directive);
    }
    let writer = Redacting::new(stderr, secrets);
    // A second call (tests) leaves the first one's subscriber in place.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let _ = match format {
        LogFormat::Text => builder
            .with_target(false)
            .with_ansi(stderr().is_terminal())
            .map_event_format(Traced)
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).map_event_format(Traced).try_init(),
    };
    if ["rmcp=debug", "rmcp=trace"].iter().any(|loud| wanted.contains(loud)) {
        tracing::warn!("HERALD_LOG lets rmcp print the text of every message into the log");
    }
    Ok(())
}
