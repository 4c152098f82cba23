//! Messages as Discord takes them: <https://docs.discord.com/developers/resources/message#create-message>.

use http::Method;
use serde::Serialize;
use serde_json::Value;

use super::api::understood;
use super::{Discord, Made, failure};
use crate::model::{Button, ButtonStyle, CardPart, Failure, Mentions, Part, Placement, Reason};
use crate::platform::Sent;

/// No link previews.
pub(super) const SUPPRESS_EMBEDS: u32 = 1 << 2;
/// No sound.
const SUPPRESS_NOTIFICATIONS: u32 = 1 << 12;

#[derive(Serialize)]
struct Message<'a> {
    content: &'a str,
    /// Left out, everything that looks like a mention would ping; so would whoever is replied to.
    allowed_mentions: AllowedMentions,
    flags: u32,
    /// An empty list takes them away.
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<Vec<Row<'a>>>,
    #[serde(flatten)]
    new: Option<New<'a>>,
}

/// What only a new message has.
#[derive(Serialize)]
struct New<'a> {
    /// With `enforce_nonce`, a repetition within a few minutes returns the first message.
    nonce: &'a str,
    enforce_nonce: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_reference: Option<Reference<'a>>,
}

/// <https://docs.discord.com/developers/resources/message#allowed-mentions-object>
#[derive(Serialize)]
pub(super) struct AllowedMentions {
    parse: Vec<&'static str>,
}

impl AllowedMentions {
    pub(super) const NONE: Self = Self { parse: Vec::new() };
}

impl From<Mentions> for AllowedMentions {
    fn from(mentions: Mentions) -> Self {
        let kinds = [
            (mentions.broadcast, "everyone"),
            (mentions.groups, "roles"),
            (mentions.people, "users"),
        ];
        Self {
            parse: kinds.into_iter().filter_map(|(calls, kind)| calls.then_some(kind)).collect(),
        }
    }
}

#[derive(Serialize)]
struct Reference<'a> {
    message_id: &'a str,
    fail_if_not_exists: bool,
}

/// <https://docs.discord.com/developers/components/reference#action-row>
#[derive(Serialize)]
struct Row<'a> {
    #[serde(rename = "type")]
    kind: u8,
    components: Vec<Pressable<'a>>,
}

/// <https://docs.discord.com/developers/components/reference#button>
#[derive(Serialize)]
struct Pressable<'a> {
    #[serde(rename = "type")]
    kind: u8,
    style: u8,
    label: &'a str,
    custom_id: &'a str,
}

impl<'a> Row<'a> {
    fn all(card: &'a CardPart) -> Vec<Self> {
        let row = |row: &'a Vec<Button>| Self {
            kind: 1,
            components: row.iter().map(Pressable::from).collect(),
        };
        card.rows.iter().map(row).collect()
    }
}

impl<'a> From<&'a Button> for Pressable<'a> {
    fn from(button: &'a Button) -> Self {
        let style = match button.style {
            ButtonStyle::Plain => 2,
            ButtonStyle::Good => 3,
            ButtonStyle::Danger => 4,
        };
        Self { kind: 2, style, label: &button.label, custom_id: &button.key }
    }
}

fn text(part: &Part) -> &str {
    part.text().map_or("", |text| &text.body)
}

/// The kinds of mention that call people in this message.
fn mentions(part: &Part) -> AllowedMentions {
    part.text().map_or(AllowedMentions::NONE, |text| text.mentions.into())
}

impl Discord {
    pub(super) async fn post(
        &self,
        channel: &str,
        placement: &Placement,
        nonce: &str,
        part: &Part,
    ) -> Result<Sent, Failure> {
        let silent = if placement.silent { SUPPRESS_NOTIFICATIONS } else { 0 };
        let message = Message {
            content: text(part),
            allowed_mentions: mentions(part),
            flags: SUPPRESS_EMBEDS | silent,
            components: match part {
                Part::Card(card) => Some(Row::all(card)),
                Part::Text(_) | Part::File(_) => None,
            },
            new: Some(New {
                nonce,
                enforce_nonce: true,
                message_reference: placement
                    .reply_to
                    .as_deref()
                    .map(|message_id| Reference { message_id, fail_if_not_exists: false }),
            }),
        };
        self.learn(channel);
        let path = ["channels", channel, "messages"];
        let answer = match part {
            Part::File(file) => self.api.upload(&path, &message, file).await?,
            Part::Text(_) | Part::Card(_) => {
                self.api.call(Method::POST, &path, Some(&message)).await?
            }
        };
        // A message that is replied to may be gone (`fail_if_not_exists`), so what is unknown is the first message with
        // this nonce: it arrived, and somebody deleted it.
        if failure::code(&answer) == Some(failure::UNKNOWN_MESSAGE) {
            return Ok(Sent::default());
        }
        let made: Made = understood(&answer)?;
        Ok(Sent { permalink: self.permalink(channel, &made.id), id: made.id })
    }

    pub(super) async fn edit(&self, channel: &str, id: &str, part: &Part) -> Result<Sent, Failure> {
        let components = match part {
            Part::Text(_) => Vec::new(),
            Part::Card(card) => Row::all(card),
            Part::File(_) => {
                let why = "a message cannot become a file";
                return Err(Failure::give_up(Reason::Internal, why));
            }
        };
        let message = Message {
            content: text(part),
            allowed_mentions: mentions(part),
            flags: SUPPRESS_EMBEDS,
            components: Some(components),
            new: None,
        };
        let path = ["channels", channel, "messages", id];
        let answer = self.api.call(Method::PATCH, &path, Some(&message)).await?;
        let made: Made = understood(&answer)?;
        Ok(Sent { permalink: self.permalink(channel, &made.id), id: made.id })
    }

    /// Fades after ten seconds: <https://docs.discord.com/developers/resources/channel#trigger-typing-indicator>.
    pub(super) async fn typing(&self, channel: &str) -> Result<(), Failure> {
        let path = ["channels", channel, "typing"];
        let answer = self.api.call(Method::POST, &path, None::<&Value>).await?;
        if answer.status.is_success() { Ok(()) } else { Err(failure::of(&answer)) }
    }
}
