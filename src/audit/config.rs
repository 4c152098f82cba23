//! Settings of the audit trail.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::store::trail::Settings;

/// The shortest key: as many characters as 128 bits have in hexadecimal.
const SHORTEST_KEY: usize = 32;

/// What is written down about decisions and outcomes. It is always in the store: `herald audit tail` prints it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where each line goes besides: `stderr`, or `file:` and a path. Default: nowhere.
    pub to: Vec<String>,
    /// What the hashes are keyed with, at least 32 characters such as `openssl rand -hex 32` prints. Without one, whoever
    /// can write the store can write the trail anew.
    #[schemars(with = "Option<String>")]
    pub key: Option<SecretString>,
    /// Whether the trail says what messages say. Default: it says how long they are.
    pub bodies: bool,
    /// For how many days it is kept. Default: 90.
    pub keep_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { to: Vec::new(), key: None, bodies: false, keep_days: 90 }
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The lines alone, among the log's.
    Stderr,
    /// With their hashes, appended to this file.
    File(PathBuf),
}

impl Config {
    /// Where lines go besides the store.
    ///
    /// # Errors
    /// When one is none; the text says how to write it.
    pub fn destinations(&self) -> Result<Vec<Destination>, String> {
        let to = self.to.iter().filter(|to| *to != "off");
        to.map(|to| match (to.as_str(), to.strip_prefix("file:")) {
            ("stderr", _) => Ok(Destination::Stderr),
            (_, Some(path)) if path.starts_with('/') => Ok(Destination::File(path.into())),
            _ => Err(format!("`{to}` is nowhere: write off, stderr or file:/path")),
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
    fn lines_go_to_stderr_or_to_a_file() {
        let to = |to: &[&str]| {
            let to = to.iter().map(|to| (*to).to_owned()).collect();
            Config { to, ..Config::default() }.destinations()
        };
        assert_eq!(to(&[]), Ok(vec![]));
        assert_eq!(to(&["off"]), Ok(vec![]));
        let file = Destination::File("/var/log/herald.jsonl".into());
        assert_eq!(
            to(&["stderr", "file:/var/log/herald.jsonl"]),
            Ok(vec![Destination::Stderr, file])
        );
        for wrong in ["stdout", "file:", "file:here"] {
            let error = to(&[wrong]).unwrap_err();
            assert!(error.contains(wrong) && error.contains("file:/path"), "{error}");
        }
    }

    #[test]
    fn a_key_that_can_be_guessed_is_refused() {
        let with = |key: &str| Config { key: Some(key.into()), ..Config::default() }.check_key();
        let error = with("canary").unwrap_err();
        assert!(error.contains("openssl rand -hex 32") && !error.contains("canary"), "{error}");
        assert_eq!(with(&"k".repeat(SHORTEST_KEY)), Ok(()));
    }
}
