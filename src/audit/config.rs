//! Settings of the audit trail.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::store::trail::Settings;
use crate::telemetry::otlp::{self, InvalidExport};

/// The shortest key: as many characters as 128 bits have in hexadecimal.
const SHORTEST_KEY: usize = 32;

/// The word for a collector.
const OTLP: &str = "otlp";

/// What is written down about decisions and outcomes. It is always in the store: `herald audit tail` prints it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where each line goes besides: `stderr`, `file:` and a path, or `otlp`: to the collector that OpenTelemetry's
    /// environment variables name. Default: nowhere.
    pub to: Vec<String>,
    /// What the hashes are keyed with, at least 32 characters such as `openssl rand -hex 32` prints. Without one, whoever
    /// can write the store can write the trail anew.
    #[schemars(with = "Option<String>")]
    pub key: Option<SecretString>,
    /// Whether the trail says what messages say. Default: it says how long they are.
    pub bodies: bool,
    /// For how many days it is kept. Default: 90.
    pub keep_days: u32,
    /// The collector, where lines go to one: see [`Config::find_collector`].
    #[serde(skip)]
    collector: Option<otlp::Settings>,
}

impl Default for Config {
    fn default() -> Self {
        Self { to: Vec::new(), key: None, bodies: false, keep_days: 90, collector: None }
    }
}

/// Where lines go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The lines alone, among the log's.
    Stderr,
    /// With their hashes, appended to this file.
    File(PathBuf),
    /// As log records, to a collector.
    Collector(otlp::Settings),
}

impl Config {
    /// Reads which collector the environment names, if lines are to go to one.
    ///
    /// # Errors
    /// When a variable is malformed, or asks for what Herald does not do.
    pub fn find_collector(
        &mut self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), InvalidExport> {
        if self.to.iter().any(|to| to == OTLP) {
            self.collector = Some(otlp::Settings::read_for_logs(env)?);
        }
        Ok(())
    }

    /// Where lines go besides the store.
    ///
    /// # Errors
    /// When one is none; the text says how to write it.
    pub fn destinations(&self) -> Result<Vec<Destination>, String> {
        let to = self.to.iter().filter(|to| *to != "off");
        to.map(|to| match (to.as_str(), to.strip_prefix("file:"), &self.collector) {
            ("stderr", ..) => Ok(Destination::Stderr),
            (OTLP, _, Some(collector)) => Ok(Destination::Collector(collector.clone())),
            (_, Some(path), _) if path.starts_with('/') => Ok(Destination::File(path.into())),
            _ => Err(format!("`{to}` is nowhere: write off, stderr, file:/path or otlp")),
        })
        .collect()
    }

    /// # Errors
    /// When the key is too short to be one.
    pub fn check_key(&self) -> Result<(), String> {
        match &self.key {
            Some(key) if key.expose_secret().len() < SHORTEST_KEY => Err(format!(
                "the key has fewer than {SHORTEST_KEY} characters and could be guessed: take what openssl rand -hex 32 prints"
            )),
            _ => Ok(()),
        }
    }

    /// How long the trail is kept.
    #[must_use]
    pub fn keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_days) * 24 * 3600)
    }

    /// How the trail is written by a process of this name.
    #[must_use]
    pub fn settings(&self, replica: String) -> Settings {
        Settings { key: self.key.clone(), bodies: self.bodies, replica }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_stderr_a_file_or_a_collector() {
        let to = |to: &[&str]| {
            let to = to.iter().map(|to| (*to).to_owned()).collect();
            let mut config = Config { to, ..Config::default() };
            config.find_collector(&|_| None).unwrap();
            config.destinations()
        };
        assert!(to(&[]).unwrap().is_empty() && to(&["off"]).unwrap().is_empty());
        let all = to(&["stderr", "file:/var/log/herald.jsonl", "otlp"]).unwrap();
        let [Destination::Stderr, Destination::File(path), Destination::Collector(collector)] =
            all.as_slice()
        else {
            panic!("{all:?}");
        };
        assert_eq!(path, std::path::Path::new("/var/log/herald.jsonl"));
        assert_eq!(collector.host(), "localhost");
        for wrong in ["stdout", "file:", "file:here"] {
            let error = to(&[wrong]).unwrap_err();
            assert!(error.contains(wrong) && error.contains("file:/path"), "{error}");
        }
    }

    #[test]
    fn a_collector_that_cannot_be_used_is_refused_by_whoever_asks_for_it_alone() {
        let env = |name: &str| (name == "OTEL_EXPORTER_OTLP_PROTOCOL").then(|| "grpc".to_owned());
        assert_eq!(Config::default().find_collector(&env), Ok(()));
        let mut config = Config { to: vec!["otlp".to_owned()], ..Config::default() };
        let error = config.find_collector(&env).unwrap_err().to_string();
        assert!(error.contains("set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"), "{error}");
    }

    #[test]
    fn a_key_that_can_be_guessed_is_refused() {
        let with = |key: &str| Config { key: Some(key.into()), ..Config::default() }.check_key();
        let error = with("canary").unwrap_err();
        assert!(error.contains("openssl rand -hex 32") && !error.contains("canary"), "{error}");
        assert_eq!(with(&"k".repeat(SHORTEST_KEY)), Ok(()));
    }
}
