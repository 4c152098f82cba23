//! What Herald says about itself: log lines on stderr, metrics, and traces to a collector. stdout belongs to MCP.

mod format;
pub mod metrics;
pub mod otlp;
mod redact;
pub mod secrets;
pub mod spans;
pub mod trace;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, Stderr, Write, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use format::Traced;
pub use metrics::Metrics;
pub use redact::Redacting;
pub use secrets::OwnSecrets;

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

/// Sends log lines to stderr from now on, with `secrets` taken out of each; and what a panic says, which may quote anything.
///
/// # Errors
/// When `filter` cannot be read.
pub fn init(
    format: LogFormat,
    filter: Option<&str>,
    secrets: OwnSecrets,
) -> Result<(), InvalidFilter> {
    let wanted = filter.unwrap_or(DEFAULT_FILTER);
    let mut filter: EnvFilter =
        wanted.parse().map_err(|error| InvalidFilter(format!("{error}")))?;
    for directive in QUIET.iter().filter_map(|directive| directive.parse().ok()) {
        filter = filter.add_directive(directive);
    }
    let writer: Redacting<fn() -> Stderr> = Redacting::new(stderr, secrets);
    tell_panics(writer.clone());
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

/// A panic is told as the standard library tells it, through this writer.
fn tell_panics(writer: Redacting<fn() -> Stderr>) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            text.push_str(&format!("stack backtrace:\n{backtrace}\n"));
        }
        // Where stderr is gone there is nobody to tell.
        let _ = writer.make_writer().write_all(text.as_bytes());
    }));
}
