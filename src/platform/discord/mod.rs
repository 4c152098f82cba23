//! Discord: its REST API on the way out, its gateway on the way in.
//!
//! ```text
//! listener.rs      the loop: session, address, pauses, and what ends it
//!   gateway.rs     one connection: heartbeats, identify, resume
//!     events.rs    what Discord says -> what was heard, pure
//!   intake.rs      a bounded queue behind it: place, take, answer, cursor
//!     interactions.rs   slash commands and buttons, answered within three seconds
//! ```

mod api;
mod channels;
mod checkup;
mod config;
mod events;
mod failure;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gateway;
mod intake;
mod interactions;
mod listener;
mod message;
mod permissions;
pub mod render;
mod session;
mod setup;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use config::Config;
use http::Method;
pub use listener::listener;
use serde::{Deserialize, Serialize};
use serde_json::Value;
pub use setup::setup;
use url::Url;

use self::api::{Api, understood};
use self::channels::Channel;
use self::permissions::Membership;
use super::finding::{Finding, Purpose};
use super::http::{HttpClient, TransportError};
use super::known::Known;
use super::verdict::no_answer;
use super::{Capabilities, Credential, Pace, Platform, Sent, Signal};
use crate::model::{
    Action, Attachment, ChannelId, ChannelInfo, Failure, Identity, Part, Placement, PlatformKind,
    Reason, Step,
};
use crate::policy::Route;
use crate::render::{Document, RenderError};

/// How long a question may take that has to be answered before a message is sent.
const BEFORE_A_SEND: Duration = Duration::from_secs(4);
/// How long a signal may take.
const LONGEST_SIGNAL: Duration = Duration::from_secs(10);
/// How many characters a thread's name may have.
const MOST_THREAD_NAME: usize = 100;

/// One Discord bot.
#[derive(Debug)]
pub struct Discord {
    api: Api,
    pace: Pace,
    bot_pace: Pace,
    /// Channels by ID: which server for permalinks, which parent for threads. Neither changes.
    known: Known<Channel>,
    /// What the bot is in each server, learnt when it is checked.
    memberships: Known<Arc<Membership>>,
}

/// A message, a thread or a user, as far as we look at it.
#[derive(Debug, Deserialize)]
struct Made {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Me {
    id: String,
    username: Option<String>,
}

impl Discord {
    /// Discord as configured; `None` without a bot token. Calls nobody.
    #[must_use]
    pub fn new(config: &Config, http: HttpClient) -> Option<Self> {
        let token = config.bot_token.clone()?;
        let base = config.api_url.clone().or_else(|| api::BASE.parse().ok())?;
        Some(Self {
            api: Api::new(http, base, token),
            pace: config.pace.unwrap_or(Pace::new(Duration::from_secs(1), 5)),
            // Discord's own limit is 50 in any second.
            bot_pace: config.bot_pace.unwrap_or(Pace::new(Duration::from_millis(22), 5)),
            known: Known::default(),
            memberships: Known::default(),
        })
    }

    /// Where to post: the channel, or a thread of it.
    ///
    /// A thread is a channel of its own, so that this one belongs to the channel of the route has to be asked, once.
    async fn place<'a>(
        &self,
        channel: &'a str,
        placement: &'a Placement,
    ) -> Result<&'a str, Failure> {
        let Some(thread) = placement.thread.as_deref().filter(|id| *id != channel) else {
            return Ok(channel);
        };
        let known = match self.known.get(thread) {
            Some(known) => known,
            None => {
                let asked = tokio::time::timeout(BEFORE_A_SEND, self.look_up(thread)).await;
                asked
                    .unwrap_or_else(|_| {
                        Err(no_answer(PlatformKind::Discord, TransportError::Timeout))
                    })
                    .map_err(Failure::unseen)?
            }
        };
        if known.is_thread() && known.parent_id.as_deref() == Some(channel) {
            Ok(thread)
        } else {
            Err(Failure::give_up(Reason::Denied, "that thread is not one of this channel's"))
        }
    }

    async fn delete(&self, channel: &str, id: &str) -> Result<Sent, Failure> {
        let path = ["channels", channel, "messages", id];
        let answer = self.api.call(Method::DELETE, &path, None::<&Value>).await?;
        // Gone is gone: an earlier try may have done it.
        let gone = failure::code(&answer) == Some(failure::UNKNOWN_MESSAGE);
        if answer.status.is_success() || gone {
            Ok(Sent { id: id.to_owned(), permalink: None })
        } else {
            Err(failure::of(&answer))
        }
    }

    /// <https://docs.discord.com/developers/resources/channel#start-thread-from-message>
    async fn open_thread(
        &self,
        channel: &str,
        placement: &Placement,
        name: &str,
    ) -> Result<Sent, Failure> {
        #[derive(Serialize)]
        struct Open {
            name: String,
        }
        let Some(first) = placement.reply_to.as_deref() else {
            return Err(Failure::give_up(Reason::Internal, "no message to open a thread from"));
        };
        let name = Open { name: name.chars().take(MOST_THREAD_NAME).collect() };
        let path = ["channels", channel, "messages", first, "threads"];
        let answer = self.api.call(Method::POST, &path, Some(&name)).await?;
        // The thread of a message has the message's ID.
        let id = match failure::code(&answer) {
            Some(failure::THREAD_EXISTS) => first.to_owned(),
            _ => understood::<Made>(&answer)?.id,
        };
        if let Some(thread) = answer.json::<Channel>().filter(Channel::is_thread) {
            self.known.keep(&id, thread);
        }
        Ok(Sent { id, permalink: None })
    }

    /// Asks for the channel's server while the message travels; who comes too early has no permalink.
    fn learn(&self, channel: &str) {
        self.known.learn(channel, || {
            let (api, id) = (self.api.clone(), channel.to_owned());
            async move { api.get(&["channels", &id], &[]).await.ok() }
        });
    }

    /// `https://discord.com/channels/{server}/{channel}/{message}`, once the server is known.
    fn permalink(&self, channel: &str, message: &str) -> Option<String> {
        let guild = self.known.get(channel)?.guild_id;
        let guild = guild.as_deref().unwrap_or("@me");
        Some(format!("https://discord.com/channels/{guild}/{channel}/{message}"))
    }
}

fn is_id(id: &str) -> bool {
    (1..=20).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit())
}

#[async_trait]
impl Platform for Discord {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Discord
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { dedupes: true, recalls: false, threads: true, opens_threads: true }
    }

    fn pace(&self, _channel: &ChannelId) -> Pace {
        self.pace
    }

    fn credential(&self) -> Credential {
        self.api.credential(self.bot_pace)
    }

    fn render(&self, document: &Document) -> Result<Vec<Part>, RenderError> {
        Ok(render::parts(document)?.into_iter().map(Part::Text).collect())
    }

    fn check(&self, placement: &Placement) -> Result<(), String> {
        let shape = "such as 112233445566778899 (the message_ids of a receipt)";
        match placement {
            Placement { reply_to: Some(id), .. } if !is_id(id) => {
                Err(format!("`reply_to` has to be a message ID, {shape}"))
            }
            Placement { thread: Some(id), .. } if !is_id(id) => {
                Err("a thread's `channel_id` has to be its ID, such as 112233445566778899"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }

    fn thread_of(&self, first: &str) -> Placement {
        Placement { thread: Some(first.to_owned()), ..Placement::default() }
    }

    async fn deliver(
        &self,
        route: &Route,
        placement: &Placement,
        step: &Step,
    ) -> Result<Sent, Failure> {
        let channel = route.channel().id();
        // Asked only where it matters: opening a thread names the message in the channel itself.
        let place = self.place(channel, placement);
        match &step.action {
            Action::Send { part } => self.post(place.await?, placement, &step.nonce, part).await,
            Action::Edit { message_id, part, .. } => {
                self.edit(place.await?, message_id, part).await
            }
            Action::Delete { message_id, .. } => self.delete(place.await?, message_id).await,
            Action::OpenThread { name } => self.open_thread(channel, placement, name).await,
        }
    }

    async fn signal(
        &self,
        route: &Route,
        placement: &Placement,
        signal: &Signal,
    ) -> Result<(), Failure> {
        let shown = async {
            let place = self.place(route.channel().id(), placement).await?;
            match signal {
                Signal::Typing => self.typing(place).await,
                Signal::Edit { message_id, part } => {
                    self.edit(place, message_id, part).await.map(drop)
                }
            }
        };
        let late = |_| Err(no_answer(PlatformKind::Discord, TransportError::Timeout));
        tokio::time::timeout(LONGEST_SIGNAL, shown).await.unwrap_or_else(late)
    }

    async fn fetch(&self, file: &Attachment, most: usize) -> Result<Vec<u8>, Failure> {
        self.attachment(file, most).await
    }

    async fn describe(&self, channel: &ChannelId) -> Result<ChannelInfo, Failure> {
        self.channel(channel).await
    }

    async fn list(&self) -> Result<Vec<ChannelInfo>, Failure> {
        self.channels().await
    }

    async fn parent(&self, channel: &ChannelId) -> Result<Option<ChannelId>, Failure> {
        // What is known was learnt from others too: a quick answer would tell that somebody uses it.
        let known = self.look_up(channel.id()).await?;
        let parent = known.parent_id.as_deref().filter(|_| known.is_thread());
        Ok(parent.and_then(|id| ChannelId::new(PlatformKind::Discord, id).ok()))
    }

    fn address(&self) -> Option<&Url> {
        Some(&self.api.base)
    }

    async fn examine_channel(&self, channel: &ChannelId, purpose: Purpose) -> Finding {
        self.checkup(channel, purpose).await
    }

    async fn probe(&self) -> Result<Identity, Failure> {
        let me: Me = self.api.get(&["users", "@me"], &[]).await?;
        Ok(Identity {
            name: me.username.unwrap_or_else(|| me.id.clone()),
            id: me.id,
            workspace: None,
            scopes: None,
        })
    }
}

#[cfg(test)]
mod tests;
