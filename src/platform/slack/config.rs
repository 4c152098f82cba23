//! The `slack` section of the configuration.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::platform::Pace;

/// Slack's settings. Without a bot token Slack is off.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Slack")]
pub struct Config {
    /// `xoxb-…`. Better given as `SLACK_BOT_TOKEN` or `SLACK_BOT_TOKEN_FILE`.
    #[schemars(with = "Option<String>")]
    pub bot_token: Option<SecretString>,
    /// Channel IDs that agents may post to, each optionally `alias=ID`; `*` is any channel the bot is in.
    pub channels: Vec<String>,
    /// The workspace, needed for org-wide tokens only.
    pub team_id: Option<String>,
    /// Another base URL of the Web API, such as `https://slack-gov.com/api`.
    pub api_url: Option<Url>,
    /// How fast one channel may be written to. Default: one message a second, three at once.
    pub pace: Option<Pace>,
}
