//! Where the settings came from, so that they can be read again while Herald runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{Config, ConfigError, VARIABLES};
use crate::platform::http::PROXY_VARIABLES;
use crate::telemetry::{OwnSecrets, otlp};

/// The file and the variables that settings were read from.
#[derive(Clone)]
pub struct Source {
    file: Option<PathBuf>,
    /// The rules for secrets that it names.
    rules: Option<PathBuf>,
    /// What the environment said at the start; it cannot change, but the files that it names can.
    environment: BTreeMap<String, SecretString>,
    known: OwnSecrets,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {} variables)", self.file, self.environment.len())
    }
}

impl Source {
    pub(super) fn new(
        file: Option<&Path>,
        rules: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
        known: OwnSecrets,
    ) -> Self {
        let names = VARIABLES.iter().map(|variable| variable.name.to_owned());
        let names = names.flat_map(|name| [format!("{name}_FILE"), name]);
        let others = otlp::SECRET_VARIABLES.iter().chain(&PROXY_VARIABLES);
        let names = names.chain(others.map(|name| (*name).to_owned()));
        let set =
            names.filter_map(|name| env(&name).map(|value| (name, SecretString::from(value))));
        let [file, rules] = [file, rules].map(|path| path.map(Path::to_owned));
        Self { file, rules, environment: set.collect(), known }
    }

    /// Reads the settings anew.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load_anew(self.file.as_deref(), &|name| self.get(name), self.known.clone())
    }

    /// What the environment said.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(|value| value.expose_secret().to_owned())
    }

    /// A digest of everything that may change: the configuration file, the files that hold secrets, and the rules for
    /// secrets. A file that cannot be read counts as another one.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let named = self.environment.iter().filter(|(name, _)| name.ends_with("_FILE"));
        let named = named.map(|(_, path)| Path::new(path.expose_secret()));
        let mut digest = Sha256::new();
        for path in self.watched().chain(named) {
            match std::fs::read(path) {
                Ok(bytes) => {
                    digest.update(bytes.len().to_le_bytes());
                    digest.update(bytes);
                }
                Err(error) => digest.update(format!("{:?}", error.kind())),
            }
        }
        digest.finalize().into()
    }

    /// The files that hold settings.
    fn watched(&self) -> impl Iterator<Item = &Path> {
        self.file.as_deref().into_iter().chain(self.rules.as_deref())
    }

    /// Whether there is anything that may change.
    #[must_use]
    pub fn can_change(&self) -> bool {
        self.watched().next().is_some()
            || self.environment.keys().any(|name| name.ends_with("_FILE"))
    }
}
