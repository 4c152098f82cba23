//! The `agent` section of the configuration.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::telemetry::OwnSecrets;

/// The agent's settings. Without a URL there is no agent to talk to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Agent")]
pub struct Config {
    /// Where the agent is: `http://kagent-controller.kagent:8083/api/a2a/kagent/my-agent/`. The trailing slash is added
    /// when missing.
    pub url: Option<Url>,
    /// The dialect of A2A: `auto` (ask the agent's card), `0.3` or `1.0`.
    pub version: Version,
    /// What goes into `X-User-Id`: `conversation` (one stable ID for each), `none`, or a fixed ID.
    pub user_id: UserId,
    /// A bearer token. Better given as `KAGENT_A2A_TOKEN` or `KAGENT_A2A_TOKEN_FILE`.
    #[schemars(with = "Option<String>")]
    pub token: Option<SecretString>,
    /// A file with the bearer token, read again for every request, because service account tokens expire.
    pub token_file: Option<PathBuf>,
    /// Learns what that file holds.
    #[serde(skip)]
    #[schemars(skip)]
    pub known: OwnSecrets,
    /// How long an agent may work without any news before Herald stops watching, in minutes. Default: 30. The agent
    /// itself is not stopped.
    pub patience_minutes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            version: Version::default(),
            user_id: UserId::default(),
            token: None,
            token_file: None,
            known: OwnSecrets::default(),
            patience_minutes: 30,
        }
    }
}

impl Config {
    /// How long an agent may work without any news before Herald stops watching.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.patience_minutes).saturating_mul(60))
    }
}

/// Which dialect of A2A is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Version {
    /// What the agent's card offers.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 0.3, and 0.2 as far as it is alike.
    #[serde(rename = "0.3")]
    V0_3,
    /// 1.0.
    #[serde(rename = "1.0")]
    V1_0,
}

/// The text is none of the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, 0.3 or 1.0")]
pub struct UnknownVersion;

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "0.3" => Ok(Self::V0_3),
            "1.0" => Ok(Self::V1_0),
            _ => Err(UnknownVersion),
        }
    }
}

/// Whose name the agent keeps its memory under.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub enum UserId {
    /// One stable ID for each conversation, which the caller gives.
    #[default]
    Conversation,
    /// None is sent.
    None,
    /// Always this one.
    Fixed(String),
}

impl From<String> for UserId {
    fn from(text: String) -> Self {
        match text.trim() {
            "conversation" | "" => Self::Conversation,
            "none" => Self::None,
            fixed => Self::Fixed(fixed.to_owned()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::V0_3 => "0.3",
            Self::V1_0 => "1.0",
        })
    }
}
