//! Telegram, over the Bot API.

mod api;
mod chats;
mod config;
mod failure;
pub mod render;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
pub use config::Config;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::api::{Api, understood};
use self::chats::{Chat, ChatId, address, named_topic};
use self::failure::Refusal;
use super::http::{Answer, HttpClient};
use super::listener::Listener;
use super::verdict::not_understood;
use super::{Capabilities, Pace, Platform, Sent, Signal};
use crate::clock::Clock;
use crate::model::{
    Action, Attachment, ChannelId, ChannelInfo, Failure, Identity, Part, Placement, PlatformKind,
    Reason, Step,
};
use crate::policy::Route;
use crate::render::{Document, RenderError};

/// The least time for the second try, without markup.
const AS_PLAIN_TEXT: Duration = Duration::from_secs(4);

/// What listens on Telegram as configured; `None` where the settings for it are missing. Calls nobody.
#[must_use]
pub fn listener(
    _config: &Config,
    _http: &HttpClient,
    _clock: &Arc<dyn Clock>,
) -> Option<Arc<dyn Listener>> {
    None
}

/// One Telegram bot.
#[derive(Debug)]
pub struct Telegram {
    api: Api,
    pace: Option<Pace>,
}

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

impl Telegram {
    /// Telegram as configured; `None` without a bot token. Calls nobody.
    #[must_use]
    pub fn new(config: &Config, http: HttpClient) -> Option<Self> {
        let token = config.bot_token.clone()?;
        let base = config.api_url.clone().or_else(|| api::BASE.parse().ok())?;
        Some(Self { api: Api::new(http, base, token), pace: config.pace })
    }

    async fn post(
        &self,
        channel: &ChannelId,
        placement: &Placement,
        part: &Part,
    ) -> Result<Sent, Failure> {
        let (chat_id, topic) = address(channel);
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
        let topic = topic.or(asked);
        let message = Message {
            message_thread_id: named_topic(topic),
            reply_parameters: number(placement.reply_to.as_deref())?
                .map(|message_id| Reply { message_id, allow_sending_without_reply: true }),
            disable_notification: placement.silent,
            ..message(chat_id, part)
        };
        let answer = self.write("sendMessage", message, part).await?;
        let posted: Posted = serde_json::from_value(understood(&answer)?)
            .map_err(|_| not_understood(PlatformKind::Telegram))?;
        Ok(Sent {
            id: posted.message_id.to_string(),
            permalink: posted.chat.permalink(topic, posted.message_id),
        })
    }

    async fn edit(&self, channel: &ChannelId, id: &str, part: &Part) -> Result<Sent, Failure> {
        let (chat_id, topic) = address(channel);
        let message = Message { message_id: number(Some(id))?, ..message(chat_id, part) };
        let answer = self.write("editMessageText", message, part).await?;
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

    async fn delete(&self, channel: &ChannelId, id: &str) -> Result<Sent, Failure> {
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

    /// Sends the markup; where Telegram does not understand it, the same without any, within the same time.
    async fn write(
        &self,
        method: &str,
        message: Message<'_>,
        part: &Part,
    ) -> Result<Answer, Failure> {
        let start = Instant::now();
        let answer = self.api.call(method, &message, self.api.timeout()).await?;
        if !Refusal::read(&answer).is_some_and(|r| r.says("can't parse entities")) {
            return Ok(answer);
        }
        let plain = part.text().map_or("", |text| &text.plain);
        let plain = Message { text: plain, parse_mode: None, ..message };
        // A second request that ran out of time at once would be in doubt, though nothing was sent.
        let left = self.api.timeout().saturating_sub(start.elapsed()).max(AS_PLAIN_TEXT);
        self.api.call(method, &plain, left).await
    }
}

/// A message of this text, with nothing else said.
fn message(chat_id: ChatId, part: &Part) -> Message<'_> {
    let body = part.text().map_or("", |text| &text.body);
    Message {
        chat_id,
        text: body,
        parse_mode: Some("HTML"),
        link_preview_options: json!({"is_disabled": true}),
        message_id: None,
        message_thread_id: None,
        reply_parameters: None,
        disable_notification: false,
    }
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

fn is_id(id: &str) -> bool {
    id.parse::<i64>().is_ok_and(|id| id > 0)
}

#[async_trait]
impl Platform for Telegram {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Telegram
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { dedupes: false, threads: false, opens_threads: false }
    }

    fn pace(&self, channel: &ChannelId) -> Pace {
        // Groups and channels, whose IDs are negative or names, take 20 a minute.
        let person = channel.id().starts_with(|c: char| c.is_ascii_digit());
        let vendor = if person {
            Pace::new(Duration::from_secs(1), 3)
        } else {
            Pace::new(Duration::from_millis(3333), 3)
        };
        self.pace.unwrap_or(vendor)
    }

    fn credential_pace(&self) -> Pace {
        // Telegram's own limit is about 30 in any second.
        Pace::new(Duration::from_millis(40), 5)
    }

    fn render(&self, document: &Document) -> Result<Vec<Part>, RenderError> {
        Ok(render::parts(document)?.into_iter().map(Part::Text).collect())
    }

    fn check(&self, placement: &Placement) -> Result<(), String> {
        let bad = |id: &Option<String>| id.as_deref().is_some_and(|id| !is_id(id));
        if bad(&placement.thread) {
            Err("`message_thread_id` has to be a forum topic's number, such as 42".to_owned())
        } else if bad(&placement.reply_to) {
            Err(
                "`reply_to` has to be a message's number, such as 42 (the message_ids of a receipt)"
                    .to_owned(),
            )
        } else {
            Ok(())
        }
    }

    fn thread_of(&self, first: &str) -> Placement {
        Placement { reply_to: Some(first.to_owned()), ..Placement::default() }
    }

    async fn deliver(
        &self,
        route: &Route,
        placement: &Placement,
        step: &Step,
    ) -> Result<Sent, Failure> {
        let channel = route.channel();
        match &step.action {
            Action::Send { part } => self.post(channel, placement, part).await,
            Action::Edit { message_id, part, .. } => self.edit(channel, message_id, part).await,
            Action::Delete { message_id, .. } => self.delete(channel, message_id).await,
            Action::OpenThread { .. } => {
                Err(Failure::give_up(Reason::Internal, "Telegram opens no threads from messages"))
            }
        }
    }

    async fn signal(
        &self,
        _route: &Route,
        _placement: &Placement,
        _signal: &Signal,
    ) -> Result<(), Failure> {
        Err(Failure::give_up(Reason::Internal, "not built yet"))
    }

    async fn fetch(&self, _file: &Attachment, _most: usize) -> Result<Vec<u8>, Failure> {
        Err(Failure::give_up(Reason::Internal, "not built yet"))
    }

    async fn describe(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure> {
        self.chat(channel).await
    }

    async fn list(&self) -> Result<Vec<ChannelInfo>, Failure> {
        Err(Failure::give_up(
            Reason::Rejected,
            "Telegram does not tell a bot which chats it is in: the operator can name them in TELEGRAM_CHAT_IDS",
        ))
    }

    async fn probe(&self) -> Result<Identity, Failure> {
        #[derive(Deserialize)]
        struct Me {
            id: i64,
            username: Option<String>,
        }
        let me: Me = serde_json::from_value(self.api.ask("getMe", &json!({})).await?)
            .map_err(|_| not_understood(PlatformKind::Telegram))?;
        let id = me.id.to_string();
        Ok(Identity {
            name: me.username.unwrap_or_else(|| id.clone()),
            id,
            workspace: None,
            scopes: None,
        })
    }
}

#[cfg(test)]
mod tests;
