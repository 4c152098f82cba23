//! The `bot` and `agents` sections of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

/// How long the platforms may tell an event again.
const REMEMBER: Duration = Duration::from_secs(7 * 24 * 3600);

/// How the bot behaves.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Bot")]
pub struct Config {
    /// Who may approve an agent's tool calls: `slack:U0123456789`, `telegram:123456789`, `discord:*`. Default: the person
    /// who asked.
    pub approvers: Vec<String>,
    /// For how many seconds an approval or a question waits; then it is rejected. Default: 3600.
    pub approval_seconds: u32,
    /// After how many hours without a word a conversation starts afresh. Default: 168, a week.
    pub idle_hours: u32,
    /// How many messages one person may send in a minute. Default: 20.
    pub messages_per_minute: u32,
    /// How many turns may be in progress at once in this process. Default: 64.
    pub turns: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            approvers: Vec::new(),
            approval_seconds: 3600,
            idle_hours: 168,
            messages_per_minute: 20,
            turns: 64,
        }
    }
}

impl Config {
    /// For how long an approval or a question waits.
    #[must_use]
    pub fn approval(&self) -> Duration {
        Duration::from_secs(u64::from(self.approval_seconds.max(1)))
    }

    /// After how long a silence a conversation starts afresh.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_secs(u64::from(self.idle_hours.max(1)) * 3600)
    }

    /// How long it is remembered what was said to the bot, and that there was a conversation, once nothing is to do.
    #[must_use]
    pub fn remember(&self) -> Duration {
        REMEMBER.max(self.idle())
    }
}

/// One more agent, beside the one that `agent` names. It shares its other settings (token, dialect, user ID).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Where it is: `http://kagent-controller.kagent:8083/api/a2a/kagent/my-agent/`.
    pub url: Url,
    /// The channels in which it answers instead of the default one: `slack:C0123456789`.
    #[serde(default)]
    pub channels: Vec<String>,
    /// The Slack or Telegram commands that talk to it: `/k8s`.
    #[serde(default)]
    pub commands: Vec<String>,
}

/// The agents by name. `@herald NAME: …` talks to one of them.
pub type Agents = BTreeMap<String, Agent>;
