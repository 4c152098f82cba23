//! Messages: sending, editing and deleting them, buttons below them, files, and the sign that the bot is at work.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Telegram;
use super::api::understood;
use super::chats::{Chat, ChatId, address, named_topic};
use super::failure::Refusal;
use crate::model::{
    Button, ButtonStyle, ChannelId, Failure, FilePart, Part, Placement, PlatformKind, Reason,
};
use crate::platform::Sent;
use crate::platform::http::Answer;
use crate::platform::verdict::not_understood;

/// The least time for the second try, without markup.
const AS_PLAIN_TEXT: Duration = Duration::from_secs(4);
/// For a file on its way up.
const UPLOAD: Duration = Duration::from_secs(19);

/// <https://core.telegram.org/bots/api#sendmessage>, and with a message ID <https://core.telegram.org/bots/api#editmessagetext>.
#[derive(Clone, Debug, Serialize)]
struct Message<'a> {
    chat_id: ChatId,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parse_mode: Option<&'static str>,
    link_preview_options: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_thread_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_parameters: Option<Reply>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_notification: bool,
    /// Without one, an edited message loses its buttons.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_markup: Option<Value>,
}

#[derive(Clone, Debug, Serialize)]
struct Reply {
    message_id: i64,
    allow_sending_without_reply: bool,
}

/// A message, as far as we look at it.
#[derive(Debug, Deserialize)]
struct Posted {
    message_id: i64,
    #[serde(default)]
    chat: Chat,
}

/// Where a message goes: the chat, the topic in it, and what it answers.
struct Place {
    chat: ChatId,
    topic: Option<i64>,
    reply: Option<Reply>,
}

impl Place {
    fn of(channel: &ChannelId, placement: &Placement) -> Result<Self, Failure> {
        let (chat, topic) = address(channel);
        let asked = number(placement.thread.as_deref())?;
        // A channel that is a topic allows that topic alone.
        if let (Some(asked), Some(allowed)) = (asked, topic)
            && asked != allowed
        {
            return Err(Failure::give_up(
                Reason::Denied,
                format!("this channel is the topic {allowed}: leave out `message_thread_id`"),
            ));
        }
        let reply = number(placement.reply_to.as_deref())?
            .map(|message_id| Reply { message_id, allow_sending_without_reply: true });
        Ok(Self { chat, topic: topic.or(asked), reply })
    }
}

impl Telegram {
    pub(super) async fn post(
        &self,
        channel: &ChannelId,
        placement: &Placement,
        part: &Part,
    ) -> Result<Sent, Failure> {
        let place = Place::of(channel, placement)?;
        let message = Message {
            message_thread_id: named_topic(place.topic),
            reply_parameters: place.reply,
            disable_notification: placement.silent,
            ..message(place.chat, part)
        };
        let answer = self.write("sendMessage", message, part, self.api.timeout()).await?;
        sent(&answer, place.topic)
    }

    /// <https://core.telegram.org/bots/api#senddocument>
    pub(super) async fn upload(
        &self,
        channel: &ChannelId,
        placement: &Placement,
        file: &FilePart,
    ) -> Result<Sent, Failure> {
        let unusable = || Failure::give_up(Reason::Internal, "the file to send cannot be read");
        let place = Place::of(channel, placement)?;
        let bytes = STANDARD.decode(&file.base64).map_err(|_| unusable())?;
        let document = multipart::Part::bytes(bytes)
            .file_name(file.name.clone())
            .mime_str(&file.mime)
            .map_err(|_| unusable())?;
        let chat = match place.chat {
            ChatId::Number(number) => number.to_string(),
            ChatId::Name(name) => name,
        };
        let mut form = multipart::Form::new().text("chat_id", chat).part("document", document);
        if let Some(topic) = named_topic(place.topic) {
            form = form.text("message_thread_id", topic.to_string());
        }
        if let Some(reply) = place.reply {
            form = form.text("reply_parameters", json!(reply).to_string());
        }
        if placement.silent {
            form = form.text("disable_notification", "true");
        }
        let answer = self.api.upload("sendDocument", form, UPLOAD).await?;
        sent(&answer, place.topic)
    }

    /// Each of its requests, one or two, takes at most `within`.
    pub(super) async fn edit(
        &self,
        channel: &ChannelId,
        id: &str,
        part: &Part,
        within: Duration,
    ) -> Result<Sent, Failure> {
        if matches!(part, Part::File(_)) {
            return Err(Failure::give_up(
                Reason::Internal,
                "a file cannot take a message's place: it has to be sent",
            ));
        }
        let (chat_id, topic) = address(channel);
        let message = Message { message_id: number(Some(id))?, ..message(chat_id, part) };
        let answer = self.write("editMessageText", message, part, within).await?;
        let unchanged = Refusal::read(&answer).is_some_and(|r| r.says("message is not modified"));
        let edited = if unchanged {
            None
        } else {
            serde_json::from_value::<Posted>(understood(&answer)?).ok()
        };
        Ok(Sent {
            id: id.to_owned(),
            permalink: edited.and_then(|e| e.chat.permalink(topic, e.message_id)),
        })
    }

    pub(super) async fn delete(&self, channel: &ChannelId, id: &str) -> Result<Sent, Failure> {
        let (chat_id, _) = address(channel);
        let body = json!({"chat_id": chat_id, "message_id": number(Some(id))?});
        let answer = self.api.call("deleteMessage", &body, self.api.timeout()).await?;
        // Gone is gone: an earlier try may have done it.
        let gone = Refusal::read(&answer).is_some_and(|r| r.says("message to delete not found"));
        if !gone {
            understood(&answer)?;
        }
        Ok(Sent { id: id.to_owned(), permalink: None })
    }

    /// Shows for five seconds, or until a message comes: <https://core.telegram.org/bots/api#sendchataction>.
    pub(super) async fn typing(
        &self,
        channel: &ChannelId,
        placement: &Placement,
        within: Duration,
    ) -> Result<(), Failure> {
        let place = Place::of(channel, placement)?;
        let mut body = json!({"chat_id": place.chat, "action": "typing"});
        if let (Some(topic), Some(body)) = (named_topic(place.topic), body.as_object_mut()) {
            body.insert("message_thread_id".to_owned(), json!(topic));
        }
        understood(&self.api.call("sendChatAction", &body, within).await?).map(drop)
    }

    /// Sends the markup; where Telegram does not understand it, the same without any, within the same time.
    async fn write(
        &self,
        method: &'static str,
        message: Message<'_>,
        part: &Part,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let start = Instant::now();
        let answer = self.api.call(method, &message, within).await?;
        if !Refusal::read(&answer).is_some_and(|r| r.says("can't parse entities")) {
            return Ok(answer);
        }
        let plain = part.text().map_or("", |text| &text.plain);
        let plain = Message { text: plain, parse_mode: None, ..message };
        // A second request that ran out of time at once would be in doubt, though nothing was sent.
        let left = within.saturating_sub(start.elapsed()).max(AS_PLAIN_TEXT);
        self.api.call(method, &plain, left).await
    }
}

fn sent(answer: &Answer, topic: Option<i64>) -> Result<Sent, Failure> {
    let posted: Posted = serde_json::from_value(understood(answer)?)
        .map_err(|_| not_understood(PlatformKind::Telegram))?;
    Ok(Sent {
        id: posted.message_id.to_string(),
        permalink: posted.chat.permalink(topic, posted.message_id),
    })
}

/// A message of this text and these buttons, with nothing else said.
fn message(chat_id: ChatId, part: &Part) -> Message<'_> {
    Message {
        chat_id,
        text: part.text().map_or("", |text| &text.body),
        parse_mode: Some("HTML"),
        link_preview_options: json!({"is_disabled": true}),
        message_id: None,
        message_thread_id: None,
        reply_parameters: None,
        disable_notification: false,
        reply_markup: match part {
            Part::Card(card) => Some(keyboard(&card.rows)),
            Part::Text(_) | Part::File(_) => None,
        },
    }
}

/// <https://core.telegram.org/bots/api#inlinekeyboardmarkup>
fn keyboard(rows: &[Vec<Button>]) -> Value {
    let button = |button: &Button| {
        let mut key = json!({"text": button.label, "callback_data": button.key});
        let style = match button.style {
            ButtonStyle::Plain => None,
            ButtonStyle::Good => Some("success"),
            ButtonStyle::Danger => Some("danger"),
        };
        if let (Some(style), Some(key)) = (style, key.as_object_mut()) {
            key.insert("style".to_owned(), json!(style));
        }
        key
    };
    let rows: Vec<Vec<Value>> = rows.iter().map(|row| row.iter().map(button).collect()).collect();
    json!({"inline_keyboard": rows})
}

/// An ID of a message or topic.
fn number(id: Option<&str>) -> Result<Option<i64>, Failure> {
    id.map(str::parse::<i64>).transpose().map_err(|_| {
        Failure::give_up(
            Reason::MessageNotFound,
            "Telegram's messages and topics are numbered: this is no number",
        )
    })
}
