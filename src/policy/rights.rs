//! What one client may do: as it stands in the file, and as it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AllowList, InvalidAllowList};
use crate::model::{ChannelId, Mentions, PlatformKind};

/// What a client may do. What is not given is not allowed, or not limited where that is said.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Policy")]
pub struct Config {
    /// Channels it may post to: `slack:C0123456789`, `discord:*`, each optionally with an alias (`alerts=slack:C0123456789`).
    pub send: Vec<String>,
    /// Channels that `list_channels` shows it besides, without letting it post there.
    pub list: Vec<String>,
    /// Whether it may write in threads, and open them. Default: true.
    pub threads: bool,
    /// The mentions that call people, by channel: `slack:C0123456789: [broadcast]`. Everywhere else none does.
    pub mentions: BTreeMap<String, Vec<Mention>>,
    /// How many messages it may submit in any minute. Default: not limited.
    pub messages_per_minute: Option<u32>,
    /// To how many different channels it may submit in any minute. Default: not limited.
    pub channels_per_minute: Option<u32>,
    /// The longest text, in characters. Default: 100000, which is the most.
    pub longest_text: Option<usize>,
    /// What happens to a text that seems to hold a secret.
    pub secrets: Secrets,
    /// The domains that links may lead to, their subdomains included; others are shown as plain code. Default: any.
    pub link_domains: Option<Vec<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            send: Vec::new(),
            list: Vec::new(),
            threads: true,
            mentions: BTreeMap::new(),
            messages_per_minute: None,
            channels_per_minute: None,
            longest_text: None,
            secrets: Secrets::Redact,
            link_domains: None,
        }
    }
}

/// A kind of mention that may be let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Mention {
    /// Everybody: `@channel`, `@here`, `@everyone`.
    Broadcast,
    /// Slack's user groups (`<!subteam^S…>`), Discord's roles (`<@&…>`).
    Groups,
    /// One person: `<@U…>`, on Telegram a link to `tg://user?id=…`. A Telegram `@username` calls its owner whatever stands
    /// here: no bot can prevent that.
    People,
}

/// What happens to a text that seems to hold a secret. Herald's own secrets never leave, whatever stands here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Secrets {
    /// The secret is taken out.
    #[default]
    Redact,
    /// The message is refused.
    Block,
    /// It is sent as it is, and the caller and the audit trail are told.
    Flag,
}

/// What the guard lets pass, for one client in one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The mentions that call people.
    pub mentions: Mentions,
    /// What happens to a text that seems to hold a secret.
    pub secrets: Secrets,
    /// The domains that links may lead to, if that is limited.
    pub link_domains: Option<Arc<[String]>>,
}

/// How much a client may submit in any minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Messages.
    pub messages: Option<u32>,
    /// Different channels.
    pub channels: Option<u32>,
}

impl Rate {
    /// Whether anything is limited.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.messages.is_some() || self.channels.is_some()
    }
}

/// What one client may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    pub(super) send: BTreeMap<PlatformKind, AllowList>,
    pub(super) list: BTreeMap<PlatformKind, AllowList>,
    pub(super) threads: bool,
    mentions: BTreeMap<ChannelId, Mentions>,
    rate: Rate,
    longest_text: Option<usize>,
    secrets: Secrets,
    link_domains: Option<Arc<[String]>>,
}

impl Rights {
    /// To post to these channels, in threads too, and nothing besides.
    #[must_use]
    pub fn to_send(send: BTreeMap<PlatformKind, AllowList>) -> Self {
        Self { send, threads: true, ..Self::default() }
    }

    /// Reads what stands in the file, on top of the channels of `send`.
    ///
    /// # Errors
    /// When an entry is malformed: its key, and what is wrong with it.
    pub fn read(
        config: &Config,
        send: BTreeMap<PlatformKind, AllowList>,
    ) -> Result<Self, (&'static str, String)> {
        let mut mentions = BTreeMap::new();
        for (channel, kinds) in &config.mentions {
            let id = channel.parse().map_err(|error| ("mentions", format!("{error}")))?;
            let has = |kind| kinds.contains(&kind);
            let allowed = Mentions {
                broadcast: has(Mention::Broadcast),
                groups: has(Mention::Groups),
                people: has(Mention::People),
            };
            mentions.insert(id, allowed);
        }
        let domains = config.link_domains.as_deref().map(domains).transpose();
        Ok(Self {
            send: lists(&config.send, send).map_err(|error| ("send", error))?,
            list: lists(&config.list, BTreeMap::new()).map_err(|error| ("list", error))?,
            threads: config.threads,
            mentions,
            rate: Rate {
                messages: config.messages_per_minute,
                channels: config.channels_per_minute,
            },
            longest_text: config.longest_text,
            secrets: config.secrets,
            link_domains: domains.map_err(|error| ("link_domains", error))?,
        })
    }

    /// What the guard lets pass in a channel.
    #[must_use]
    pub fn terms(&self, channel: &ChannelId) -> Terms {
        Terms {
            mentions: self.mentions.get(channel).copied().unwrap_or_default(),
            secrets: self.secrets,
            link_domains: self.link_domains.clone(),
        }
    }

    /// How much may be submitted.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// The longest text, in characters, if that is limited.
    #[must_use]
    pub const fn longest_text(&self) -> Option<usize> {
        self.longest_text
    }
}

/// `slack:C0123456789`, `alerts=slack:C0123456789` and `discord:*`, sorted by platform, behind what is there already.
fn lists(
    entries: &[String],
    mut lists: BTreeMap<PlatformKind, AllowList>,
) -> Result<BTreeMap<PlatformKind, AllowList>, String> {
    for entry in entries.iter().map(|entry| entry.trim()) {
        let (alias, channel) = match entry.split_once('=') {
            Some((alias, channel)) => (Some(alias.trim()), channel.trim()),
            None => (None, entry),
        };
        let shown = || entry.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
        let named = channel
            .split_once(':')
            .and_then(|(platform, id)| Some((PlatformKind::named(platform)?, id)));
        let (platform, id) = named.ok_or_else(|| {
            format!(
                "`{}` is no channel: write slack:C0123456789, alerts=slack:C0123456789 or discord:*",
                shown()
            )
        })?;
        let list = lists.entry(platform).or_default();
        list.add(platform, alias, id).map_err(|error: InvalidAllowList| error.to_string())?;
    }
    Ok(lists)
}

fn domains(entries: &[String]) -> Result<Arc<[String]>, String> {
    let domain = |entry: &String| {
        let name = entry.trim().trim_end_matches('.').to_ascii_lowercase();
        let fine = name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if fine {
            return Ok(name);
        }
        let shown: String = entry.chars().filter(|c| !c.is_control()).take(64).collect();
        Err(format!("`{shown}` is no domain: write example.com (without https://, in ASCII)"))
    };
    entries.iter().map(domain).collect()
}
