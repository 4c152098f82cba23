//! Chats: how they are addressed, linked to and described.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Telegram;
use crate::model::{ChannelId, ChannelInfo, ChannelKind, Failure, PlatformKind, Reason};

/// A supergroup's or channel's ID is this minus the number that links show.
const CHANNEL_BASE: i64 = -1_000_000_000_000;

/// The topic of a forum in which every message without one stands; it must not be named when sending.
const GENERAL_TOPIC: i64 = 1;

/// `chat_id`: a number, or the `@name` of a public chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum ChatId {
    Number(i64),
    Name(String),
}

/// The chat and the forum topic that a channel ID names.
pub(super) fn address(channel: &ChannelId) -> (ChatId, Option<i64>) {
    let (chat, topic) = match channel.id().split_once('/') {
        Some((chat, topic)) => (chat, topic.parse().ok()),
        None => (channel.id(), None),
    };
    let chat = match chat.parse() {
        Ok(number) => ChatId::Number(number),
        Err(_) => ChatId::Name(chat.to_owned()),
    };
    (chat, topic)
}

/// The topic as it is sent.
pub(super) fn named_topic(topic: Option<i64>) -> Option<i64> {
    topic.filter(|topic| *topic != GENERAL_TOPIC)
}

/// A chat, as far as we look at it: <https://core.telegram.org/bots/api#chatfullinfo>.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chat {
    id: i64,
    #[serde(rename = "type")]
    kind: String,
    title: Option<String>,
    username: Option<String>,
    first_name: Option<String>,
    permissions: Option<Permissions>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Permissions {
    can_send_messages: Option<bool>,
}

/// The bot as a member: <https://core.telegram.org/bots/api#chatmember>.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Member {
    status: String,
    can_post_messages: Option<bool>,
    can_send_messages: Option<bool>,
}

impl Chat {
    /// `https://t.me/name/7` or `https://t.me/c/1000000001/7`; other chats have no links.
    pub(super) fn permalink(&self, topic: Option<i64>, message: i64) -> Option<String> {
        let place = match self.username.as_deref().filter(|name| is_name(name)) {
            Some(name) if self.kind != "private" => name.to_owned(),
            _ if self.id < CHANNEL_BASE => format!("c/{}", CHANNEL_BASE - self.id),
            _ => return None,
        };
        Some(match topic {
            Some(topic) => format!("https://t.me/{place}/{topic}/{message}"),
            None => format!("https://t.me/{place}/{message}"),
        })
    }

    const fn category(&self, public: bool) -> ChannelKind {
        match (self.kind.as_bytes(), public) {
            (b"private", _) => ChannelKind::Direct,
            (b"channel", _) => ChannelKind::Broadcast,
            (b"group", _) => ChannelKind::Group,
            (b"supergroup", true) => ChannelKind::Public,
            (b"supergroup", false) => ChannelKind::Private,
            _ => ChannelKind::Unknown,
        }
    }

    /// What keeps the bot from posting here, given what it is here.
    fn obstacle(&self, me: Option<&Member>) -> Option<&'static str> {
        let muted = |p: &Permissions| p.can_send_messages == Some(false);
        let Some(me) = me else {
            let muted = self.permissions.as_ref().is_some_and(muted);
            return muted
                .then_some("members may not write in this group: make the bot an administrator");
        };
        match me.status.as_str() {
            "left" | "kicked" => Some(
                "the bot is not in the chat: add it to the group, or to the channel as an administrator",
            ),
            "restricted" if me.can_send_messages == Some(false) => Some(
                "the bot may not send messages in this chat: give it the right to, or make it an administrator",
            ),
            "administrator" if self.kind == "channel" && me.can_post_messages == Some(false) => {
                Some("the bot may not post in this channel: give it the right to post messages")
            }
            "member" if self.kind == "channel" => {
                Some("only administrators post in a channel: make the bot one")
            }
            "member" if self.permissions.as_ref().is_some_and(muted) => {
                Some("members may not write in this group: make the bot an administrator")
            }
            _ => None,
        }
    }
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl Telegram {
    pub(super) async fn chat(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure> {
        let (chat_id, topic) = address(channel);
        let mut info = ChannelInfo {
            platform: PlatformKind::Telegram,
            id: channel.id().to_owned(),
            alias: None,
            name: None,
            kind: ChannelKind::Unknown,
            can_post: false,
            note: None,
        };
        let answer = self.api.ask("getChat", &json!({"chat_id": chat_id})).await;
        let chat: Chat = match answer {
            Ok(chat) => serde_json::from_value(chat).unwrap_or_default(),
            Err(failure)
                if matches!(
                    failure.reason,
                    Reason::ChannelNotFound | Reason::NotInChannel | Reason::MissingPermission
                ) =>
            {
                info.note = Some(failure.hint);
                return Ok(info);
            }
            Err(failure) => return Err(failure),
        };
        let me = self.membership(&chat_id, &chat).await;
        let obstacle = chat.obstacle(me.as_ref());
        info.kind = match topic {
            Some(_) => ChannelKind::Thread,
            None => chat.category(chat.username.is_some()),
        };
        info.can_post = obstacle.is_none();
        info.note = obstacle.map(str::to_owned);
        info.name = chat.title.or(chat.first_name);
        Ok(info)
    }

    /// What the bot is in a group or channel; nothing, where Telegram does not say.
    async fn membership(&self, chat_id: &ChatId, chat: &Chat) -> Option<Member> {
        if chat.kind == "private" {
            return None;
        }
        let ask = json!({"chat_id": chat_id, "user_id": self.api.bot_id()?});
        let member = self.api.ask("getChatMember", &ask).await.ok()?;
        serde_json::from_value(member).ok()
    }
}
