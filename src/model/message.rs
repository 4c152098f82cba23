//! Messages: what is asked to be sent, and the pieces that travel.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PlatformKind;

/// Who calls the MCP server, known from its bearer token; `anonymous` where the operator allowed that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientName(String);

impl ClientName {
    /// A client by its configured name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where in its channel a message stands, in the platform's own terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Slack: the parent's `ts`. Discord: the thread's channel ID. Telegram: the forum topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Discord, Telegram: the message this one replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Slack: a reply in a thread that also shows in the channel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broadcast: bool,
    /// Telegram, Discord: without a sound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
}

/// What a caller asks to have sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The platform.
    pub platform: PlatformKind,
    /// The channel as the caller wrote it: an ID, or one of the operator's aliases.
    pub channel: String,
    /// The message, as Markdown (CommonMark with GitHub's extensions).
    pub text: String,
    /// Where in the channel it stands.
    pub placement: Placement,
    /// A word of the agent's own: messages with the same word land in one thread.
    pub thread_key: Option<String>,
    /// The caller's name for this message: the same key sends it once.
    pub idempotency_key: Option<String>,
}

/// One rendered piece of a submission, in the platform's dialect and within its limit.
///
/// Serialised into the outbox, so that a retry sends the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text(TextPart),
}

/// Rendered text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPart {
    /// The text in the platform's dialect.
    pub body: String,
    /// The same without markup: Slack's notification text, Telegram's second try when it refuses the markup.
    pub plain: String,
}

/// Who a platform says we are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The bot's ID.
    pub id: String,
    /// The bot's name.
    pub name: String,
    /// The workspace, where the platform has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// The permissions the token carries, where the platform tells (Slack's scopes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}
