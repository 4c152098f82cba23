//! What Discord tells about channels: <https://docs.discord.com/developers/resources/channel>.

use serde::Deserialize;

use super::Discord;
use crate::model::{ChannelId, ChannelInfo, ChannelKind, Failure, PlatformKind, Reason};

/// Servers are asked for by the hundred; a bot in more than this many is not listed whole.
const MOST_GUILD_PAGES: usize = 5;

/// A channel, as far as we look at it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Channel {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: u8,
    #[serde(default)]
    pub(super) guild_id: Option<String>,
    #[serde(default)]
    pub(super) parent_id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) thread_metadata: Option<Thread>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Thread {
    #[serde(default)]
    pub(super) locked: bool,
}

#[derive(Debug, Deserialize)]
struct Guild {
    id: String,
    #[serde(default)]
    name: Option<String>,
}

impl Channel {
    /// A channel of which this much is known.
    pub(super) const fn new(
        id: String,
        kind: u8,
        guild_id: Option<String>,
        parent_id: Option<String>,
        name: Option<String>,
    ) -> Self {
        Self { id, kind, guild_id, parent_id, name, thread_metadata: None }
    }

    /// Whether this is a thread, whose parent is a channel (a channel's parent is a category).
    pub(super) fn is_thread(&self) -> bool {
        matches!(self.kind, 10..=12)
    }

    /// Whether this is a forum, where only threads take messages.
    pub(super) const fn is_forum(&self) -> bool {
        matches!(self.kind, 15 | 16)
    }

    const fn category(&self) -> ChannelKind {
        match self.kind {
            0 | 2 | 13 => ChannelKind::Public,
            1 => ChannelKind::Direct,
            3 => ChannelKind::Group,
            5 => ChannelKind::Broadcast,
            10..=12 => ChannelKind::Thread,
            15 | 16 => ChannelKind::Forum,
            _ => ChannelKind::Unknown,
        }
    }

    /// What keeps everybody from posting here. Permissions would need roles and overwrites too: a send tells.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        match self.kind {
            4 => Some("this is a category: use one of its channels"),
            15 | 16 => Some("this is a forum: only its threads can be posted in, by their own ID"),
            0 | 1 | 2 | 3 | 5 | 13 => None,
            10..=12 if self.thread_metadata.as_ref().is_some_and(|t| t.locked) => {
                Some("the thread is locked: unlock it, or use its channel")
            }
            10..=12 => None,
            _ => Some("Discord does not take messages in this kind of channel: use a text channel"),
        }
    }

    fn info(&self) -> ChannelInfo {
        let obstacle = self.obstacle();
        ChannelInfo {
            name: self.name.clone(),
            kind: self.category(),
            can_post: obstacle.is_none(),
            note: obstacle.map(str::to_owned),
            ..unknown(&self.id)
        }
    }
}

fn unknown(id: &str) -> ChannelInfo {
    ChannelInfo {
        platform: PlatformKind::Discord,
        id: id.to_owned(),
        alias: None,
        name: None,
        kind: ChannelKind::Unknown,
        can_post: false,
        note: None,
    }
}

impl Discord {
    /// One channel, anew.
    pub(super) async fn look_up(&self, id: &str) -> Result<Channel, Failure> {
        let channel: Channel = self.api.get(&["channels", id], &[]).await?;
        self.known.keep(id, channel.clone());
        Ok(channel)
    }

    pub(super) async fn channel(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure> {
        match self.look_up(channel.id()).await {
            Ok(channel) => Ok(channel.info()),
            Err(failure)
                if matches!(
                    failure.reason,
                    Reason::ChannelNotFound | Reason::NotInChannel | Reason::MissingPermission
                ) =>
            {
                Ok(ChannelInfo { note: Some(failure.hint), ..unknown(channel.id()) })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Every channel of every server the bot is in that takes messages; threads are not among them.
    pub(super) async fn channels(&self) -> Result<Vec<ChannelInfo>, Failure> {
        let guilds = self.guilds().await?;
        let mut found = Vec::new();
        for guild in &guilds {
            let path = ["guilds", guild.id.as_str(), "channels"];
            let channels: Vec<Channel> = self.api.get(&path, &[]).await?;
            for channel in channels.iter().filter(|c| c.obstacle().is_none()) {
                let mut info = channel.info();
                // Two servers may both have a #general.
                if let (Some(server), Some(name), true) =
                    (&guild.name, &channel.name, guilds.len() > 1)
                {
                    info.name = Some(format!("{server} / {name}"));
                }
                found.push(info);
            }
        }
        Ok(found)
    }

    async fn guilds(&self) -> Result<Vec<Guild>, Failure> {
        let mut guilds: Vec<Guild> = Vec::new();
        for _ in 0..MOST_GUILD_PAGES {
            let after = guilds.last().map_or("0", |g| g.id.as_str());
            let query = [("limit", "200"), ("after", after)];
            let page: Vec<Guild> = self.api.get(&["users", "@me", "guilds"], &query).await?;
            let full = page.len() >= 200;
            guilds.extend(page);
            if !full {
                break;
            }
        }
        Ok(guilds)
    }
}
