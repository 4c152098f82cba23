//! Messages: what is asked to be sent, and the pieces that travel.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{PlatformKind, ResponseUrl};

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
    /// Slack: where to answer if the bot is no member of the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<ResponseUrl>,
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
    /// Text with buttons below it. Editing it into a [`Part::Text`] takes the buttons away.
    Card(CardPart),
    /// A file.
    File(FilePart),
}

impl Part {
    /// The text of it; a file has none.
    #[must_use]
    pub const fn text(&self) -> Option<&TextPart> {
        match self {
            Self::Text(text) | Self::Card(CardPart { text, .. }) => Some(text),
            Self::File(_) => None,
        }
    }

    /// Likewise.
    pub const fn text_mut(&mut self) -> Option<&mut TextPart> {
        match self {
            Self::Text(text) | Self::Card(CardPart { text, .. }) => Some(text),
            Self::File(_) => None,
        }
    }

    /// What its links were held to.
    pub(crate) fn held_to(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Card(CardPart { text, .. }) => text.held_to.as_deref(),
            Self::File(file) => file.held_to.as_deref(),
        }
    }

    /// Likewise.
    pub(crate) const fn held_to_mut(&mut self) -> &mut Option<String> {
        match self {
            Self::Text(text) | Self::Card(CardPart { text, .. }) => &mut text.held_to,
            Self::File(file) => &mut file.held_to,
        }
    }
}

/// Text with buttons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardPart {
    /// What stands above the buttons.
    pub text: TextPart,
    /// The buttons: at most 5 rows of at most 5 (Discord's limit, the smallest).
    pub rows: Vec<Vec<Button>>,
}

/// A button.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    /// What comes back when it is pressed: opaque, at most 64 bytes (Telegram's limit) of letters, digits, `-`, `_`.
    pub key: String,
    /// What people read on it: plain text, at most 75 characters (Slack's limit).
    pub label: String,
    /// How it looks.
    #[serde(default)]
    pub style: ButtonStyle,
}

/// How a button looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ButtonStyle {
    /// Like any other.
    #[default]
    Plain,
    /// Green: go ahead.
    Good,
    /// Red: stop.
    Danger,
}

/// A file to upload. At most 8 MB.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePart {
    /// Its name: no path, no control characters.
    pub name: String,
    /// Its media type.
    pub mime: String,
    /// What is in it, in base64.
    pub base64: String,
    /// For Markdown whose links are held to a list of domains: a digest of that list, empty if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_to: Option<String>,
}

impl fmt::Debug for FilePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FilePart { name, mime, base64, held_to: _ } = self;
        write!(f, "FilePart({name:?}, {mime:?}, {} characters of base64)", base64.len())
    }
}

/// The mentions that call people. Everything else that looks like one is only shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mentions {
    /// Everybody: `@channel`, `@here`, `@everyone`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broadcast: bool,
    /// Slack's user groups, Discord's roles.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub groups: bool,
    /// One person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub people: bool,
}

impl Mentions {
    /// Nobody is called.
    pub const NONE: Self = Self { broadcast: false, groups: false, people: false };

    /// Whether nobody is called.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        !(self.broadcast || self.groups || self.people)
    }
}

/// Rendered text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPart {
    /// The text in the platform's dialect.
    pub body: String,
    /// The same without markup: Slack's notification text, Telegram's second try when it refuses the markup.
    pub plain: String,
    /// The mentions in it that call people, with the operator's leave: no others may be sent so that they do.
    #[serde(default, skip_serializing_if = "Mentions::is_none")]
    pub mentions: Mentions,
    /// A digest of the list of domains that its links were held to, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_to: Option<String>,
}

impl TextPart {
    /// Text that calls nobody.
    pub fn new(body: impl Into<String>, plain: impl Into<String>) -> Self {
        Self { body: body.into(), plain: plain.into(), mentions: Mentions::NONE, held_to: None }
    }
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
