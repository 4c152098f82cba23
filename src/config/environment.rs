//! The environment variables: one table that is read, shown by `--help` and documented.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::{Config, ConfigError};
use crate::delivery::OnUnknown;
use crate::model::PlatformKind;
use crate::{a2a, clock};

/// One variable.
pub struct Variable {
    /// Its name. For a secret, `NAME_FILE` names a file that holds it.
    pub name: &'static str,
    /// What it means, in one line.
    pub meaning: &'static str,
    set: Set,
}

/// What a variable's text becomes.
enum Set {
    Secret(fn(&mut Config) -> &mut Option<SecretString>),
    List(fn(&mut Config) -> &mut Vec<String>),
    Text(fn(&mut Config) -> &mut Option<String>),
    Url(fn(&mut Config) -> &mut Option<Url>),
    Address(fn(&mut Config) -> &mut Option<SocketAddr>),
    Path(fn(&mut Config) -> &mut Option<PathBuf>),
    Flag(fn(&mut Config) -> &mut bool),
    OnUnknown,
    /// A time in whole hours.
    Hours(fn(&mut Config) -> &mut u32),
    /// A time in whole days.
    Days(fn(&mut Config) -> &mut u32),
    /// A secret whose file is a setting of its own, because it is read again and again.
    Inline(fn(&mut Config) -> &mut Option<SecretString>),
    A2aVersion,
    A2aUser,
}

/// The variable that lists the channels that agents may post to on a platform.
#[must_use]
pub const fn channels_variable(platform: PlatformKind) -> &'static str {
    match platform {
        PlatformKind::Slack => "SLACK_CHANNEL_IDS",
        PlatformKind::Discord => "DISCORD_CHANNEL_IDS",
        PlatformKind::Telegram => "TELEGRAM_CHAT_IDS",
    }
}

/// Every variable that makes up a [`Config`], in the order in which they are shown.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "SLACK_BOT_TOKEN",
        meaning: "xoxb-…; without it Slack is off",
        set: Set::Secret(|c| &mut c.slack.bot_token),
    },
    Variable {
        name: "SLACK_CHANNEL_IDS",
        meaning: "channels that agents may post to: C0123456789,alerts=C9876543210; * for any",
        set: Set::List(|c| &mut c.slack.channels),
    },
    Variable {
        name: "SLACK_TEAM_ID",
        meaning: "the workspace, for org-wide tokens only",
        set: Set::Text(|c| &mut c.slack.team_id),
    },
    Variable {
        name: "SLACK_API_URL",
        meaning: "another base URL of the Web API (GovSlack, an egress proxy)",
        set: Set::Url(|c| &mut c.slack.api_url),
    },
    Variable {
        name: "SLACK_APP_TOKEN",
        meaning: "xapp-…: the bot listens by Socket Mode",
        set: Set::Secret(|c| &mut c.slack.app_token),
    },
    Variable {
        name: "SLACK_SIGNING_SECRET",
        meaning: "the bot listens at /slack/events and checks signatures with it",
        set: Set::Secret(|c| &mut c.slack.signing_secret),
    },
    Variable {
        name: "SLACK_COMMAND",
        meaning: "the slash command that talks to the agent [default: /mykagent]",
        set: Set::Text(|c| &mut c.slack.command),
    },
    Variable {
        name: "SLACK_ALLOWED_USERS",
        meaning: "who may talk to the agent: user IDs, * for everyone [default: the workspace's members]",
        set: Set::List(|c| &mut c.slack.allowed_users),
    },
    Variable {
        name: "DISCORD_BOT_TOKEN",
        meaning: "without it Discord is off",
        set: Set::Secret(|c| &mut c.discord.bot_token),
    },
    Variable {
        name: "DISCORD_CHANNEL_IDS",
        meaning: "channels that agents may post to, as for Slack",
        set: Set::List(|c| &mut c.discord.channels),
    },
    Variable {
        name: "DISCORD_API_URL",
        meaning: "another base URL of the REST API",
        set: Set::Url(|c| &mut c.discord.api_url),
    },
    Variable {
        name: "DISCORD_CHANNEL_ONLY",
        meaning: "channels the bot listens in [default: all it sees]",
        set: Set::List(|c| &mut c.discord.listen_in),
    },
    Variable {
        name: "DISCORD_MENTION_ONLY",
        meaning: "answer only when mentioned [default: false]",
        set: Set::Flag(|c| &mut c.discord.mention_only),
    },
    Variable {
        name: "DISCORD_ALLOWED_USERS",
        meaning: "as for Slack [default: whoever writes where the bot listens]",
        set: Set::List(|c| &mut c.discord.allowed_users),
    },
    Variable {
        name: "TELEGRAM_BOT_TOKEN",
        meaning: "without it Telegram is off",
        set: Set::Secret(|c| &mut c.telegram.bot_token),
    },
    Variable {
        name: "TELEGRAM_CHAT_IDS",
        meaning: "chats that agents may post to: -100…, a user id, @channelname, ID/TOPIC for a forum topic",
        set: Set::List(|c| &mut c.telegram.channels),
    },
    Variable {
        name: "TELEGRAM_API_URL",
        meaning: "another base URL of the Bot API (a Bot API server of your own)",
        set: Set::Url(|c| &mut c.telegram.api_url),
    },
    Variable {
        name: "TELEGRAM_ALLOWED_USERS",
        meaning: "as for Slack [default: nobody]",
        set: Set::List(|c| &mut c.telegram.allowed_users),
    },
    Variable {
        name: "TELEGRAM_DROP_PENDING_UPDATES",
        meaning: "throw away what was written while no bot listened [default: false]",
        set: Set::Flag(|c| &mut c.telegram.drop_pending_updates),
    },
    Variable {
        name: "KAGENT_A2A_URL",
        meaning: "the agent people talk to: http://kagent-controller.kagent:8083/api/a2a/kagent/my-agent/",
        set: Set::Url(|c| &mut c.agent.url),
    },
    Variable {
        name: "KAGENT_A2A_VERSION",
        meaning: "the dialect of A2A: auto, 0.3, 1.0 [default: auto]",
        set: Set::A2aVersion,
    },
    Variable {
        name: "KAGENT_A2A_USER_ID",
        meaning: "X-User-Id: conversation, none, or a fixed ID [default: conversation]",
        set: Set::A2aUser,
    },
    Variable {
        name: "KAGENT_A2A_TOKEN",
        meaning: "the bearer token for the agent",
        set: Set::Inline(|c| &mut c.agent.token),
    },
    Variable {
        name: "KAGENT_A2A_TOKEN_FILE",
        meaning: "a file with that token, read again for every request",
        set: Set::Path(|c| &mut c.agent.token_file),
    },
    Variable {
        name: "HERALD_APPROVERS",
        meaning: "who may approve tool calls: slack:U…,discord:…,telegram:… [default: who asked]",
        set: Set::List(|c| &mut c.bot.approvers),
    },
    Variable {
        name: "HERALD_LISTEN",
        meaning: "where `serve` listens [default: 127.0.0.1:3000], and `bot` [default: 127.0.0.1:3001]",
        set: Set::Address(|c| &mut c.listen),
    },
    Variable {
        name: "HERALD_METRICS_LISTEN",
        meaning: "where `serve` and `bot` show /metrics: 0.0.0.0:9090 [default: nowhere]",
        set: Set::Address(|c| &mut c.metrics_listen),
    },
    Variable {
        name: "HERALD_DATA_DIR",
        meaning: "where messages and conversations are stored [default: $XDG_STATE_HOME/herald for `serve` and `bot`]",
        set: Set::Path(|c| &mut c.data_dir),
    },
    Variable {
        name: "HERALD_DATABASE_URL",
        meaning: "postgres://user:password@host/database?sslmode=verify-full, shared by many, instead of a data directory",
        set: Set::Secret(|c| &mut c.database_url),
    },
    Variable {
        name: "HERALD_TOKEN",
        meaning: "the bearer token that /mcp asks for (a leading `Bearer ` is ignored)",
        set: Set::Secret(|c| &mut c.mcp.token),
    },
    Variable {
        name: "HERALD_JWT_ISSUER",
        meaning: "/mcp also takes JWTs of this `iss`; the file's `clients` say whom each subject means [default: none]",
        set: Set::Text(|c| &mut c.mcp.jwt.issuer),
    },
    Variable {
        name: "HERALD_JWT_AUDIENCE",
        meaning: "whom these JWTs have to be for: herald; with several, one of them",
        set: Set::List(|c| &mut c.mcp.jwt.audience),
    },
    Variable {
        name: "HERALD_JWKS_URL",
        meaning: "where their public keys are: https://kubernetes.default.svc/openid/v1/jwks",
        set: Set::Url(|c| &mut c.mcp.jwt.jwks_url),
    },
    Variable {
        name: "HERALD_JWKS_FILE",
        meaning: "a file with these keys instead",
        set: Set::Path(|c| &mut c.mcp.jwt.jwks_file),
    },
    Variable {
        name: "HERALD_JWKS_CA_FILE",
        meaning: "the certificate authority of HERALD_JWKS_URL: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        set: Set::Path(|c| &mut c.mcp.jwt.ca_file),
    },
    Variable {
        name: "HERALD_JWKS_TOKEN_FILE",
        meaning: "a token for HERALD_JWKS_URL: /var/run/secrets/kubernetes.io/serviceaccount/token",
        set: Set::Path(|c| &mut c.mcp.jwt.token_file),
    },
    Variable {
        name: "HERALD_PUBLIC_URL",
        meaning: "where clients find /mcp: https://herald.example.com/mcp; tells them where to get a JWT (RFC 9728)",
        set: Set::Url(|c| &mut c.mcp.public_url),
    },
    Variable {
        name: "HERALD_ALLOW_ANONYMOUS",
        meaning: "serve /mcp beyond loopback without a token [default: false]",
        set: Set::Flag(|c| &mut c.mcp.allow_anonymous),
    },
    Variable {
        name: "HERALD_ALLOWED_HOSTS",
        meaning: "Host headers to accept [default: loopback names on loopback, any elsewhere]",
        set: Set::List(|c| &mut c.mcp.allowed_hosts),
    },
    Variable {
        name: "HERALD_ALLOWED_ORIGINS",
        meaning: "Origin headers to accept [default: loopback names on loopback, none elsewhere]",
        set: Set::List(|c| &mut c.mcp.allowed_origins),
    },
    Variable {
        name: "HERALD_SECRET_RULES",
        meaning: "a file in the format of gitleaks with more rules for what looks like a secret",
        set: Set::Path(|c| &mut c.guard.secret_rules),
    },
    Variable {
        name: "HERALD_ON_UNKNOWN",
        meaning: "a send whose outcome nobody knows: resend, hold [default: resend]",
        set: Set::OnUnknown,
    },
    Variable {
        name: "HERALD_KEEP_PAYLOAD",
        meaning: "how long after its end what a message said is kept, and can be retried [default: 24h]",
        set: Set::Hours(|c| &mut c.delivery.keep_payload_hours),
    },
    Variable {
        name: "HERALD_KEEP_ROWS",
        meaning: "how long after its end it is known what became of a message [default: 30d]",
        set: Set::Days(|c| &mut c.delivery.keep_rows_days),
    },
    Variable {
        name: "HERALD_AUDIT",
        meaning: "where the audit trail goes besides the store: stderr, file:/path, otlp (see OTEL_*) [default: off]",
        set: Set::List(|c| &mut c.audit.to),
    },
    Variable {
        name: "HERALD_AUDIT_KEY",
        meaning: "what its hashes are keyed with: openssl rand -hex 32",
        set: Set::Secret(|c| &mut c.audit.key),
    },
    Variable {
        name: "HERALD_AUDIT_BODIES",
        meaning: "whether it says what messages say [default: false]",
        set: Set::Flag(|c| &mut c.audit.bodies),
    },
    Variable {
        name: "HERALD_KEEP_AUDIT",
        meaning: "how long it is kept [default: 90d]",
        set: Set::Days(|c| &mut c.audit.keep_days),
    },
];

/// Puts what the environment says on top of `config`. An empty variable counts as unset.
pub(super) fn apply(
    config: &mut Config,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let env = |name: &str| {
        env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    for Variable { name, set, .. } in VARIABLES {
        let value = match set {
            Set::Secret(_) => secret(name, &env)?,
            _ => env(name),
        };
        let Some(value) = value else { continue };
        let shape = |shape: &str| ConfigError::setting(*name, format!("`{value}` is not {shape}"));
        match set {
            Set::Secret(field) | Set::Inline(field) => {
                *field(config) = Some(SecretString::from(value));
            }
            Set::A2aVersion => {
                config.agent.version = value.parse().map_err(|_| shape("auto, 0.3 or 1.0"))?;
            }
            Set::A2aUser => config.agent.user_id = a2a::UserId::from(value),
            Set::List(field) => {
                *field(config) = value
                    .split(',')
                    .map(str::trim)
                    .filter(|entry| !entry.is_empty())
                    .map(str::to_owned)
                    .collect();
            }
            Set::Text(field) => *field(config) = Some(value),
            Set::Url(field) => {
                let url = Url::parse(&value).ok().filter(|url| url.has_host());
                *field(config) = Some(url.ok_or_else(|| shape("a URL: write https://host/path"))?);
            }
            Set::Address(field) => {
                let address = value.parse();
                *field(config) =
                    Some(address.map_err(|_| shape("an address: write 127.0.0.1:3000"))?);
            }
            Set::Path(field) => *field(config) = Some(PathBuf::from(value)),
            Set::Flag(field) => {
                *field(config) = match value.to_ascii_lowercase().as_str() {
                    "true" | "1" | "yes" | "on" => true,
                    "false" | "0" | "no" | "off" => false,
                    _ => return Err(shape("true or false")),
                }
            }
            Set::Hours(field) => {
                *field(config) =
                    whole(&value, 3600).ok_or_else(|| shape("whole hours: write 24h or 2d"))?;
            }
            Set::Days(field) => {
                *field(config) =
                    whole(&value, 24 * 3600).ok_or_else(|| shape("whole days: write 30d"))?;
            }
            Set::OnUnknown => {
                config.delivery.on_unknown = match value.as_str() {
                    "resend" => OnUnknown::Resend,
                    "hold" => OnUnknown::Hold,
                    _ => return Err(shape("resend or hold")),
                }
            }
        }
    }
    Ok(())
}

/// A length of time as a whole number of units of so many seconds.
fn whole(value: &str, unit: u64) -> Option<u32> {
    let seconds = clock::length(value).ok()?.as_secs();
    seconds.is_multiple_of(unit).then(|| u32::try_from(seconds / unit).ok())?
}

/// A secret from its variable, or from the file that `NAME_FILE` names.
fn secret(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, ConfigError> {
    let file_variable = format!("{name}_FILE");
    let (value, file) = (env(name), env(&file_variable));
    match (value, file) {
        (Some(_), Some(_)) => Err(ConfigError::setting(
            name,
            format!("set either {name} or {file_variable}, not both"),
        )),
        (value, None) => Ok(value),
        (None, Some(file)) => {
            let unreadable = |error: std::io::Error| {
                ConfigError::setting(&*file_variable, format!("{file} cannot be read: {error}"))
            };
            let text = std::fs::read_to_string(&file).map_err(unreadable)?;
            let secret = text.trim();
            if secret.is_empty() {
                return Err(ConfigError::setting(file_variable, format!("{file} is empty")));
            }
            Ok(Some(secret.to_owned()))
        }
    }
}
