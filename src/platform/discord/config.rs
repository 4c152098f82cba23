//! The `discord` section of the configuration.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::platform::Pace;

/// Discord's settings. Without a bot token Discord is off.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Discord")]
pub struct Config {
    /// The bot token. Better given as `DISCORD_BOT_TOKEN` or `DISCORD_BOT_TOKEN_FILE`.
    #[schemars(with = "Option<String>")]
    pub bot_token: Option<SecretString>,
    /// Channel IDs that agents may post to, each optionally `alias=ID`; `*` is any channel the bot is in.
    pub channels: Vec<String>,
    /// Another base URL of the REST API, such as `https://discord.com/api/v10`.
    pub api_url: Option<Url>,
    /// Channel IDs that the bot listens in. Default: every channel it sees.
    pub listen_in: Vec<String>,
    /// Answer only when mentioned, in direct messages and in commands. Then the privileged message content intent is
    /// not needed.
    pub mention_only: bool,
    /// Who may talk to the agent: user IDs, `*` for everyone. Default: whoever writes in a channel the bot listens in,
    /// and nobody in direct messages.
    pub allowed_users: Vec<String>,
    /// How fast one channel may be written to. Default: five messages in five seconds.
    pub pace: Option<Pace>,
    /// How fast the bot may write, over all its channels. Default: 45 messages a second, five at once.
    pub bot_pace: Option<Pace>,
}
