//! What Slack tells about channels.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Slack;
use super::api::{Arguments, CallError, Reply};
use crate::model::{ChannelId, ChannelInfo, ChannelKind, Failure, PlatformKind, Reason};

/// The most pages of `conversations.list` that are read: 20 000 channels.
const MOST_PAGES: usize = 100;

/// A conversation, as far as we look at it: <https://docs.slack.dev/reference/objects/conversation-object>.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conversation {
    id: String,
    name: Option<String>,
    is_private: bool,
    is_im: bool,
    is_mpim: bool,
    is_archived: bool,
    is_read_only: bool,
    is_member: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    channel: Conversation,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    channels: Vec<Conversation>,
    response_metadata: Option<Cursor>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cursor {
    next_cursor: String,
}

impl Conversation {
    const fn kind(&self) -> ChannelKind {
        if self.is_im {
            ChannelKind::Direct
        } else if self.is_mpim {
            ChannelKind::Group
        } else if self.is_private {
            ChannelKind::Private
        } else {
            ChannelKind::Public
        }
    }

    /// What keeps the bot from posting here.
    fn obstacle(&self, scopes: Option<&[String]>) -> Option<&'static str> {
        let public = self.kind() == ChannelKind::Public;
        let anywhere = scopes.is_some_and(|s| s.iter().any(|s| s == "chat:write.public"));
        if self.is_archived {
            Some("the channel is archived: unarchive it or use another one")
        } else if self.is_read_only {
            Some(
                "the channel is read-only: an admin has to allow the bot under the channel's posting permissions",
            )
        } else if self.is_member || self.is_im || self.is_mpim || (public && anywhere) {
            None
        } else if public {
            Some(
                "the bot is not in the channel: invite it with /invite @your-bot, or grant it chat:write.public",
            )
        } else {
            Some("the bot is not in the channel: invite it with /invite @your-bot")
        }
    }

    fn info(self, id: &str, scopes: Option<&[String]>) -> ChannelInfo {
        let obstacle = self.obstacle(scopes);
        ChannelInfo {
            kind: self.kind(),
            can_post: obstacle.is_none(),
            note: obstacle.map(str::to_owned),
            name: self.name,
            ..unknown(id)
        }
    }
}

/// A channel of which nothing is known but its ID.
fn unknown(id: &str) -> ChannelInfo {
    ChannelInfo {
        platform: PlatformKind::Slack,
        id: id.to_owned(),
        alias: None,
        name: None,
        kind: ChannelKind::Unknown,
        can_post: true,
        note: None,
    }
}

impl Slack {
    /// One channel, by `conversations.info`.
    pub(super) async fn channel(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure> {
        let form = BTreeMap::from([("channel", channel.id())]);
        let answer: Result<Reply<Info>, _> =
            self.api.call("conversations.info", Arguments::Form(&form)).await;
        let refusal = match answer {
            Ok(Reply { value, scopes }) => {
                return Ok(value.channel.info(channel.id(), scopes.as_deref()));
            }
            Err(CallError::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
        };
        if refusal.lacks_scope() {
            return Ok(ChannelInfo {
                note: Some(
                    "its name and state are not known: add the scope channels:read (groups:read for private channels) under OAuth & Permissions and reinstall the app"
                        .to_owned(),
                ),
                ..unknown(channel.id())
            });
        }
        let failure = refusal.failure(None);
        match failure.reason {
            Reason::ChannelNotFound | Reason::NotInChannel => Ok(ChannelInfo {
                can_post: false,
                note: Some(failure.hint),
                ..unknown(channel.id())
            }),
            _ => Err(failure),
        }
    }

    /// Every channel the bot is in, by `conversations.list`. Asks for less where a scope is missing.
    pub(super) async fn channels(&self) -> Result<Vec<ChannelInfo>, Failure> {
        let mut lacking = None;
        for types in ["public_channel,private_channel", "public_channel", "private_channel"] {
            match self.channels_of(types).await {
                Err(CallError::Refused(refusal)) if refusal.lacks_scope() => {
                    lacking = Some(refusal.failure(None));
                }
                other => return Ok(other?),
            }
        }
        Err(lacking.unwrap_or_else(|| Failure::give_up(Reason::Internal, "no channels to ask for")))
    }

    async fn channels_of(&self, types: &str) -> Result<Vec<ChannelInfo>, CallError> {
        let mut found = Vec::new();
        let mut cursor = String::new();
        for _ in 0..MOST_PAGES {
            let mut form =
                BTreeMap::from([("types", types), ("exclude_archived", "true"), ("limit", "200")]);
            if let Some(team) = &self.team_id {
                form.insert("team_id", team);
            }
            if !cursor.is_empty() {
                form.insert("cursor", &cursor);
            }
            let Reply { value, scopes } =
                self.api.call::<Page>("conversations.list", Arguments::Form(&form)).await?;
            let ours = value.channels.into_iter().filter(|c| c.is_member);
            found.extend(ours.map(|conversation| {
                let id = conversation.id.clone();
                conversation.info(&id, scopes.as_deref())
            }));
            cursor = value.response_metadata.unwrap_or_default().next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}
