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
    /// `xapp-…`, for Socket Mode. Better given as `SLACK_APP_TOKEN` or `SLACK_APP_TOKEN_FILE`.
    #[schemars(with = "Option<String>")]
    pub app_token: Option<SecretString>,
    /// The app's signing secret, for events over HTTP at `/slack/events`. Better given as `SLACK_SIGNING_SECRET`.
    #[schemars(with = "Option<String>")]
    pub signing_secret: Option<SecretString>,
    /// The slash command that talks to the agent. Default: `/mykagent`.
    pub command: Option<String>,
    /// Who may talk to the agent: user IDs, `*` for everyone. Default: the workspace's members.
    pub allowed_users: Vec<String>,
    /// How fast one channel may be written to. Default: one message a second, three at once.
    pub pace: Option<Pace>,
    /// How fast the bot may write, over all its channels. Default: 50 messages a second, 50 at once.
    pub bot_pace: Option<Pace>,
}
