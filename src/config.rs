//! The configuration: environment over file over default. Each section belongs to its module; this file only composes.

mod environment;
mod source;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

pub use environment::{VARIABLES, Variable, channels_variable};
pub use source::Source;

use crate::delivery::OnUnknown;
use crate::model::{ChannelId, ClientName, PlatformKind};
use crate::platform::http::PROXY_VARIABLES;
use crate::policy::{self, Access, AllowList, InvalidAllowList, Policy, Rights, Users};
use crate::retention::Keep;
use crate::store::postgres;
use crate::telemetry::{OwnSecrets, otlp, secrets};
use crate::{a2a, audit, bot, guard, mcp, platform};

/// Herald's settings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where `serve` listens (default: `127.0.0.1:3000`), and `bot` (default: `127.0.0.1:3001`).
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
    /// Where Prometheus finds `/metrics`, such as `0.0.0.0:9090`. Default: nowhere. It asks for no token.
    #[schemars(with = "Option<String>")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where messages and conversations are stored. Default: `$XDG_STATE_HOME/herald` for `serve` and `bot`; memory for
    /// the others.
    pub data_dir: Option<PathBuf>,
    /// A PostgreSQL database that any number of Heralds share, instead of the data directory:
    /// `postgres://user:password@host:5432/database?sslmode=verify-full`.
    #[schemars(with = "Option<String>")]
    pub database_url: Option<SecretString>,
    /// Who may call the MCP server.
    pub mcp: mcp::Config,
    /// What callers may do who have no name of their own: whoever has `HERALD_TOKEN`, `herald stdio`, `herald send`, and
    /// the bot. The channels of each platform's section are added to `send`.
    pub policy: policy::Config,
    /// Callers with a name, a token and a policy of their own: one for each agent.
    pub clients: BTreeMap<String, Client>,
    /// What is kept back from messages.
    pub guard: guard::Config,
    /// Where these settings were read from.
    #[serde(skip)]
    #[schemars(skip)]
    pub source: Option<Source>,
    /// What Herald itself keeps secret: see [`Config::keep_secrets`]. Settings that are read anew share it.
    #[serde(skip)]
    #[schemars(skip)]
    pub known: OwnSecrets,
    /// Slack.
    pub slack: platform::slack::Config,
    /// Discord.
    pub discord: platform::discord::Config,
    /// Telegram.
    pub telegram: platform::telegram::Config,
    /// How messages are delivered.
    pub delivery: Delivery,
    /// What is written down about decisions and outcomes.
    pub audit: audit::Config,
    /// The agent that people talk to, and what all agents share.
    pub agent: a2a::Config,
    /// More agents, by name.
    pub agents: bot::config::Agents,
    /// How people talk to agents.
    pub bot: bot::Config,
}

/// A caller of the MCP server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// The hashes of one or two bearer tokens, as `sha256:` and what `printf %s "$TOKEN" | sha256sum` prints. With two, a
    /// token is changed without an interruption.
    #[schemars(length(max = 2))]
    pub tokens: Vec<mcp::TokenHash>,
    /// The subjects of its JWTs, such as `system:serviceaccount:kagent:k8s-agent`. Needs `mcp.jwt`.
    pub subjects: Vec<String>,
    /// What it may do. Nothing, unless it is given.
    pub policy: policy::Config,
}

/// What the examples in `manifests/` say instead of a token.
const PLACEHOLDER: &str = "replace-me";

const KEEP_PAYLOAD: &str = "HERALD_KEEP_PAYLOAD (delivery.keep_payload_hours)";
const KEEP_ROWS: &str = "HERALD_KEEP_ROWS (delivery.keep_rows_days)";

/// How messages are delivered.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    /// What to do about a send whose outcome nobody knows: `resend` (it may appear twice) or `hold` (it may be missing).
    pub on_unknown: OnUnknown,
    /// For how many seconds a message is tried. Default: 3600.
    pub deadline_seconds: u64,
    /// The first pause after a failure, in milliseconds, doubled each time up to five minutes. Default: 1000.
    pub backoff_ms: u64,
    /// For how many hours after its end what a message said is kept; until then it can be retried. Default: 24.
    pub keep_payload_hours: u32,
    /// For how many days after its end it is known what became of a message: `get_delivery`, `update_message` and the same
    /// `idempotency_key` find it. Default: 30.
    pub keep_rows_days: u32,
    /// How often a bot whose platform failed five times in a row tries one request, in milliseconds. Default: 30000.
    pub probe_ms: u64,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            on_unknown: OnUnknown::Resend,
            deadline_seconds: 3600,
            backoff_ms: 1000,
            keep_payload_hours: 24,
            keep_rows_days: 30,
            probe_ms: 30_000,
        }
    }
}

impl Delivery {
    /// For how long a message is tried.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_seconds)
    }

    /// The first pause after a failure.
    #[must_use]
    pub const fn backoff(&self) -> Duration {
        Duration::from_millis(self.backoff_ms)
    }

    /// How long messages are kept after their end.
    #[must_use]
    pub fn keep(&self) -> Keep {
        Keep {
            payload: Duration::from_secs(u64::from(self.keep_payload_hours) * 3600),
            rows: Duration::from_secs(u64::from(self.keep_rows_days) * 24 * 3600),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let keep = self.keep();
        if keep.payload.is_zero() {
            let error =
                "what a message said is needed for an hour at least, to retry it: write 1h or more";
            return Err(ConfigError::setting(KEEP_PAYLOAD, error));
        }
        if keep.rows < keep.payload {
            let error = format!(
                "{} d are less than the {} h of HERALD_KEEP_PAYLOAD (delivery.keep_payload_hours): keep the rows longer, or \
                 what the messages said shorter",
                self.keep_rows_days, self.keep_payload_hours
            );
            return Err(ConfigError::setting(KEEP_ROWS, error));
        }
        Ok(())
    }

    /// How often a bot whose platform fails tries one request.
    #[must_use]
    pub const fn probe(&self) -> Duration {
        Duration::from_millis(self.probe_ms)
    }
}

/// The configuration cannot be used. One line: the setting, what is wrong with it, and its shape; never a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not what the schema says.
    #[error("the configuration file {path}: {error}; `herald schema` prints what it may hold")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: String,
    },
    /// A setting has the wrong shape.
    #[error("{key}: {error}")]
    Setting {
        /// The variable or the key in the file.
        key: String,
        /// What is wrong, and the right shape.
        error: String,
    },
    /// A setting of the MCP server is wrong.
    #[error("{0}")]
    Mcp(String),
    /// The agents do not hold together.
    #[error("{0}")]
    Agents(bot::InvalidAgents),
}

impl ConfigError {
    pub(crate) fn setting(key: impl Into<String>, error: impl ToString) -> Self {
        Self::Setting { key: key.into(), error: error.to_string() }
    }
}

impl Config {
    /// Reads the file, if there is one, and puts the environment on top.
    ///
    /// # Errors
    /// When a key is unknown or a value malformed; the error names it.
    pub fn load(
        file: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::load_anew(file, env, OwnSecrets::default())
    }

    /// The same, by somebody who knows secrets already.
    fn load_anew(
        file: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
        known: OwnSecrets,
    ) -> Result<Self, ConfigError> {
        let mut config = match file {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        environment::apply(&mut config, env)?;
        let rules = config.guard.secret_rules.as_deref();
        config.source = Some(Source::new(file, rules, env, known.clone()));
        // Their tokens' files are read again and again.
        config.agent.known = known.clone();
        config.mcp.jwt.known = known.clone();
        config.known = known;
        config.policy()?;
        for (key, token) in config.tokens() {
            check_token(key, token)?;
        }
        config.check_database()?;
        config.delivery.check()?;
        config.audit.find_collector(env).map_err(|error| {
            ConfigError::setting("HERALD_AUDIT (audit.to)", format!("otlp: {error}"))
        })?;
        config.check_audit()?;
        mcp::check(&config.mcp, &config.credentials()).map_err(ConfigError::Mcp)?;
        bot::Agents::check(&config.agent, &config.agents).map_err(ConfigError::Agents)?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| {
            // The first line says what and where; the rest would quote the file, secrets included.
            let text = error.without_snippet().to_string();
            let error = text.lines().next().unwrap_or_default().to_owned();
            ConfigError::Malformed { path: path.to_owned(), error }
        })
    }

    /// The rules that the allow-lists make.
    ///
    /// # Errors
    /// When an entry is malformed.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let lists = [
            (PlatformKind::Slack, &self.slack.channels),
            (PlatformKind::Discord, &self.discord.channels),
            (PlatformKind::Telegram, &self.telegram.channels),
        ];
        let parsed = lists.into_iter().map(|(platform, entries)| {
            let list = AllowList::parse(platform, entries.iter().map(String::as_str));
            let named = |error: InvalidAllowList| {
                let key = channels_variable(platform);
                ConfigError::setting(format!("{key} ({platform}.channels)"), error)
            };
            list.map(|list| (platform, list)).map_err(named)
        });
        let lists = parsed.collect::<Result<BTreeMap<_, _>, _>>()?;
        let unnamed = Rights::read(&self.policy, lists)
            .map_err(|(key, error)| ConfigError::setting(format!("policy.{key}"), error))?;
        let named = self.clients.iter().map(|(name, client)| {
            let rights =
                Rights::read(&client.policy, BTreeMap::new()).map_err(|(key, error)| {
                    ConfigError::setting(format!("clients.{name}.policy.{key}"), error)
                })?;
            Ok((ClientName::new(name), rights))
        });
        Ok(Policy::default()
            .with_unnamed(unnamed)
            .with_clients(named.collect::<Result<_, ConfigError>>()?)
            .with_access(self.access()?))
    }

    /// What the named clients show to be known.
    #[must_use]
    pub fn credentials(&self) -> mcp::Clients {
        let clients = self.clients.iter();
        let credentials = |it: &Client| mcp::Credentials {
            tokens: it.tokens.clone(),
            subjects: it.subjects.clone(),
        };
        clients.map(|(name, it)| (ClientName::new(name), credentials(it))).collect()
    }

    /// Who may talk to the agent.
    fn access(&self) -> Result<Access, ConfigError> {
        let mut access = Access::default();
        for (platform, key, entries) in [
            (PlatformKind::Slack, "SLACK_ALLOWED_USERS", &self.slack.allowed_users),
            (PlatformKind::Discord, "DISCORD_ALLOWED_USERS", &self.discord.allowed_users),
            (PlatformKind::Telegram, "TELEGRAM_ALLOWED_USERS", &self.telegram.allowed_users),
        ] {
            let users = Users::parse(platform, entries).map_err(|error| {
                ConfigError::setting(format!("{key} ({platform}.allowed_users)"), error)
            })?;
            access = access.users(platform, users);
        }
        let listen_in = self.discord.listen_in.iter();
        let listen_in = listen_in.map(|id| ChannelId::new(PlatformKind::Discord, id));
        let listen_in = listen_in.collect::<Result<Vec<_>, _>>().map_err(|error| {
            ConfigError::setting("DISCORD_CHANNEL_ONLY (discord.listen_in)", error)
        })?;
        access
            .only_in(PlatformKind::Discord, listen_in)
            .approvers(&self.bot.approvers)
            .map_err(|error| ConfigError::setting("HERALD_APPROVERS (bot.approvers)", error))
    }

    /// Every secret that stands in the settings, so that no output shows one.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretString> {
        let tokens = self.tokens().into_iter().map(|(_, token)| token.clone());
        let apis = [&self.slack.api_url, &self.discord.api_url, &self.telegram.api_url];
        let agents = self.agents.values().map(|agent| &agent.url);
        let urls = apis.into_iter().flatten().chain(&self.agent.url).chain(agents);
        let said = |name: &str| self.source.as_ref()?.get(name);
        let proxies = PROXY_VARIABLES.iter().filter_map(|name| said(name));
        tokens
            .chain(self.database_url.iter().flat_map(postgres::secrets))
            .chain(urls.flat_map(secrets::in_url))
            .chain(proxies.flat_map(|address| secrets::in_address(&address)))
            .chain(otlp::secrets(&said))
            .collect()
    }

    /// Lets the log and the guard know these secrets, and what the files with tokens hold that are read again for each
    /// request. Whoever reads them later adds what is new.
    pub fn keep_secrets(&self) {
        self.known.set(&self.secrets());
        for path in [&self.agent.token_file, &self.mcp.jwt.token_file].into_iter().flatten() {
            // Whoever needs it says why it cannot be read.
            if let Ok(token) = std::fs::read_to_string(path) {
                self.known.keep(&token.into());
            }
        }
    }

    /// # Errors
    /// When the database's URL is none. Nobody is called.
    pub fn check_database(&self) -> Result<(), ConfigError> {
        let Some(url) = &self.database_url else { return Ok(()) };
        postgres::check(url)
            .map_err(|error| ConfigError::setting("HERALD_DATABASE_URL (database_url)", error))
    }

    fn check_audit(&self) -> Result<(), ConfigError> {
        let Self { audit, delivery, .. } = self;
        audit
            .destinations()
            .map_err(|error| ConfigError::setting("HERALD_AUDIT (audit.to)", error))?;
        audit
            .check_key()
            .map_err(|error| ConfigError::setting("HERALD_AUDIT_KEY (audit.key)", error))?;
        if audit.keep() < delivery.keep().rows {
            let error = format!(
                "{} d are less than the {} d of HERALD_KEEP_ROWS (delivery.keep_rows_days): keep the trail longer than what \
                 it tells about",
                audit.keep_days, delivery.keep_rows_days
            );
            return Err(ConfigError::setting("HERALD_KEEP_AUDIT (audit.keep_days)", error));
        }
        Ok(())
    }

    fn tokens(&self) -> Vec<(&'static str, &SecretString)> {
        [
            ("SLACK_BOT_TOKEN", &self.slack.bot_token),
            ("SLACK_APP_TOKEN", &self.slack.app_token),
            ("SLACK_SIGNING_SECRET", &self.slack.signing_secret),
            ("DISCORD_BOT_TOKEN", &self.discord.bot_token),
            ("TELEGRAM_BOT_TOKEN", &self.telegram.bot_token),
            ("HERALD_AUDIT_KEY", &self.audit.key),
            ("HERALD_TOKEN", &self.mcp.token),
            ("KAGENT_A2A_TOKEN", &self.agent.token),
        ]
        .into_iter()
        .filter_map(|(key, token)| token.as_ref().map(|token| (key, token)))
        .collect()
    }

    /// The file's JSON Schema.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }
}

/// A token travels in a header or a URL.
fn check_token(key: &str, token: &SecretString) -> Result<(), ConfigError> {
    use secrecy::ExposeSecret;
    let token = token.expose_secret();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    if token.ends_with(PLACEHOLDER) {
        return Err(ConfigError::setting(
            key,
            "this is the placeholder of an example, which everybody knows: put your own token there",
        ));
    }
    let fine = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fine {
        return Ok(());
    }
    Err(ConfigError::setting(
        key,
        "the token holds white space or other characters that no token has: give it alone, on one line",
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use secrecy::ExposeSecret;

    use super::*;

    fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut path = tempfile::NamedTempFile::new().unwrap();
        path.write_all(file.as_bytes()).unwrap();
        let env: BTreeMap<String, String> =
            env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::load(Some(path.path()), &|name| env.get(name).cloned())
    }

    #[test]
    fn the_secret_of_the_slack_guide_is_enough() {
        let config = load(
            "",
            &[
                ("SLACK_BOT_TOKEN", "xoxb-token"),
                ("SLACK_TEAM_ID", "T0123456789"),
                ("SLACK_CHANNEL_IDS", "C0123456789,C9876543210"),
            ],
        )
        .unwrap();
        assert_eq!(config.slack.bot_token.unwrap().expose_secret(), "xoxb-token");
        assert_eq!(config.slack.team_id.as_deref(), Some("T0123456789"));
        assert_eq!(config.slack.channels, ["C0123456789", "C9876543210"]);
    }

    /// Names are a promise: a change of these snapshots needs a line in the changelog.
    #[test]
    fn the_names_users_rely_on() {
        insta::assert_json_snapshot!("schema", Config::schema());
        let names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        insta::assert_json_snapshot!("variables", names);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = "slack:\n  channels: [C0FILE]\n  pace: {interval_ms: 10, burst: 5}\ndelivery:\n  on_unknown: hold\n";
        let config = load(file, &[("SLACK_CHANNEL_IDS", "C0ENV")]).unwrap();
        assert_eq!(config.slack.channels, ["C0ENV"]);
        assert_eq!(config.slack.pace.unwrap().interval_ms, 10);
        assert_eq!(config.delivery.on_unknown, OnUnknown::Hold);
        assert_eq!(config.delivery.deadline_seconds, 3600);
    }

    #[test]
    fn a_secret_can_stand_in_a_file() {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        writeln!(secret, "xoxb-from-file").unwrap();
        let path = secret.path().to_str().unwrap();
        let config = load("", &[("SLACK_BOT_TOKEN_FILE", path)]).unwrap();
        assert_eq!(config.slack.bot_token.unwrap().expose_secret(), "xoxb-from-file");
    }

    #[test]
    fn how_long_messages_are_kept_has_its_units_and_its_limits() {
        let config =
            load("delivery: {keep_rows_days: 7}", &[("HERALD_KEEP_PAYLOAD", "2d")]).unwrap();
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(config.delivery.keep(), Keep { payload: 2 * day, rows: 7 * day });
        assert_eq!(Delivery::default().keep(), Keep { payload: day, rows: 30 * day });
        for (name, value, words) in [
            ("HERALD_KEEP_PAYLOAD", "24", "write 24h or 2d"),
            ("HERALD_KEEP_PAYLOAD", "90m", "whole hours"),
            ("HERALD_KEEP_ROWS", "36h", "whole days: write 30d"),
            ("HERALD_KEEP_PAYLOAD", "0h", "an hour at least"),
            ("HERALD_KEEP_ROWS", "0d", "less than the 24 h of HERALD_KEEP_PAYLOAD"),
            ("HERALD_KEEP_PAYLOAD", "31d", "30 d are less than the 744 h"),
        ] {
            let error = load("", &[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with("HERALD_KEEP") && error.contains(words), "{error}");
        }
    }

    /// What README shows has to work.
    #[test]
    fn the_example_of_the_readme_is_valid() {
        let readme = include_str!("../README.md");
        let files: Vec<_> = readme
            .split("```")
            .filter_map(|block| block.strip_prefix("yaml\n"))
            .filter(|block| block.starts_with("# herald "))
            .collect();
        let [file] = files[..] else { panic!("{} files", files.len()) };
        let config = load(file, &[]).unwrap();
        assert_eq!(config.delivery.on_unknown, OnUnknown::Hold);
        assert!(config.agent.url.is_some() && config.agents.len() == 2);
        assert_eq!(config.agents["k8s"].commands, ["/k8s"]);
        assert!(!config.bot.approvers.is_empty());
    }

    #[test]
    fn each_platforms_channels_have_the_variable_that_is_named_for_them() {
        for platform in PlatformKind::ALL {
            let key = channels_variable(platform);
            let error = load("", &[(key, "not a channel")]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key} ({platform}.channels)")), "{error}");
        }
    }

    #[test]
    fn an_error_names_the_key_and_never_the_secret() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 23] = [
            ("slack:\n  chanels: [C0]\n", &[], &["chanels"]),
            ("slak: {}\n", &[], &["slak"]),
            (
                "slack:\n  channels: ['#general']\n",
                &[],
                &["SLACK_CHANNEL_IDS", "#general", "C0123456789"],
            ),
            (
                "",
                &[("DISCORD_CHANNEL_IDS", "general")],
                &["DISCORD_CHANNEL_IDS", "17 to 20 digits"],
            ),
            ("", &[("TELEGRAM_CHAT_IDS", "ops=")], &["TELEGRAM_CHAT_IDS", "-1001234567890"]),
            ("", &[("SLACK_BOT_TOKEN", "xoxb canary")], &["SLACK_BOT_TOKEN", "white space"]),
            ("", &[("HERALD_TOKEN", "Bearer replace-me")], &["HERALD_TOKEN", "placeholder"]),
            (
                "",
                &[("SLACK_BOT_TOKEN_FILE", "/nowhere/token")],
                &["SLACK_BOT_TOKEN_FILE", "/nowhere/token"],
            ),
            (
                "",
                &[("HERALD_DATABASE_URL", "mysql://ada:canary@db/chat")],
                &["HERALD_DATABASE_URL", "postgres://user:password@host:5432/database"],
            ),
            (
                "database_url: 'postgres://ada:canary@db:canary/chat'\n",
                &[],
                &["HERALD_DATABASE_URL (database_url)", "not a URL"],
            ),
            ("", &[("HERALD_ON_UNKNOWN", "maybe")], &["HERALD_ON_UNKNOWN", "resend", "hold"]),
            ("slack:\n  bot_token: [canary]\n", &[], &["string"]),
            ("", &[("SLACK_ALLOWED_USERS", "@alice")], &["SLACK_ALLOWED_USERS", "@alice", "U012"]),
            ("", &[("DISCORD_ALLOWED_USERS", "42")], &["DISCORD_ALLOWED_USERS", "17 to 20 digits"]),
            (
                "telegram:\n  allowed_users: ['@alice']\n",
                &[],
                &["TELEGRAM_ALLOWED_USERS (telegram.allowed_users)", "123456789"],
            ),
            ("", &[("DISCORD_CHANNEL_ONLY", "ops")], &["DISCORD_CHANNEL_ONLY", "17 to 20 digits"]),
            ("", &[("HERALD_APPROVERS", "U0123456789")], &["HERALD_APPROVERS", "slack:U"]),
            ("bot:\n  approvers: ['irc:bob']\n", &[], &["bot.approvers", "irc:bob"]),
            ("", &[("KAGENT_A2A_VERSION", "2")], &["KAGENT_A2A_VERSION", "auto, 0.3 or 1.0"]),
            ("agent: {version: '0.2'}\n", &[], &["0.2", "auto", "1.0"]),
            (
                "",
                &[("KAGENT_A2A_URL", "kagent/my-agent")],
                &["KAGENT_A2A_URL", "https://host/path"],
            ),
            (
                "agents:\n  k8s: {url: 'http://k8s/', channels: ['#ops']}\n",
                &[],
                &["agents.k8s", "#ops", "slack:C0123456789"],
            ),
            (
                "agents:\n  k8s: {url: 'http://k8s/', commands: [/k]}\n  helm: {url: 'http://helm/', commands: [/K]}\n",
                &[],
                &["/k leads to the agent helm already"],
            ),
        ];
        for (file, env, expected) in cases {
            let error = load(file, env).unwrap_err().to_string();
            for word in expected {
                assert!(error.contains(word), "{error:?} should contain {word:?}");
            }
            assert!(!error.contains("canary"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
