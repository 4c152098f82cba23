//! What comes in: events as the platforms tell them, in one vocabulary.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ChannelId, PlatformKind};
use crate::clock::Timestamp;

/// Somebody on a platform, by the ID that the platform vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The platform's ID of them: `U0123456789`, `112233445566778899`, `123456789`.
    pub id: String,
    /// What they call themselves. Written by a stranger: data, for people's eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// They belong to another organisation (Slack Connect).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outsider: bool,
}

/// Somebody spoke to the bot somewhere: what a reply follows, and what is checked again before it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// Where. For a Discord thread the channel it belongs to, for a Telegram topic the chat.
    pub channel: ChannelId,
    /// In which thread: Slack's parent `ts`, the Discord thread's channel ID, the Telegram topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// A conversation of one person with the bot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// Who.
    pub person: Person,
}

impl Visit {
    /// The platform.
    #[must_use]
    pub const fn platform(&self) -> PlatformKind {
        self.channel.platform()
    }
}

/// Why the bot may speak in a channel where nobody may post: somebody spoke to it there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Invitation {
    /// Somebody who may talk to the agent. Checked again before anything is sent.
    Answer {
        /// Who spoke where.
        visit: Visit,
    },
    /// Somebody who may not: they are told their own ID, in Herald's words, and nothing else.
    TurnAway {
        /// Who spoke where.
        visit: Visit,
    },
}

impl Invitation {
    /// Who spoke where.
    #[must_use]
    pub const fn visit(&self) -> &Visit {
        match self {
            Self::Answer { visit } | Self::TurnAway { visit } => visit,
        }
    }
}

/// Where an answer may be given without being a member of the channel: Slack's `response_url`.
///
/// It holds a secret; only the store sees it.
#[derive(Clone)]
pub struct ResponseUrl(SecretString);

impl ResponseUrl {
    /// The address.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(SecretString::from(url.into()))
    }

    /// The address itself, for the one request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ResponseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseUrl(…)")
    }
}

impl PartialEq for ResponseUrl {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for ResponseUrl {}

impl Serialize for ResponseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for ResponseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// A file that somebody attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name, as its owner wrote it.
    pub name: String,
    /// Its media type, as the platform tells it.
    pub mime: String,
    /// Its size in bytes, where the platform tells it.
    pub size: Option<u64>,
    /// What the platform's [`fetch`](crate::platform::Platform::fetch) needs: an address or a file ID.
    pub source: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Occurrence {
    /// Something was written. The bot's own mention is taken out of the text.
    Message {
        /// The platform's ID of the message.
        message_id: String,
        /// What was written, as plain text: mentions of others as `@name`, links as their address.
        text: String,
        /// It was meant for the bot: a mention, a direct message, a reply to the bot.
        addressed: bool,
        /// What was attached.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<Attachment>,
    },
    /// A command of the platform's own: Slack's and Discord's slash commands, Telegram's `/new`.
    Command {
        /// Its name without the slash, in lower case: `mykagent`, `new`, `k8s`.
        name: String,
        /// What stands behind it.
        text: String,
        /// The platform's ID of the message, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
    },
    /// A button on one of the bot's messages was pressed.
    Press {
        /// The button's key.
        key: String,
        /// The platform's ID of the message it stands on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
    },
}

/// One inbound event. It is stored before the platform is told that it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique on its platform: what comes twice has the same ID (Slack: `CHANNEL:TS` of a message, which arrives as
    /// `message` and as `app_mention`; `trigger_id` of the rest. Discord: the snowflake. Telegram: `update_id`).
    pub id: String,
    /// Who spoke where.
    pub visit: Visit,
    /// What happened.
    pub what: Occurrence,
    /// Where it can be answered without being a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<ResponseUrl>,
    /// When it arrived here.
    pub at: Timestamp,
    /// The W3C trace context under which it was taken, where traces are exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// When it happened, where the platform says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened_at: Option<Timestamp>,
}
