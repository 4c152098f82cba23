//! The `telegram` section of the configuration.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::platform::Pace;

/// Telegram's settings. Without a bot token Telegram is off.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Telegram")]
pub struct Config {
    /// The token BotFather gave. Better given as `TELEGRAM_BOT_TOKEN` or `TELEGRAM_BOT_TOKEN_FILE`.
    #[schemars(with = "Option<String>")]
    pub bot_token: Option<SecretString>,
    /// Chat IDs that agents may post to, each optionally `alias=ID`; `*` is any chat the bot is in.
    pub channels: Vec<String>,
    /// Another base URL of the Bot API, such as a Bot API server of your own.
    pub api_url: Option<Url>,
    /// Who may talk to the agent: user IDs, `*` for everyone. Default: nobody.
    pub allowed_users: Vec<String>,
    /// Throw away what was written while no bot listened.
    pub drop_pending_updates: bool,
    /// How fast one channel may be written to. Default: one message a second, three at once; a group 18 a minute.
    pub pace: Option<Pace>,
    /// How fast the bot may write, over all its channels. Default: 25 messages a second, five at once.
    pub bot_pace: Option<Pace>,
}
